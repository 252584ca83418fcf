//! Fully connected layers with ReLU between them: forward, and backward from the gradient of the output.
//!
//! The caller computes the gradient of the loss with respect to the output in closed form.

use super::adam::Step;
use super::dense::PAD;
use super::products::{gradient, product, product_add, transpose};
use runtime::draw::uniform;
use runtime::error::Result;
use runtime::memory;

/// What ReLU makes of a number below 0. A unit at 0 itself passes its gradient on: one that starts there would else never learn.
const CUT: f32 = -0.0;

/// `x W + b`
#[derive(Clone, Debug)]
pub struct Layer {
    pub inputs: usize,
    pub outputs: usize,
    /// [inputs, outputs]
    pub weight: Vec<f32>,
    /// [outputs]
    pub bias: Vec<f32>,
}

/// Layers with the moments of their gradients.
pub struct Network {
    pub layers: Vec<Layer>,
    /// Of each layer: first and second moments of the weight, then of the bias.
    moments: Vec<[Vec<f32>; 4]>,
}

/// The layers' parameters as one step reads them: padded with zeros, so that every width is a multiple of [`PAD`].
pub struct Variables(Vec<Padded>);

struct Padded {
    /// Widths of the layer, without padding.
    inputs: usize,
    outputs: usize,
    /// Width of its input: unpadded for the first layer, padded for the others.
    width: usize,
    /// `outputs`, padded.
    stride: usize,
    /// [width, stride]
    weight: Vec<f32>,
    /// [stride, width padded]
    transposed: Vec<f32>,
    /// [stride]
    bias: Vec<f32>,
}

/// A forward pass, with the values for the backward pass.
pub struct Pass<'a> {
    variables: &'a Variables,
    rows: usize,
    /// [rows, width] of each layer's input, then [rows, stride] of the output.
    values: Vec<Vec<f32>>,
    has_added: bool,
}

/// Gradients of a sum over rows.
#[derive(Default)]
pub struct Gradients {
    /// Of each layer's weight and bias.
    layers: Vec<(Vec<f32>, Vec<f32>)>,
    /// [rows, inputs]
    pub input: Vec<f32>,
    /// [rows, outputs of the first layer]; empty where nothing was added.
    pub added: Vec<f32>,
}

impl Network {
    /// Layers of `widths[0]` inputs, `widths[1]`, … outputs; uniform weights with the variance 2 / inputs of He and others
    /// (ICCV 2015), eq. 10, times `scale` in the last. A first layer of 0 inputs has a bias alone.
    pub fn new(widths: &[usize], scale: f32, seed: u64) -> Result<Self> {
        let (mut layers, mut moments) = (Vec::new(), Vec::new());
        for (l, pair) in widths.windows(2).enumerate() {
            let (inputs, outputs) = (pair[0], pair[1]);
            let last = if l + 2 == widths.len() { scale } else { 1.0 };
            let bound = last * (6.0 / inputs.max(1) as f32).sqrt();
            let mut weight = memory::filled(0f32, inputs * outputs)?;
            let place = |i: usize| (l as u64) << 40 | i as u64;
            weight.iter_mut().enumerate().for_each(|(i, w)| *w = bound * uniform(seed, place(i)));
            let zeros = |n| memory::filled(0f32, n);
            let n = weight.len();
            layers.push(Layer { inputs, outputs, weight, bias: zeros(outputs)? });
            moments.push([zeros(n)?, zeros(n)?, zeros(outputs)?, zeros(outputs)?]);
        }
        Ok(Self { layers, moments })
    }

    pub fn variables(&self) -> Result<Variables> {
        let mut width = self.layers.first().map_or(0, |layer| layer.inputs);
        let mut padded = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            let &Layer { inputs, outputs, .. } = layer;
            let stride = outputs.next_multiple_of(PAD);
            let wide = width.next_multiple_of(PAD);
            let mut weight = memory::filled(0f32, width * stride)?;
            copy_rows(&layer.weight, outputs, &mut weight, stride);
            let mut transposed = memory::filled(0f32, stride * wide)?;
            let mut rows = memory::filled(0f32, stride * width)?;
            transpose(&weight, width, stride, &mut rows);
            copy_rows(&rows, width, &mut transposed, wide);
            let mut bias = memory::filled(0f32, stride)?;
            bias[..outputs].copy_from_slice(&layer.bias);
            padded.push(Padded { inputs, outputs, width, stride, weight, transposed, bias });
            width = stride;
        }
        Ok(Variables(padded))
    }

    /// Moves the parameters against the sum of `gradients`, with `decay` times each weight added to it.
    pub fn update(&mut self, gradients: &[Gradients], step: Step, decay: f32) {
        for (l, (layer, [m1, v1, m2, v2])) in self.layers.iter_mut().zip(&mut self.moments).enumerate() {
            let mut weight: Vec<f32> = layer.weight.iter().map(|w| decay * w).collect();
            let mut bias = vec![0f32; layer.outputs];
            for (one, two) in gradients.iter().filter_map(|g| g.layers.get(l)) {
                weight.iter_mut().zip(one).for_each(|(sum, g)| *sum += g);
                bias.iter_mut().zip(two).for_each(|(sum, g)| *sum += g);
            }
            step.update(&mut layer.weight, &weight, m1, v1);
            step.update(&mut layer.bias, &bias, m2, v2);
        }
    }
}

