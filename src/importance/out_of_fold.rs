//! What a model says of rows that it has not seen: the rows are dealt into folds, and each fold is predicted by a model of all others.
//!
//! Folds are stratified: the rows of a class, in an order drawn from the seed, are dealt round the folds, and the next class goes on where the
//! last ended. Where a class has fewer rows than there are folds, some folds have none of it, which is no error; a class of one row is
//! predicted by models that have never seen it, so its row's score is low. With fewer rows than folds each row is a fold; of one row alone
//! nothing is known, and every class is as likely.

use crate::draw;
use crate::error::Result;
use crate::memory;
use crate::progress::Progress;
use crate::tabular::trees::{Binned, Boosting, BoostingOptions, Signal, Target, jobs};

/// Rows predicted between two looks at the signal.
const CHECK_EVERY: usize = 256;

/// How the folds are made and what is learned from them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub folds: usize,
    /// Times that the rows are dealt anew; the predictions are averaged.
    pub repeats: usize,
    pub seed: u64,
    pub boosting: BoostingOptions,
}

/// The fold of each row.
pub(super) fn deal(target: &Target, rows: usize, folds: usize, seed: u64) -> Result<Vec<u16>> {
    let mut order = memory::filled(0u32, rows)?;
    draw::shuffled(&mut order, seed);
    if let Target::Classes { codes, .. } = target {
        // Stable: within a class the drawn order stays.
        order.sort_by_key(|&row| codes[row as usize]);
    }
    let mut fold_of = memory::filled(0u16, rows)?;
    order.iter().enumerate().for_each(|(i, &row)| fold_of[row as usize] = (i % folds) as u16);
    Ok(fold_of)
}

/// Predictions [rows, outputs] for each row by the models of the other folds, the mean of the repeats. `weights` [rows] are those of learning.
pub(super) fn boosted(
    binned: &Binned,
    target: &Target,
    weights: Option<&[f32]>,
    plan: &Plan,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Vec<f32>> {
    let (rows, outputs) = (binned.rows(), target.outputs());
    let folds = plan.folds.min(rows).max(1);
    let dealt: Vec<Vec<u16>> = (0..plan.repeats)
        .map(|repeat| {
            progress.check()?;
            deal(target, rows, folds, draw::mix(plan.seed ^ draw::mix(repeat as u64)))
        })
        .collect::<Result<_>>()?;
    let n = folds * plan.repeats;
    let total = n * Boosting::trees(target, &plan.boosting);
    let predicted = jobs(n, threads, progress, ("folds", total), |signal, job| {
        let (fold_of, fold) = (&dealt[job / folds], (job % folds) as u16);
        let split = |inside: bool| -> Result<Vec<u32>> {
            let mut rows = Vec::new();
            memory::reserve(&mut rows, if inside { binned.rows() / folds + 1 } else { binned.rows() })?;
            rows.extend((0..).zip(fold_of).filter(|(_, of)| (**of == fold) == inside).map(|(row, _)| row));
            Ok(rows)
        };
        let learner = Boosting::fit(binned, target, &split(false)?, weights, &plan.boosting, signal)?;
        let held = split(true)?;
        let mut out = memory::filled(0f32, held.len() * outputs)?;
        predict(&learner, binned, &held, &mut out, outputs, signal)?;
        Ok(out)
    })?;
    let mut mean = memory::filled(0f32, rows * outputs)?;
    let share = 1.0 / plan.repeats as f32;
    for (dealt, predicted) in dealt.iter().zip(predicted.chunks(folds)) {
        let mut next: Vec<_> = predicted.iter().map(|of_fold| of_fold.chunks_exact(outputs)).collect();
        for (out, &fold) in mean.chunks_exact_mut(outputs).zip(dealt) {
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
    out: &mut [f32],
    outputs: usize,
    signal: &Signal,
) -> Result<()> {
    for (rows, out) in rows.chunks(CHECK_EVERY).zip(out.chunks_mut(CHECK_EVERY * outputs)) {
        signal.check()?;
        for (&row, out) in rows.iter().zip(out.chunks_exact_mut(outputs)) {
            learner.predict(binned.row(row as usize), out);
        }
    }
    Ok(())
}
