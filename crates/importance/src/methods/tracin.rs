//! `tracin`: −Σ_e η ‖g_e‖², the influence of a row's steps on its own loss; with validation rows Σ_e η g_e · ḡ_e, by how much its steps lower
//! their loss. g_e is the gradient of the row's loss after epoch e, ḡ_e that of the mean loss of the validation rows, η the learning rate.
//!
//! Pruthi et al., "Estimating training data influence by tracing gradient descent" (NeurIPS 2020), TracInCP. Low: its steps are large, or raise
//! the loss of the validation rows (below 0).

use crate::dynamics::{Observer, Run, Seen, Tally};
use crate::method::{Computation, ImportanceMethod};
use runtime::error::Result;
use runtime::memory;

pub struct Tracin;

impl ImportanceMethod for Tracin {
    fn name(&self) -> &'static str {
        "tracin"
    }

    fn computation(&self) -> Computation {
        Computation::Training(&Self)
    }
}

impl Observer for Tracin {
    fn uses_validation(&self) -> bool {
        true
    }

    fn needs_gradient(&self, _epoch: usize, run: &Run) -> bool {
        !run.validation
    }

    fn start(&self, run: &Run) -> Result<Box<dyn Tally>> {
        Ok(Box::new(TracedSteps { scores: memory::filled(0.0, run.rows)?, validation: run.validation }))
    }
}

struct TracedSteps {
    /// [rows]
    scores: Vec<f32>,
    /// Whether gradients are compared with that of validation rows.
    validation: bool,
}

impl Tally for TracedSteps {
    fn add(&mut self, seen: &Seen) {
        match self.validation {
            true => seen.for_each(&mut self.scores, |score, finding| *score += seen.rate * finding.along),
            false => seen.for_each(&mut self.scores, |score, finding| *score -= seen.rate * finding.gradient_square),
        }
    }

    fn finish(self: Box<Self>) -> Vec<f32> {
        self.scores
    }
}
