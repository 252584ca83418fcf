//! Statistics of scores and losses whose result does not depend on the order of the rows by a single bit, so that partial states can be
//! merged in any order, across any number of processes.
//!
//! The sums are exact: integers of thousands of bits, in units of the smallest double or, for squares, its square (Kulisch, "Computer
//! arithmetic and validity", 2013, chapter 8). A double is an integer of 53 bits times a power of two, so it and its square are added
//! without rounding. Only the results are rounded, once or twice: the mean, and the deviation √(n·Σx² − (Σx)²) / n, whose difference is
//! exact too, however far the mean is from 0.

use runtime::error::{Error, Result};

/// 2⁻¹⁰⁷⁴ to 2¹⁰²⁴, 2⁶³ times, and a sign.
const SUM_LIMBS: usize = 35;
/// 2⁻²¹⁴⁸ to 2²⁰⁴⁸, 2⁶³ times.
const SQUARE_LIMBS: usize = 67;
/// Exponent of the smallest double.
const UNIT: i32 = -1074;

/// Count, mean, standard deviation, minimum and maximum of finite numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct LossStatistics {
    count: u64,
    least: f64,
    most: f64,
    /// In two's complement, the lowest bits first.
    sum: [u64; SUM_LIMBS],
    squares: [u64; SQUARE_LIMBS],
}

/// The results of [`LossStatistics`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    pub mean: f64,
    /// Standard deviation of the population.
    pub deviation: f64,
    pub least: f64,
    pub most: f64,
}

impl Default for LossStatistics {
    fn default() -> Self {
        let (least, most) = (f64::INFINITY, f64::NEG_INFINITY);
        Self { count: 0, least, most, sum: [0; SUM_LIMBS], squares: [0; SQUARE_LIMBS] }
    }
}

impl LossStatistics {
    const BYTES: usize = 8 * (3 + SUM_LIMBS + SQUARE_LIMBS);

    pub fn add(&mut self, x: f64) -> Result<()> {
        if !x.is_finite() {
            return Err(Error::argument("loss", x, "Leave such rows out: FILTER (WHERE abs(loss) < 'Infinity')."));
        }
        self.count += 1;
        // 0 and −0 are one number.
        let x = x + 0.0;
        self.least = self.least.min(x);
        self.most = self.most.max(x);
        let bits = x.to_bits();
        let exponent = (bits >> 52 & 0x7ff) as u32;
        let fraction = bits & ((1 << 52) - 1);
        // x is ±whole · 2^(UNIT + shift).
        let (whole, shift) = if exponent == 0 { (fraction, 0) } else { (fraction | 1 << 52, exponent - 1) };
        if bits >> 63 == 0 {
            add_at(&mut self.sum, whole.into(), shift);
        } else {
            subtract_at(&mut self.sum, whole.into(), shift);
        }
        add_at(&mut self.squares, u128::from(whole) * u128::from(whole), 2 * shift);
        Ok(())
    }

    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.least = self.least.min(other.least);
        self.most = self.most.max(other.most);
        add_all(&mut self.sum, &other.sum);
        add_all(&mut self.squares, &other.squares);
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// `None` without rows.
    pub fn summary(&self) -> Option<Summary> {
        if self.count == 0 {
            return None;
        }
        let n = self.count as f64;
        let negative = self.sum[SUM_LIMBS - 1] >> 63 == 1;
        let mut size = self.sum;
        if negative {
            size.iter_mut().for_each(|limb| *limb = !*limb);
            add_at(&mut size, 1, 0);
        }
        let (top, power) = leading(&size);
        let mean = scaled(top as f64 / n, power + UNIT);

        // n·Σx² − (Σx)², which is never below 0, in units of 2^(2·UNIT).
        let mut spread = [0u64; 2 * SUM_LIMBS];
        for (place, &limb) in (0..).zip(&self.squares) {
            add_at(&mut spread, u128::from(limb) * u128::from(self.count), 64 * place);
        }
        for (i, &a) in (0..).zip(&size) {
            for (j, &b) in (0..).zip(&size).filter(|_| a != 0) {
                subtract_at(&mut spread, u128::from(a) * u128::from(b), 64 * (i + j));
            }
        }
        let (top, power) = leading(&spread);
        // An even power has a root.
        let (top, power) = if power % 2 == 0 { (top as f64, power) } else { (top as f64 * 2.0, power - 1) };
        let deviation = scaled(top.sqrt() / n, power / 2 + UNIT);
        Some(Summary { mean: if negative { -mean } else { mean }, deviation, least: self.least, most: self.most })
    }

