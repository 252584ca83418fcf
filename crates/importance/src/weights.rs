//! From scores to weights of training rows, in [0, 1].
//!
//! Let n be the number of rows with a score, p the relative rank of a row, from 0 for the lowest to 1 for the highest (ties share the mean of
//! their ranks), and f the fraction of suspect rows:
//!
//! | method | weight |
//! |---|---|
//! | `rank` | min(1, p / f): from 0 for the lowest to 1 at the quantile f, and 1 above |
//! | `clip` | the score, scaled linearly from 0 at its quantile f/2 to 1 at its quantile 1 − f/2, and clipped |
//! | `drop` | 0 for the lowest ⌊f·n⌋ rows, 1 for the others; tied rows are dropped only together |
//!
//! Quantiles are interpolated. With f = 0, `rank` and `drop` give 1 throughout, and `clip` scales from the lowest score to the highest. With
//! f = 1, `rank` is p, `drop` gives 0 throughout, and `clip` separates the rows below the median from the others. Where all scores are equal,
//! `clip` gives 1; a single row has p = 1. A NaN score gets a NaN weight and does not count.
//!
//! Time: one sort.

use kernels::statistics::quantile_by_shares;
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::progress::Progress;
use runtime::sorting::sort_watched;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weighting {
    Rank,
    Clip,
    Drop,
}

