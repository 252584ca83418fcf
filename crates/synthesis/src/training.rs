//! The arguments of training.

use crate::Synthesizer;
use runtime::progress::Progress;

/// The arguments of training besides the rows.
#[derive(Clone, Copy)]
pub struct Training<'a> {
    pub method: &'a dyn Synthesizer,
    /// The column that the rows will be used to predict.
    pub label: Option<&'a str>,
    pub seed: u64,
    /// Key of a private synthesizer's noise, instead of the seed.
    pub secret: Option<[u8; 32]>,
    pub threads: usize,
    pub progress: &'a dyn Progress,
}
