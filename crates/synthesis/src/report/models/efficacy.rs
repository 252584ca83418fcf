//! Learning the label from synthetic rows.

use ahash::AHashMap;
use ndarray::Array2;
use serde_json::{Map, Value, json};

use super::{ModelOptions, append, like, stack};
use crate::report::sample::sample;
use kernels::matrix::{rows as rows_of, rows_mut};
use runtime::draw::{below, mix};
use runtime::error::{Error, Result};
use runtime::jobs::{Signal, jobs};
use runtime::memory;
use runtime::progress::Progress;
use tabular::trees::{Binned, Boosting, BoostingOptions, Target};
use tabular::{Column, Encoder, EncoderOptions, LabelKind, Labels, Table, Value as Cell, metrics, most_likely};

/// Maximum number of trees of a model if the number of rounds is not given.
const MAX_TREES: usize = 1000;
const RESAMPLES: usize = 400;
/// A label with a class of a smaller share is imbalanced.
const UNBALANCED: f64 = 0.3;

/// Labels of the real rows.
enum Known {
    Classes { places: AHashMap<String, u32>, names: Vec<String> },
    Numbers,
}

pub fn efficacy(
    (real, synthetic, holdout): (&Table, &Table, Option<&Table>),
    (label, kind): (&str, Option<LabelKind>),
    leave_out: &[&str],
    options: &ModelOptions,
    seed: u64,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Value> {
    let column = find(real, label)?;
    let skipped = |reason: String| Ok(json!({"label": label, "reason": reason}));
    // Rows without a label teach nothing.
    let mut real_rows = sample(real.rows(), options.rows, mix(seed ^ 21))?;
    real_rows.retain(|&row| column.get(row as usize) != Cell::Null);
    let mut own = like(real, |name| name == label);
    append(&mut own, real, &real_rows, progress)?;
    let known = match Labels::fit(label, find(&own, label)?, kind) {
        Ok(Labels::Classes { names, .. }) if names.is_empty() => {
            return skipped("It is NULL in every real row.".into());
        }
        Ok(Labels::Numbers(values)) if values.is_empty() => return skipped("It is NULL in every real row.".into()),
        Ok(Labels::Classes { names, .. }) => Known::Classes { places: names.iter().cloned().zip(0..).collect(), names },
        Ok(Labels::Numbers(_)) => Known::Numbers,
        Err(e @ (Error::Invalid { .. } | Error::TooLarge { .. })) => {
            return skipped(format!("{e}."));
        }
        Err(e) => return Err(e),
    };

    let mut tables = like(real, |name| !leave_out.contains(&name) || name == label);
    let mut labels = Vec::new();
    let mut take = |table: &Table, mut rows: Vec<u32>, to: &mut Table| -> Result<usize> {
        let column = find(table, label)?;
        rows.retain(|&row| known.label(column.get(row as usize)).is_some());
        append(to, table, &rows, progress)?;
        labels.extend(rows.iter().filter_map(|&row| known.label(column.get(row as usize))));
        Ok(rows.len())
    };
    let taken_real = take(real, real_rows, &mut tables)? as u32;
    let drawn = sample(synthetic.rows(), options.rows, mix(seed ^ 22))?;
    let unusable = drawn.len();
    let taken_synthetic = take(synthetic, drawn, &mut tables)? as u32;
    let unusable = unusable - taken_synthetic as usize;
    if taken_synthetic == 0 {
        return skipped("No synthetic row has a label that real rows have.".into());
    }
    let encoder = match Encoder::fit(&tables, &[label], &EncoderOptions::default(), progress) {
        Err(e @ Error::Invalid { .. }) => return skipped(format!("{e}.")),
        other => other?,
    };
    let mut features = encoder.encode(&tables, progress)?;
    let end = taken_real + taken_synthetic;
    let mut test: Vec<u32> = match holdout {
        Some(holdout) => {
            let mut table = like(&tables, |_| true);
            let n = take(holdout, sample(holdout.rows(), options.rows, mix(seed ^ 23))?, &mut table)?;
            features = stack(features, &encoder.encode(&table, progress)?)?;
            (end..end + n as u32).collect()
        }
        None => (0..taken_real).filter(|&row| below(mix(seed ^ 24), row.into(), 5) == 0).collect(),
    };
    let train: Vec<u32> = match holdout {
        Some(_) => (0..taken_real).collect(),
        None => (0..taken_real).filter(|&row| below(mix(seed ^ 24), row.into(), 5) != 0).collect(),
    };
    if test.is_empty() || train.is_empty() {
        return skipped("There are no labelled rows to judge by.".into());
    }
    test.sort_unstable();
    let made: Vec<u32> = (taken_real..end).collect();
    let both: Vec<u32> = train.iter().chain(&made).copied().collect();

    let all = known.labels(&labels);
    let target = Target::from(&all);
    let outputs = target.outputs();
    let per_round = if outputs == 2 { 1 } else { outputs };
    let rounds = options.rounds.unwrap_or_else(|| (MAX_TREES / per_round).clamp(10, 100));
    let boosting = BoostingOptions { rounds, ..BoostingOptions::default() };
    let binned = Binned::of(&features, threads, progress)?;
    drop(features);
    let sets = [&train, &made, &both];
    let trees = sets.len() * rounds * per_round;
    let predicted = jobs(sets.len(), threads, progress, ("trees", trees), |signal, job| {
        // The longest first.
        let model = Boosting::fit(&binned, &target, (sets[2 - job], None), &boosting, seed, signal)?;
        predict(&model, &binned, &test, outputs, signal)
    })?;
    let truth = known.labels(&test.iter().map(|&row| labels[row as usize]).collect::<Vec<_>>());
    let judged = |of: &Array2<f32>| -> Result<Map<String, Value>> {
        let found = metrics(&truth, of.view(), &|| progress.check())?;
        Ok(found.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect())
    };
    let [with_both, from_made, from_real] = [&predicted[0], &predicted[1], &predicted[2]];
    let mut out = json!({
        "label": label,
        "task": if outputs == 1 { "regression" } else { "classification" },
        "judged_by": if holdout.is_some() { "holdout" } else { "a fifth of the real rows" },
        "rows": {"real": train.len(), "synthetic": made.len(), "judged": test.len(), "synthetic_without_known_label": unusable},
        "trained_on": {"real": judged(from_real)?, "synthetic": judged(from_made)?, "real_and_synthetic": judged(with_both)?},
    });
    if let (Labels::Classes { codes, names }, Labels::Classes { codes: all, .. }) = (&truth, &all) {
        let mut counts = vec![0usize; names.len()];
        all[..taken_real as usize].iter().for_each(|&code| counts[code as usize] += 1);
        let rarest = counts.iter().min().map_or(0.0, |&n| n as f64 / f64::from(taken_real));
        out["classes"] = names.len().into();
        if names.len() == 2 {
            out["positive"] = names[1].clone().into();
        }
        out["rarest_share"] = rarest.into();
        out["unbalanced"] = (rarest < UNBALANCED).into();
        let chosen = |of: &Array2<f32>| rows_of(of.view()).map(most_likely).collect::<Vec<_>>();
        let [low, mean, high] =
            f1_gain(codes, [&chosen(from_real), &chosen(with_both)], outputs, seed, threads, progress)?;
        out["f1_gain_of_augmenting"] = json!({"mean": mean, "low": low, "high": high});
        out["augmenting_raises_f1"] = (low > 0.0).into();
    }
    Ok(out)
}

fn find<'a>(table: &'a Table, label: &str) -> Result<&'a Column> {
    table.column(label).map(|(_, column)| column).ok_or_else(|| Error::MissingColumn {
        column: label.into(),
        found: table.columns().map(|(name, ..)| name).collect::<Vec<_>>().join(", "),
    })
}

