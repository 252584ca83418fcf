//! `aum`: the area under the margin, (1 / E) Σ_e (z_y − max_{c ≠ y} z_c) of the logits z after epoch e.
//!
//! Pleiss et al., "Identifying mislabeled data using the area under the margin ranking" (NeurIPS 2020), eq. 1 and 2. Low:
//! another class is preferred throughout training.

use crate::dynamics::{Observer, Run, Seen, Tally};
use crate::method::{Computation, ImportanceMethod};
use runtime::error::Result;
use runtime::memory;

pub struct Aum;

impl ImportanceMethod for Aum {
    fn name(&self) -> &'static str {
        "aum"
    }

    fn needs_classes(&self) -> bool {
        true
    }

    fn computation(&self) -> Computation {
        Computation::Training(&Self)
    }
}

impl Observer for Aum {
    fn start(&self, run: &Run) -> Result<Box<dyn Tally>> {
        Ok(Box::new(MarginArea { scores: memory::filled(0.0, run.rows)?, epochs: run.epochs.all }))
    }
}

struct MarginArea {
    /// [rows]
    scores: Vec<f32>,
    epochs: usize,
}

impl Tally for MarginArea {
    fn add(&mut self, seen: &Seen) {
        let share = 1.0 / self.epochs as f32;
        seen.for_each(&mut self.scores, |score, finding| *score += finding.margin * share);
    }

    fn finish(self: Box<Self>) -> Vec<f32> {
        self.scores
    }
}
