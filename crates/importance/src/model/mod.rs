//! Scores by a model that is there already, a user's own classifier or ranker: from its outputs for each row.
//!
//! With the outputs' probabilities `p` and the label `y` as one of them: `loss` = ln p_y, `el2n` = −‖p − y‖, and `grad_norm` =
//! −‖p − y‖ √(‖h‖² + 1), the norm of the gradient of the cross entropy by the last layer's weights and bias, where `h` is what enters that layer;
//! a graph that does not give `h` leaves the gradient by the bias, which is `el2n`. For a label of numbers the residual stands for `p − y`, and
//! `loss` is −residual². Paul et al., "Deep learning on a data diet" (NeurIPS 2021), §2.

mod inputs;
mod outputs;

pub use inputs::Inputs;
pub use outputs::{Meaning, Outputs};

#[cfg(test)]
mod tests;
