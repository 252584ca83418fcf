//! Out-of-fold predictions: the rows are dealt into folds, and each fold is predicted by a model trained on all others.
//!
//! Folds are stratified: the rows of each class, in an order drawn from the seed, are dealt to the folds in turn, and the
//! next class continues where the last one ended. A class with fewer rows than folds is missing from some folds; a class of
//! one row is predicted by models that have never seen it, so the row scores low. With fewer rows than folds each row is a
//! fold; with a single row every class is equally likely.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};

use ndarray::{Array2, ArrayViewMut2, Axis};

use crate::networks::Networks;
use kernels::matrix::{rows as rows_of, rows_mut};
use runtime::draw;
use runtime::error::Result;
use runtime::jobs::{Signal, jobs};
use runtime::memory;
use runtime::progress::Progress;
use tabular::Samples;
use tabular::trees::{Binned, Boosting, BoostingOptions, ForestOptions, Target, for_each_tree};

/// Rows predicted between two checks for a cancel request.
const CHECK_EVERY: usize = 256;
/// Predictions are summed as integers, in this many parts of the greatest magnitude.
const UNIT: f64 = (1u64 << 40) as f64;

/// How rows are dealt and what is trained on them.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub folds: usize,
    /// Times the rows are dealt; the predictions are averaged.
    pub repeats: usize,
    pub seed: u64,
    pub boosting: BoostingOptions,
}

/// The fold of each row.
pub fn deal(target: &Target, rows: usize, folds: usize, seed: u64) -> Result<Vec<u16>> {
    let mut order = memory::filled(0u32, rows)?;
    draw::shuffled(&mut order, seed);
    let class = |row: u32| match target {
        Target::Classes { codes, .. } => codes[row as usize] as usize,
        Target::Numbers(_) => 0,
    };
    // Where the next row of each class stands, if the rows of a class keep their drawn order and the classes stand one
    // after the other.
    let mut next = vec![0usize; target.outputs() + 1];
    order.iter().for_each(|&row| next[class(row) + 1] += 1);
    (1..next.len()).for_each(|class| next[class] += next[class - 1]);
    let mut fold_of = memory::filled(0u16, rows)?;
    for &row in &order {
        let place = &mut next[class(row)];
        fold_of[row as usize] = (*place % folds) as u16;
        *place += 1;
    }
    Ok(fold_of)
}

