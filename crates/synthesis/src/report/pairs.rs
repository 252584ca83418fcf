//! Similarity of the real and the synthetic rows in pairs of columns.
//!
//! | figure | pair | formula |
//! |---|---|---|
//! | CorrelationSimilarity | two columns of numbers or times | 1 − \|ρ − ρ'\| / 2, ρ and ρ' Pearson's correlations of the real and the synthetic rows |
//! | ContingencySimilarity | any other | 1 − ½ Σ over pairs of categories of \|p − q\|; numbers are cut into 10 bins, NULL is a category |
//!
//! As in SDMetrics 0.32's quality report only pairs that are associated in the real rows are scored: those with \|ρ\|
//! above `correlation_threshold`, and those with a Cramér's V (Cramér 1946, 21.9) above `association_threshold`. Each
//! table's numbers are binned by its own range; the maximum and NULL share a bin above the ten. With more than
//! `pair_rows` rows contingencies are computed on a sample of that size (drawn anew for each pair there, once here). A
//! column that is constant in either table has no correlation.
//!
//! Time: O(pairs · rows), on all threads. Memory: 8 bytes a row of the sample and column.

use super::columns::{Compared, REAL, SYNTHETIC, Tables, Values};
use super::sample::sample;
use super::shapes::Shape;
use runtime::draw;
use runtime::error::Result;
use runtime::jobs::{Signal, jobs};
use runtime::memory;
use runtime::progress::Progress;
use tabular::ColumnKind;

const BINS: usize = 10;
/// Rows between two checks of the signal.
const CHECK_EVERY: usize = 1 << 16;
/// With more pairs, a sample of this size is scored.
const MAX_PAIRS: usize = 20_000;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairOptions {
    /// Default 0.5. Pairs of numbers with a lower correlation in the real rows have no score.
    pub correlation_threshold: f64,
    /// Default 0.3. Other pairs with a lower Cramér's V have no score.
    pub association_threshold: f64,
    /// Default 50,000.
    pub rows: usize,
}

/// A pair of columns, by index.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trend {
    pub columns: (usize, usize),
    pub metric: &'static str,
    /// Only for a pair that is associated in the real rows.
    pub score: Option<f64>,
    /// Correlations, or Cramér's V of the real rows.
    pub real: Option<f64>,
    pub synthetic: Option<f64>,
}

/// A column as categories: bins of numbers or codes of names, NULL last.
struct Cut {
    /// For the sampled rows of the real and the synthetic table.
    codes: [Vec<u32>; 2],
    count: usize,
}

