//! What training is given.

use crate::Synthesizer;
use runtime::progress::Progress;

/// What all the training is given besides the rows.
#[derive(Clone, Copy)]
pub struct Training<'a> {
    pub method: &'a dyn Synthesizer,
    /// The column that the rows will be used to learn.
    pub label: Option<&'a str>,
    pub seed: u64,
    /// What a private method's noise is drawn from, instead of the seed.
    pub secret: Option<[u8; 32]>,
    pub threads: usize,
    pub progress: &'a dyn Progress,
}
