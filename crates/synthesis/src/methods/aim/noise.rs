//! Noise for privacy: whole numbers, sampled exactly, from unpredictable random numbers.
//!
//! A count gets x with probability ∝ exp(−x² / 2σ²), the discrete Gaussian (Canonne, Kamath, Steinke, "The discrete
//! Gaussian for differential privacy", 2020). It costs as much as the continuous one and has no low bits, which reveal
//! the count in rounded normal numbers (Mironov 2012). It is sampled by rejection from a discrete Laplace distribution
//! (their algorithms 1 to 3) in whole numbers: nothing is rounded except σ², which is rounded up.
//!
//! Random numbers come from ChaCha with a 256-bit key. Anyone who knows the key can remove the noise.

use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

use runtime::error::Result;
use runtime::memory;
use runtime::progress::Progress;

/// σ² is a multiple of 1 / PARTS.
const PARTS: u128 = 1 << 16;
/// Maximum σ, for which the squares below fit in 128 bits.
pub const MAX_SIGMA: f64 = (1 << 20) as f64;
/// Larger deviations, in σ, are not drawn. Their probability, exp(−2048), is negligible against any δ.
const MAX_DEVIATIONS: u128 = 64;

/// A stream of noise.
pub struct Noise(StdRng);

impl Noise {
    pub fn of_secret(key: [u8; 32]) -> Self {
        Self(StdRng::from_seed(key))
    }

