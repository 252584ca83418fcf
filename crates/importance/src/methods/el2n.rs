//! `el2n`: −‖p − y‖, the norm of the error of the predicted probabilities early in training; −|ŷ − y| for numbers.
//!
//! Paul, Ganguli, Dziugaite, "Deep learning on a data diet" (NeurIPS 2021), definition 2.4. Low: the prediction is
//! far from the label early in training.

use crate::dynamics::{Epochs, Observer, Run, Seen, Tally};
use crate::method::{Computation, ImportanceMethod, OutputError};
use runtime::error::Result;
use runtime::memory;

pub struct El2n;

impl ImportanceMethod for El2n {
    fn name(&self) -> &'static str {
        "el2n"
    }

    fn computation(&self) -> Computation {
        Computation::Training(&Self)
    }

    fn output_score(&self) -> Option<fn(&OutputError) -> f64> {
        Some(|output| -output.residual)
    }
}

impl Observer for El2n {
    fn last_epoch(&self, epochs: &Epochs) -> usize {
        epochs.el2n
    }

    fn start(&self, run: &Run) -> Result<Box<dyn Tally>> {
        Ok(Box::new(EarlyError { scores: memory::filled(0.0, run.rows)?, epoch: run.epochs.el2n }))
    }
}

struct EarlyError {
    /// [rows]
    scores: Vec<f32>,
    /// After which the row is assessed.
    epoch: usize,
}

impl Tally for EarlyError {
    fn add(&mut self, seen: &Seen) {
        if seen.epoch == self.epoch {
            seen.for_each(&mut self.scores, |score, finding| *score = -finding.error);
        }
    }

    fn finish(self: Box<Self>) -> Vec<f32> {
        self.scores
    }
}
