//! The interface of the augmentation methods.

use super::columns::{CodeColumn, NumberColumn};
use super::pick::Pick;
use crate::Task;
use runtime::error::Result;
use runtime::options::Options;
use tabular::NONE;

/// The options of all methods. Each method reads its own.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Number of neighbours of a row; 0 where the method uses none.
    pub k: usize,
    /// The α of Beta(α, α).
    pub alpha: f64,
    /// Deviation of the noise, as a share of the column's.
    pub noise: f64,
    /// Whether frequent numbers get no noise.
    pub keeps_spikes: bool,
    /// Probability that a category is drawn anew.
    pub resample: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { k: 0, alpha: 1.0, noise: 0.1, keeps_spikes: false, resample: 0.0 }
    }
}

/// The second row that a new row is made of, with its weight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Partner {
    None,
    /// One of the base's neighbours, drawn evenly.
    Neighbour(f64),
    /// Any row.
    Any(f64),
}

/// A method: it makes a new row of one or two rows of the source.
pub trait Augmentation: Sync {
    fn name(&self) -> &'static str;

    fn settings(&self, _options: &mut Options) -> Result<Settings> {
        Ok(Settings::default())
    }

    /// Refuses a task whose fields it cannot handle.
    fn check(&self, _task: &Task) -> Result<()> {
        Ok(())
    }

    /// Whether bases are drawn by the share of other classes among their neighbours, instead of evenly.
    fn prefers_borders(&self) -> bool {
        false
    }

    fn partner(&self, _settings: &Settings, _seed: u64) -> Partner {
        Partner::None
    }

    /// A number of a new row: between its two rows, or jittered where there is only one.
    fn number(&self, column: &NumberColumn, pick: &Pick) -> f64 {
        if pick.other == NONE { column.jittered(pick) } else { column.between(pick) }
    }

    /// A category of a new row, for all columns but the label.
    fn code(&self, _settings: &Settings, column: &mut CodeColumn, pick: &Pick) -> u32 {
        column.base(pick)
    }
}
