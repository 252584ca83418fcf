//! The methods by name: each learns from a frame of rows and makes others.

mod aim;
pub(super) mod cart;
mod copula;
mod ctgan;
mod marginal;
mod modes;
mod tvae;

use self::marginal::Marginal;
use crate::{Field, Generator, Parts, Task};
use onnx::stored::Files;
use runtime::error::{Error, Result};
use runtime::options::Options;

/// How rows are learned and made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Sequential trees.
    Cart,
    GaussianCopula,
    Tvae,
    Ctgan,
    /// Differentially private.
    Aim,
    /// Whole rows, drawn.
    Bootstrap,
    /// Each column by itself.
    Independent,
}

impl Method {
    pub const ALL: [Self; 7] =
        [Self::Cart, Self::GaussianCopula, Self::Tvae, Self::Ctgan, Self::Aim, Self::Bootstrap, Self::Independent];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Cart => "cart",
            Self::GaussianCopula => "gaussian_copula",
            Self::Tvae => "tvae",
            Self::Ctgan => "ctgan",
            Self::Aim => "aim",
            Self::Bootstrap => "bootstrap",
            Self::Independent => "independent",
        }
    }

    pub fn from_name(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name).ok_or_else(|| Error::UnknownName {
            what: "method",
            name: name.into(),
            known: Self::ALL.map(Self::name).join(", "),
        })
    }

    /// Whether what it makes of a field are values of rows that it learned from, whatever their number.
    pub fn draws_donors(self) -> bool {
        matches!(self, Self::Cart | Self::Bootstrap | Self::Independent)
    }

    /// Whether it keeps a promise of privacy.
    pub fn is_private(self) -> bool {
        self == Self::Aim
    }

    /// Whether rows come out of its graph, run by ONNX Runtime, and not out of the data file.
    pub fn runs_graph(self) -> bool {
        matches!(self, Self::Tvae | Self::Ctgan)
    }

    pub(super) fn train(self, task: &Task, options: &mut Options) -> Result<Parts> {
        match self {
            Self::Cart => cart::train(task, options),
            Self::GaussianCopula => copula::train(task, options),
            Self::Tvae => tvae::train(task, options),
            Self::Ctgan => ctgan::train(task, options),
            Self::Aim => aim::train(task, options),
            Self::Bootstrap => marginal::train(Marginal::Bootstrap, task, options),
            Self::Independent => marginal::train(Marginal::Independent, task, options),
        }
    }

    pub(super) fn open(self, files: &Files, fields: &[Field]) -> Result<Box<dyn Generator>> {
        match self {
            Self::Cart => cart::open(files, fields),
            Self::GaussianCopula => copula::open(files, fields),
            Self::Tvae => tvae::open(files, fields),
            Self::Ctgan => ctgan::open(files, fields),
            Self::Aim => aim::open(files, fields),
            Self::Bootstrap => marginal::open(Marginal::Bootstrap, files, fields),
            Self::Independent => marginal::open(Marginal::Independent, files, fields),
        }
    }
}
