//! `mean_loss`: the training loss of an interaction, averaged over the epochs of several small factor models.
//!
//! `score(u, i) = −(1/RE) Σ_r Σ_e ln(1 + exp(−z_ui(r, e)))`, `z_ui(r, e)` the logit of run `r` after epoch `e` ([`crate::interactions::factors`]).
//!
//! Interactions that follow no pattern are learned late, by memorising, so their mean loss over all epochs and runs is high. Wang, Feng, He, Nie, Chua, "Denoising implicit feedback for recommendation" (WSDM 2021), who drop such interactions during
//! training (T-CE). Low: the models never learn the interaction.

use crate::interactions::factors::{self, Shown, train};
use crate::interactions::method::{InteractionMethod, Plan};
use crate::interactions::task::Task;
use runtime::error::Result;
use runtime::options::Options;

pub struct MeanLoss;

impl InteractionMethod for MeanLoss {
    fn name(&self) -> &'static str {
        "mean_loss"
    }

    fn plan(&self, options: &mut Options) -> Result<Box<dyn Plan>> {
        Ok(Box::new(Parameters::read(options)?))
    }
}

/// Those of the factor models.
#[derive(Clone, Copy, Debug)]
pub struct Parameters(factors::Parameters);

impl Parameters {
    pub fn read(options: &mut Options) -> Result<Self> {
        factors::Parameters::read(options).map(Self)
    }
}

impl Plan for Parameters {
    fn score(&self, task: &Task) -> Result<Vec<f64>> {
        train(task, &self.0, Shown::Loss)
    }
}
