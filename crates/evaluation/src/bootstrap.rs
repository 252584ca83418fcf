//! Percentile bootstrap intervals: users are resampled with replacement, and the metric is computed again for each resample
//! (Efron, Tibshirani, "An introduction to the bootstrap", 1993, §13.3).
//!
//! Each draw is a hash of the seed, the resample and the number of the draw, so the intervals do not depend on threads. Compared
//! models share their resamples.

use super::metrics::{Sums, Values};
use kernels::statistics::quantile;
use runtime::draw::mix;
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::parallel::for_each_chunk;
use runtime::progress::Progress;

/// Draws between two checks for a cancel request.
const PIECE: usize = 1 << 16;
/// Beyond this, more resamples do not change the result noticeably.
const MAX_RESAMPLES: usize = 100_000;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bootstrap {
    /// 0 for no intervals.
    resamples: usize,
    confidence: f64,
    seed: u64,
}

impl Bootstrap {
    pub fn new(resamples: i64, confidence: f64, seed: u64) -> Result<Self> {
        let resamples = usize::try_from(resamples).ok().filter(|n| *n <= MAX_RESAMPLES).ok_or_else(|| {
            let hint =
                format!("Give the number of resamples, such as 1000, at most {MAX_RESAMPLES}, or 0 for no intervals.");
            Error::argument("bootstrap", resamples, hint)
        })?;
        if !(confidence > 0.0 && confidence < 1.0) {
            return Err(Error::argument("confidence", confidence, "Give a share between 0 and 1, such as 0.95."));
        }
        Ok(Self { resamples, confidence, seed })
    }

