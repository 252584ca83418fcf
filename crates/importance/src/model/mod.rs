//! Scores from the outputs of an existing model, a user's own classifier or ranker.
//!
//! With `p` the predicted probabilities and `y` the one-hot label: `loss` = ln p_y, `el2n` = −‖p − y‖, and `grad_norm` =
//! −‖p − y‖ √(‖h‖² + 1), the norm of the gradient of the cross entropy with respect to weights and bias of the last layer, where `h` is the
//! input of that layer. Without `h` only the gradient with respect to the bias is known, which equals `el2n`. For numeric labels the residual
//! replaces `p − y`, and `loss` is −residual². Paul et al., "Deep learning on a data diet" (NeurIPS 2021), §2.

mod inputs;
mod outputs;

pub use inputs::Inputs;
pub use outputs::{Meaning, Outputs};

#[cfg(test)]
mod tests;