impl Variables {
    /// The output for `input` [rows, inputs]; `added` [rows, outputs of the first layer] is added to what the first layer
    /// gives, before its ReLU. The last layer has none.
    pub fn forward(&self, rows: usize, input: Vec<f32>, added: Option<Vec<f32>>) -> Result<Pass<'_>> {
        let has_added = added.is_some();
        let mut values = Vec::with_capacity(self.0.len() + 1);
        values.push(input);
        for (l, layer) in self.0.iter().enumerate() {
            let mut out = memory::filled(0f32, rows * layer.stride)?;
            out.chunks_exact_mut(layer.stride.max(1)).for_each(|row| row.copy_from_slice(&layer.bias));
            if let Some(added) = added.as_ref().filter(|_| l == 0) {
                let added = added.chunks_exact(layer.outputs.max(1));
                for (row, added) in out.chunks_exact_mut(layer.stride.max(1)).zip(added) {
                    row.iter_mut().zip(added).for_each(|(y, a)| *y += a);
                }
            }
            if layer.width > 0 && layer.stride > 0 {
                product_add(&values[l], layer.width, 0, &layer.weight, layer.stride, &mut out);
            }
            if l + 1 < self.0.len() {
                out.iter_mut().filter(|y| **y < 0.0).for_each(|y| *y = CUT);
            }
            values.push(out);
        }
        Ok(Pass { variables: self, rows, values, has_added })
    }
}

impl Pass<'_> {
    /// [rows, outputs]
    pub fn output(&self) -> Result<Vec<f32>> {
        match (self.variables.0.last(), self.values.last()) {
            (Some(layer), Some(values)) => narrow(values, layer.stride, layer.outputs),
            _ => Ok(Vec::new()),
        }
    }

    /// Given the gradient of a loss with respect to the output [rows, outputs].
    pub fn backward(&self, slopes: Vec<f32>) -> Result<Gradients> {
        let layers = &self.variables.0;
        let mut found = Gradients { layers: vec![Default::default(); layers.len()], ..Default::default() };
        let Some(last) = layers.last() else { return Ok(found) };
        let mut slopes = widen(&slopes, last.outputs, last.stride)?;
        for (l, layer) in layers.iter().enumerate().rev() {
            let mut bias = memory::filled(0f32, layer.stride)?;
            for row in slopes.chunks_exact(layer.stride.max(1)) {
                bias.iter_mut().zip(row).for_each(|(sum, g)| *sum += g);
            }
            bias.truncate(layer.outputs);
            let mut weight = memory::filled(0f32, layer.width * layer.stride)?;
            if layer.stride > 0 && layer.width > 0 {
                gradient(&self.values[l], layer.width, 0, &slopes, layer.stride, &mut weight);
            }
            let mut weight = narrow(&weight, layer.stride, layer.outputs)?;
            weight.truncate(layer.inputs * layer.outputs);
            found.layers[l] = (weight, bias);
            if l == 0 {
                if self.has_added {
                    found.added = narrow(&slopes, layer.stride, layer.outputs)?;
                }
                if layer.inputs > 0 {
                    found.input = narrow(&self.back(layer, &slopes)?, layer.width.next_multiple_of(PAD), layer.inputs)?;
                }
            } else {
                let mut before = self.back(layer, &slopes)?;
                let cut = |y: &f32| y.to_bits() == CUT.to_bits();
                before.iter_mut().zip(&self.values[l]).filter(|(_, y)| cut(y)).for_each(|(g, _)| *g = 0.0);
                slopes = before;
            }
        }
        Ok(found)
    }

    /// The gradient with respect to a layer's input [rows, width padded].
    fn back(&self, layer: &Padded, slopes: &[f32]) -> Result<Vec<f32>> {
        let wide = layer.width.next_multiple_of(PAD);
        let mut out = memory::filled(0f32, self.rows * wide)?;
        product(slopes, &layer.transposed, layer.stride, wide, &mut out);
        Ok(out)
    }
}

