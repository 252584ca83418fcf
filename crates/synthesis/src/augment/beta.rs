//! Beta(α, α) random numbers.

use super::pick::unit;
use runtime::draw;

/// Offset of the random numbers used here.
const PLACE: u64 = 1 << 32;

/// Draws from Beta(α, α): X / (X + Y) of two gamma variables of shape α.
pub fn symmetric(alpha: f64, seed: u64) -> f64 {
    let (x, y) =
        (log_gamma_variable(alpha, draw::mix(seed ^ PLACE)), log_gamma_variable(alpha, draw::mix(!seed ^ PLACE)));
    // Of logarithms: for small α both underflow.
    1.0 / (1.0 + (y - x).exp())
}

/// The logarithm of a gamma variable of shape α (Marsaglia, Tsang 2000; for α < 1 as G(α + 1) U^(1/α)).
fn log_gamma_variable(alpha: f64, seed: u64) -> f64 {
    let d = alpha.max(if alpha < 1.0 { alpha + 1.0 } else { alpha }) - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    let below = if alpha < 1.0 { (1.0 - unit(seed, 0)).ln() / alpha } else { 0.0 };
    // At least 95 of 100 tries end it.
    for attempt in 0..64 {
        let x = f64::from(draw::normal(seed, 2 * attempt + 1));
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && (1.0 - unit(seed, 2 * attempt + 2)).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return (d * v).ln() + below;
        }
    }
    d.ln() + below
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_variance_are_those_of_the_distribution() {
        for alpha in [0.05, 0.2, 1.0, 4.0, 100.0] {
            let all: Vec<f64> = (0..40_000).map(|seed| symmetric(alpha, seed)).collect();
            let mean = all.iter().sum::<f64>() / 4e4;
            let variance = all.iter().map(|x| (x - 0.5).powi(2)).sum::<f64>() / 4e4;
            let expected = 0.25 / (2.0 * alpha + 1.0);
            assert!((mean - 0.5).abs() < 0.01 && (variance / expected - 1.0).abs() < 0.03, "{alpha} {mean} {variance}");
            assert!(all.iter().all(|x| (0.0..=1.0).contains(x)));
        }
    }

    #[test]
    fn for_alpha_1_all_shares_are_as_likely() {
        let below = (0..40_000).filter(|&seed| symmetric(1.0, seed) < 0.1).count();
        assert!((3700..4300).contains(&below), "{below}");
    }
}
