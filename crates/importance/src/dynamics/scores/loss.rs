//! `loss`: −(1 / E) Σ_e L(x, y; w_e), the mean loss over the epochs e = 1 … E: −ln p_y for classes, half the squared error for numbers.
//!
//! Wrong labels are learned late (Arpit et al., "A closer look at memorization in deep networks", ICML 2017), so that a mean over the
//! epochs tells more than the loss at the end. Low: the network never learns it, or late.

use super::{Score, Seen};
use runtime::error::Result;
use runtime::memory;

pub struct Loss {
    /// [rows]
    scores: Vec<f32>,
    epochs: usize,
}

impl Loss {
    pub fn new(rows: usize, epochs: usize) -> Result<Self> {
        Ok(Self { scores: memory::filled(0.0, rows)?, epochs })
    }
}

impl Score for Loss {
    fn add(&mut self, seen: &Seen) {
        let share = 1.0 / self.epochs as f32;
        seen.for_each(&mut self.scores, |score, finding| *score -= finding.loss * share);
    }

    fn finish(self: Box<Self>) -> Vec<f32> {
        self.scores
    }
}