impl Known {
    /// The index of the class, or the number; `None` for NULL and for a class that no real row has.
    fn label(&self, value: Cell) -> Option<f32> {
        match (self, value) {
            (Self::Numbers, Cell::Number(x)) => Some(x as f32).filter(|x| x.is_finite()),
            (Self::Classes { places, .. }, Cell::Category(name)) => places.get(name).map(|&place| place as f32),
            (Self::Classes { places, .. }, Cell::Number(x)) => {
                places.get(&(x + 0.0).to_string()).map(|&place| place as f32)
            }
            _ => None,
        }
    }

    fn labels(&self, labels: &[f32]) -> Labels {
        match self {
            Self::Numbers => Labels::Numbers(labels.to_vec()),
            Self::Classes { names, .. } => {
                Labels::Classes { codes: labels.iter().map(|&x| x as u32).collect(), names: names.clone() }
            }
        }
    }
}

fn predict(model: &Boosting, binned: &Binned, rows: &[u32], outputs: usize, signal: &Signal) -> Result<Array2<f32>> {
    let mut out = memory::matrix(rows.len(), outputs, 0f32)?;
    for (n, (&row, out)) in rows.iter().zip(rows_mut(out.view_mut())).enumerate() {
        if n % 1024 == 0 {
            signal.check()?;
        }
        model.predict(binned.row(row as usize), out);
    }
    Ok(out)
}

/// 2.5th percentile, mean and 97.5th percentile of the difference in F1 of the second prediction and the first, over
/// bootstrap resamples of the rows.
fn f1_gain(
    truth: &[u32],
    chosen: [&[u32]; 2],
    classes: usize,
    seed: u64,
    threads: usize,
    progress: &dyn Progress,
) -> Result<[f64; 3]> {
    let mut gains = jobs(RESAMPLES, threads, progress, ("resamples", RESAMPLES), |signal, job| {
        // Of each class: rows that are it and chosen as it, and how often it is or is chosen.
        let mut counts = [vec![[0u32; 2]; classes], vec![[0u32; 2]; classes]];
        let of_job = mix(seed ^ mix(job as u64));
        for place in 0..truth.len() {
            if place % (1 << 16) == 0 {
                signal.check()?;
            }
            let row = below(of_job, place as u64, truth.len());
            for (counts, chosen) in counts.iter_mut().zip(chosen) {
                let (is, said) = (truth[row] as usize, chosen[row] as usize);
                counts[is][0] += u32::from(is == said);
                counts[is][1] += 1;
                counts[said][1] += 1;
            }
        }
        signal.finished(1);
        // As `metrics`: of two classes the second's, of more the mean of those that have rows.
        let f1 = |counts: &[[u32; 2]]| {
            let judged = if classes == 2 { &counts[1..] } else { counts };
            let each = judged.iter().filter(|c| c[1] > 0).map(|c| 2.0 * f64::from(c[0]) / f64::from(c[1]));
            let (sum, n) = each.fold((0.0, 0.0), |(sum, n), f1| (sum + f1, n + 1.0));
            if n > 0.0 { sum / n } else { 0.0 }
        };
        Ok(f1(&counts[1]) - f1(&counts[0]))
    })?;
    let mean = gains.iter().sum::<f64>() / RESAMPLES as f64;
    gains.sort_unstable_by(f64::total_cmp);
    Ok([gains[RESAMPLES / 40], mean, gains[RESAMPLES - 1 - RESAMPLES / 40]])
}
