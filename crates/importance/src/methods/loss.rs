//! `loss`: −(1 / E) Σ_e L(x, y; w_e), the mean loss over the epochs e = 1 … E: −ln p_y for classes, half the squared error for numbers.
//!
//! Wrong labels are learned late (Arpit et al., "A closer look at memorization in deep networks", ICML 2017), so the mean over the
//! epochs separates rows better than the final loss. Low: the network learns it late or never.

use crate::dynamics::{Observer, Run, Seen, Tally};
use crate::method::{Computation, ImportanceMethod, OutputError};
use runtime::error::Result;
use runtime::memory;

pub struct Loss;

impl ImportanceMethod for Loss {
    fn name(&self) -> &'static str {
        "loss"
    }

    fn computation(&self) -> Computation {
        Computation::Training(&Self)
    }

    fn output_score(&self) -> Option<fn(&OutputError) -> f64> {
        Some(|output| -output.loss)
    }
}

impl Observer for Loss {
    fn start(&self, run: &Run) -> Result<Box<dyn Tally>> {
        Ok(Box::new(MeanLoss { scores: memory::filled(0.0, run.rows)?, epochs: run.epochs.all }))
    }
}

struct MeanLoss {
    /// [rows]
    scores: Vec<f32>,
    epochs: usize,
}

impl Tally for MeanLoss {
    fn add(&mut self, seen: &Seen) {
        let share = 1.0 / self.epochs as f32;
        seen.for_each(&mut self.scores, |score, finding| *score -= finding.loss * share);
    }

    fn finish(self: Box<Self>) -> Vec<f32> {
        self.scores
    }
}
