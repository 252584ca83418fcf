//! `smote`, `smote_nc` and `adasyn`: between a row and one of its nearest neighbours of the same class (Chawla et al. 2002; He et al.
//! 2008).

use super::augmentation::{Augmentation, Partner, Settings};
use super::columns::CodeColumn;
use super::pick::{Pick, unit};
use crate::{Field, FieldKind, Task};
use runtime::error::{Error, Result};
use runtime::options::Options;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Smote {
    /// Of numbers alone.
    Numbers,
    /// Of numbers and categories.
    Mixed,
    /// From rows near other classes.
    Adaptive,
}

impl Augmentation for Smote {
    fn name(&self) -> &'static str {
        match self {
            Self::Numbers => "smote",
            Self::Mixed => "smote_nc",
            Self::Adaptive => "adasyn",
        }
    }

    fn settings(&self, options: &mut Options) -> Result<Settings> {
        Ok(Settings { k: options.integer("k_neighbors", 5, 1, 1000)? as usize, ..Settings::default() })
    }

    fn check(&self, task: &Task) -> Result<()> {
        let label = task.label.map(|label| &task.fields[label]);
        if let Some(label) = label.filter(|label| matches!(label.kind, FieldKind::Number { .. })) {
            let message = format!("label \"{}\" is a column of numbers", label.name);
            let hint =
                format!("Use mixup, jitter or bootstrap, or cast the label to text: {} needs classes.", self.name());
            return Err(Error::invalid(message, hint));
        }
        if *self == Self::Adaptive && label.is_none() {
            return Err(Error::invalid("adasyn needs a label", "Name the column of classes with \"label\"."));
        }
        let is_category = |(place, field): &(usize, &Field)| {
            Some(*place) != task.label && matches!(field.kind, FieldKind::Category { .. })
        };
        if *self == Self::Numbers
            && let Some((_, field)) = task.fields.iter().enumerate().find(is_category)
        {
            let message = format!("column \"{}\" is a column of categories", field.name);
            return Err(Error::invalid(message, "Use smote_nc, or leave the column out: smote is for numbers alone."));
        }
        Ok(())
    }

    fn prefers_borders(&self) -> bool {
        *self == Self::Adaptive
    }

    fn partner(&self, _settings: &Settings, seed: u64) -> Partner {
        Partner::Neighbour(unit(seed, 2))
    }

    fn code(&self, _settings: &Settings, column: &mut CodeColumn, pick: &Pick) -> u32 {
        column.majority(pick)
    }
}
