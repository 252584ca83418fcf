//! `forgetting`: −the number of times that a row was classified correctly after one epoch and wrongly after the next; −E if it was
//! never classified correctly.
//!
//! Toneva et al., "An empirical study of example forgetting during deep neural network learning" (ICLR 2019), definition 3.1. Low: it is
//! forgotten repeatedly, or never learned.

use crate::dynamics::{Observer, Run, Seen, Tally};
use crate::method::{Computation, ImportanceMethod};
use runtime::error::Result;
use runtime::memory;

/// Classified correctly after the last epoch; ever classified correctly.
const LEARNED: u8 = 1;
const EVER: u8 = 2;

pub struct Forgetting;

impl ImportanceMethod for Forgetting {
    fn name(&self) -> &'static str {
        "forgetting"
    }

    fn needs_classes(&self) -> bool {
        true
    }

    fn computation(&self) -> Computation {
        Computation::Training(&Self)
    }
}

impl Observer for Forgetting {
    fn start(&self, run: &Run) -> Result<Box<dyn Tally>> {
        Ok(Box::new(ForgettingEvents {
            scores: memory::filled(0.0, run.rows)?,
            learned: memory::filled(0, run.rows)?,
            epochs: run.epochs.all,
        }))
    }
}

struct ForgettingEvents {
    /// [rows]
    scores: Vec<f32>,
    /// [rows]: bits [`LEARNED`] and [`EVER`].
    learned: Vec<u8>,
    epochs: usize,
}

impl Tally for ForgettingEvents {
    fn add(&mut self, seen: &Seen) {
        let rows = self.scores[seen.first..].iter_mut().zip(&mut self.learned[seen.first..]);
        for ((score, learned), finding) in rows.zip(seen.findings) {
            let now = finding.margin > 0.0;
            if *learned & LEARNED != 0 && !now {
                *score -= 1.0;
            }
            *learned = if now { LEARNED | EVER } else { *learned & EVER };
        }
    }

    fn finish(mut self: Box<Self>) -> Vec<f32> {
        let never = -(self.epochs as f32);
        self.scores.iter_mut().zip(&self.learned).filter(|&(_, &l)| l & EVER == 0).for_each(|(s, _)| *s = never);
        self.scores
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dynamics::Epochs;
    use crate::networks::Finding;

    #[test]
    fn it_counts_the_times_and_what_is_never_learned_is_worst() {
        let mut score = Forgetting
            .start(&Run { rows: 3, epochs: Epochs { all: 5, el2n: 5, grad_norm: 5 }, validation: false })
            .unwrap();
        let margins = [[1.0, -1.0, -1.0], [1.0, 1.0, -1.0], [1.0, -1.0, 0.0], [1.0, 1.0, -1.0], [1.0, -1.0, -1.0]];
        for (margins, epoch) in margins.iter().zip(1..) {
            let findings = margins.map(|margin| Finding { margin, ..Finding::default() });
            score.add(&Seen { epoch, rate: 0.1, first: 0, findings: &findings });
        }
        assert_eq!(score.finish(), [0.0, -2.0, -5.0]);
    }
}
