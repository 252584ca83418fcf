//! What every method of row importance provides.

use crate::dynamics::Observer;
use crate::task::Task;
use runtime::error::Result;
use runtime::options::Options;

/// A way to score training rows. Higher is more valuable.
pub trait ImportanceMethod: Sync {
    fn name(&self) -> &'static str;

    /// Whether it has no score without validation rows.
    fn needs_validation(&self) -> bool {
        false
    }

    /// Whether it has no score where the label is a number.
    fn needs_classes(&self) -> bool {
        false
    }

    fn computation(&self) -> Computation;

    /// How a row is scored from the outputs of a trained model; `None` where outputs do not suffice.
    fn output_score(&self) -> Option<fn(&OutputError) -> f64> {
        None
    }
}

/// How the scores are computed.
#[derive(Clone, Copy)]
pub enum Computation {
    /// On its own. Returns scores [rows].
    Alone(fn(&Task, &mut Options) -> Result<Vec<f64>>),
    /// By observing the training of small networks, which all such methods of a call share.
    Training(&'static dyn Observer),
}

/// How far the outputs of a trained model are from a row's label.
#[derive(Clone, Copy, Debug)]
pub struct OutputError {
    /// −ln p_y for classes, the squared residual for numbers.
    pub loss: f64,
    /// ‖p − y‖ for classes, the absolute residual for numbers.
    pub residual: f64,
    /// Norm of the gradient of the loss with respect to the last layer.
    pub gradient_norm: f64,
}
