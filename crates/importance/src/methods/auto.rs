//! `auto`: how likely a row's label is right, by boosted trees, a forest and small networks that were not trained on it.
//!
//! See [`out_of_sample`](crate::out_of_sample) for the learners and their weights. The score is p(y) / (p(y) + max p of
//! the other classes), in [0, 1]: at 0.5 another class is equally likely. For numbers it is 1 / (1 + (y − ŷ)² / s²) with s
//! the median absolute error · 1.4826, the standard deviation if errors were normal: 0.5 where the label is s away.
//!
//! Low: the label is most likely wrong, or the row is unlike all others. Option: `folds` 5.
//!
//! Time and memory: those of the ensemble.

use crate::method::{Computation, ImportanceMethod, OutputError};
use crate::out_of_sample::{label_over_other, predict};
use crate::task::Task;
use kernels::matrix::rows;
use runtime::error::Result;
use runtime::memory;
use runtime::options::Options;
use runtime::progress::Progress;
use runtime::sorting::sort_watched;
use tabular::Labels;

/// Median absolute deviations in a standard deviation of a normal variable.
const NORMAL: f64 = 1.4826;

pub struct Auto;

impl ImportanceMethod for Auto {
    fn name(&self) -> &'static str {
        "auto"
    }

    fn computation(&self) -> Computation {
        Computation::Alone(score)
    }

    fn output_score(&self) -> Option<fn(&OutputError) -> f64> {
        Some(|output| -output.loss)
    }
}

fn score(task: &Task, options: &mut Options) -> Result<Vec<f64>> {
    let predicted = predict(task, options)?;
    Ok(match &task.samples.labels {
        Labels::Classes { codes, .. } => {
            codes.iter().zip(rows(predicted.view())).map(|(&code, p)| label_over_other(p, code as usize).0).collect()
        }
        Labels::Numbers(values) => {
            let errors: Vec<f64> =
                values.iter().zip(&predicted).map(|(&y, &p)| (f64::from(y) - f64::from(p)).abs()).collect();
            let unit = spread(&errors, task.progress)?;
            errors.into_iter().map(|error| 1.0 / (1.0 + (error / unit).powi(2))).collect()
        }
    })
}

/// The median times [`NORMAL`]; the mean where more than half are 0, 1 where all are.
fn spread(errors: &[f64], progress: &dyn Progress) -> Result<f64> {
    let mut sorted = Vec::new();
    memory::extend(&mut sorted, errors)?;
    sort_watched(&mut sorted, &|| progress.check(), f64::total_cmp)?;
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or(0.0) * NORMAL;
    let mean = errors.iter().sum::<f64>() / errors.len().max(1) as f64;
    Ok([median, mean].into_iter().find(|&spread| spread > 0.0).unwrap_or(1.0))
}
