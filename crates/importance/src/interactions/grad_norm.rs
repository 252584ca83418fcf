//! How hard an interaction pulls on the factors, mean over the epochs of several small factor models.
//!
//! `score(u, i) = −(1/RE) Σ_r Σ_e σ(−z_ui) √(‖p_u‖² + ‖q_i‖² + 1)`: the norm of the gradient of `−ln σ(z_ui)`, `z_ui = p_u·q_i + b_i`, by
//! `p_u`, `q_i` and `b_i`, in the models of [`super::factors`].
//!
//! Paul, Ganguli, Dziugaite, "Deep learning on a data diet" (NeurIPS 2021), eq. 2 (GraNd), on the whole of a small model. Low: the
//! model would have to change much to expect the interaction.

use super::Task;
use super::factors::{Parameters, Shown, train};
use runtime::error::Result;

pub fn score(task: &Task, parameters: &Parameters) -> Result<Vec<f64>> {
    train(task, parameters, Shown::Norm)
}
