//! `forgetting`: −the times that the row was right after one epoch and wrong after the next; −E where it was never right.
//!
//! Toneva et al., "An empirical study of example forgetting during deep neural network learning" (ICLR 2019), definition 3.1. Low: it is
//! forgotten again and again, or never learned.

use super::{Score, Seen};
use runtime::error::Result;
use runtime::memory;

/// Right in the last epoch; ever right.
const LEARNED: u8 = 1;
const EVER: u8 = 2;

pub struct Forgetting {
    /// [rows]
    scores: Vec<f32>,
    /// [rows] of [`LEARNED`] and [`EVER`].
    learned: Vec<u8>,
    epochs: usize,
}

impl Forgetting {
    pub fn new(rows: usize, epochs: usize) -> Result<Self> {
        Ok(Self { scores: memory::filled(0.0, rows)?, learned: memory::filled(0, rows)?, epochs })
    }
}

impl Score for Forgetting {
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
    use super::super::Finding;
    use super::*;

    #[test]
    fn it_counts_the_times_and_what_is_never_learned_is_worst() {
        let mut score = Box::new(Forgetting::new(3, 5).unwrap());
        let margins = [[1.0, -1.0, -1.0], [1.0, 1.0, -1.0], [1.0, -1.0, 0.0], [1.0, 1.0, -1.0], [1.0, -1.0, -1.0]];
        for (margins, epoch) in margins.iter().zip(1..) {
            let findings = margins.map(|margin| Finding { margin, ..Finding::default() });
            score.add(&Seen { epoch, rate: 0.1, first: 0, findings: &findings });
        }
        assert_eq!(score.finish(), [0.0, -2.0, -5.0]);
    }
}
