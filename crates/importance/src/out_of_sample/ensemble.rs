//! An ensemble of three learners, each predicting rows it was not trained on: the probabilities behind `auto` and
//! `find_label_errors`.
//!
//! | learner | trained on | settings |
//! |---|---|---|
//! | boosted trees | the other folds | 100 rounds, shrinkage 0.05, 15 leaves, λ = 1, half of the columns per tree |
//! | forest | the rows each tree drew | 200 trees, at least 5 rows per leaf, √columns per node |
//! | small networks | the other folds | one hidden layer of 64, mean over 20 epochs |
//!
//! Each prediction is the mean over several repeats of cross-validation. The learners are weighted as in a super learner
//! (van der Laan, Polley, Hubbard 2007): by the w ≥ 0, Σ w = 1, that maximise the likelihood of the labels,
//! Σᵢ ln Σⱼ wⱼ pⱼ(yᵢ | xᵢ), found by expectation maximisation. Wrong labels that do not depend on the features lower the
//! likelihood of all learners alike and so favour none. For numbers pⱼ is Laplace's density around the prediction, with the
//! learner's mean absolute error as its scale.
//!
//! Large data gets fewer repeats and trees: 5 repeats up to 20,000 rows, 1 beyond 50,000; from 100,000 rows on 20 million /
//! rows trees, but at least 32; networks see 2 million rows over all epochs, and at least two epochs. Networks that diverge
//! are left out.
//!
//! Time: about 40 times one boosted model on few rows, about 10 times on many. Memory: 24 bytes per row and class, plus that
//! of the learners.

use ndarray::{Array2, ArrayView2};

use super::out_of_fold::{Plan, bagged, boosted, networks};
use crate::task::Task;
use kernels::matrix::{flat, rows};
use runtime::draw::mix;
use runtime::error::Result;
use runtime::memory;
use runtime::options::Options;
use runtime::progress::Progress;
use tabular::trees::{Binned, BoostingOptions, Columns, ForestOptions, Target};

pub const BOOSTING: BoostingOptions =
    BoostingOptions { rounds: 100, learning_rate: 0.05, leaves: 15, l2: 1.0, least_rows: 20, columns: 0.5 };

/// Likelihoods are at least this, so that a single row does not decide.
const MIN_LIKELIHOOD: f64 = 1e-4;
/// Most steps of expectation maximisation.
const STEPS: usize = 200;
/// Weights have converged when none changes by more.
const SETTLED: f64 = 1e-4;

/// Most rows over all repeats, where there is more than one.
const MAX_REPEATED: usize = 100_000;
const MAX_REPEATS: usize = 5;
/// Most rows drawn over all trees of a forest, unless it has the fewest trees.
const MAX_DRAWN: usize = 20_000_000;
const TREES: (usize, usize) = (32, 200);

/// Out-of-sample predictions: probabilities [rows, classes], or numbers [rows, 1]. Option: `folds`.
pub fn predict(task: &Task, options: &mut Options) -> Result<Array2<f32>> {
    let folds = options.integer("folds", 5, 2, 100)? as usize;
    let rows = task.rows();
    let target = Target::from(&task.samples.labels);
    let plan = |salt| Plan {
        folds,
        repeats: (MAX_REPEATED / rows.max(1)).clamp(1, MAX_REPEATS),
        seed: mix(task.seed ^ salt),
        boosting: BOOSTING,
    };
    let binned = Binned::of(&task.samples.features, task.threads, task.progress)?;
    let boosted = boosted(&binned, &target, None, &plan(1), task.threads, task.progress)?;
    let forest = ForestOptions {
        trees: (MAX_DRAWN / rows.max(1)).clamp(TREES.0, TREES.1),
        least_rows: 5,
        columns: Columns::Root,
        ..ForestOptions::default()
    };
    let bagged = bagged(&binned, &target, None, &forest, mix(task.seed ^ 2), task.threads, task.progress)?;
    drop(binned);
    let networks = networks(task.samples, &plan(3), task.threads, task.progress)?;
    let mut learners = vec![boosted, bagged];
    learners.extend(networks);
    combine(&target, learners, task.progress)
}

