//! The training loss of an interaction, mean over the epochs of several small factor models.
//!
//! `score(u, i) = −(1/RE) Σ_r Σ_e ln(1 + exp(−z_ui(r, e)))`, `z_ui(r, e)` the logit of run `r` after epoch `e` ([`super::factors`]).
//!
//! What follows no pattern is learned late, and only by heart: in the mean over all epochs, and over runs that start elsewhere, its loss is
//! high. Wang, Feng, He, Nie, Chua, "Denoising implicit feedback for recommendation" (WSDM 2021), who cut such interactions off while
//! they train (T-CE). Low: the models never come to expect the interaction.

use super::Task;
use super::factors::{Parameters, Shown, train};
use runtime::error::Result;

pub fn score(task: &Task, parameters: &Parameters) -> Result<Vec<f64>> {
    train(task, parameters, Shown::Loss)
}
