//! All synthesizers, by name.

use super::aim::Aim;
use super::cart::Cart;
use super::copula::GaussianCopula;
use super::ctgan::Ctgan;
use super::marginal::Marginal;
use super::tvae::Tvae;
use crate::Synthesizer;
use runtime::error::{Error, Result};

static SYNTHESIZERS: [&dyn Synthesizer; 7] =
    [&Cart, &GaussianCopula, &Tvae, &Ctgan, &Aim, &Marginal::Bootstrap, &Marginal::Independent];

/// Makes the rows of child tables: it can draw a row's later fields given its first ones.
pub static CONDITIONAL: &dyn Synthesizer = &Cart;

/// All synthesizers.
pub fn synthesizers() -> impl Iterator<Item = &'static dyn Synthesizer> {
    SYNTHESIZERS.into_iter()
}

/// The synthesizer of that name.
pub fn by_name(name: &str) -> Result<&'static dyn Synthesizer> {
    synthesizers().find(|synthesizer| synthesizer.name() == name).ok_or_else(|| Error::UnknownName {
        what: "method",
        name: name.into(),
        known: SYNTHESIZERS.map(Synthesizer::name).join(", "),
    })
}
