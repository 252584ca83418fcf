//! `influence`: how leaving a row out changes the loss of validation rows, by the curvature of a linear model (Koh, Liang 2017, eq. 2).
//!
//! The model is a logistic regression (softmax of `x W + b` for three or more classes; one vector for two), or a ridge regression for
//! numbers, in standard deviations of the labels. Its parameters θ minimise
//! `L(θ) = 1/n Σ_i l_i(θ) + λ/2 (‖W‖² + 10⁻⁴ ‖b‖²)`, with λ = `regularization`, 0.01 by default; the penalty on the intercept only
//! makes the minimum unique. To first order in 1/n, leaving row i out moves θ by `H⁻¹ ∇l_i / n`, hence
//!
//! `score_i = 1/n ∇L_validation · H⁻¹ ∇l_i`, with `H = ∇²L`, `∇L_validation` the gradient of the mean validation loss without penalty.
//!
//! The score is the rise of the mean validation loss. High: the row is valuable. Below 0: the model is better without it; the lowest
//! rows are most often mislabelled. Needs validation rows.
//!
//! The first-order expansion is the only approximation: θ is fitted by Newton steps to a decrement of 10⁻¹⁴, and `H u = ∇L_validation` is
//! solved once by conjugate gradients, with products in `f64`, to a residual of 10⁻¹⁰. The preconditioner is a Cholesky factor in `f32`: of
//! `H` itself for two classes and for numbers, of the block that the classes share otherwise.
//!
//! Time: a product takes 4 · (non-zero features) · (classes) multiplications, and dozens to hundreds of products are needed; the
//! factor takes rows · columns² / 2, up to 1,023 columns, beyond which the diagonal replaces it. Memory: a few vectors of columns ·
//! classes, at most 64 MiB of sums, and the scores.

mod model;
mod outcomes;

use self::model::Model;
use self::outcomes::Outcomes;
use crate::method::{Computation, ImportanceMethod};
use crate::task::Task;
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::options::Options;

pub struct Influence;

impl ImportanceMethod for Influence {
    fn name(&self) -> &'static str {
        "influence"
    }

    fn needs_validation(&self) -> bool {
        true
    }

    fn computation(&self) -> Computation {
        Computation::Alone(score)
    }
}

/// Options: `regularization`.
fn score(task: &Task, options: &mut Options) -> Result<Vec<f64>> {
    let regularization = f64::from(options.float("regularization", 0.01, 1e-6, 1e6)?);
    let validation = task.validation_for(Influence.name())?;
    let (samples, columns) = (task.samples, task.samples.features.columns());
    if validation.features.columns() != columns {
        return Err(Error::Dimensions { left: columns, right: validation.features.columns() });
    }
    let outcomes = Outcomes::new(&samples.labels);
    let model = Model::new(&samples.features.matrix, outcomes, regularization, task.threads, task.progress);
    let parameters = model.fit()?;
    let other =
        Model::new(&validation.features.matrix, outcomes.like(&validation.labels), 0.0, task.threads, task.progress);
    let (_, towards) = other.gradient(parameters.view())?;
    let u = model.solve(parameters.view(), towards.view())?;
    let mut scores = memory::filled(0f64, task.rows())?;
    model.along(parameters.view(), u.view(), &mut scores)?;
    let n = task.rows() as f64;
    scores.iter_mut().for_each(|score| *score /= n);
    Ok(scores)
}

#[cfg(test)]
mod tests;
