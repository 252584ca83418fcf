//! Which training rows matter, and which mislead: a score for each row, higher for more valuable.
//!
//! | method | score of a row | low means |
//! |---|---|---|
//! | `loss` | −loss, mean over the epochs of several small networks | the networks never learn it |
//! | `el2n` | −‖p − y‖ after a few epochs (Paul 2021) | far from its label from early on |
//! | `grad_norm` | −‖∂loss/∂w‖, mean over networks (Paul 2021, GraNd) | it pulls hard on the weights |
//! | `aum` | margin of its label over the next class, mean over epochs (Pleiss 2020) | another class is preferred throughout |
//! | `forgetting` | −times it was learned and forgotten (Toneva 2019) | it is forgotten again and again, or never learned |
//! | `self_confidence` | out-of-fold probability of its label (Northcutt 2021) | the other rows contradict it |
//! | `tracin` | −Σ‖∂loss/∂w‖², or the effect of its steps on a validation query (Pruthi 2020) | its steps raise the loss |
//! | `influence` | rise of the validation loss when it is left out (Koh, Liang 2017) | the model is better without it |
//! | `knn_shapley` | its Shapley value for nearest neighbours (Jia 2019) | neighbours are misled by it |
//! | `data_oob` | accuracy for it of the trees that did not see it (Kwon, Zou 2023) | trees without it contradict it |
//! | `auto` | see [`auto`] | it is most likely mislabelled |

mod auto;
pub mod compare;
mod data_oob;
mod dynamics;
mod ensemble;
mod influence;
pub mod interactions;
mod knn_shapley;
pub mod label_errors;
pub mod model;
mod order;
mod out_of_fold;
mod self_confidence;
pub mod statistics;
pub mod weights;

pub use order::ranks;

use runtime::error::{Error, Result};
use runtime::options::Options;
use runtime::progress::Progress;
use tabular::Samples;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Auto,
    Loss,
    El2n,
    GradNorm,
    Aum,
    Forgetting,
    SelfConfidence,
    Tracin,
    Influence,
    KnnShapley,
    DataOob,
}

impl Method {
    pub const ALL: [Self; 11] = [
        Self::Auto,
        Self::Loss,
        Self::El2n,
        Self::GradNorm,
        Self::Aum,
        Self::Forgetting,
        Self::SelfConfidence,
        Self::Tracin,
        Self::Influence,
        Self::KnnShapley,
        Self::DataOob,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Loss => "loss",
            Self::El2n => "el2n",
            Self::GradNorm => "grad_norm",
            Self::Aum => "aum",
            Self::Forgetting => "forgetting",
            Self::SelfConfidence => "self_confidence",
            Self::Tracin => "tracin",
            Self::Influence => "influence",
            Self::KnnShapley => "knn_shapley",
            Self::DataOob => "data_oob",
        }
    }

    pub fn from_name(name: &str) -> Result<Self> {
        let known = || Self::ALL.map(Self::name).join(", ");
        Self::ALL.into_iter().find(|method| method.name() == name).ok_or_else(|| Error::UnknownName {
            what: "method",
            name: name.into(),
            known: known(),
        })
    }

    /// Whether it values rows by what they do for validation rows, and so has no score without them.
    pub fn needs_validation(self) -> bool {
        matches!(self, Self::Influence | Self::KnnShapley)
    }

    /// Whether it comes out of the training of small networks.
    fn is_of_dynamics(self) -> bool {
        matches!(self, Self::Loss | Self::El2n | Self::GradNorm | Self::Aum | Self::Forgetting | Self::Tracin)
    }
}

/// The rows to score, and what is given besides.
#[derive(Clone, Copy)]
pub struct Task<'a> {
    pub samples: &'a Samples,
    /// Clean rows that the model is to do well on, encoded as the samples are.
    pub validation: Option<&'a Samples>,
    pub seed: u64,
    pub threads: usize,
    pub progress: &'a dyn Progress,
}

impl Task<'_> {
    fn rows(&self) -> usize {
        self.samples.features.rows()
    }

    /// The validation rows, of which `method` needs at least one.
    fn validation_for(&self, method: Method) -> Result<&Samples> {
        self.validation.filter(|rows| rows.features.rows() > 0).ok_or_else(|| {
            let hint =
                format!("{} values rows by what they do for clean ones: validation => 'SELECT …'.", method.name());
            Error::argument("validation", "null or empty", hint)
        })
    }

    /// The number of classes, which `method` needs.
    fn classes_for(&self, method: Method) -> Result<usize> {
        self.samples.labels.classes().ok_or_else(|| Error::Unsupported {
            algorithm: method.name(),
            what: "meaning for a label of numbers",
            hint: "It compares classes. For numbers use auto, loss, el2n, grad_norm, tracin, influence, self_confidence, data_oob or knn_shapley.".into(),
        })
    }
}

/// The scores [rows] of each of `methods`; those that come out of the same work share it.
pub fn score(methods: &[Method], task: &Task, options: &mut Options) -> Result<Vec<Vec<f64>>> {
    let of_dynamics: Vec<Method> = methods.iter().copied().filter(|method| method.is_of_dynamics()).collect();
    let mut shared =
        if of_dynamics.is_empty() { Vec::new() } else { dynamics::score(&of_dynamics, task, options)? }.into_iter();
    let mut scores = Vec::with_capacity(methods.len());
    for &method in methods {
        task.progress.check()?;
        scores.push(match method {
            Method::Auto => auto::score(task, options)?,
            Method::SelfConfidence => self_confidence::score(task, options)?,
            Method::Influence => influence::score(task, options)?,
            Method::KnnShapley => knn_shapley::score(task, options)?,
            Method::DataOob => data_oob::score(task, options)?,
            _ => shared.next().ok_or_else(|| Error::Internal("a method has no scores".into()))?,
        });
    }
    Ok(scores)
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod label_tests;