    pub fn of_seed(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// A count with noise of deviation σ, at most [`MAX_SIGMA`].
    pub fn count(&mut self, count: f64, sigma: f64) -> f64 {
        count + self.normal(sigma) as f64
    }

    /// Counts with independent noise. Checks for a cancel request after each thousand, which take a millisecond or two.
    pub fn counts(
        &mut self,
        counts: impl ExactSizeIterator<Item = f64>,
        sigma: f64,
        progress: &dyn Progress,
    ) -> Result<Vec<f64>> {
        let mut noisy = Vec::new();
        memory::reserve(&mut noisy, counts.len())?;
        for (place, count) in counts.enumerate() {
            if place % 1024 == 0 {
                progress.check()?;
            }
            noisy.push(self.count(count, sigma));
        }
        Ok(noisy)
    }

    /// Gumbel noise: the arg max of scores with such noise is a choice by the exponential mechanism.
    pub fn gumbel(&mut self) -> f64 {
        // Above 0 and below 1, so that no logarithm is infinite.
        let u = ((self.0.next_u64() >> 12) as f64 + 0.5) / (1u64 << 52) as f64;
        -(-u.ln()).ln()
    }

    /// Algorithm 3.
    fn normal(&mut self, sigma: f64) -> i64 {
        let squared = (sigma * sigma * PARTS as f64).ceil() as u128;
        let scale = sigma as u128 + 1;
        loop {
            let (size, negative) = self.laplace(scale);
            if size > MAX_DEVIATIONS * scale {
                continue;
            }
            // (size − σ² / scale)² / 2σ² as a fraction.
            let off = (size * PARTS * scale).abs_diff(squared);
            if self.happens_exp(off * off, 2 * squared * PARTS * scale * scale) {
                return if negative { -(size as i64) } else { size as i64 };
            }
        }
    }

    /// Algorithm 2: |x| with probability ∝ exp(−|x| / scale), and its sign.
    fn laplace(&mut self, scale: u128) -> (u128, bool) {
        loop {
            let rest = self.below(scale);
            if !self.happens_exp(rest, scale) {
                continue;
            }
            let mut whole = 0;
            while self.happens_exp(1, 1) {
                whole += 1;
            }
            let (size, negative) = (rest + whole * scale, self.below(2) == 1);
            // 0 has one sign.
            if size > 0 || !negative {
                return (size, negative);
            }
        }
    }

    /// Algorithm 1: true with probability exp(−over / under).
    fn happens_exp(&mut self, over: u128, under: u128) -> bool {
        (0..over / under).all(|_| self.happens_exp_of_share(1, 1)) && self.happens_exp_of_share(over % under, under)
    }

    /// The same for a fraction from 0 to 1, by von Neumann's series of ever rarer events.
    fn happens_exp_of_share(&mut self, over: u128, under: u128) -> bool {
        let mut events = 1;
        while self.below(under * events) < over {
            events += 1;
        }
        events % 2 == 1
    }

    /// A uniform number from 0 to n − 1.
    fn below(&mut self, n: u128) -> u128 {
        let bits = 128 - (n - 1).leading_zeros();
        if bits == 0 {
            return 0;
        }
        loop {
            let low = u128::from(self.0.next_u64());
            let number = if bits <= 64 { low } else { low | u128::from(self.0.next_u64()) << 64 };
            let number = number >> (bits.next_multiple_of(64) - bits);
            if number < n {
                return number;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::error::Error;

    #[test]
    fn a_count_is_off_by_whole_numbers_as_often_as_the_discrete_normal_distribution_has_them() {
        const DRAWS: usize = 100_000;
        for (seed, sigma) in [(1, 0.4), (2, 1.0), (3, 3.7)] {
            let mut noise = Noise::of_seed(seed);
            let mut counts = [0usize; 81];
            for _ in 0..DRAWS {
                let x = noise.count(1000.0, sigma) - 1000.0;
                assert_eq!(x.fract(), 0.0);
                counts[(x + 40.0) as usize] += 1;
            }
            let density = |x: f64| (-x * x / (2.0 * sigma * sigma)).exp();
            let sum: f64 = (-40..=40).map(|x| density(x.into())).sum();
            for (x, count) in (-40..=40).zip(counts) {
                let expected = DRAWS as f64 * density(x.into()) / sum;
                assert!(
                    (count as f64 - expected).abs() < 4.5 * expected.sqrt() + 2.0,
                    "{sigma} {x} {count} {expected}"
                );
            }
        }
    }

    #[test]
    fn noise_has_the_deviation_asked_for_however_large_in_its_body_and_its_tails() {
        for (seed, sigma) in [(7, 30.0), (8, 1234.5), (9, MAX_SIGMA)] {
            let mut noise = Noise::of_seed(seed);
            let all: Vec<f64> = (0..40_000).map(|_| noise.count(0.0, sigma) / sigma).collect();
            let mean = all.iter().sum::<f64>() / 4e4;
            let deviation = (all.iter().map(|x| x * x).sum::<f64>() / 4e4).sqrt();
            assert!(mean.abs() < 0.02 && (deviation - 1.0).abs() < 0.015, "{sigma} {mean} {deviation}");
            let beyond = all.iter().filter(|x| x.abs() > 3.0).count() as f64 / 4e4;
            assert!((beyond - 0.0027).abs() < 0.0012, "{beyond}");
        }
    }

    #[test]
    fn a_cancel_request_ends_the_noising_of_many_counts() {
        struct Later(std::cell::Cell<usize>);
        impl Progress for Later {
            fn check(&self) -> Result<()> {
                self.0.set(self.0.get() + 1);
                if self.0.get() < 3 { Ok(()) } else { Err(Error::Canceled) }
            }
        }
        let (later, mut noise) = (Later(0.into()), Noise::of_seed(1));
        assert_eq!(noise.counts(vec![5.0; 2048].into_iter(), 1.0, &later).unwrap().len(), 2048);
        assert!(matches!(noise.counts(vec![5.0; 9].into_iter(), 1.0, &later), Err(Error::Canceled)));
    }

    #[test]
    fn choices_follow_the_exponential_mechanism() {
        let mut noise = Noise::of_secret([3; 32]);
        let scores = [0.0, 1.0, 2.0];
        let mut chosen = [0.0; 3];
        for _ in 0..100_000 {
            let noisy = scores.map(|score| score + noise.gumbel());
            let best = (0..3).max_by(|&a, &b| noisy[a].total_cmp(&noisy[b])).unwrap();
            chosen[best] += 1e-5;
        }
        let sum: f64 = scores.iter().map(|x| f64::exp(*x)).sum();
        for (score, share) in scores.iter().zip(chosen) {
            assert!((score.exp() / sum - share).abs() < 0.01, "{chosen:?}");
        }
    }
}
