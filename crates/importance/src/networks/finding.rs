//! What is measured of a row during training.

/// Loss, error and gradient of one row under the current weights.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Finding {
    pub loss: f32,
    /// ‖prediction − label‖
    pub error: f32,
    /// Logit of the row's class minus the greatest other logit.
    pub margin: f32,
    /// ‖∂loss/∂weights‖² over all layers.
    pub gradient_square: f32,
    /// Inner product of the row's gradient and the gradient it is compared with.
    pub along: f32,
}
