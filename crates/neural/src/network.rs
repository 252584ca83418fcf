//! Fully connected layers with ReLU between them: forward, and backward from the gradient of the output.
//!
//! The caller computes the gradient of the loss with respect to the output in closed form.

use ndarray::{Array2, ArrayRef2, s};

use super::adam::Step;
use super::dense::PAD;
use super::products::{gradient, product, product_add, transpose};
use kernels::matrix::{flat, flat_mut, rows, rows_mut};
use runtime::draw::uniform;
use runtime::error::Result;
use runtime::memory;

/// What ReLU makes of a number below 0. A unit at 0 itself passes its gradient on: one that starts there would else never learn.
const CUT: f32 = -0.0;

/// `x W + b`
#[derive(Clone, Debug)]
pub struct Layer {
    /// [inputs, outputs]
    pub weight: Array2<f32>,
    /// [outputs]
    pub bias: Vec<f32>,
}

impl Layer {
    pub fn inputs(&self) -> usize {
        self.weight.nrows()
    }

    pub fn outputs(&self) -> usize {
        self.weight.ncols()
    }
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
    /// Its rows are as many as the input is wide: unpadded for the first layer, padded for the others. Its columns are the padded outputs.
    weight: Array2<f32>,
    /// [outputs padded, inputs padded]
    transposed: Array2<f32>,
    /// [outputs padded]
    bias: Vec<f32>,
}

/// A forward pass, with the values for the backward pass.
pub struct Pass<'a> {
    variables: &'a Variables,
    /// Of each row: each layer's input, padded, then the output, padded.
    values: Vec<Array2<f32>>,
    has_added: bool,
}

/// Gradients of a sum over rows.
#[derive(Default)]
pub struct Gradients {
    /// Of each layer's weight and bias.
    layers: Vec<(Array2<f32>, Vec<f32>)>,
    /// [rows, inputs]
    pub input: Array2<f32>,
    /// [rows, outputs of the first layer]; empty where nothing was added.
    pub added: Array2<f32>,
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
            let mut weight = memory::matrix(inputs, outputs, 0f32)?;
            let place = |i: usize| (l as u64) << 40 | i as u64;
            weight.iter_mut().enumerate().for_each(|(i, w)| *w = bound * uniform(seed, place(i)));
            let zeros = |n| memory::filled(0f32, n);
            let n = weight.len();
            layers.push(Layer { weight, bias: zeros(outputs)? });
            moments.push([zeros(n)?, zeros(n)?, zeros(outputs)?, zeros(outputs)?]);
        }
        Ok(Self { layers, moments })
    }

    pub fn variables(&self) -> Result<Variables> {
        let mut width = self.layers.first().map_or(0, Layer::inputs);
        let mut padded = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            let (inputs, outputs) = layer.weight.dim();
            let stride = outputs.next_multiple_of(PAD);
            let mut weight = memory::matrix(width, stride, 0f32)?;
            copy_rows(&layer.weight, &mut weight);
            let mut transposed = memory::matrix(stride, width.next_multiple_of(PAD), 0f32)?;
            transpose(weight.view(), transposed.view_mut());
            let mut bias = memory::filled(0f32, stride)?;
            bias[..outputs].copy_from_slice(&layer.bias);
            padded.push(Padded { inputs, outputs, weight, transposed, bias });
            width = stride;
        }
        Ok(Variables(padded))
    }

    /// Moves the parameters against the sum of `gradients`, with `decay` times each weight added to it.
    pub fn update(&mut self, gradients: &[Gradients], step: Step, decay: f32) {
        for (l, (layer, [m1, v1, m2, v2])) in self.layers.iter_mut().zip(&mut self.moments).enumerate() {
            let own = flat_mut(layer.weight.view_mut());
            let mut weight: Vec<f32> = own.iter().map(|w| decay * w).collect();
            let mut bias = vec![0f32; layer.bias.len()];
            for (one, two) in gradients.iter().filter_map(|g| g.layers.get(l)) {
                weight.iter_mut().zip(flat(one.view())).for_each(|(sum, g)| *sum += g);
                bias.iter_mut().zip(two).for_each(|(sum, g)| *sum += g);
            }
            step.update(own, &weight, m1, v1);
            step.update(&mut layer.bias, &bias, m2, v2);
        }
    }
}

