//! What training gives the rest.

use ndarray::Array2;

/// A trained model as serving needs it: what depends on one side alone is worked out.
pub struct Trained {
    /// [items, f]: q_i
    pub item_gmf: Array2<f32>,
    /// [items, h]: q'_i W_i, of the first layer's width h.
    pub item_mlp: Array2<f32>,
    /// [users, f + h]: h_G ⊙ p_u, and p'_u W_u + b.
    pub users: Array2<f32>,
    /// Weight and bias of each layer after the first; the last has one output.
    pub layers: Vec<neural::network::Layer>,
    pub loss: f64,
}
