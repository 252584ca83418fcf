//! An interval of a rate.

use statrs::distribution::{ContinuousCDF, Normal};

/// A rate with its interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    pub rate: f64,
    pub low: f64,
    pub high: f64,
}

/// The rate of `hits` of `rows`, and Wilson's (1927) score interval of it with this confidence: it stays within 0 and 1, and says something of
/// few rows and of none that hit. `None` without rows.
pub fn wilson(hits: f64, rows: f64, confidence: f64) -> Option<Interval> {
    if rows <= 0.0 {
        return None;
    }
    let square = Normal::standard().inverse_cdf(0.5 + confidence / 2.0).powi(2);
    let rate = hits / rows;
    let middle = (rate + square / (2.0 * rows)) / (1.0 + square / rows);
    let half = (square * (rate * (1.0 - rate) / rows + square / (4.0 * rows * rows))).sqrt() / (1.0 + square / rows);
    Some(Interval { rate, low: (middle - half).clamp(0.0, rate), high: (middle + half).clamp(rate, 1.0) })
}
