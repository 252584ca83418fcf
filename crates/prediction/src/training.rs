//! Training: how many trees, found on rows that are held out; then all rows.

use std::time::Instant;

use ndarray::Array2;
use serde_json::{Value, json};

use crate::calibration::Calibration;
use crate::folds::{Folds, Split};
use crate::model::Model;
use crate::outcome::Outcome;
use kernels::matrix::rows_mut;
use runtime::draw::mix;
use runtime::error::{Error, Result};
use runtime::jobs::jobs;
use runtime::memory;
use runtime::options::Options;
use runtime::progress::Progress;
use tabular::trees::{Binned, Binning, Boosting, BoostingOptions, Scorer, Target, Watch};
use tabular::{Encoder, EncoderOptions, Labels, NONE, Table, metrics};

/// Most categories of a column with a code each: what boosted trees hold in a byte.
const MAX_CATEGORIES: usize = 250;
/// Rows up to which five folds are held out in turn, and three: later ones are many enough to be held out once.
const FIVE_FOLDS: usize = 20_000;
const THREE_FOLDS: usize = 100_000;
/// Without a lower loss for so many rounds, training ends.
const PATIENCE: usize = 50;
/// Fewer rows bear no held-out ones.
const MIN_ROWS: usize = 10;
/// Most leaves of all trees: a graph cannot hold many more.
const MAX_LEAVES: usize = 1 << 25;
/// Rows between two checks for a cancel request.
const CHECK_EVERY: usize = 4096;
/// Rows that are looked at for a column that tells the label.
const LOOKED_AT: usize = 100_000;
/// An AUC of one feature alone above which it is said that the label may be among them.
const SUSPICIOUS: f64 = 0.999;

/// What a predictor is trained on.
pub struct Task<'a> {
    pub table: &'a Table,
    /// The column that is predicted.
    pub label: &'a str,
    pub labels: Labels,
    /// Columns that are no features: the label, and others that only say something of a row.
    pub leave: &'a [&'a str],
    pub weights: Option<&'a [f32]>,
    pub split: Split<'a>,
    pub seed: u64,
    pub threads: usize,
    pub progress: &'a dyn Progress,
}

/// A trained predictor.
pub struct Trained {
    pub model: Model,
    /// `metrics` of held-out rows, `options`, and what was found.
    pub metadata: Value,
    /// For the user.
    pub notices: Vec<String>,
}

/// Trains boosted trees. Options: `rounds`, `learning_rate`, `leaves`, `l2`, `least_rows`, `columns`, `folds`, `max_categories`,
/// `text_dimensions`.
pub fn train(task: Task, mut options: Options) -> Result<Trained> {
    let began = Instant::now();
    let rows = task.table.rows();
    let read = read(&mut options, rows)?;
    let options = options.finish()?;
    if rows < MIN_ROWS {
        let message = format!("the source has {rows} rows, too few to train a predictor on");
        return Err(Error::invalid(message, format!("Give {MIN_ROWS} rows or more.")));
    }
    check_weights(task.weights)?;
    let leaves = Boosting::trees(&Target::from(&task.labels), &read.boosting).saturating_mul(read.boosting.leaves);
    if leaves > MAX_LEAVES {
        return Err(Error::TooLarge {
            what: "the predictor".into(),
            needed: format!("{leaves} leaves"),
            limit: MAX_LEAVES.to_string(),
            hint: "Lower the options rounds or leaves, or group rare classes.".into(),
        });
    }
    let encoder = Encoder::fit(task.table, task.leave, &read.encoder, task.progress)?;
    let features = encoder.encode_as("the source", task.table, task.progress)?;
    let binning = Binning::learn(&features, None, task.threads, task.progress)?;
    let binned = binning.apply(&features, task.threads, task.progress)?;
    drop(features);
    let target = Target::from(&task.labels);
    let folds = Folds::deal(task.split, &target, rows, read.folds, mix(task.seed ^ 1), &|| task.progress.check())?;
    let held = held_out(&task, &binned, &target, &folds, &read.boosting)?;
    let boosting = BoostingOptions { rounds: held.rounds, ..read.boosting };
    let (all, seed, weights) = (all_rows(rows)?, mix(task.seed ^ 2), task.weights);
    let trees = Boosting::trees(&target, &boosting);
    let mut trained = jobs(1, 1, task.progress, ("trees", trees), |signal, _| {
        Boosting::fit(&binned, &target, (&all, weights), &boosting, seed, signal)
    })?;
    let trained = trained.pop().ok_or_else(|| Error::Internal("nothing was trained".into()))?;
    let calibration = match &task.labels {
        Labels::Classes { codes, .. } => {
            let codes: Vec<u32> = held.rows.iter().map(|&row| codes[row as usize]).collect();
            Calibration::fit(held.scores.view(), &codes, &|| task.progress.check())?
        }
        Labels::Numbers(_) => Calibration::default(),
    };
    let scorer = scorer(&trained, &binned)?;
    let outcome = match &task.labels {
        Labels::Classes { names, .. } => Outcome::Classes { names: names.clone() },
        Labels::Numbers(_) => Outcome::Number,
    };
    let mut notices = encoder.notices().to_vec();
    notices.extend(suspicion(&task)?);
    let model = Model::new(task.label.to_owned(), outcome, encoder, binning, scorer, calibration)
        .ok_or_else(|| Error::Internal("a predictor contradicts itself".into()))?;
    let measured = measure(&task, &held, &model)?;
    let metadata = json!({
        "method": "boosting",
        "options": options,
        "rows": rows,
        "features": model.features(),
        "rounds": held.rounds,
        "folds": folds.count,
        "held_out": held.rows.len(),
        "metrics": measured,
        "calibration": calibration,
        "seconds": { "train": began.elapsed().as_secs_f64() },
    });
    Ok(Trained { model, metadata, notices })
}

