//! How much a pair's weight counts: the confidence `c = f(weight)`.

use onnx::graph::GraphBuilder;
use runtime::error::Result;
use runtime::memory;

use runtime::options::Options;

/// `c = 1`, `c = α w` (Hu, Koren, Volinsky 2008, eq. 4, without the constant, which `unobserved_weight` is here), or
/// `c = α log₂(1 + w)` (their eq. 6, scaled so that a single interaction of weight 1 counts α).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weighting {
    kind: Kind,
    alpha: f32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    None,
    Linear,
    Log,
}

impl Weighting {
    /// Every chosen item counts the same.
    pub const EQUAL: Self = Self { kind: Kind::None, alpha: 1.0 };

    /// Reads the options `weighting` and `alpha`.
    pub fn read(options: &mut Options) -> Result<Self> {
        let kind =
            options.choice("weighting", &[("log", Kind::Log), ("linear", Kind::Linear), ("none", Kind::None)])?;
        Ok(Self { kind, alpha: options.float("alpha", 1.0, 1e-6, 1e6)? })
    }

    /// The confidence of a weight; 0 for a weight of 0.
    pub fn confidence(self, weight: f32) -> f32 {
        let positive = weight.max(0.0);
        match self.kind {
            Kind::None => f32::from(weight > 0.0),
            Kind::Linear => self.alpha * positive,
            Kind::Log => self.alpha * positive.ln_1p() * std::f32::consts::LOG2_E,
        }
    }

    /// How much each pair's step counts in stochastic training: its confidence over the mean of all, so that the learning rate keeps its
    /// meaning; 1 where all weights are equal.
    pub fn shares(self, weights: &[f32]) -> Result<Vec<f32>> {
        let mut shares = memory::filled(1f32, weights.len())?;
        if weights.windows(2).all(|pair| pair[0] == pair[1]) {
            return Ok(shares);
        }
        let sum: f64 = weights.iter().map(|&w| f64::from(self.confidence(w))).sum();
        let scale = weights.len() as f64 / sum;
        if scale.is_finite() {
            let share = |w: f32| (f64::from(self.confidence(w)) * scale) as f32;
            shares.iter_mut().zip(weights).for_each(|(to, &w)| *to = share(w));
        }
        Ok(shares)
    }

    /// The confidence in a graph: from weights that are 0 or greater to confidences. `observed` is 1 where a weight is above 0.
    pub fn write(self, graph: &mut GraphBuilder, weights: &str, observed: &str) -> String {
        match self.kind {
            Kind::None => graph.node("Identity", &[observed]),
            Kind::Linear => {
                let alpha = graph.float("alpha", self.alpha);
                graph.node("Mul", &[weights, &alpha])
            }
            Kind::Log => {
                let one = graph.float("log_offset", 1.0);
                let scale = graph.float("log_scale", self.alpha * std::f32::consts::LOG2_E);
                let sum = graph.node("Add", &[weights, &one]);
                let log = graph.node("Log", &[&sum]);
                graph.node("Mul", &[&log, &scale])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_have_the_mean_one_and_equal_weights_change_nothing() {
        for kind in [Kind::None, Kind::Linear, Kind::Log] {
            let weighting = Weighting { kind, alpha: 3.0 };
            assert_eq!(weighting.shares(&[0.3; 5]).unwrap(), [1.0; 5]);
            assert!(weighting.shares(&[]).unwrap().is_empty());
            let shares = weighting.shares(&[0.1, 1.0, 7.0, 0.5]).unwrap();
            assert!((shares.iter().sum::<f32>() - 4.0).abs() < 1e-5, "{shares:?}");
        }
        let linear = Weighting { kind: Kind::Linear, alpha: 2.0 };
        assert_eq!(linear.shares(&[1.0, 3.0]).unwrap(), [0.5, 1.5]);
    }
}
