//! All methods, by name.

use super::neighbors::NearestRows;
use super::scored::{MultVae, Recommender};
use super::source::Augmentation;
use runtime::error::{Error, Result};

pub static AUGMENTATIONS: [&dyn Augmentation; 3] = [&MultVae, &Recommender, &NearestRows];

/// The method of that name.
pub fn by_name(name: &str) -> Result<&'static dyn Augmentation> {
    AUGMENTATIONS.into_iter().find(|method| method.name() == name).ok_or_else(|| Error::UnknownName {
        what: "method",
        name: name.into(),
        known: AUGMENTATIONS.map(Augmentation::name).join(", "),
    })
}
