//! The sweeps.

use std::borrow::Cow;
use std::sync::atomic::AtomicBool;

use super::features::FeatureMap;
use super::parameters::Parameters;
use super::problem::{Problem, Solver};
use super::sweep::{Basis, Confidences, Side};
use crate::training::{Training, diverged};
use interactions::Interactions;
use kernels::Csr;
use runtime::error::Result;
use runtime::memory;

/// The last half-sweep, over the users, runs until the residual's energy is this share of the solution's, so that a stored
/// user's factors are those of the same history folded in.
const TOLERANCE: f32 = 1e-10;
/// The first half-sweep over the users from an earlier model's items: nothing is known of them yet.
const FIRST_TOLERANCE: f32 = 1e-4;

/// Both sides after training; the items, and with them the users and the map of features, are in the eigenbasis of the items'
/// Gram matrix.
pub struct Trained<'a> {
    pub users: Side<'a>,
    pub items: Side<'a>,
    pub features: Option<FeatureMap<'a>>,
    pub basis: Basis,
    /// The objective.
    pub loss: f64,
}

/// What a half-sweep does with each row.
#[derive(Clone, Copy)]
struct Effort {
    solver: Solver,
    steps: usize,
    tolerance: f32,
}

impl<'a> Trained<'a> {
    pub fn train(training: &Training<'a>, parameters: &Parameters) -> Result<Self> {
        let Training { interactions, threads, progress, .. } = *training;
        let by_user = confidences(interactions, parameters)?;
        let by_item = by_user.view().transpose(progress)?;
        let by_item = Confidences {
            indptr: by_item.indptr.into(),
            indices: by_item.indices.into(),
            values: by_item.values,
            columns: by_item.columns,
        };
        progress.check()?;
        let lambdas = |matrix: &Confidences| parameters.lambdas(&matrix.indptr, matrix.columns);
        let lambda = (lambdas(&by_user), lambdas(&by_item));
        let mut users = Side::new(by_user, lambda.0, parameters.factors)?;
        let mut items = Side::new(by_item, lambda.1, parameters.factors)?;
        let mut features = match training.item_features {
            Some(features) => Some(feature_map(features, &items, parameters, training)?),
            None => None,
        };

        // Uniform with the standard deviation 0.1 / √d of Rendle 2022, §4.1.
        let scale = 0.1 * (3.0 / parameters.factors as f32).sqrt();
        let seed = parameters.seed;
        let sweep = Effort { solver: parameters.solver, steps: parameters.steps, tolerance: 0.0 };
        let converged = Effort { solver: Solver::Cg, steps: 4 * users.width.max(8), tolerance: TOLERANCE };
        match training.previous {
            Some(previous) if previous.item_factors.ncols() > 0 => {
                items.start(scale, seed, Some(previous.item_factors.view()), threads, progress)?;
                let basis = items.diagonalize(threads, progress)?;
                let effort = Effort { tolerance: FIRST_TOLERANCE, ..converged };
                half_sweep(&mut users, &items, &basis, None, parameters, effort, training)?;
            }
            _ => users.randomize(scale, seed, threads, progress)?,
        }
        let mut basis = users.diagonalize(threads, progress)?;
        for iteration in 0..parameters.iterations {
            let last = iteration + 1 == parameters.iterations;
            progress.report("ials sweeps", iteration, parameters.iterations);
            if let Some(map) = features.as_mut().filter(|_| !items.is_untouched()) {
                map.fit(items.factors.view(), progress)?;
                map.rotate(basis.rotation.view());
            }
            half_sweep(&mut items, &users, &basis, features.as_ref(), parameters, sweep, training)?;
            basis = items.diagonalize(threads, progress)?;
            if let Some(map) = &mut features {
                map.rotate(basis.rotation.view());
            }
            let effort = if last { converged } else { sweep };
            half_sweep(&mut users, &items, &basis, None, parameters, effort, training)?;
            if !last {
                basis = users.diagonalize(threads, progress)?;
            }
        }
        progress.report("ials sweeps", parameters.iterations, parameters.iterations);

        let mut loss = users.loss(items.factors.view(), &dense(&basis, parameters), threads, progress)?;
        for (y, &lambda) in items.factors.rows().into_iter().zip(items.lambda()) {
            loss += f64::from(lambda * y.iter().map(|&y| y * y).sum::<f32>());
        }
        if let Some(map) = &features {
            loss += map.loss(items.factors.view(), progress)?;
        }
        if !loss.is_finite() {
            return Err(diverged("Raise regularization or unobserved_weight, or use smaller weights."));
        }
        Ok(Self { users, items, features, basis, loss })
    }
}

/// What was chosen and what was turned down. Where nothing was, no copy is made but of the weights.
fn confidences<'a>(interactions: &'a Interactions, parameters: &Parameters) -> Result<Confidences<'a>> {
    if interactions.rejected.entries() == 0 {
        let Csr { indptr, indices, values: weights, columns } = &interactions.by_user;
        let mut values = memory::filled(0f32, weights.len())?;
        values.iter_mut().zip(weights).for_each(|(c, &weight)| *c = parameters.signed_confidence(weight));
        return Ok(Confidences { indptr: indptr.into(), indices: indices.into(), values, columns: *columns });
    }
    let Csr { indptr, indices, mut values, columns } = interactions.history();
    values.iter_mut().for_each(|weight| *weight = parameters.signed_confidence(*weight));
    Ok(Confidences { indptr: Cow::Owned(indptr), indices: Cow::Owned(indices), values, columns })
}

fn feature_map<'a>(
    features: &'a interactions::Features,
    items: &Side,
    parameters: &Parameters,
    training: &Training,
) -> Result<FeatureMap<'a>> {
    let lambda = items.lambda().iter().zip(0..).map(|(&l, row)| if items.is_empty(row) { 0.0 } else { l });
    let lambda: Vec<f32> = lambda.collect();
    let Training { threads, progress, .. } = *training;
    FeatureMap::new(features, &lambda, items.stride(), parameters.feature_regularization, threads, progress)
}

/// [stride]: α₀ Λ.
fn dense(basis: &Basis, parameters: &Parameters) -> Vec<f32> {
    basis.eigenvalues.iter().map(|&e| parameters.unobserved_weight * e).collect()
}

/// Improves `side` given `other`, which is in `basis`.
fn half_sweep(
    side: &mut Side,
    other: &Side,
    basis: &Basis,
    features: Option<&FeatureMap>,
    parameters: &Parameters,
    effort: Effort,
    training: &Training,
) -> Result<()> {
    let problem = Problem {
        solver: effort.solver,
        factors: other.factors.view(),
        dense: &dense(basis, parameters),
        typical: &basis.typical,
        steps: effort.steps,
        tolerance: effort.tolerance,
        block_size: parameters.block_size,
        stop: &AtomicBool::new(false),
    };
    side.solve(&problem, basis, features, training.threads, training.progress)
}