pub fn trends(
    tables: &Tables,
    shapes: &[Shape],
    options: &PairOptions,
    seed: u64,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Vec<Trend>> {
    let n = tables.columns.len();
    let rows = [REAL, SYNTHETIC].map(|table| sample(tables.rows[table], options.rows, draw::mix(seed ^ table as u64)));
    let [real, synthetic] = rows;
    let rows = [real?, synthetic?];
    let cuts: Vec<Option<Cut>> =
        jobs(n, threads, progress, ("columns", n), |signal, c| cut(&tables.columns[c], &rows, signal))?;
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    memory::reserve(&mut pairs, n * (n - 1) / 2)?;
    pairs.extend((0..n).flat_map(|a| (a + 1..n).map(move |b| (a, b))));
    if pairs.len() > MAX_PAIRS {
        pairs = sample(pairs.len(), MAX_PAIRS, seed)?.into_iter().map(|place| pairs[place as usize]).collect();
    }
    jobs(pairs.len(), threads, progress, ("pairs", pairs.len()), |signal, job| {
        let (a, b) = pairs[job];
        let trend = match (&tables.columns[a].values, &tables.columns[b].values) {
            (Values::Numbers(x), Values::Numbers(y)) => {
                let constant = [0, 1].map(|table| shapes[a].constant[table] || shapes[b].constant[table]);
                let mut found = [None; 2];
                for table in [REAL, SYNTHETIC] {
                    if !constant[table] {
                        found[table] = correlation(x[table], y[table], signal)?;
                    }
                }
                let [real, synthetic] = found;
                let score = real
                    .filter(|real| real.abs() > options.correlation_threshold)
                    .and_then(|real| Some(1.0 - (real - synthetic?).abs() / 2.0))
                    .filter(|_| !constant[0] && !constant[1]);
                Trend { columns: (a, b), metric: "CorrelationSimilarity", score, real, synthetic }
            }
            _ => {
                let (mut score, mut real) = (None, None);
                if let (Some(x), Some(y)) = (&cuts[a], &cuts[b]) {
                    (score, real) = contingency(x, y, options.association_threshold)?;
                }
                Trend { columns: (a, b), metric: "ContingencySimilarity", score, real, synthetic: None }
            }
        };
        signal.finished(1);
        Ok(trend)
    })
}

/// Pearson's correlation over the rows that have both values.
fn correlation(x: &[f64], y: &[f64], signal: &Signal) -> Result<Option<f64>> {
    let each = |visit: &mut dyn FnMut(f64, f64)| -> Result<()> {
        for (x, y) in x.chunks(CHECK_EVERY).zip(y.chunks(CHECK_EVERY)) {
            signal.check()?;
            x.iter().zip(y).filter(|(x, y)| !x.is_nan() && !y.is_nan()).for_each(|(&x, &y)| visit(x, y));
        }
        Ok(())
    };
    let (mut n, mut most) = (0f64, [0f64; 2]);
    each(&mut |x, y| {
        n += 1.0;
        most = [most[0].max(x.abs()), most[1].max(y.abs())];
    })?;
    // Shares of the greatest cannot overflow.
    let unit = most.map(|most| if most > 0.0 { most } else { 1.0 });
    let mut mean = [0f64; 2];
    each(&mut |x, y| mean = [mean[0] + x / unit[0], mean[1] + y / unit[1]])?;
    let mean = mean.map(|sum| sum / n);
    let (mut xx, mut yy, mut xy, mut first, mut differs) = (0f64, 0f64, 0f64, None, [false; 2]);
    each(&mut |x, y| {
        let (a, b) = *first.get_or_insert((x, y));
        differs = [differs[0] || x != a, differs[1] || y != b];
        let (x, y) = (x / unit[0] - mean[0], y / unit[1] - mean[1]);
        (xx, yy, xy) = (xx + x * x, yy + y * y, xy + x * y);
    })?;
    let rho = xy / xx.sqrt() / yy.sqrt();
    Ok((differs == [true; 2] && rho.is_finite()).then(|| rho.clamp(-1.0, 1.0)))
}

/// `None` if the numbers are too close to be binned.
fn cut(column: &Compared, rows: &[Vec<u32>; 2], signal: &Signal) -> Result<Option<Cut>> {
    let mut codes = [Vec::new(), Vec::new()];
    for table in [REAL, SYNTHETIC] {
        signal.check()?;
        memory::reserve(&mut codes[table], rows[table].len())?;
        match &column.values {
            Values::Numbers(of) => {
                let Some(edges) = edges(of[table], column.kind, signal)? else { return Ok(None) };
                // NaN is above all edges.
                let bin = |x: f64| edges.iter().filter(|&&edge| edge <= x || x.is_nan()).count() as u32;
                codes[table].extend(rows[table].iter().map(|&row| bin(whole(of[table][row as usize], column.kind))));
            }
            Values::Codes { of, names } => {
                let code = |row: u32| of[table][row as usize].min(names.len() as u32);
                codes[table].extend(rows[table].iter().map(|&row| code(row)));
            }
        }
    }
    let count = match &column.values {
        Values::Numbers(_) => BINS + 2,
        Values::Codes { names, .. } => names.len() + 1,
    };
    signal.finished(1);
    Ok(Some(Cut { codes, count }))
}

/// Times in whole microseconds: doubles then hold the edges of days and hours exactly.
fn whole(x: f64, kind: ColumnKind) -> f64 {
    if kind == ColumnKind::Time { (x * 86_400e6).round() } else { x }
}

/// Edges of ten bins of equal width from minimum to maximum, half a unit each way around a constant.
fn edges(values: &[f64], kind: ColumnKind, signal: &Signal) -> Result<Option<[f64; BINS + 1]>> {
    let mut bounds = None;
    for block in values.chunks(CHECK_EVERY) {
        signal.check()?;
        for &x in block.iter().filter(|x| !x.is_nan()) {
            let (low, high) = bounds.unwrap_or((x, x));
            bounds = Some((x.min(low), x.max(high)));
        }
    }
    let (low, high) = bounds.map_or((0.0, 1.0), |(low, high)| (whole(low, kind), whole(high, kind)));
    let (low, high) = if low == high { (low - 0.5, high + 0.5) } else { (low, high) };
    let step = (high - low) / BINS as f64;
    let mut edges = std::array::from_fn(|i| i as f64 * step + low);
    edges[BINS] = high;
    Ok(edges.windows(2).all(|pair| pair[0] < pair[1]).then_some(edges))
}

/// The score, and Cramér's V of the real rows.
fn contingency(a: &Cut, b: &Cut, threshold: f64) -> Result<(Option<f64>, Option<f64>)> {
    let [real, synthetic] = [cells(a, b, REAL)?, cells(a, b, SYNTHETIC)?];
    let Some(association) = cramers_v(&real, (a.count, b.count))? else {
        // A column of one category: only where no association is asked for.
        return Ok(((threshold <= 0.0).then(|| similarity(a, &real, &synthetic)), None));
    };
    let score = (threshold <= 0.0 || association > threshold).then(|| similarity(a, &real, &synthetic));
    Ok((score, Some(association)))
}

/// Number of rows of each pair of categories that occurs, ascending.
fn cells(a: &Cut, b: &Cut, table: usize) -> Result<Vec<(u32, u32, u32)>> {
    let (a_codes, b_codes) = (&a.codes[table], &b.codes[table]);
    let mut cells = Vec::new();
    let all = a.count * b.count;
    if all <= (4 * a_codes.len()).max(1 << 12) {
        let mut counts = memory::filled(0u32, all)?;
        a_codes.iter().zip(b_codes).for_each(|(&x, &y)| counts[x as usize * b.count + y as usize] += 1);
        let full = || counts.iter().enumerate().filter(|(_, count)| **count > 0);
        memory::reserve(&mut cells, full().count())?;
        cells.extend(full().map(|(cell, &count)| ((cell / b.count) as u32, (cell % b.count) as u32, count)));
        return Ok(cells);
    }
    let mut keys = Vec::new();
    memory::reserve(&mut keys, a_codes.len())?;
    keys.extend(a_codes.iter().zip(b_codes).map(|(&x, &y)| (x, y)));
    keys.sort_unstable();
    for &(x, y) in &keys {
        match cells.last_mut() {
            Some((u, v, count)) if (*u, *v) == (x, y) => *count += 1,
            _ => memory::push(&mut cells, (x, y, 1))?,
        }
    }
    Ok(cells)
}

/// Of cells in one order.
fn similarity(of: &Cut, real: &[(u32, u32, u32)], synthetic: &[(u32, u32, u32)]) -> f64 {
    let rows = [REAL, SYNTHETIC].map(|table| of.codes[table].len() as f64);
    let share = |cell: Option<&(u32, u32, u32)>, table: usize| cell.map_or(0.0, |cell| f64::from(cell.2) / rows[table]);
    let (mut i, mut j, mut sum) = (0, 0, 0f64);
    while i < real.len() || j < synthetic.len() {
        let (r, s) = (real.get(i), synthetic.get(j));
        let place = |cell: Option<&(u32, u32, u32)>| cell.map_or((u32::MAX, u32::MAX), |cell| (cell.0, cell.1));
        let (first, second) = (place(r) <= place(s), place(s) <= place(r));
        sum += (share(r.filter(|_| first), REAL) - share(s.filter(|_| second), SYNTHETIC)).abs();
        (i, j) = (i + usize::from(first), j + usize::from(second));
    }
    1.0 - sum / 2.0
}

/// Cramér's V, √(χ² / n / (min(rows, columns) − 1)), over the categories that occur; `None` if a column has only one.
fn cramers_v(cells: &[(u32, u32, u32)], counts: (usize, usize)) -> Result<Option<f64>> {
    let (mut by_a, mut by_b) = (memory::filled(0f64, counts.0)?, memory::filled(0f64, counts.1)?);
    for &(x, y, count) in cells {
        by_a[x as usize] += f64::from(count);
        by_b[y as usize] += f64::from(count);
    }
    let kinds = |by: &[f64]| by.iter().filter(|rows| **rows > 0.0).count();
    let least = kinds(&by_a).min(kinds(&by_b));
    if least < 2 {
        return Ok(None);
    }
    // χ² / n = Σ O² / (row · column) − 1: cells without rows have no part in the sum.
    let phi2 = cells.iter().map(|&(x, y, o)| f64::from(o) / by_a[x as usize] * f64::from(o) / by_b[y as usize]);
    let phi2 = (phi2.sum::<f64>() - 1.0).max(0.0);
    Ok(Some((phi2 / (least - 1) as f64).sqrt()))
}