/// Rows of `from` into the longer rows of `to`.
fn copy_rows(from: &[f32], width: usize, to: &mut [f32], stride: usize) {
    for (to, from) in to.chunks_exact_mut(stride.max(1)).zip(from.chunks_exact(width.max(1))) {
        to[..width].copy_from_slice(from);
    }
}

/// Rows of `width`, padded with zeros to `stride`.
fn widen(values: &[f32], width: usize, stride: usize) -> Result<Vec<f32>> {
    let mut wide = memory::filled(0f32, values.len() / width.max(1) * stride)?;
    copy_rows(values, width, &mut wide, stride);
    Ok(wide)
}

/// The first `width` of each row of `stride`.
fn narrow(values: &[f32], stride: usize, width: usize) -> Result<Vec<f32>> {
    let mut narrow = Vec::new();
    memory::reserve(&mut narrow, values.len() / stride.max(1) * width)?;
    values.chunks_exact(stride.max(1)).for_each(|row| narrow.extend_from_slice(&row[..width]));
    Ok(narrow)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Σ output² / 2 over all rows.
    fn loss(network: &Network, rows: usize, input: &[f32], added: &[f32]) -> f64 {
        let variables = network.variables().unwrap();
        let pass = variables.forward(rows, input.to_vec(), Some(added.to_vec())).unwrap();
        pass.output().unwrap().iter().map(|&y| f64::from(y) * f64::from(y) / 2.0).sum()
    }

    #[test]
    fn gradients_are_those_of_small_differences() {
        let (rows, widths) = (5, [3, 7, 4, 2]);
        let network = Network::new(&widths, 1.0, 9).unwrap();
        let input: Vec<f32> = (0..rows * 3).map(|i| uniform(1, i as u64)).collect();
        let added: Vec<f32> = (0..rows * 7).map(|i| uniform(2, i as u64)).collect();
        let variables = network.variables().unwrap();
        let pass = variables.forward(rows, input.clone(), Some(added.clone())).unwrap();
        let gradients = pass.backward(pass.output().unwrap()).unwrap();
        let close = |exact: f32, plus: f64, minus: f64| {
            let difference = ((plus - minus) / 2e-3) as f32;
            assert!((exact - difference).abs() < 0.02 * exact.abs().max(0.1), "{exact} {difference}");
        };
        for i in [0, 4, 11] {
            let moved = |by: f32| {
                let mut input = input.clone();
                input[i] += by;
                loss(&network, rows, &input, &added)
            };
            close(gradients.input[i], moved(1e-3), moved(-1e-3));
            let moved = |by: f32| {
                let mut added = added.clone();
                added[i] += by;
                loss(&network, rows, &input, &added)
            };
            close(gradients.added[i], moved(1e-3), moved(-1e-3));
        }
        for l in 0..3 {
            let moved = |by: f32, bias: bool| {
                let mut network = Network { layers: network.layers.clone(), moments: Vec::new() };
                let layer = &mut network.layers[l];
                *(if bias { &mut layer.bias[1] } else { &mut layer.weight[1] }) += by;
                loss(&network, rows, &input, &added)
            };
            close(gradients.layers[l].0[1], moved(1e-3, false), moved(-1e-3, false));
            close(gradients.layers[l].1[1], moved(1e-3, true), moved(-1e-3, true));
        }
    }

    #[test]
    fn a_unit_that_starts_at_zero_learns() {
        let network = Network::new(&[0, 3, 2], 1.0, 1).unwrap();
        let variables = network.variables().unwrap();
        let pass = variables.forward(2, Vec::new(), Some(vec![0.0; 6])).unwrap();
        assert_eq!(pass.output().unwrap(), [0.0; 4]);
        assert!(pass.backward(vec![1.0; 4]).unwrap().added.iter().all(|&g| g != 0.0));
    }

    #[test]
    fn layers_without_inputs_give_what_is_added() {
        let network = Network::new(&[0, 3], 1.0, 1).unwrap();
        let variables = network.variables().unwrap();
        let pass = variables.forward(2, Vec::new(), Some(vec![1.0; 6])).unwrap();
        assert_eq!(pass.output().unwrap(), [1.0; 6]);
        assert_eq!(pass.backward(vec![0.5; 6]).unwrap().added, [0.5; 6]);
    }
}
