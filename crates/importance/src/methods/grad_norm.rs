//! `grad_norm`: −‖∂L/∂w‖ with respect to all weights of both layers, after one epoch.
//!
//! Paul, Ganguli, Dziugaite, "Deep learning on a data diet" (NeurIPS 2021), definition 2.1 (GraNd). The paper measures it at
//! initialisation, where the weights have not seen a label; here it is measured late in training. Low: it changes the weights a lot.

use crate::dynamics::{Epochs, Observer, Run, Seen, Tally};
use crate::method::{Computation, ImportanceMethod, OutputError};
use runtime::error::Result;
use runtime::memory;

pub struct GradNorm;

impl ImportanceMethod for GradNorm {
    fn name(&self) -> &'static str {
        "grad_norm"
    }

    fn computation(&self) -> Computation {
        Computation::Training(&Self)
    }

    fn output_score(&self) -> Option<fn(&OutputError) -> f64> {
        Some(|output| -output.gradient_norm)
    }
}

impl Observer for GradNorm {
    fn last_epoch(&self, epochs: &Epochs) -> usize {
        epochs.grad_norm
    }

    fn needs_gradient(&self, epoch: usize, run: &Run) -> bool {
        epoch == run.epochs.grad_norm
    }

    fn start(&self, run: &Run) -> Result<Box<dyn Tally>> {
        Ok(Box::new(GradientNorm { scores: memory::filled(0.0, run.rows)?, epoch: run.epochs.grad_norm }))
    }
}

struct GradientNorm {
    /// [rows]
    scores: Vec<f32>,
    /// After which the row is assessed.
    epoch: usize,
}

impl Tally for GradientNorm {
    fn add(&mut self, seen: &Seen) {
        if seen.epoch == self.epoch {
            seen.for_each(&mut self.scores, |score, finding| *score = -finding.gradient_square.sqrt());
        }
    }

    fn finish(self: Box<Self>) -> Vec<f32> {
        self.scores
    }
}
