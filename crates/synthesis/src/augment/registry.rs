//! All augmentation methods, by name.

use super::augmentation::Augmentation;
use super::bootstrap::Bootstrap;
use super::jitter::Jitter;
use super::mixup::Mixup;
use super::smote::Smote;
use runtime::error::{Error, Result};

pub static AUGMENTATIONS: [&dyn Augmentation; 6] =
    [&Smote::Numbers, &Smote::Mixed, &Smote::Adaptive, &Mixup, &Jitter, &Bootstrap];

/// The method of that name.
pub fn by_name(name: &str) -> Result<&'static dyn Augmentation> {
    AUGMENTATIONS.into_iter().find(|method| method.name() == name).ok_or_else(|| Error::UnknownName {
        what: "method",
        name: name.into(),
        known: AUGMENTATIONS.map(Augmentation::name).join(", "),
    })
}
