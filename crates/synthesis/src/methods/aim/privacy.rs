//! Privacy accounting: ρ for ε and δ, a ledger of what was spent, and the costs of mechanisms.
//!
//! A mechanism is ρ-zCDP (Bun and Steinke 2016) if adding or removing one row changes the distribution of its output by
//! a Rényi divergence of order α of at most ρα, for every α > 1. Costs add up. The mechanisms here, for counts that one
//! row changes by at most 1 in one cell:
//! - Gaussian noise of deviation σ on a whole table of counts: ρ = 1 / 2σ².
//! - The exponential mechanism with parameter ε, choosing by scores that a row changes by at most Δ: ρ = ε² / 8.
//!
//! ρ-zCDP implies (ε, δ) for δ = min over α of exp((α − 1)(αρ − ε)) (1 − 1/α)^α / (α − 1) (Canonne, Kamath, Steinke
//! 2020, proposition 12).
//!
//! Both assume that the noise ([`noise`](super::noise)) is unpredictable: its key must be secret and used for one
//! training only. The exponential mechanism adds Gumbel noise to scores in f64, which is exact up to rounding.

use std::f64::consts::TAU;

use serde_json::{Map, Value, json};

use super::noise::MAX_SIGMA;
use runtime::error::{Error, Result};

/// The δ that ρ-zCDP implies for ε.
pub fn delta_of(rho: f64, epsilon: f64) -> f64 {
    if rho <= 0.0 {
        return 0.0;
    }
    // The logarithm is convex in α; its derivative changes sign once.
    let (mut least, mut most) = (1.0 + 1e-6, (epsilon + 1.0) / (2.0 * rho) + 2.0);
    for _ in 0..200 {
        let alpha = 0.5 * (least + most);
        if (2.0 * alpha - 1.0) * rho - epsilon + (-1.0 / alpha).ln_1p() < 0.0 {
            least = alpha;
        } else {
            most = alpha;
        }
    }
    let alpha = 0.5 * (least + most);
    let log = (alpha - 1.0) * (alpha * rho - epsilon) + alpha * (-1.0 / alpha).ln_1p() - (alpha - 1.0).ln();
    log.exp().min(1.0)
}

/// The largest ρ for which ρ-zCDP implies (ε, δ).
pub fn rho_of(epsilon: f64, delta: f64) -> f64 {
    // At ρ = ε + 1 the bound is above any δ below 1/4.
    let (mut least, mut most) = (0.0, epsilon + 1.0);
    for _ in 0..200 {
        let rho = 0.5 * (least + most);
        if delta_of(rho, epsilon) <= delta {
            least = rho;
        } else {
            most = rho;
        }
    }
    least
}

/// The deviation of Gaussian noise on a table of counts for a cost of ρ. An error if it exceeds [`MAX_SIGMA`].
pub fn sigma_for(rho: f64) -> Result<f64> {
    let sigma = (0.5 / rho).sqrt();
    if sigma <= MAX_SIGMA {
        return Ok(sigma);
    }
    let message =
        format!("the noise that epsilon requires has a standard deviation of {sigma:.0} rows, which is too much");
    Err(Error::invalid(message, "Raise epsilon or delta, or learn from fewer columns."))
}

/// The cost of Gaussian noise of deviation σ on a table of counts, in ρ.
pub fn gaussian_cost(sigma: f64) -> f64 {
    0.5 / (sigma * sigma)
}

/// The cost of a choice by the exponential mechanism, in ρ.
pub fn choice_cost(epsilon: f64) -> f64 {
    epsilon * epsilon / 8.0
}

/// The privacy budget, and what was spent of it.
pub struct Ledger {
    rho: f64,
    spent: f64,
    stages: Vec<(&'static str, f64)>,
}

impl Ledger {
    pub fn new(rho: f64) -> Self {
        Self { rho, spent: 0.0, stages: Vec::new() }
    }