impl Weighting {
    pub const ALL: [(&'static str, Self); 3] = [("rank", Self::Rank), ("clip", Self::Clip), ("drop", Self::Drop)];

    pub fn from_name(name: &str) -> Result<Self> {
        let known = || Self::ALL.map(|(known, _)| known).join(", ");
        Self::ALL
            .into_iter()
            .find(|(known, _)| *known == name)
            .map(|(_, weighting)| weighting)
            .ok_or_else(|| Error::UnknownName { what: "method", name: name.into(), known: known() })
    }
}

/// The weight of each score; NaN for NaN.
pub fn weights(scores: &[f64], how: Weighting, fraction: f64, progress: &dyn Progress) -> Result<Vec<f32>> {
    if !(0.0..=1.0).contains(&fraction) {
        return Err(Error::argument("fraction", fraction, "Give the share of suspect rows, from 0 to 1."));
    }
    let mut order: Vec<u32> = Vec::new();
    memory::reserve(&mut order, scores.len())?;
    order.extend((0..).zip(scores).filter(|(_, score)| !score.is_nan()).map(|(row, _): (u32, _)| row));
    let score = |row: u32| scores[row as usize];
    // −0 and 0 compare as equal here: they are neighbours in any case.
    sort_watched(&mut order, &|| progress.check(), |&a, &b| score(a).total_cmp(&score(b)))?;

    let (n, last) = (order.len(), order.len().saturating_sub(1) as f64);
    // What rounding takes from 0.29 · 100 must not cost a row.
    let dropped = (fraction * n as f64 * (1.0 + 4.0 * f64::EPSILON)) as usize;
    let quantile = |p| quantile_by_shares(order.len(), |place| score(order[place]), p).unwrap_or(f64::NAN);
    let (low, high) = (quantile(fraction / 2.0), quantile(1.0 - fraction / 2.0));
    let mut weights = memory::filled(f32::NAN, scores.len())?;
    let mut first = 0;
    for equal in order.chunk_by(|&a, &b| score(a) == score(b)) {
        let end = first + equal.len();
        let place = if n == 1 { 1.0 } else { (first + end - 1) as f64 / 2.0 / last };
        let weight = match how {
            Weighting::Rank if place >= fraction => 1.0,
            Weighting::Rank => place / fraction,
            Weighting::Clip => between(score(equal[0]), low, high),
            Weighting::Drop => f64::from(u8::from(end > dropped)),
        };
        equal.iter().for_each(|&row| weights[row as usize] = weight as f32);
        first = end;
    }
    Ok(weights)
}

/// `x` scaled to 0 … 1 between two ends; 0.5 where that is undefined.
fn between(x: f64, low: f64, high: f64) -> f64 {
    if x >= high {
        return 1.0;
    }
    if x <= low {
        return 0.0;
    }
    // Halves cannot overflow.
    let share = (x / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0);
    if share.is_nan() { 0.5 } else { share }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::progress::Unwatched;

    fn of(scores: &[f64], how: Weighting, fraction: f64) -> Vec<f32> {
        weights(scores, how, fraction, &Unwatched).unwrap()
    }

    #[test]
    fn weights_rise_with_the_rank_up_to_the_fraction() {
        assert_eq!(of(&[3.0, -1.0, 0.5, 9.0, 2.0], Weighting::Rank, 0.5), [1.0, 0.0, 0.5, 1.0, 1.0]);
        assert_eq!(of(&[3.0, 1.0, 1.0, 9.0, 2.0], Weighting::Rank, 1.0), [0.75, 0.125, 0.125, 1.0, 0.5]);
        assert_eq!(of(&[3.0, 1.0], Weighting::Rank, 0.0), [1.0; 2]);
    }

    #[test]
    fn clipped_scores_are_linear_between_two_quantiles() {
        let scores: Vec<f64> = (0..=10).map(f64::from).collect();
        let expected = [0.0, 0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0, 1.0];
        assert_eq!(of(&scores, Weighting::Clip, 0.2), expected);
        assert_eq!(of(&[1.0, 5.0, 2.0], Weighting::Clip, 0.0), [0.0, 1.0, 0.25]);
        assert_eq!(of(&[1.0, 5.0, 2.0], Weighting::Clip, 1.0), [0.0, 1.0, 1.0]);
        assert_eq!(of(&[4.0; 3], Weighting::Clip, 0.2), [1.0; 3]);
        assert_eq!(of(&[f64::MAX, 0.0, f64::MIN], Weighting::Clip, 0.0), [1.0, 0.5, 0.0]);
        assert_eq!(of(&[f64::INFINITY, 0.0, f64::NEG_INFINITY], Weighting::Clip, 0.0), [1.0, 0.5, 0.0]);
    }

    #[test]
    fn the_lowest_are_dropped_and_equal_ones_together() {
        assert_eq!(of(&[3.0, -1.0, 0.5, 9.0, 2.0], Weighting::Drop, 0.4), [1.0, 0.0, 0.0, 1.0, 1.0]);
        assert_eq!(of(&[3.0, -1.0, -1.0, 9.0, -1.0], Weighting::Drop, 0.4), [1.0; 5]);
        assert_eq!(of(&[3.0, -1.0, -1.0], Weighting::Drop, 1.0), [0.0; 3]);
        assert_eq!(of(&[3.0, -1.0, -1.0], Weighting::Drop, 0.0), [1.0; 3]);
        for n in 1..200 {
            let scores: Vec<f64> = (0..n).map(f64::from).collect();
            for percent in 0..=100 {
                let dropped =
                    of(&scores, Weighting::Drop, f64::from(percent) / 100.0).iter().filter(|w| **w == 0.0).count();
                assert_eq!(dropped as i32, n * percent / 100, "{n} {percent}");
            }
        }
    }

    #[test]
    fn what_is_not_known_has_no_weight_and_counts_for_nothing() {
        for (_, how) in Weighting::ALL {
            let got = of(&[f64::NAN, 3.0, 1.0, f64::NAN, 2.0], how, 0.5);
            assert!(got[0].is_nan() && got[3].is_nan());
            assert_eq!([got[1], got[2], got[4]][..], of(&[3.0, 1.0, 2.0], how, 0.5)[..]);
            assert_eq!(of(&[7.0], how, 0.5), [1.0]);
            assert!(of(&[], how, 0.5).is_empty() && of(&[f64::NAN], how, 0.5)[0].is_nan());
        }
    }

    #[test]
    fn equal_scores_have_equal_weights_whatever_their_zero() {
        for (_, how) in Weighting::ALL {
            let got = of(&[0.0, -0.0, 1.0, 0.0, -1.0, 2.0], how, 0.5);
            assert!(got[0] == got[1] && got[1] == got[3]);
        }
    }

    #[test]
    fn a_fraction_is_from_0_to_1_and_a_method_one_of_three() {
        for bad in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert!(weights(&[1.0], Weighting::Rank, bad, &Unwatched).unwrap_err().to_string().contains("fraction"));
        }
        assert_eq!(Weighting::from_name("clip").unwrap(), Weighting::Clip);
        assert!(matches!(Weighting::from_name("soft"), Err(Error::UnknownName { .. })));
    }
}
