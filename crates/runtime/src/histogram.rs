//! A histogram of durations, for quantiles in a fixed amount of memory.
//!
//! Each octave (a doubling of the duration) is cut into eight equal buckets, as HdrHistogram does: a bucket's width is at
//! most an eighth of its lower bound, and a quantile, given as the middle of its bucket, is at most 1/16 (6.25 %) off. That
//! holds from 1 µs to 73 minutes; below, the error is at most 64 ns; what takes longer counts as 73 minutes.

use std::time::Duration;

/// log₂ of the buckets of an octave.
const BITS: u32 = 3;
const PER_OCTAVE: u64 = 1 << BITS;

/// log₂ of the nanoseconds of a unit: durations below eight units (1.024 µs) are distinguished by units.
const UNIT: u32 = 7;

/// Doublings from the first octave's lower bound (2¹⁰ ns) to the last one's upper (2⁴² ns).
const OCTAVES: u64 = 32;

/// Number of buckets: the linear ones, then those of each octave.
pub const BUCKETS: usize = (PER_OCTAVE + OCTAVES * PER_OCTAVE) as usize;

/// The bucket of `duration`.
pub fn bucket(duration: Duration) -> usize {
    let units = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX) >> UNIT;
    if units < PER_OCTAVE {
        return units as usize;
    }
    // The leading one says which octave it is, the bits behind it which part of the octave.
    let octave = u64::from(units.ilog2() - BITS);
    let part = (units >> octave) - PER_OCTAVE;
    ((octave + 1) * PER_OCTAVE + part).min(BUCKETS as u64 - 1) as usize
}

/// The middle of a bucket.
fn middle(bucket: usize) -> Duration {
    let (row, part) = (bucket as u64 / PER_OCTAVE, bucket as u64 % PER_OCTAVE);
    let octave = row.saturating_sub(1);
    let lower = if row == 0 { part } else { PER_OCTAVE + part } << octave;
    Duration::from_nanos((lower << UNIT) + (1 << octave << UNIT) / 2)
}

/// The quantile `share` (0 to 1) of the counted durations; `None` if there are none. `counts` has one count for each bucket.
pub fn quantile(counts: &[u64], share: f64) -> Option<Duration> {
    let total: u64 = counts.iter().sum();
    // The rank of the one looked for, from 1.
    let rank = ((share * total as f64).ceil() as u64).max(1);
    let mut below = 0;
    let found = counts.iter().position(|count| {
        below += count;
        below >= rank
    });
    found.map(middle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(durations: impl IntoIterator<Item = Duration>) -> Vec<u64> {
        let mut counts = vec![0; BUCKETS];
        durations.into_iter().for_each(|d| counts[bucket(d)] += 1);
        counts
    }

    #[test]
    fn a_bucket_is_found_again_from_its_middle_and_later_ones_are_longer() {
        for number in 0..BUCKETS {
            assert_eq!(bucket(middle(number)), number);
            assert!(number == 0 || middle(number) > middle(number - 1));
        }
    }

    #[test]
    fn no_duration_from_a_microsecond_to_an_hour_is_off_by_more_than_a_sixteenth() {
        let mut nanoseconds = 1000.0f64;
        while nanoseconds < 3.6e12 {
            let told = middle(bucket(Duration::from_nanos(nanoseconds as u64))).as_nanos() as f64;
            let allowed = (nanoseconds / 16.0).max(64.0) + 1.0;
            assert!((told - nanoseconds).abs() <= allowed, "{nanoseconds} ns told as {told}");
            nanoseconds *= 1.003;
        }
    }

    #[test]
    fn the_ends_of_an_octave_fall_on_both_sides_of_its_bound() {
        for power in 10..42 {
            let bound = 1u64 << power;
            let below = bucket(Duration::from_nanos(bound - 1));
            assert_eq!(bucket(Duration::from_nanos(bound)), below + 1);
        }
    }

    #[test]
    fn nothing_is_too_short_or_too_long() {
        assert_eq!(bucket(Duration::ZERO), 0);
        assert_eq!(bucket(Duration::from_nanos(1 << 42)), BUCKETS - 1);
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_durations() {
        let counts = count((1..=1000).map(Duration::from_micros));
        for (share, exact) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1000.0), (0.0, 1.0)] {
            let told = quantile(&counts, share).unwrap().as_secs_f64() * 1e6;
            assert!((told - exact).abs() <= exact / 16.0 + 0.064, "{share}: {told}");
        }
    }

    #[test]
    fn one_slow_run_in_a_hundred_is_not_the_99th_percentile_and_two_are() {
        let fast = Duration::from_millis(1);
        let slow = Duration::from_secs(1);
        let told = |slow_ones: usize| {
            let runs = std::iter::repeat_n(fast, 100 - slow_ones).chain(std::iter::repeat_n(slow, slow_ones));
            quantile(&count(runs), 0.99).unwrap()
        };
        assert!(told(1) < Duration::from_millis(2));
        assert!(told(2) > Duration::from_millis(900));
    }

    #[test]
    fn of_nothing_there_is_no_quantile() {
        assert_eq!(quantile(&[0; BUCKETS], 0.99), None);
    }
}