    /// The sums of each of the `tables` over each resample of the users `rows`; empty without users.
    pub fn resample<const N: usize>(
        &self,
        tables: [&[Values]; N],
        rows: &[u32],
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<Vec<[Sums; N]>> {
        let resamples = if rows.is_empty() { 0 } else { self.resamples };
        let pieces = rows.len().div_ceil(PIECE).max(1);
        let mut parts = memory::filled([Sums::default(); N], resamples * pieces)?;
        for_each_chunk(
            &mut parts,
            1,
            threads,
            progress,
            || (),
            |(), number, part| {
                let (resample, piece) = (number / pieces, number % pieces);
                let start = mix(mix(self.seed).wrapping_add(resample as u64));
                for draw in piece * PIECE..rows.len().min((piece + 1) * PIECE) {
                    let chance = mix(start.wrapping_add(draw as u64));
                    let user = rows[((u128::from(chance) * rows.len() as u128) >> 64) as usize] as usize;
                    for (sums, table) in part[0].iter_mut().zip(tables) {
                        sums.add(&table[user]);
                    }
                }
                Ok(())
            },
        )?;
        let mut whole = Vec::with_capacity(resamples);
        for parts in parts.chunks(pieces) {
            let mut sums = parts[0];
            parts[1..].iter().for_each(|part| sums.iter_mut().zip(part).for_each(|(sum, part)| sum.merge(part)));
            whole.push(sums);
        }
        Ok(whole)
    }

    /// The percentile interval of the mean of `values`, one per query; `None` without values or resamples.
    pub fn interval_of_mean(&self, values: &[f64], progress: &dyn Progress) -> Result<Option<(f64, f64)>> {
        let resamples = if values.is_empty() { 0 } else { self.resamples };
        let mut means = memory::filled(0f64, resamples)?;
        for (resample, mean) in means.iter_mut().enumerate() {
            let start = mix(mix(self.seed).wrapping_add(resample as u64));
            for draw in 0..values.len() {
                if draw % PIECE == 0 {
                    progress.check()?;
                }
                let chance = mix(start.wrapping_add(draw as u64));
                *mean += values[((u128::from(chance) * values.len() as u128) >> 64) as usize];
            }
            *mean /= values.len() as f64;
        }
        Ok(self.interval(means.into_iter().map(Some)))
    }

    /// The percentile interval of the resampled values; `None` without values.
    pub fn interval(&self, values: impl IntoIterator<Item = Option<f64>>) -> Option<(f64, f64)> {
        let mut values: Vec<f64> = values.into_iter().flatten().collect();
        values.sort_unstable_by(f64::total_cmp);
        let tail = (1.0 - self.confidence) / 2.0;
        Some((quantile(&values, tail)?, quantile(&values, 1.0 - tail)?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::metrics::Metric;
    use super::*;
    use runtime::progress::Unwatched;

    fn users(n: usize) -> Vec<Values> {
        (0..n)
            .map(|user| {
                let mut values = Values::default();
                values.set(Metric::HitRate, f64::from(user % 4 == 0));
                values
            })
            .collect()
    }

    #[test]
    fn the_interval_of_a_share_is_the_normal_one_of_many_users() {
        let users = users(4000);
        let rows: Vec<u32> = (0..4000).collect();
        let bootstrap = Bootstrap::new(2000, 0.9, 7).unwrap();
        let sums = bootstrap.resample([&users], &rows, 2, &Unwatched).unwrap();
        let (low, high) = bootstrap.interval(sums.iter().map(|s| s[0].value(Metric::HitRate))).unwrap();
        // ± 1.645 √(p (1 − p) / n)
        let half = 1.645 * (0.25 * 0.75 / 4000f64).sqrt();
        assert!((low - (0.25 - half)).abs() < 0.1 * half && (high - (0.25 + half)).abs() < 0.1 * half, "{low} {high}");
    }

    #[test]
    fn threads_change_nothing_and_the_seed_does() {
        let users = users(100_000);
        let rows: Vec<u32> = (0..100_000).collect();
        let interval = |threads, seed| {
            let bootstrap = Bootstrap::new(20, 0.95, seed).unwrap();
            let sums = bootstrap.resample([&users, &users], &rows, threads, &Unwatched).unwrap();
            // Two pieces each, and both tables see the same users.
            assert!(sums.iter().all(|s| s[0].value(Metric::HitRate) == s[1].value(Metric::HitRate)));
            bootstrap.interval(sums.iter().map(|s| s[0].value(Metric::HitRate)))
        };
        assert_eq!(interval(1, 3), interval(4, 3));
        assert_ne!(interval(1, 3), interval(1, 4));
    }

    #[test]
    fn the_interval_of_a_mean_is_that_of_the_metric_with_the_same_resamples() {
        let users = users(400);
        let values: Vec<f64> = (0..400).map(|user| f64::from(user % 4 == 0)).collect();
        let rows: Vec<u32> = (0..400).collect();
        let bootstrap = Bootstrap::new(200, 0.9, 7).unwrap();
        let sums = bootstrap.resample([&users], &rows, 2, &Unwatched).unwrap();
        let (low, high) = bootstrap.interval(sums.iter().map(|s| s[0].value(Metric::HitRate))).unwrap();
        let of_mean = bootstrap.interval_of_mean(&values, &Unwatched).unwrap().unwrap();
        assert!((low - of_mean.0).abs() < 1e-12 && (high - of_mean.1).abs() < 1e-12);
        assert_eq!(bootstrap.interval_of_mean(&[], &Unwatched).unwrap(), None);
    }

    #[test]
    fn without_users_or_resamples_there_is_no_interval() {
        let none = Bootstrap::new(0, 0.95, 0).unwrap();
        assert!(none.resample([&users(3)], &[0, 1], 1, &Unwatched).unwrap().is_empty());
        assert_eq!(none.interval([]), None);
        assert!(Bootstrap::new(9, 0.95, 0).unwrap().resample([&users(3)], &[], 1, &Unwatched).unwrap().is_empty());
        for (resamples, confidence) in [(-1, 0.5), (1_000_000, 0.5), (10, 0.0), (10, 1.0), (10, f64::NAN)] {
            assert!(Bootstrap::new(resamples, confidence, 0).is_err());
        }
    }
}
