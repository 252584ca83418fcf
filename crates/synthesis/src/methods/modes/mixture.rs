//! Gaussian mixtures in one dimension, by expectation maximization.
//!
//! At most 10 modes start at quantiles; those that fall below 0.5 % of the weight are dropped, as the paper does with
//! the modes of its variational mixture. Sorted numbers are first reduced to at most 512 group means, so that a round
//! costs 5,120 densities whatever the number of rows.

use runtime::error::Result;
use runtime::progress::Progress;

const MODES: usize = 10;
const POINTS: usize = 512;
const ROUNDS: usize = 200;
/// Modes with a smaller weight are dropped.
const LEAST: f64 = 0.005;
/// Minimum deviation of a mode, as a share of the whole width.
const NARROWEST: f64 = 1e-4;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mode {
    pub weight: f64,
    pub mean: f64,
    pub deviation: f64,
}

/// Fits the modes of sorted numbers, ordered by mean.
pub fn fit(sorted: &[f64], progress: &dyn Progress) -> Result<Vec<Mode>> {
    let (Some(&low), Some(&high)) = (sorted.first(), sorted.last()) else { return Ok(Vec::new()) };
    // Halves: the width of the widest columns is beyond f64.
    let half = (high / 2.0 - low / 2.0).max(f64::MIN_POSITIVE);
    let place = |x: f64| (x / 2.0 - low / 2.0) / half;
    let size = sorted.len().div_ceil(POINTS);
    // Points of equal values are one more often than not: their weights count.
    let points: Vec<(f64, f64, f64)> = sorted
        .chunks(size)
        .map(|part| {
            let n = part.len() as f64;
            let mean = part.iter().map(|&x| place(x)).sum::<f64>() / n;
            let variance = part.iter().map(|&x| (place(x) - mean).powi(2)).sum::<f64>() / n;
            (mean, variance, n / sorted.len() as f64)
        })
        .collect();
    let k = MODES.min(points.len());
    let mut modes: Vec<Mode> = (0..k)
        .map(|i| {
            let part = &points[i * points.len() / k..(i + 1) * points.len() / k];
            let (first, last) = (part[0].0, part[part.len() - 1].0);
            let mean = part.iter().map(|p| p.0).sum::<f64>() / part.len() as f64;
            Mode { weight: 1.0 / k as f64, mean, deviation: ((last - first) / 2.0).max(0.01) }
        })
        .collect();
    let mut before = f64::NEG_INFINITY;
    for round in 0..ROUNDS {
        if round % 8 == 0 {
            progress.check()?;
        }
        let mut sums = [(0.0, 0.0, 0.0); MODES];
        let mut likelihood = 0.0;
        for &(x, variance, weight) in &points {
            let mut shares = [0.0; MODES];
            let total = responsibilities(&modes, x, &mut shares);
            likelihood += weight * total;
            for (sum, share) in sums.iter_mut().zip(&shares).take(modes.len()) {
                let w = weight * share;
                *sum = (sum.0 + w, sum.1 + w * x, sum.2 + w * (x * x + variance));
            }
        }
        for (mode, &(w, first, second)) in modes.iter_mut().zip(&sums) {
            if w > 0.0 {
                let mean = first / w;
                let deviation = (second / w - mean * mean).max(0.0).sqrt().max(NARROWEST);
                *mode = Mode { weight: w, mean, deviation };
            } else {
                mode.weight = 0.0;
            }
        }
        modes.retain(|mode| mode.weight > LEAST / 10.0);
        if likelihood - before < 1e-7 && round > 20 {
            break;
        }
        before = likelihood;
    }
    modes.retain(|mode| mode.weight >= LEAST);
    let total: f64 = modes.iter().map(|mode| mode.weight).sum();
    modes.sort_by(|a, b| a.mean.total_cmp(&b.mean));
    for mode in &mut modes {
        let mean = (low / 2.0 + mode.mean * half) * 2.0;
        *mode = Mode {
            weight: mode.weight / total,
            mean: mean.clamp(low, high),
            deviation: (mode.deviation * half * 2.0).min(f64::MAX / 16.0),
        };
    }
    Ok(modes)
}

/// Posterior probability of each mode at `x`. Returns the log-density without its constant.
fn responsibilities(modes: &[Mode], x: f64, shares: &mut [f64; MODES]) -> f64 {
    let mut most = f64::NEG_INFINITY;
    for (share, mode) in shares.iter_mut().zip(modes) {
        let far = (x - mode.mean) / mode.deviation;
        *share = (mode.weight / mode.deviation).ln() - far * far / 2.0;
        most = most.max(*share);
    }
    let mut sum = 0.0;
    for share in shares.iter_mut().take(modes.len()) {
        *share = (*share - most).exp();
        sum += *share;
    }
    shares.iter_mut().take(modes.len()).for_each(|share| *share /= sum);
    most + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::draw::normal;
    use runtime::progress::Unwatched;

    #[test]
    fn three_hills_are_found() {
        let mut x: Vec<f64> = (0..30_000u64)
            .map(|i| {
                let (mean, deviation) = [(0.0, 1.0), (20.0, 2.0), (100.0, 5.0)][i as usize % 3];
                mean + deviation * f64::from(normal(1, i))
            })
            .collect();
        x.sort_unstable_by(f64::total_cmp);
        let modes = fit(&x, &Unwatched).unwrap();
        for mean in [0.0, 20.0, 100.0] {
            let near: f64 = modes.iter().filter(|m| (m.mean - mean).abs() < 9.0).map(|m| m.weight).sum();
            assert!((near - 1.0 / 3.0).abs() < 0.02, "{modes:?}");
        }
    }

    #[test]
    fn the_widest_and_the_narrowest_columns_have_finite_modes() {
        for x in
            [vec![], vec![3.0], vec![-f64::MAX, f64::MAX], vec![1.0, 1.0 + 1e-15], vec![0.0, 1e-320], vec![5.0; 40]]
        {
            let modes = fit(&x, &Unwatched).unwrap();
            assert_eq!(modes.is_empty(), x.is_empty());
            assert!(
                modes.iter().all(|m| m.mean.is_finite() && m.deviation.is_finite() && m.deviation > 0.0),
                "{modes:?}"
            );
        }
    }
}