/// Out-of-fold predictions [rows, outputs] of boosted trees, averaged over the repeats. `weights` [rows] weigh the training
/// rows.
pub fn boosted(
    binned: &Binned,
    target: &Target,
    weights: Option<&[f32]>,
    plan: &Plan,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Array2<f32>> {
    let trees = Boosting::trees(target, &plan.boosting);
    cross(target, binned.rows(), plan, (threads, progress), trees, |seed, train, held, out, signal| {
        let learner = Boosting::fit(binned, target, (train, weights), &plan.boosting, seed, signal)?;
        predict(&learner, binned, held, out, signal)
    })
}

/// The same by small networks; `None` where they diverge.
pub fn networks(
    samples: &Samples,
    plan: &Plan,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Option<Array2<f32>>> {
    let (target, nets) = (Target::from(&samples.labels), Networks::new(samples)?);
    let diverged = AtomicBool::new(false);
    let means =
        cross(&target, samples.features.rows(), plan, (threads, progress), 1, |seed, train, held, out, signal| {
            if train.is_empty() || !nets.predict(train, held, seed, out, &|| signal.check())? {
                diverged.store(true, Ordering::Relaxed);
            }
            signal.finished(1);
            Ok(())
        })?;
    Ok((!diverged.into_inner()).then_some(means))
}

/// For each repeat and fold, calls `work` to train on the other folds and write predictions for this one. Returns the mean
/// over the repeats.
fn cross(
    target: &Target,
    rows: usize,
    plan: &Plan,
    (threads, progress): (usize, &dyn Progress),
    units: usize,
    work: impl Fn(u64, &[u32], &[u32], ArrayViewMut2<f32>, &Signal) -> Result<()> + Sync,
) -> Result<Array2<f32>> {
    let outputs = target.outputs();
    let folds = plan.folds.min(rows).max(1);
    let dealt: Vec<Vec<u16>> = (0..plan.repeats)
        .map(|repeat| {
            progress.check()?;
            deal(target, rows, folds, draw::mix(plan.seed ^ draw::mix(repeat as u64)))
        })
        .collect::<Result<_>>()?;
    let n = folds * plan.repeats;
    let predicted = jobs(n, threads, progress, ("folds", n * units), |signal, job| {
        let (fold_of, fold) = (&dealt[job / folds], (job % folds) as u16);
        let split = |inside: bool| -> Result<Vec<u32>> {
            let mut of_fold = Vec::new();
            memory::reserve(&mut of_fold, if inside { rows / folds + 1 } else { rows })?;
            of_fold.extend((0..).zip(fold_of).filter(|(_, of)| (**of == fold) == inside).map(|(row, _)| row));
            Ok(of_fold)
        };
        let (train, held) = (split(false)?, split(true)?);
        let mut out = memory::matrix(held.len(), outputs, 0f32)?;
        work(draw::mix(plan.seed ^ draw::mix(!(job as u64))), &train, &held, out.view_mut(), signal)?;
        Ok(out)
    })?;
    let mut mean = memory::matrix(rows, outputs, 0f32)?;
    let share = 1.0 / plan.repeats as f32;
    for (dealt, predicted) in dealt.iter().zip(predicted.chunks(folds)) {
        let mut next: Vec<_> = predicted.iter().map(|of_fold| rows_of(of_fold.view())).collect();
        for (out, &fold) in rows_mut(mean.view_mut()).zip(dealt) {
            if let Some(values) = next[usize::from(fold)].next() {
                out.iter_mut().zip(values).for_each(|(out, value)| *out += share * value);
            }
        }
    }
    Ok(mean)
}

fn predict(
    learner: &Boosting,
    binned: &Binned,
    rows: &[u32],
    mut out: ArrayViewMut2<f32>,
    signal: &Signal,
) -> Result<()> {
    for (rows, out) in rows.chunks(CHECK_EVERY).zip(out.axis_chunks_iter_mut(Axis(0), CHECK_EVERY)) {
        signal.check()?;
        for (&row, out) in rows.iter().zip(rows_mut(out)) {
            learner.predict(binned.row(row as usize), out);
        }
    }
    Ok(())
}

/// Out-of-bag predictions [rows, outputs] of a forest: for each row the mean over the trees that did not draw it. A row that
/// every tree drew gets the mean over all rows.
pub fn bagged(
    binned: &Binned,
    target: &Target,
    weights: Option<&[f32]>,
    forest: &ForestOptions,
    seed: u64,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Array2<f32>> {
    let (rows, outputs) = (binned.rows(), target.outputs());
    let all = all_rows(rows)?;
    // Whole numbers add up to the same in any order.
    let mut sums: Vec<AtomicI64> = Vec::new();
    memory::reserve(&mut sums, rows * outputs)?;
    sums.resize_with(rows * outputs, AtomicI64::default);
    let mut counts: Vec<AtomicU32> = Vec::new();
    memory::reserve(&mut counts, rows)?;
    counts.resize_with(rows, AtomicU32::default);
    let most = match target {
        Target::Classes { .. } => 1.0,
        Target::Numbers(values) => values.iter().fold(f32::MIN_POSITIVE, |most, x| most.max(x.abs())),
    };
    for_each_tree(binned, target, (&all, weights), forest, seed, (threads, progress), |_, tree, drawn, signal| {
        for rows in all.chunks(CHECK_EVERY * 64) {
            signal.check()?;
            for row in rows.iter().map(|&row| row as usize).filter(|&row| drawn[row] == 0) {
                for &(output, value) in tree.values(tree.leaf(binned.row(row))) {
                    let part = (f64::from(value) / f64::from(most) * UNIT) as i64;
                    sums[row * outputs + output as usize].fetch_add(part, Ordering::Relaxed);
                }
                counts[row].fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    })?;
    let mut out = memory::matrix(rows, outputs, 0f32)?;
    let mut whole = vec![0f64; outputs];
    for (sums, count) in sums.chunks_exact(outputs).zip(&counts) {
        let n = f64::from(count.load(Ordering::Relaxed)).max(1.0);
        whole.iter_mut().zip(sums).for_each(|(whole, sum)| *whole += sum.load(Ordering::Relaxed) as f64 / n);
    }
    let seen = counts.iter().filter(|count| count.load(Ordering::Relaxed) > 0).count().max(1) as f64;
    let unit = f64::from(most) / UNIT;
    for ((out, sums), count) in rows_mut(out.view_mut()).zip(sums.chunks_exact(outputs)).zip(&counts) {
        let n = f64::from(count.load(Ordering::Relaxed));
        for ((out, sum), whole) in out.iter_mut().zip(sums).zip(&whole) {
            let mean = if n > 0.0 { sum.load(Ordering::Relaxed) as f64 / n } else { whole / seen };
            *out = (mean * unit) as f32;
        }
    }
    Ok(out)
}

/// 0 to n − 1.
pub fn all_rows(rows: usize) -> Result<Vec<u32>> {
    let mut all = Vec::new();
    memory::reserve(&mut all, rows)?;
    all.extend(0..rows as u32);
    Ok(all)
}
