//! `aum`: the area under the margin, (1 / E) Σ_e (z_y − max_{c ≠ y} z_c) of the logits z after epoch e.
//!
//! Pleiss et al., "Identifying mislabeled data using the area under the margin ranking" (NeurIPS 2020), eq. 1 and 2. Low: another
//! class is preferred throughout the training.

use super::{Score, Seen};
use runtime::error::Result;
use runtime::memory;

pub struct Aum {
    /// [rows]
    scores: Vec<f32>,
    epochs: usize,
}

impl Aum {
    pub fn new(rows: usize, epochs: usize) -> Result<Self> {
        Ok(Self { scores: memory::filled(0.0, rows)?, epochs })
    }
}

impl Score for Aum {
    fn add(&mut self, seen: &Seen) {
        let share = 1.0 / self.epochs as f32;
        seen.for_each(&mut self.scores, |score, finding| *score += finding.margin * share);
    }

    fn finish(self: Box<Self>) -> Vec<f32> {
        self.scores
    }
}
