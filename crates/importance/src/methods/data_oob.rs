//! `data_oob`: how often trees that were grown without a row predict its label.
//!
//! Kwon, Zou, "Data-OOB: out-of-bag estimate as a simple and efficient data value" (ICML 2023), eq. 2: with fully
//! grown trees on rows drawn with replacement, the mean of 1[ŷ = yᵢ] over the trees that did not draw row i; for numbers the
//! mean of −(yᵢ − ŷ)² in variances of the label. A row that every tree drew gets the mean of all rows.
//!
//! Low: trees without the row contradict its label. Option: `trees` 200.
//!
//! Time: O(trees · rows · columns · depth). Memory: two bytes per row and column, 64 bytes per row and thread.

use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use crate::method::{Computation, ImportanceMethod};
use crate::out_of_sample::all_rows;
use crate::task::Task;
use runtime::error::Result;
use runtime::memory;
use runtime::options::Options;
use tabular::trees::{Binned, Columns, ForestOptions, Target, for_each_tree};

/// Rows predicted between two checks for a cancel request.
const CHECK_EVERY: usize = 1 << 14;
/// Squared errors are summed as integers, in parts of a variance: the sum does not depend on the order.
const UNIT: f64 = (1u64 << 24) as f64;
/// Squared errors are capped at this many variances.
const MAX_VARIANCES: f64 = (1u64 << 20) as f64;

pub struct DataOob;

impl ImportanceMethod for DataOob {
    fn name(&self) -> &'static str {
        "data_oob"
    }

    fn computation(&self) -> Computation {
        Computation::Alone(score)
    }
}

fn score(task: &Task, options: &mut Options) -> Result<Vec<f64>> {
    let forest = ForestOptions {
        trees: options.integer("trees", 200, 1, 10_000)? as usize,
        columns: Columns::All,
        ..ForestOptions::default()
    };
    let binned = Binned::of(&task.samples.features, task.threads, task.progress)?;
    let target = Target::from(&task.samples.labels);
    let all = all_rows(binned.rows())?;
    let mut sums: Vec<AtomicI64> = Vec::new();
    let mut counts: Vec<AtomicU32> = Vec::new();
    memory::reserve(&mut sums, all.len())?;
    memory::reserve(&mut counts, all.len())?;
    sums.resize_with(all.len(), AtomicI64::default);
    counts.resize_with(all.len(), AtomicU32::default);
    let variance = match target {
        Target::Numbers(values) => variance(values),
        Target::Classes { .. } => 1.0,
    };
    let watched = (task.threads, task.progress);
    for_each_tree(&binned, &target, (&all, None), &forest, task.seed, watched, |_, tree, drawn, signal| {
        for rows in all.chunks(CHECK_EVERY) {
            signal.check()?;
            for row in rows.iter().map(|&row| row as usize).filter(|&row| drawn[row] == 0) {
                let predicted = tree.values(tree.leaf(binned.row(row)));
                let worth = match target {
                    Target::Classes { codes, .. } => i64::from(winner(predicted) == Some(codes[row])),
                    Target::Numbers(values) => {
                        let value = predicted.first().map_or(0.0, |(_, value)| f64::from(*value));
                        let error = (f64::from(values[row]) - value).powi(2) / variance;
                        -(error.min(MAX_VARIANCES) * UNIT) as i64
                    }
                };
                sums[row].fetch_add(worth, Ordering::Relaxed);
                counts[row].fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    })?;
    let unit = if let Target::Numbers(_) = target { UNIT } else { 1.0 };
    let mean = |sum: f64, count: f64| if count > 0.0 { sum / count / unit } else { 0.0 };
    let (sum, count) = sums.iter().zip(&counts).fold((0.0, 0.0), |(sum, count), (s, c)| {
        (sum + s.load(Ordering::Relaxed) as f64, count + f64::from(c.load(Ordering::Relaxed)))
    });
    Ok(sums
        .into_iter()
        .zip(counts)
        .map(|(s, c)| match c.into_inner() {
            0 => mean(sum, count),
            c => mean(s.into_inner() as f64, c.into()),
        })
        .collect())
}

/// The class with the greatest share; the first on ties.
fn winner(shares: &[(u32, f32)]) -> Option<u32> {
    shares.iter().copied().reduce(|best, other| if other.1 > best.1 { other } else { best }).map(|(class, _)| class)
}

/// 1 if all values are equal.
fn variance(values: &[f32]) -> f64 {
    let n = values.len().max(1) as f64;
    let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    let variance = values.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
    if variance > 0.0 { variance } else { 1.0 }
}
