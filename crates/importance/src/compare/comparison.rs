//! Repeated measurements with and without weights, and what they come to.

use evaluation::mean_interval;
use runtime::error::{Error, Result};

/// A metric with and without weights, means over the seeds.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    pub metric: &'static str,
    pub unweighted: f64,
    pub weighted: f64,
    /// Confidence interval of the mean difference, weighted − unweighted; `None` for a single seed.
    pub interval: Option<(f64, f64)>,
}

/// Number of repetitions and how they are summarised.
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
    pub fn each(&self) -> impl Iterator<Item = u64> {
        let seed = self.seed;
        (0..self.seeds as u64).map(move |n| runtime::draw::mix(seed ^ runtime::draw::mix(n)))
    }

    /// Means and intervals of pairs (unweighted, weighted), one a seed.
    pub fn summarise(&self, metric: &'static str, pairs: &[(f64, f64)]) -> Comparison {
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

/// Refuses weights below 0 or not finite, and weights that are all 0.
pub fn check_weights(weights: &[f32]) -> Result<()> {
    if let Some(bad) = weights.iter().find(|w| !(w.is_finite() && **w >= 0.0)) {
        return Err(Error::argument("weight", bad, "Give finite weights of 0 or more."));
    }
    if weights.iter().all(|&w| w == 0.0) {
        let hint = "Ids are compared as text with those of the source. Check that the weights are for the same rows.";
        return Err(Error::invalid("every row of the source has weight 0", hint));
    }
    Ok(())
}
