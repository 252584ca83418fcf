//! `el2n`: −‖p − y‖, the length of the error of the predicted probabilities early in training; of numbers −|ŷ − y|.
//!
//! Paul, Ganguli, Dziugaite, "Deep learning on a data diet" (NeurIPS 2021), definition 2.4. Low: far from its label from early on.

use super::{Score, Seen};
use runtime::error::Result;
use runtime::memory;

pub struct El2n {
    /// [rows]
    scores: Vec<f32>,
    /// Whose network is asked.
    epoch: usize,
}

impl El2n {
    pub fn new(rows: usize, epoch: usize) -> Result<Self> {
        Ok(Self { scores: memory::filled(0.0, rows)?, epoch })
    }
}

impl Score for El2n {
    fn add(&mut self, seen: &Seen) {
        if seen.epoch == self.epoch {
            seen.for_each(&mut self.scores, |score, finding| *score = -finding.error);
        }
    }

    fn finish(self: Box<Self>) -> Vec<f32> {
        self.scores
    }
}