impl Variables {
    /// The output for `input` [rows, inputs]; `added` [rows, outputs of the first layer] is added to what the first layer
    /// gives, before its ReLU. The last layer has none.
    pub fn forward(&self, input: Array2<f32>, added: Option<Array2<f32>>) -> Result<Pass<'_>> {
        let has_added = added.is_some();
        let n = input.nrows();
        let mut all = Vec::with_capacity(self.0.len() + 1);
        all.push(input);
        for (l, layer) in self.0.iter().enumerate() {
            let mut out = memory::matrix(n, layer.bias.len(), 0f32)?;
            rows_mut(out.view_mut()).for_each(|row| row.copy_from_slice(&layer.bias));
            if let Some(added) = added.as_ref().filter(|_| l == 0) {
                for (row, added) in rows_mut(out.view_mut()).zip(rows(added.view())) {
                    row.iter_mut().zip(added).for_each(|(y, a)| *y += a);
                }
            }
            if !layer.weight.is_empty() {
                product_add(all[l].view(), layer.weight.view(), out.view_mut());
            }
            if l + 1 < self.0.len() {
                flat_mut(out.view_mut()).iter_mut().filter(|y| **y < 0.0).for_each(|y| *y = CUT);
            }
            all.push(out);
        }
        Ok(Pass { variables: self, values: all, has_added })
    }
}

impl Pass<'_> {
    /// [rows, outputs]
    pub fn output(&self) -> Result<Array2<f32>> {
        match (self.variables.0.last(), self.values.last()) {
            (Some(layer), Some(values)) => narrow(values, layer.outputs),
            _ => Ok(Array2::default((0, 0))),
        }
    }

    /// Given the gradient of a loss with respect to the output [rows, outputs].
    pub fn backward(&self, slopes: Array2<f32>) -> Result<Gradients> {
        let layers = &self.variables.0;
        let mut found = Gradients { layers: vec![Default::default(); layers.len()], ..Default::default() };
        let Some(last) = layers.last() else { return Ok(found) };
        let mut wide = memory::matrix(slopes.nrows(), last.bias.len(), 0f32)?;
        copy_rows(&slopes, &mut wide);
        let mut slopes = wide;
        for (l, layer) in layers.iter().enumerate().rev() {
            let mut bias = memory::filled(0f32, layer.bias.len())?;
            for row in rows(slopes.view()) {
                bias.iter_mut().zip(row).for_each(|(sum, g)| *sum += g);
            }
            bias.truncate(layer.outputs);
            let mut weight = memory::matrix(layer.weight.nrows(), layer.weight.ncols(), 0f32)?;
            if !weight.is_empty() {
                gradient(self.values[l].view(), slopes.view(), weight.view_mut());
            }
            found.layers[l] = (narrow(&weight.slice(s![..layer.inputs, ..]), layer.outputs)?, bias);
            if l == 0 {
                if self.has_added {
                    found.added = narrow(&slopes, layer.outputs)?;
                }
                if layer.inputs > 0 {
                    found.input = narrow(&layer.back(&slopes)?, layer.inputs)?;
                }
            } else {
                let mut before = layer.back(&slopes)?;
                let cut = |y: &f32| y.to_bits() == CUT.to_bits();
                let all = flat_mut(before.view_mut()).iter_mut().zip(flat(self.values[l].view()));
                all.filter(|(_, y)| cut(y)).for_each(|(g, _)| *g = 0.0);
                slopes = before;
            }
        }
        Ok(found)
    }
}

impl Padded {
    /// The gradient with respect to the layer's input [rows, inputs padded].
    fn back(&self, slopes: &Array2<f32>) -> Result<Array2<f32>> {
        let mut out = memory::matrix(slopes.nrows(), self.transposed.ncols(), 0f32)?;
        product(slopes.view(), self.transposed.view(), out.view_mut());
        Ok(out)
    }
}