    pub fn serialize(&self) -> Vec<u8> {
        let head = [self.count, self.least.to_bits(), self.most.to_bits()];
        head.iter().chain(&self.sum).chain(&self.squares).flat_map(|word| word.to_le_bytes()).collect()
    }

    pub fn deserialize(bytes: &[u8]) -> Result<Self> {
        let (words, rest) = bytes.as_chunks::<8>();
        if bytes.len() != Self::BYTES || !rest.is_empty() {
            return Err(Error::Internal("the state of loss_stats is truncated".into()));
        }
        let mut words = words.iter().map(|word| u64::from_le_bytes(*word));
        let mut next = || words.next().unwrap_or_default();
        let (count, least, most) = (next(), f64::from_bits(next()), f64::from_bits(next()));
        Ok(Self { count, least, most, sum: std::array::from_fn(|_| next()), squares: std::array::from_fn(|_| next()) })
    }
}

/// The 64-bit parts of `value · 2^(shift mod 64)`, of which the lowest belongs to limb `shift / 64`.
fn parts(value: u128, shift: u32) -> [u64; 3] {
    let low = value << (shift % 64);
    let high = if shift.is_multiple_of(64) { 0 } else { (value >> (128 - shift % 64)) as u64 };
    [low as u64, (low >> 64) as u64, high]
}

/// Adds `value · 2^shift`, modulo 2 to the number of bits.
fn add_at(limbs: &mut [u64], value: u128, shift: u32) {
    let first = (shift / 64) as usize;
    let mut carry = false;
    for (place, limb) in limbs.iter_mut().skip(first).enumerate() {
        let part = parts(value, shift).get(place).copied().unwrap_or_default();
        if place >= 3 && !carry {
            break;
        }
        let (sum, over) = limb.overflowing_add(part);
        let (sum, again) = sum.overflowing_add(carry.into());
        (*limb, carry) = (sum, over || again);
    }
}

fn subtract_at(limbs: &mut [u64], value: u128, shift: u32) {
    let first = (shift / 64) as usize;
    let mut borrow = false;
    for (place, limb) in limbs.iter_mut().skip(first).enumerate() {
        let part = parts(value, shift).get(place).copied().unwrap_or_default();
        if place >= 3 && !borrow {
            break;
        }
        let (rest, under) = limb.overflowing_sub(part);
        let (rest, again) = rest.overflowing_sub(borrow.into());
        (*limb, borrow) = (rest, under || again);
    }
}

fn add_all(limbs: &mut [u64], others: &[u64]) {
    let mut carry = false;
    for (limb, &other) in limbs.iter_mut().zip(others) {
        let (sum, over) = limb.overflowing_add(other);
        let (sum, again) = sum.overflowing_add(carry.into());
        (*limb, carry) = (sum, over || again);
    }
}

/// The upper 64 bits of a number, the last one set if any lower bit is, and the exponent of their unit.
fn leading(limbs: &[u64]) -> (u64, i32) {
    let Some(top) = limbs.iter().rposition(|&limb| limb != 0) else { return (0, 0) };
    let zeros = limbs[top].leading_zeros();
    let below = if top > 0 { limbs[top - 1] } else { 0 };
    let wide = (u128::from(limbs[top]) << 64 | u128::from(below)) << zeros;
    let rest = wide as u64 != 0 || limbs[..top.saturating_sub(1)].iter().any(|&limb| limb != 0);
    ((wide >> 64) as u64 | u64::from(rest), 64 * top as i32 - zeros as i32)
}

/// x · 2^power, where a power alone may be beyond a double.
fn scaled(x: f64, power: i32) -> f64 {
    // Downwards in one step of rounding: the first two are exact for the numbers that come here.
    let step = power.clamp(-900, 900);
    let rest = power - step;
    x * 2f64.powi(step) * 2f64.powi(rest / 2) * 2f64.powi(rest - rest / 2)
}

