//! Similarity of the real and the synthetic values of a column.
//!
//! | figure | column | formula |
//! |---|---|---|
//! | KSComplement | numbers, times | 1 − max over x of \|F(x) − G(x)\|, F and G the shares of values up to x (Kolmogorov 1933, Smirnov 1939) |
//! | TVComplement | categories | 1 − ½ Σ over categories of \|p − q\| |
//! | RangeCoverage | numbers, times | the share of the real range that lies within the synthetic one |
//! | CategoryCoverage | categories | the share of the real categories that some synthetic row has |
//! | BoundaryAdherence | numbers, times | the share of synthetic values within the real range |
//! | CategoryAdherence | categories | the share of synthetic values that some real row has |
//!
//! The definitions are those of SDMetrics 0.32, including its corner cases: values are rounded to 14 decimals before
//! they are compared, a category that the real rows lack counts as a millionth of a row, NULLs are left out, and a
//! synthetic NULL is outside the boundary only if no real row is NULL. Figures that it does not define (no values,
//! range of a constant real column) have no score.
//!
//! Time: O(n log n) a column, a column a thread. Memory: 8 bytes a row of the columns in progress.

use super::columns::{Compared, REAL, SYNTHETIC, Values};
use runtime::error::Result;
use runtime::jobs::Signal;
use runtime::memory;
use runtime::sorting::sort_watched;
use tabular::{ColumnKind, NONE};

/// Rows between two checks of the signal.
const CHECK_EVERY: usize = 1 << 16;
/// Decimals compared: one less than a double always keeps.
const DECIMALS: f64 = 1e14;
/// Weight of a category that the real rows lack, in rows.
const UNSEEN: f64 = 1e-6;

/// The figures of a column.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shape {
    pub similarity: Option<f64>,
    pub coverage: Option<f64>,
    pub adherence: Option<f64>,
    /// Share of NULLs among the real and the synthetic values.
    pub nulls: [f64; 2],
    /// Whether all values are the same, NULLs left out.
    pub constant: [bool; 2],
}

pub fn shape(column: &Compared, signal: &Signal) -> Result<Shape> {
    match &column.values {
        Values::Numbers(of) => of_numbers([of[REAL], of[SYNTHETIC]], column.kind, signal),
        Values::Codes { of, names } => of_categories([&of[REAL], &of[SYNTHETIC]], names.len(), signal),
    }
}

fn of_numbers(values: [&[f64]; 2], kind: ColumnKind, signal: &Signal) -> Result<Shape> {
    let sorted = [sorted(values[0], kind, signal)?, sorted(values[1], kind, signal)?];
    let mut bounds = [None; 2];
    for (table, values) in values.iter().enumerate() {
        for block in values.chunks(CHECK_EVERY) {
            signal.check()?;
            for &x in block.iter().filter(|x| !x.is_nan()) {
                let (low, high) = bounds[table].unwrap_or((x, x));
                bounds[table] = Some((x.min(low), x.max(high)));
            }
        }
    }
    let [real, synthetic] = values.map(|values| values.len() as f64);
    let nulls = [0, 1].map(|t| 1.0 - sorted[t].len() as f64 / values[t].len().max(1) as f64);
    let coverage = match (bounds[0], bounds[1]) {
        (Some((low, high)), Some((least, most))) if low < high => {
            // Halves: the range itself may be beyond what a double holds.
            let range = high / 2.0 - low / 2.0;
            let missed = |by: f64| (by / range).max(0.0);
            Some((1.0 - missed(least / 2.0 - low / 2.0) - missed(high / 2.0 - most / 2.0)).max(0.0))
        }
        _ => None,
    };
    let counted = if nulls[0] > 0.0 || real == 0.0 { sorted[1].len() as f64 } else { synthetic };
    let adherence = (counted > 0.0).then(|| {
        let within = |x: &&f64| bounds[0].is_some_and(|(low, high)| (low..=high).contains(*x));
        values[1].iter().filter(within).count() as f64 / counted
    });
    let constant = bounds.map(|bounds| bounds.is_some_and(|(low, high)| low == high));
    Ok(Shape { similarity: ks_complement(&sorted[0], &sorted[1]), coverage, adherence, nulls, constant })
}

/// The complement of the Kolmogorov–Smirnov statistic of ascending values.
fn ks_complement(a: &[f64], b: &[f64]) -> Option<f64> {
    if a.is_empty() || b.is_empty() {
        return None;
    }
    let (mut i, mut j, mut most) = (0, 0, 0f64);
    while i < a.len() && j < b.len() {
        let x = a[i].min(b[j]);
        while i < a.len() && a[i] <= x {
            i += 1;
        }
        while j < b.len() && b[j] <= x {
            j += 1;
        }
        most = most.max((i as f64 / a.len() as f64 - j as f64 / b.len() as f64).abs());
    }
    Some(1.0 - most)
}

/// The non-NULL values, rounded, ascending.
fn sorted(values: &[f64], kind: ColumnKind, signal: &Signal) -> Result<Vec<f64>> {
    let rounds = kind == ColumnKind::Number;
    let round = |x: f64| if rounds && x.abs() < 100.0 { (x * DECIMALS).round_ties_even() / DECIMALS } else { x };
    let mut order = Vec::new();
    memory::reserve(&mut order, values.len())?;
    for part in values.chunks(CHECK_EVERY) {
        signal.check()?;
        order.extend(part.iter().filter(|x| !x.is_nan()).map(|&x| round(x) + 0.0));
    }
    sort_watched(&mut order, &|| signal.check(), f64::total_cmp)?;
    Ok(order)
}

fn of_categories(codes: [&[u32]; 2], names: usize, signal: &Signal) -> Result<Shape> {
    let mut counts = [memory::filled(0u64, names)?, memory::filled(0u64, names)?];
    for (codes, counts) in codes.iter().zip(&mut counts) {
        for block in codes.chunks(CHECK_EVERY) {
            signal.check()?;
            block.iter().filter(|&&code| code != NONE).for_each(|&code| counts[code as usize] += 1);
        }
    }
    let known = [0, 1].map(|t| counts[t].iter().sum::<u64>() as f64);
    let rows = codes.map(|codes| codes.len() as f64);
    let pairs = || counts[0].iter().zip(&counts[1]).map(|(&r, &s)| (r as f64, s as f64));
    let unseen = pairs().filter(|&(r, s)| r == 0.0 && s > 0.0).count() as f64;
    let similarity = (known[0] > 0.0 && known[1] > 0.0).then(|| {
        let total = known[0] + UNSEEN * unseen;
        let share = |r: f64, s: f64| if r == 0.0 && s > 0.0 { UNSEEN / total } else { r / total };
        1.0 - pairs().map(|(r, s)| (share(r, s) - s / known[1]).abs()).sum::<f64>() / 2.0
    });
    let kinds = pairs().filter(|&(r, _)| r > 0.0).count() as f64;
    let both = pairs().filter(|&(r, s)| r > 0.0 && s > 0.0).count() as f64;
    let mut valid = pairs().filter(|&(r, _)| r > 0.0).map(|(_, s)| s).sum::<f64>();
    if known[0] < rows[0] {
        valid += rows[1] - known[1];
    }
    Ok(Shape {
        similarity,
        coverage: (kinds > 0.0).then_some(both / kinds),
        adherence: (rows[1] > 0.0).then_some(valid / rows[1]),
        nulls: [0, 1].map(|t| 1.0 - known[t] / rows[t].max(1.0)),
        constant: [0, 1].map(|t| counts[t].iter().filter(|&&count| count > 0).count() == 1),
    })
}