struct Read {
    encoder: EncoderOptions,
    boosting: BoostingOptions,
    folds: usize,
}

fn read(options: &mut Options, rows: usize) -> Result<Read> {
    let defaults = EncoderOptions::default();
    let folds = if rows <= FIVE_FOLDS {
        5
    } else if rows <= THREE_FOLDS {
        3
    } else {
        1
    };
    Ok(Read {
        encoder: EncoderOptions {
            max_categories: options.integer("max_categories", MAX_CATEGORIES as u64, 1, MAX_CATEGORIES as u64)?
                as usize,
            text_dimensions: options.integer("text_dimensions", defaults.text_dimensions as u64, 1, 1 << 16)? as usize,
        },
        boosting: BoostingOptions {
            rounds: options.integer("rounds", 1000, 1, 100_000)? as usize,
            learning_rate: options.float("learning_rate", 0.05, 1e-4, 1.0)?,
            leaves: options.integer("leaves", 31, 2, 4096)? as usize,
            l2: options.float("l2", 1.0, 0.0, 1e9)?,
            least_rows: options.integer("least_rows", 20, 1, 1 << 30)? as usize,
            columns: options.float("columns", 0.8, 1e-3, 1.0)?,
        },
        folds: options.integer("folds", folds, 1, 100)? as usize,
    })
}

fn check_weights(weights: Option<&[f32]>) -> Result<()> {
    let Some(weights) = weights else { return Ok(()) };
    if let Some((row, weight)) = weights.iter().enumerate().find(|(_, w)| !(**w >= 0.0 && w.is_finite())) {
        let message = format!("weight of row {} is {weight}", row + 1);
        return Err(Error::invalid(message, "Weights must be 0 or more, and finite."));
    }
    if weights.iter().all(|&weight| weight == 0.0) {
        return Err(Error::invalid("all weights are 0", "Give a weight above 0 to the rows that count."));
    }
    Ok(())
}

fn all_rows(rows: usize) -> Result<Vec<u32>> {
    let mut all = Vec::new();
    memory::reserve(&mut all, rows)?;
    all.extend(0..rows as u32);
    Ok(all)
}

fn scorer(boosting: &Boosting, binned: &Binned) -> Result<Scorer> {
    Scorer::of(boosting, binned.columns()).ok_or_else(|| Error::Internal("boosted trees cannot be stored".into()))
}

/// What was found on rows that were held out.
struct HeldOut {
    /// With the lowest loss, over all folds.
    rounds: usize,
    /// Ascending within each fold.
    rows: Vec<u32>,
    /// [rows, scores], by trees that were not trained on them.
    scores: Array2<f32>,
}

