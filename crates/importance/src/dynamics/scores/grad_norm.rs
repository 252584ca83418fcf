//! `grad_norm`: −‖∂L/∂w‖ by all weights of both layers, after one epoch.
//!
//! Paul, Ganguli, Dziugaite, "Deep learning on a data diet" (NeurIPS 2021), definition 2.1 (GraNd). There it is taken at initialisation; there the
//! weights have not seen a label, and what it ranks is chance: hence an epoch late in training. Low: it pulls hard on the weights.

use super::{Score, Seen};
use runtime::error::Result;
use runtime::memory;

pub struct GradNorm {
    /// [rows]
    scores: Vec<f32>,
    /// Whose network is asked.
    epoch: usize,
}

impl GradNorm {
    pub fn new(rows: usize, epoch: usize) -> Result<Self> {
        Ok(Self { scores: memory::filled(0.0, rows)?, epoch })
    }
}

impl Score for GradNorm {
    fn add(&mut self, seen: &Seen) {
        if seen.epoch == self.epoch {
            seen.for_each(&mut self.scores, |score, finding| *score = -finding.gradient_square.sqrt());
        }
    }

    fn finish(self: Box<Self>) -> Vec<f32> {
        self.scores
    }
}