/// The weighted mean of the predictions.
fn combine(target: &Target, learners: Vec<Array2<f32>>, progress: &dyn Progress) -> Result<Array2<f32>> {
    let likelihoods =
        learners.iter().map(|predicted| likelihoods(target, predicted.view())).collect::<Result<Vec<Vec<f32>>>>()?;
    let weights = weights(&likelihoods, progress)?;
    let mut learners = learners.into_iter().zip(weights);
    let Some((mut mean, weight)) = learners.next() else { return Ok(Array2::default((0, 0))) };
    mean *= weight as f32;
    for (predicted, weight) in learners {
        mean.scaled_add(weight as f32, &predicted);
    }
    Ok(mean)
}

/// The likelihood of each label under a learner's predictions.
fn likelihoods(target: &Target, predicted: ArrayView2<f32>) -> Result<Vec<f32>> {
    let mut out = Vec::new();
    memory::reserve(&mut out, predicted.nrows())?;
    match target {
        Target::Classes { codes, .. } => {
            out.extend(codes.iter().zip(rows(predicted)).map(|(&code, p)| p[code as usize]));
        }
        Target::Numbers(values) => {
            let predicted = flat(predicted);
            let error = |(&y, &p): (&f32, &f32)| (f64::from(y) - f64::from(p)).abs();
            let mean = values.iter().zip(predicted).map(error).sum::<f64>() / values.len().max(1) as f64;
            // In a unit in which the best learner's would be about 1: the weights do not depend on it, the least
            // density does.
            let unit = values.iter().map(|&y| f64::from(y).abs()).fold(f64::MIN_POSITIVE, f64::max);
            let scale = (mean / unit).max(1e-9);
            out.extend(values.iter().zip(predicted).map(|pair| ((-error(pair) / unit / scale).exp() / scale) as f32));
        }
    }
    Ok(out)
}

/// The mixture weights that maximise the likelihood of the labels.
fn weights(likelihoods: &[Vec<f32>], progress: &dyn Progress) -> Result<Vec<f64>> {
    let n = likelihoods.len();
    let mut weights = vec![1.0 / n.max(1) as f64; n];
    let rows = likelihoods.first().map_or(0, Vec::len);
    for _ in 0..STEPS {
        progress.check()?;
        let mut shares = vec![0f64; n];
        (0..rows).for_each(|row| {
            let part = |j: usize| weights[j] * f64::from(likelihoods[j][row]).max(MIN_LIKELIHOOD);
            let sum: f64 = (0..n).map(part).sum();
            (0..n).for_each(|j| shares[j] += part(j) / sum);
        });
        let change = shares.iter().zip(&weights).map(|(s, w)| (s / rows.max(1) as f64 - w).abs()).fold(0.0, f64::max);
        if rows > 0 {
            weights.iter_mut().zip(shares).for_each(|(w, share)| *w = share / rows as f64);
        }
        if change < SETTLED {
            break;
        }
    }
    Ok(weights)
}

/// p(y) / (p(y) + the greatest p of another class), and that class.
pub fn label_over_other(probabilities: &[f32], label: usize) -> (f64, usize) {
    let mut other = usize::from(label == 0);
    for (class, p) in probabilities.iter().enumerate().filter(|(class, _)| *class != label) {
        if *p > probabilities[other] {
            other = class;
        }
    }
    let (own, best) = (f64::from(probabilities[label]), f64::from(probabilities[other]));
    (if own + best > 0.0 { own / (own + best) } else { 0.5 }, other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::progress::Unwatched;

    #[test]
    fn the_learner_that_makes_the_labels_likely_counts() {
        let good: Vec<f32> = (0..100).map(|i| if i % 5 == 0 { 0.2 } else { 0.8 }).collect();
        let weights = weights(&[good, vec![0.5; 100], vec![0.45; 100]], &Unwatched).unwrap();
        assert!(weights[0] > 0.98 && (weights.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{weights:?}");
    }

    #[test]
    fn two_that_are_right_of_different_rows_share() {
        let halves = |first: bool| (0..100).map(|i| if (i < 50) == first { 0.9 } else { 0.5 }).collect();
        let weights = weights(&[halves(true), halves(false)], &Unwatched).unwrap();
        assert!((weights[0] - 0.5).abs() < 1e-6);
    }

    #[test]
    fn a_label_is_compared_with_the_best_other_class() {
        assert_eq!(label_over_other(&[0.25, 0.25, 0.5], 1).1, 2);
        assert!((label_over_other(&[0.2, 0.3, 0.5], 1).0 - 0.375).abs() < 1e-7);
        assert_eq!(label_over_other(&[0.0, 0.0, 0.0], 0), (0.5, 1));
    }
}
