//! `grad_norm`: the norm of an interaction's gradient, averaged over the epochs of several small factor models.
//!
//! `score(u, i) = −(1/RE) Σ_r Σ_e σ(−z_ui) √(‖p_u‖² + ‖q_i‖² + 1)`: the norm of the gradient of `−ln σ(z_ui)`, `z_ui = p_u·q_i + b_i`, with
//! respect to `p_u`, `q_i` and `b_i`, in the models of [`crate::interactions::factors`].
//!
//! Paul, Ganguli, Dziugaite, "Deep learning on a data diet" (NeurIPS 2021), eq. 2 (GraNd), over all parameters of a small model. Low: the
//! model would have to change a lot to predict the interaction.

use crate::interactions::factors::{self, Shown, train};
use crate::interactions::method::{InteractionMethod, Plan};
use crate::interactions::task::Task;
use runtime::error::Result;
use runtime::options::Options;

pub struct GradNorm;

impl InteractionMethod for GradNorm {
    fn name(&self) -> &'static str {
        "grad_norm"
    }

    fn plan(&self, options: &mut Options) -> Result<Box<dyn Plan>> {
        Ok(Box::new(Parameters::read(options)?))
    }
}

/// Those of the factor models.
#[derive(Clone, Copy, Debug)]
struct Parameters(factors::Parameters);

impl Parameters {
    fn read(options: &mut Options) -> Result<Self> {
        factors::Parameters::read(options).map(Self)
    }
}

impl Plan for Parameters {
    fn score(&self, task: &Task) -> Result<Vec<f64>> {
        train(task, &self.0, Shown::Norm)
    }
}
