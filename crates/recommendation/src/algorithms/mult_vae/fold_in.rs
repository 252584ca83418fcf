//! From a history to what it is scored by: the means of the encoder, and the hidden layer of the decoder.

use ndarray::{Axis, aview_mut1, aview1};

use crate::weighting::Weighting;
use kernels::matrix::flat;
use ndarray::ArrayView2;
use neural::dense::Dense;
use neural::network::Layer;

/// Stands for the length of a history that has none.
pub const LEAST_LENGTH: f32 = 1e-30;

pub struct FoldIn {
    weighting: Weighting,
    hidden: usize,
    factors: usize,
    /// [hidden]: a
    bias: Vec<f32>,
    /// Means of z.
    encoder: Dense,
    decoder: Dense,
}

impl FoldIn {
    /// `encoder` [hidden, factors] and `decoder` [factors, hidden − 1].
    pub fn new(weighting: Weighting, bias: &[f32], encoder: &Layer, decoder: &Layer) -> Self {
        let means = Dense::new(encoder.inputs(), encoder.weight.view(), &encoder.bias);
        let decoder = Dense::new(means.outputs(), decoder.weight.view(), &decoder.bias);
        Self { weighting, hidden: bias.len(), factors: encoder.outputs(), bias: bias.into(), encoder: means, decoder }
    }

    /// μ [factors] of a history, whose items' rows are in `factors` [items, hidden].
    pub fn means(&self, factors: ArrayView2<f32>, items: &[u32], weights: &[f32]) -> Vec<f32> {
        let confidences = || weights.iter().map(|&w| self.weighting.confidence(w));
        let length = confidences().map(|c| c * c).sum::<f32>().sqrt().max(LEAST_LENGTH);
        let (hidden, factors) = (self.hidden, flat(factors));
        let mut x = vec![0f32; hidden];
        for (&item, c) in items.iter().zip(confidences()) {
            let Some(row) = factors.get(item as usize * hidden..(item as usize + 1) * hidden).filter(|_| c > 0.0)
            else {
                continue;
            };
            let c = c / length;
            x.iter_mut().zip(row).for_each(|(x, h)| *x += c * h);
        }
        x.iter_mut().zip(&self.bias).for_each(|(x, a)| *x = (*x + a).tanh());
        let mut means = vec![0f32; self.encoder.outputs()];
        self.encoder.forward(aview1(&x).insert_axis(Axis(0)), false, aview_mut1(&mut means).insert_axis(Axis(0)));
        means.truncate(self.factors);
        means
    }

    /// `[tanh(V z + b) ; 1]` [hidden] of z [factors].
    pub fn decoded(&self, z: &[f32]) -> Vec<f32> {
        let mut padded = z.to_vec();
        padded.resize(self.decoder.inputs(), 0.0);
        let mut decoded = vec![0f32; self.decoder.outputs().max(self.hidden)];
        let into = aview_mut1(&mut decoded[..self.decoder.outputs()]).insert_axis(Axis(0));
        self.decoder.forward(aview1(&padded).insert_axis(Axis(0)), false, into);
        decoded.truncate(self.hidden);
        decoded.iter_mut().for_each(|x| *x = x.tanh());
        decoded[self.hidden - 1] = 1.0;
        decoded
    }
}
