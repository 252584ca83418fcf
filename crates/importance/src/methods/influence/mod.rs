//! What leaving a row out does to the loss of validation rows, by the curvature of a linear model (Koh, Liang 2017, eq. 2).
//!
//! The model is a logistic regression (softmax of `x W + b` for three and more classes; one vector for two), or a ridge regression for
//! numbers, in standard deviations of the labels. With θ its parameters, it minimises
//! `L(θ) = 1/n Σ_i l_i(θ) + λ/2 (‖W‖² + 10⁻⁴ ‖b‖²)`, with λ = `regularization`, 0.01 where nothing else is said; the intercept's part only
//! makes the minimum unique. To first order in 1/n leaving row i out moves θ by `H⁻¹ ∇l_i / n`, and hence
//!
//! `score_i = 1/n ∇L_validation · H⁻¹ ∇l_i`, with `H = ∇²L`, `∇L_validation` the gradient of the mean validation loss without penalty.
//!
//! It is the rise of the mean validation loss: high, the row is valuable; below 0, the model is better without it: a wrong label, most
//! often, where it is lowest. Needs validation rows.
//!
//! Nothing is approximated beyond the first order: θ is fitted by Newton steps to a decrement of 10⁻¹⁴, `H u = ∇L_validation` is
//! solved once, by conjugate gradients with exact products in `f64` to a residual of 10⁻¹⁰, from a Cholesky factor: of `H` itself for two classes and
//! for numbers, which leaves it nothing to do but to remove the factor's rounding; for more classes of the block that they share.
//!
//! Cost: a product takes 4 · (features of all rows) · (classes) multiplications, some dozens to hundreds of them are needed; the
//! factor rows · columns² / 2, up to 1,023 columns; beyond, the diagonal stands in for it. Memory: some vectors of columns · classes, and
//! at most 64 MiB for sums; nothing that grows with the rows but the scores.

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
    let (_, towards) = other.gradient(&parameters)?;
    let u = model.solve(&parameters, &towards)?;
    let mut scores = memory::filled(0f64, task.rows())?;
    model.along(&parameters, &u, &mut scores)?;
    let n = task.rows() as f64;
    scores.iter_mut().for_each(|score| *score /= n);
    Ok(scores)
}

#[cfg(test)]
mod tests;
