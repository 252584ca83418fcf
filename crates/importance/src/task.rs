//! What a method is given: the rows to score and the rows to judge them by.

use runtime::error::{Error, Result};
use runtime::progress::Progress;
use tabular::Samples;

/// The rows to score, with everything a method needs to score them.
#[derive(Clone, Copy)]
pub struct Task<'a> {
    pub samples: &'a Samples,
    /// Clean rows that a model should predict well, encoded like `samples`.
    pub validation: Option<&'a Samples>,
    pub seed: u64,
    pub threads: usize,
    pub progress: &'a dyn Progress,
}

impl Task<'_> {
    /// Number of rows to score.
    pub fn rows(&self) -> usize {
        self.samples.features.rows()
    }

    /// The validation rows. An error where there are none; `method` is named in it.
    pub fn validation_for(&self, method: &str) -> Result<&Samples> {
        self.validation.filter(|rows| rows.features.rows() > 0).ok_or_else(|| {
            let hint = "Give a query of clean rows: validation => 'SELECT …'.";
            Error::invalid(format!("method \"{method}\" needs validation rows"), hint)
        })
    }
}
