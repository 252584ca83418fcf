//! Rows whose label is most likely wrong.

use super::Task;
use crate::error::{Error, Result};
use crate::options::Options;

/// A row whose label is most likely wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelError {
    pub row: usize,
    pub given: u32,
    pub suggested: u32,
    /// From 0 to 1.
    pub confidence: f64,
}

pub fn find(_task: &Task, _options: &mut Options) -> Result<Vec<LabelError>> {
    Err(Error::Internal("label_errors is not there".into()))
}
