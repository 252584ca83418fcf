//! Whether weights help: the same learner with and without them, judged on the same held-out rows, with several seeds.
//!
//! For each seed a share of the rows is held out by chance. One model learns from the rest, each row counting 1; another with the weights, a row
//! of weight 0 left out. Both are measured on the held-out rows, or on those of a test query where one is given, and the interval of
//! the mean difference over the seeds is Student's.

mod interactions;
mod rows;

pub use interactions::compare_recommenders;
pub use rows::compare_rows;

use evaluation::mean_interval;
use runtime::error::{Error, Result};

/// A metric with and without weights, means over the seeds.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    pub metric: &'static str,
    pub unweighted: f64,
    pub weighted: f64,
    /// Of the mean difference, the weighted less the unweighted; `None` of a single seed.
    pub interval: Option<(f64, f64)>,
}

/// How often, and how sure.
#[derive(Clone, Copy, Debug)]
pub struct Repeats {
    pub seeds: usize,
    pub seed: u64,
    /// Share of the rows held out.
    pub held_out: f64,
    pub confidence: f64,
}

impl Repeats {
    const MAX_SEEDS: i32 = 1000;

    pub fn new(seeds: i32, seed: i64, held_out: f64, confidence: f64) -> Result<Self> {
        if !(1..=Self::MAX_SEEDS).contains(&seeds) {
            let hint = format!("Give the number of repetitions, from 1 to {}.", Self::MAX_SEEDS);
            return Err(Error::argument("seeds", seeds, hint));
        }
        for (name, share) in [("held_out", held_out), ("confidence", confidence)] {
            if !(share > 0.0 && share < 1.0) {
                return Err(Error::argument(name, share, "Give a share between 0 and 1."));
            }
        }
        Ok(Self { seeds: seeds as usize, seed: seed as u64, held_out, confidence })
    }

    /// The seed of each repetition.
    fn each(&self) -> impl Iterator<Item = u64> {
        let seed = self.seed;
        (0..self.seeds as u64).map(move |n| runtime::draw::mix(seed ^ runtime::draw::mix(n)))
    }

    /// Means and intervals of pairs (unweighted, weighted), one a seed.
    fn summarise(&self, metric: &'static str, pairs: &[(f64, f64)]) -> Comparison {
        let mean = |of: &dyn Fn(&(f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>() / pairs.len() as f64;
        let differences: Vec<f64> = pairs.iter().map(|(unweighted, weighted)| weighted - unweighted).collect();
        Comparison {
            metric,
            unweighted: mean(&|pair| pair.0),
            weighted: mean(&|pair| pair.1),
            interval: mean_interval(&differences, self.confidence),
        }
    }
}

/// A weight counts from 0; all of them 0 leave nothing to learn from.
fn check_weights(weights: &[f32]) -> Result<()> {
    if let Some(bad) = weights.iter().find(|w| !(w.is_finite() && **w >= 0.0)) {
        return Err(Error::argument("weight", bad, "Give finite weights of 0 or more."));
    }
    if weights.iter().all(|&w| w == 0.0) {
        let hint = "Ids are compared as text with those of the source. Check that the weights are for the same rows.";
        return Err(Error::invalid("every row of the source has weight 0", hint));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