/// A histogram of scores: buckets of equal width between two ends, and one on either side.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScoreHistogram {
    low: f64,
    high: f64,
    /// Below `low`, the buckets, and from `high` on; empty before the first row.
    counts: Vec<u64>,
}

impl ScoreHistogram {
    /// Sets range and buckets, which must be the same for every row.
    pub fn set(&mut self, low: f64, high: f64, buckets: i32) -> Result<()> {
        const MAX_BUCKETS: i32 = 10_000;
        if self.counts.len() as i64 == i64::from(buckets) + 2 && self.low == low && self.high == high {
            return Ok(());
        }
        if !self.counts.is_empty() {
            let (before, parts) = (format!("{} to {}", self.low, self.high), self.counts.len() - 2);
            let message = format!(
                "histogram has {parts} buckets from {before} in one row and {buckets} from {low} to {high} in another"
            );
            return Err(Error::invalid(message, "Give the same low, high and buckets in every row."));
        }
        if !(1..=MAX_BUCKETS).contains(&buckets) {
            return Err(Error::argument("buckets", buckets, format!("Give a number from 1 to {MAX_BUCKETS}.")));
        }
        if !(low < high && (high - low).is_finite()) {
            let hint = "Give two finite numbers, the lower first, such as the ends from reco.loss_stats.";
            return Err(Error::invalid(format!("invalid histogram range: {low} to {high}"), hint));
        }
        *self = Self { low, high, counts: vec![0; buckets as usize + 2] };
        Ok(())
    }

    pub fn add(&mut self, score: f64) -> Result<()> {
        if score.is_nan() {
            return Err(Error::argument("score", "NaN", "Leave such rows out: FILTER (WHERE score <> 'NaN')."));
        }
        let buckets = self.counts.len() - 2;
        let place = if score < self.low {
            0
        } else if score >= self.high {
            buckets + 1
        } else {
            // As width_bucket has it. A share may round to 1.
            let share = (score - self.low) / (self.high - self.low);
            ((share * buckets as f64) as usize + 1).min(buckets)
        };
        self.counts[place] += 1;
        Ok(())
    }