fn held_out(
    task: &Task,
    binned: &Binned,
    target: &Target,
    folds: &Folds,
    options: &BoostingOptions,
) -> Result<HeldOut> {
    let n = folds.count;
    let trees = n * Boosting::trees(target, options);
    let (weights, seed) = (task.weights, task.seed);
    let fitted = jobs(n, task.threads, task.progress, ("trees of folds", trees), |signal, fold| {
        let (train, held) = folds.split(fold)?;
        let watch = Watch { rows: &held, patience: PATIENCE };
        let seed = mix(seed ^ mix(fold as u64 + 100));
        let (boosting, losses) =
            Boosting::fit_watched(binned, target, (&train, weights), watch, options, seed, signal)?;
        Ok((boosting, losses, held))
    })?;
    // A fold that ended early stays as it ended.
    let most = fitted.iter().map(|(_, losses, _)| losses.len()).max().unwrap_or(0);
    let at = |losses: &[f64], round: usize| losses.get(round).or(losses.last()).copied().unwrap_or(0.0);
    let loss_of =
        |round: usize| -> f64 { fitted.iter().map(|(_, losses, held)| at(losses, round) * held.len() as f64).sum() };
    let mut best = (f64::INFINITY, 0);
    (0..most).for_each(|round| {
        let loss = loss_of(round);
        if loss < best.0 {
            best = (loss, round);
        }
    });
    let rounds = best.1;
    let width = if target.outputs() == 2 { 1 } else { target.outputs() };
    let (mut rows, mut scores) = (Vec::new(), Vec::new());
    for (mut boosting, _, held) in fitted {
        boosting.truncate(rounds);
        let scorer = scorer(&boosting, binned)?;
        let of_fold = jobs(1, 1, task.progress, ("predictions", 1), |signal, _| {
            let mut codes = Vec::new();
            memory::reserve(&mut codes, held.len() * binned.columns())?;
            held.iter().for_each(|&row| codes.extend_from_slice(binned.row(row as usize)));
            if binned.columns() == 0 {
                codes = scorer.padded(held.len())?;
            }
            let mut out = memory::zeros(held.len() * width)?;
            scorer.score(&codes, &mut out, signal)?;
            Ok(out)
        })?;
        of_fold.iter().try_for_each(|of_fold| memory::extend(&mut scores, of_fold))?;
        memory::extend(&mut rows, &held)?;
    }
    let scores = memory::shaped(rows.len(), width, scores)?;
    Ok(HeldOut { rounds, rows, scores })
}

/// Metrics of the held-out rows, as they are predicted after calibration.
fn measure(task: &Task, held: &HeldOut, model: &Model) -> Result<Value> {
    let mut predicted = memory::matrix(held.rows.len(), model.outputs(), 0f32)?;
    for (row, (scores, out)) in held.scores.outer_iter().zip(rows_mut(predicted.view_mut())).enumerate() {
        if row % CHECK_EVERY == 0 {
            task.progress.check()?;
        }
        let mut scores = scores.to_vec();
        model.predict_scores(&mut scores, out);
    }
    let labels = match &task.labels {
        Labels::Classes { codes, names } => {
            let codes = held.rows.iter().map(|&row| codes[row as usize]).collect();
            Labels::Classes { codes, names: names.clone() }
        }
        Labels::Numbers(values) => Labels::Numbers(held.rows.iter().map(|&row| values[row as usize]).collect()),
    };
    let found = metrics(&labels, predicted.view(), &|| task.progress.check())?;
    Ok(Value::Object(found.into_iter().map(|(name, value)| (name.into(), value.into())).collect()))
}

/// A notice where one column alone tells two classes apart: it may be the label by another name.
fn suspicion(task: &Task) -> Result<Option<String>> {
    let Labels::Classes { codes, names } = &task.labels else { return Ok(None) };
    if names.len() != 2 || task.table.rows() < MIN_ROWS * MIN_ROWS {
        return Ok(None);
    }
    let codes = &codes[..codes.len().min(LOOKED_AT)];
    for (name, _, column) in task.table.columns().filter(|(name, ..)| !task.leave.contains(name)) {
        task.progress.check()?;
        let scores: Vec<f32> = match column {
            tabular::Column::Number(values) => values.iter().take(codes.len()).map(|&x| x as f32).collect(),
            tabular::Column::Category { codes: of, names: categories, .. } if categories.len() <= MAX_CATEGORIES => {
                // By the share of the second class among the rows of a category.
                let mut counts = vec![[0f32; 2]; categories.len() + 1];
                let place = |code: u32| if code == NONE { categories.len() } else { code as usize };
                of.iter().zip(codes).for_each(|(&code, &class)| counts[place(code)][class as usize] += 1.0);
                of.iter().take(codes.len()).map(|&code| counts[place(code)]).map(|[a, b]| b / (a + b)).collect()
            }
            _ => continue,
        };
        let is: Vec<bool> = codes.iter().map(|&code| code == 1).collect();
        let auc = tabular::auc(&scores, &is, &|| task.progress.check())?;
        if auc.is_some_and(|auc| auc.max(1.0 - auc) > SUSPICIOUS) {
            return Ok(Some(format!(
                "column \"{name}\" alone predicts \"{}\": is it known before the label is?",
                task.label
            )));
        }
    }
    Ok(None)
}