    pub fn left(&self) -> f64 {
        (self.rho - self.spent).max(0.0)
    }

    pub fn spent(&self) -> f64 {
        self.spent
    }

    /// Charges a cost. Must be called before the data is accessed; an error if the budget is exceeded.
    pub fn spend(&mut self, stage: &'static str, rho: f64) -> Result<()> {
        if !(rho >= 0.0 && self.spent + rho <= self.rho * (1.0 + 1e-9)) {
            return Err(Error::Internal(format!(
                "a cost of {rho} is over the {} left of the privacy budget",
                self.left()
            )));
        }
        self.spent += rho;
        match self.stages.iter_mut().find(|(name, _)| *name == stage) {
            Some((_, sum)) => *sum += rho,
            None => self.stages.push((stage, rho)),
        }
        Ok(())
    }

    /// The cost of each stage, in ρ.
    pub fn stages(&self) -> Value {
        Value::Object(self.stages.iter().map(|(name, rho)| ((*name).into(), json!(rho))).collect::<Map<_, _>>())
    }
}

/// An upper bound of the z that a standard normal number exceeds with probability `p`, by bisection on φ(z) / z, a
/// bound of the tail.
pub fn normal_quantile_above(p: f64) -> f64 {
    let (mut least, mut most) = (0.5, 40.0);
    for _ in 0..100 {
        let z: f64 = 0.5 * (least + most);
        if (-0.5 * z * z).exp() / (z * TAU.sqrt()) > p {
            least = z;
        } else {
            most = z;
        }
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rho_is_what_a_search_over_all_orders_gives() {
        // Independently: the least ε of ρ-zCDP at δ over a fine grid of α, by the same proposition solved for ε.
        for (epsilon, delta) in [(1.0, 1e-9), (0.1, 1e-6), (8.0, 1e-5), (100.0, 1e-9)] {
            let rho = rho_of(epsilon, delta);
            let least = (1..400_000)
                .map(|i| 1.0 + 1e-4 * 1.00004f64.powi(i))
                .map(|a| a * rho + (-1.0 / a).ln_1p() * a / (a - 1.0) - ((a - 1.0) * delta).ln() / (a - 1.0))
                .fold(f64::INFINITY, f64::min);
            assert!((least - epsilon).abs() < 1e-4 * epsilon, "{epsilon} {least}");
        }
        // And it is better than the plain conversion ε = ρ + 2 √(ρ ln 1/δ), by less than a third.
        let rho = rho_of(1.0, 1e-9);
        let log = 1e9f64.ln();
        let plain = ((log + 1.0).sqrt() - log.sqrt()).powi(2);
        assert!(rho > plain && rho < 1.34 * plain, "{rho} {plain}");
    }

    #[test]
    fn nothing_is_spent_that_is_not_left() {
        let mut ledger = Ledger::new(1.0);
        ledger.spend("a", 0.75).unwrap();
        assert!(
            ledger.spend("b", 0.5).is_err() && ledger.spend("b", -1.0).is_err() && ledger.spend("b", f64::NAN).is_err()
        );
        ledger.spend("a", 0.25).unwrap();
        assert_eq!((ledger.left(), ledger.stages()), (0.0, json!({"a": 1.0})));
    }

    #[test]
    fn a_budget_that_would_drown_any_table_is_told_of() {
        assert_eq!(sigma_for(0.5).unwrap(), 1.0);
        for rho in [1e-13, 0.0, f64::NAN] {
            assert!(matches!(sigma_for(rho), Err(Error::Invalid { .. })), "{rho}");
        }
    }

    #[test]
    fn the_quantile_is_no_lower_than_the_true_one() {
        for (p, z) in [(1e-9, 5.9978), (1e-3, 3.0902), (1e-12, 7.0345)] {
            let found = normal_quantile_above(p);
            assert!(found >= z && found < z * 1.02, "{p} {found}");
        }
    }
}
