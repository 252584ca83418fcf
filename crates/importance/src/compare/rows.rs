//! Comparison of boosted trees trained with and without weights.

use super::comparison::{Comparison, Repeats, check_weights};
use crate::task::Task;
use kernels::matrix::rows_mut;
use runtime::draw::uniform;
use runtime::error::{Error, Result};
use runtime::jobs::{Signal, jobs};
use runtime::memory;
use runtime::options::Options;
use tabular::trees::{Binned, Binning, Boosting, BoostingOptions, Target};
use tabular::{Labels, Samples, metrics};

/// Metrics by name.
type Metrics = Vec<(&'static str, f64)>;

/// `weights` are those of the task's rows. Its validation rows, if any, are the test set. Options: `rounds`, `learning_rate`,
/// `leaves`, `l2`, `columns` (the share drawn for each tree), `least_rows` of the trees.
pub fn compare_rows(task: &Task, weights: &[f32], options: &mut Options, repeats: &Repeats) -> Result<Vec<Comparison>> {
    let Task { samples, validation, threads, progress, .. } = *task;
    let defaults = BoostingOptions::default();
    let boosting = BoostingOptions {
        rounds: options.integer("rounds", defaults.rounds as u64, 1, 10_000)? as usize,
        learning_rate: options.float("learning_rate", defaults.learning_rate.into(), 1e-4, 1.0)?,
        leaves: options.integer("leaves", defaults.leaves as u64, 2, 4096)? as usize,
        l2: options.float("l2", defaults.l2.into(), 0.0, 1e6)?,
        columns: options.float("columns", defaults.columns.into(), 0.01, 1.0)?,
        least_rows: options.integer("least_rows", defaults.least_rows as u64, 1, 1 << 20)? as usize,
    };
    if weights.len() != task.rows() {
        return Err(Error::Internal("weights of other rows".into()));
    }
    check_weights(weights)?;
    let binning = Binning::learn(&samples.features, None, threads, progress)?;
    let binned = binning.apply(&samples.features, threads, progress)?;
    let test = match validation {
        Some(test) => Some((binning.apply(&test.features, threads, progress)?, test)),
        None => None,
    };
    let seeds: Vec<u64> = repeats.each().collect();
    let target = Target::from(&samples.labels);
    let trees = 2 * seeds.len() * Boosting::trees(&target, &boosting);
    // Each seed without weights and with.
    let found = jobs(2 * seeds.len(), threads, progress, ("trees", trees), |signal, job| {
        let seed = seeds[job / 2];
        let is_held = |row: u32| f64::from(uniform(seed, row.into())) / 2.0 + 0.5 < repeats.held_out;
        let (held, kept): (Vec<u32>, Vec<u32>) = (0..binned.rows() as u32).partition(|&row| is_held(row));
        let weights = (job % 2 == 1).then_some(weights);
        let model = Boosting::fit(&binned, &target, (&kept, weights), &boosting, seed, signal)?;
        match &test {
            Some((binned, test)) => {
                let all: Vec<u32> = (0..binned.rows() as u32).collect();
                measure(&model, binned, test, &all, signal)
            }
            None => measure(&model, &binned, samples, &held, signal),
        }
    })?;
    let names: Vec<&'static str> = found[0].iter().map(|(name, _)| *name).collect();
    Ok(names
        .iter()
        .enumerate()
        .map(|(m, name)| {
            let pairs: Vec<(f64, f64)> = found.chunks_exact(2).map(|pair| (pair[0][m].1, pair[1][m].1)).collect();
            repeats.summarise(name, &pairs)
        })
        .collect())
}

fn measure(model: &Boosting, binned: &Binned, samples: &Samples, rows: &[u32], signal: &Signal) -> Result<Metrics> {
    const CHECK_EVERY: usize = 1024;
    if rows.is_empty() {
        let hint = "Give more rows, a larger held_out, or a test query.";
        return Err(Error::invalid("no row is held out", hint));
    }
    let target = Target::from(&samples.labels);
    let mut predicted = memory::matrix(rows.len(), target.outputs(), 0f32)?;
    for (n, (&row, out)) in rows.iter().zip(rows_mut(predicted.view_mut())).enumerate() {
        if n % CHECK_EVERY == 0 {
            signal.check()?;
        }
        model.predict(binned.row(row as usize), out);
    }
    let labels = match &samples.labels {
        Labels::Classes { codes, names } => {
            Labels::Classes { codes: rows.iter().map(|&row| codes[row as usize]).collect(), names: names.clone() }
        }
        Labels::Numbers(values) => Labels::Numbers(rows.iter().map(|&row| values[row as usize]).collect()),
    };
    metrics(&labels, predicted.view(), &|| signal.check())
}