/// Rows of `from` into the longer rows of `to`.
fn copy_rows(from: &Array2<f32>, to: &mut Array2<f32>) {
    for (to, from) in rows_mut(to.view_mut()).zip(rows(from.view())) {
        to[..from.len()].copy_from_slice(from);
    }
}

/// The first `width` columns.
fn narrow(wide: &ArrayRef2<f32>, width: usize) -> Result<Array2<f32>> {
    let mut narrow = Vec::new();
    memory::reserve(&mut narrow, wide.nrows() * width)?;
    rows(wide.view()).for_each(|row| narrow.extend_from_slice(&row[..width]));
    memory::shaped(wide.nrows(), width, narrow)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(rows: usize, columns: usize, seed: u64) -> Array2<f32> {
        Array2::from_shape_fn((rows, columns), |(i, j)| uniform(seed, (i * columns + j) as u64))
    }

    /// Σ output² / 2 over all rows.
    fn loss(network: &Network, input: &Array2<f32>, added: &Array2<f32>) -> f64 {
        let variables = network.variables().unwrap();
        let pass = variables.forward(input.clone(), Some(added.clone())).unwrap();
        pass.output().unwrap().iter().map(|&y| f64::from(y) * f64::from(y) / 2.0).sum()
    }

    #[test]
    fn gradients_are_those_of_small_differences() {
        let (rows, widths) = (5, [3, 7, 4, 2]);
        let network = Network::new(&widths, 1.0, 9).unwrap();
        let (input, added) = (drawn(rows, 3, 1), drawn(rows, 7, 2));
        let variables = network.variables().unwrap();
        let pass = variables.forward(input.clone(), Some(added.clone())).unwrap();
        let gradients = pass.backward(pass.output().unwrap()).unwrap();
        let close = |exact: f32, plus: f64, minus: f64| {
            let difference = ((plus - minus) / 2e-3) as f32;
            assert!((exact - difference).abs() < 0.02 * exact.abs().max(0.1), "{exact} {difference}");
        };
        for place in [[0, 0], [1, 1], [3, 2]] {
            let moved = |by: f32| {
                let mut input = input.clone();
                input[place] += by;
                loss(&network, &input, &added)
            };
            close(gradients.input[place], moved(1e-3), moved(-1e-3));
            let moved = |by: f32| {
                let mut added = added.clone();
                added[place] += by;
                loss(&network, &input, &added)
            };
            close(gradients.added[place], moved(1e-3), moved(-1e-3));
        }
        for l in 0..3 {
            let moved = |by: f32, bias: bool| {
                let mut network = Network { layers: network.layers.clone(), moments: Vec::new() };
                let layer = &mut network.layers[l];
                *(if bias { &mut layer.bias[1] } else { &mut layer.weight[[0, 1]] }) += by;
                loss(&network, &input, &added)
            };
            close(gradients.layers[l].0[[0, 1]], moved(1e-3, false), moved(-1e-3, false));
            close(gradients.layers[l].1[1], moved(1e-3, true), moved(-1e-3, true));
        }
    }

    #[test]
    fn a_unit_that_starts_at_zero_learns() {
        let network = Network::new(&[0, 3, 2], 1.0, 1).unwrap();
        let variables = network.variables().unwrap();
        let pass = variables.forward(Array2::default((2, 0)), Some(Array2::zeros((2, 3)))).unwrap();
        assert_eq!(pass.output().unwrap(), Array2::<f32>::zeros((2, 2)));
        assert!(pass.backward(Array2::ones((2, 2))).unwrap().added.iter().all(|&g| g != 0.0));
    }

    #[test]
    fn layers_without_inputs_give_what_is_added() {
        let network = Network::new(&[0, 3], 1.0, 1).unwrap();
        let variables = network.variables().unwrap();
        let pass = variables.forward(Array2::default((2, 0)), Some(Array2::ones((2, 3)))).unwrap();
        assert_eq!(pass.output().unwrap(), Array2::<f32>::ones((2, 3)));
        assert_eq!(pass.backward(Array2::from_elem((2, 3), 0.5)).unwrap().added, Array2::<f32>::from_elem((2, 3), 0.5));
    }
}