    pub fn merge(&mut self, other: &Self) -> Result<()> {
        if other.counts.is_empty() {
            return Ok(());
        }
        self.set(other.low, other.high, other.counts.len() as i32 - 2)?;
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, other)| *count += other);
        Ok(())
    }

    /// Counts below `low`, of each bucket, and from `high` on; `None` before the first row.
    pub fn counts(&self) -> Option<&[u64]> {
        (!self.counts.is_empty()).then_some(&self.counts)
    }

    pub fn serialize(&self) -> Vec<u8> {
        let head = [self.low.to_bits(), self.high.to_bits()];
        head.iter().chain(&self.counts).flat_map(|word| word.to_le_bytes()).collect()
    }

    pub fn deserialize(bytes: &[u8]) -> Result<Self> {
        let cut = || Error::Internal("the state of importance_histogram is damaged".into());
        let (words, rest) = bytes.as_chunks::<8>();
        let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        match words.as_slice() {
            [low, high, counts @ ..] if rest.is_empty() && (counts.is_empty() || counts.len() > 2) => {
                Ok(Self { low: f64::from_bits(*low), high: f64::from_bits(*high), counts: counts.to_vec() })
            }
            _ => Err(cut()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::draw::{below, normal, shuffled};

    fn of(values: &[f64]) -> LossStatistics {
        let mut all = LossStatistics::default();
        values.iter().for_each(|&x| all.add(x).unwrap());
        all
    }

    #[test]
    fn a_mean_and_a_deviation_are_the_plain_ones() {
        let values: Vec<f64> = (0..1000).map(|i| f64::from(normal(1, i)) * 3.0 + 7.0).collect();
        let got = of(&values).summary().unwrap();
        let mean = values.iter().sum::<f64>() / 1000.0;
        let deviation = (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 1000.0).sqrt();
        assert!((got.mean - mean).abs() < 1e-13 && (got.deviation - deviation).abs() < 1e-13, "{got:?}");
        assert_eq!(
            (got.least, got.most),
            values.iter().fold((9e9, -9e9f64), |(a, b): (f64, f64), &x| (a.min(x), b.max(x)))
        );
    }

    #[test]
    fn what_rounding_would_lose_is_there() {
        let far = of(&[1e16, 1e16 + 2.0, 1e16 + 4.0]).summary().unwrap();
        assert!(far.mean == 1e16 + 2.0 && (far.deviation - (8f64 / 3.0).sqrt()).abs() < 1e-15, "{far:?}");
        let cancelled = of(&[1e300, 1.0, -1e300, 1e-300]).summary().unwrap();
        assert_eq!(cancelled.mean, 0.25);
        let tiny = f64::from_bits(1);
        assert_eq!(
            of(&[tiny, tiny, tiny]).summary().unwrap(),
            Summary { mean: tiny, deviation: 0.0, least: tiny, most: tiny }
        );
        let huge = of(&[f64::MAX, f64::MAX, -f64::MAX, -f64::MAX]).summary().unwrap();
        assert_eq!((huge.mean, huge.deviation), (0.0, f64::MAX));
        let large = of(&[f64::MAX; 3]).summary().unwrap();
        assert_eq!((large.mean, large.deviation), (f64::MAX, 0.0));
        let negative = of(&[-3.0, -0.0, -1.5]).summary().unwrap();
        assert_eq!((negative.mean, negative.most.to_bits()), (-1.5, 0));
        let one = of(&[-0.1]).summary().unwrap();
        assert_eq!((one.mean, one.deviation), (-0.1, 0.0));
    }

    #[test]
    fn any_order_and_any_parts_give_the_same_state() {
        let values: Vec<f64> = (0..500)
            .map(|i| f64::from(normal(1, i)) * 10f64.powi(below(2, i, 600) as i32 - 300))
            .chain([f64::MIN_POSITIVE / 3.0, -f64::MAX, f64::MAX, 0.0, -0.0])
            .collect();
        let whole = of(&values);
        let mut order = vec![0; values.len()];
        for seed in 0..5 {
            shuffled(&mut order, seed);
            let values: Vec<f64> = order.iter().map(|&i| values[i as usize]).collect();
            let mut merged = LossStatistics::default();
            for part in values.chunks(1 + 40 * seed as usize) {
                merged.merge(&LossStatistics::deserialize(&of(part).serialize()).unwrap());
            }
            assert_eq!(merged, whole);
            assert_eq!(merged.summary(), whole.summary());
        }
    }

    #[test]
    fn what_is_not_finite_is_refused_and_nothing_has_no_summary() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(matches!(LossStatistics::default().add(bad), Err(Error::Invalid { .. })));
        }
        assert_eq!(LossStatistics::default().summary(), None);
        assert!(LossStatistics::deserialize(&[0; 9]).is_err());
    }

    #[test]
    fn a_histogram_has_its_parts_and_what_lies_outside() {
        let mut all = ScoreHistogram::default();
        for score in [-1.0, 0.0, 0.24, 0.25, 0.999, 1.0, f64::INFINITY, f64::NEG_INFINITY] {
            all.set(0.0, 1.0, 4).unwrap();
            all.add(score).unwrap();
        }
        assert_eq!(all.counts().unwrap(), [2, 2, 1, 0, 1, 2]);
        let mut merged = ScoreHistogram::default();
        merged.merge(&ScoreHistogram::default()).unwrap();
        assert_eq!(merged.counts(), None);
        merged.merge(&ScoreHistogram::deserialize(&all.serialize()).unwrap()).unwrap();
        merged.merge(&all).unwrap();
        assert_eq!(merged.counts().unwrap(), [4, 4, 2, 0, 2, 4]);
    }

    #[test]
    fn a_histogram_has_one_range_and_a_number_in_each_row() {
        let mut all = ScoreHistogram::default();
        for (low, high, buckets) in
            [(0.0, 1.0, 0), (0.0, 1.0, -2), (1.0, 1.0, 3), (f64::NAN, 1.0, 3), (f64::MIN, f64::MAX, 3)]
        {
            assert!(matches!(all.set(low, high, buckets), Err(Error::Invalid { .. })), "{low} {high} {buckets}");
        }
        all.set(0.0, 1.0, 3).unwrap();
        assert!(all.set(0.0, 2.0, 3).is_err() && all.set(0.0, 1.0, 4).is_err() && all.add(f64::NAN).is_err());
    }
}
