//! Fully connected layers with ReLU between them, on candle: forward, and backward from the gradient of the output.
//!
//! The caller computes the gradient of the loss with respect to the output in closed form.

use candle_core::{Device, Tensor, Var};

use super::adam::Step;
use runtime::draw::uniform;
use runtime::error::{Error, Result};
use runtime::memory;

fn failed(e: candle_core::Error) -> Error {
    Error::Internal(format!("dense layer: {e}"))
}

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

/// The layers' parameters as candle sees them in one step.
pub struct Variables(Vec<(Option<Var>, Var)>);

/// A forward pass, for the backward pass.
pub struct Pass<'a> {
    variables: &'a Variables,
    input: Option<Var>,
    added: Option<Var>,
    output: Tensor,
    rows: usize,
}

/// Gradients of a sum over rows.
#[derive(Default)]
pub struct Gradients {
    /// Of each layer's weight and bias.
    layers: Vec<(Vec<f32>, Vec<f32>)>,
    /// [rows, inputs]
    pub input: Vec<f32>,
    /// [rows, outputs of the first layer]
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
        let variable = |values: &[f32], shape: (usize, usize)| Var::from_slice(values, shape, &Device::Cpu);
        let variables = self.layers.iter().map(|layer| {
            let weight = (layer.inputs > 0).then(|| variable(&layer.weight, (layer.inputs, layer.outputs)));
            Ok((weight.transpose()?, variable(&layer.bias, (1, layer.outputs))?))
        });
        variables.collect::<candle_core::Result<_>>().map(Variables).map_err(failed)
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
        self.try_forward(rows, input, added).map_err(failed)
    }

    fn try_forward(&self, rows: usize, input: Vec<f32>, added: Option<Vec<f32>>) -> candle_core::Result<Pass<'_>> {
        let matrix = |values: Vec<f32>| {
            let columns = values.len() / rows.max(1);
            Var::from_vec(values, (rows, columns), &Device::Cpu)
        };
        let input = if input.is_empty() { None } else { Some(matrix(input)?) };
        let added = added.map(matrix).transpose()?;
        let mut x = input.as_ref().map(|input| input.as_tensor().clone());
        for (l, (weight, bias)) in self.0.iter().enumerate() {
            let product = match (&x, weight) {
                (Some(x), Some(weight)) => Some(x.matmul(weight)?),
                _ => None,
            };
            let sum = match (product, added.as_ref().filter(|_| l == 0)) {
                (Some(product), Some(added)) => Some((product + added.as_tensor())?),
                (None, Some(added)) => Some(added.as_tensor().clone()),
                (product, None) => product,
            };
            let bias = bias.broadcast_as((rows, bias.dim(1)?))?;
            let y = match sum {
                Some(sum) => (sum + bias)?,
                None => bias,
            };
            x = Some(if l + 1 < self.0.len() { y.relu()? } else { y });
        }
        let output = x.map_or_else(|| Tensor::zeros((rows, 0), candle_core::DType::F32, &Device::Cpu), Ok)?;
        Ok(Pass { variables: self, input, added, output, rows })
    }
}

impl Pass<'_> {
    /// [rows, outputs]
    pub fn output(&self) -> Result<Vec<f32>> {
        self.output.flatten_all().and_then(|x| x.to_vec1()).map_err(failed)
    }

    /// Given the gradient of a loss with respect to the output [rows, outputs].
    pub fn backward(&self, gradient: Vec<f32>) -> Result<Gradients> {
        self.try_backward(gradient).map_err(failed)
    }

    fn try_backward(&self, gradient: Vec<f32>) -> candle_core::Result<Gradients> {
        let columns = gradient.len() / self.rows.max(1);
        let gradient = Tensor::from_vec(gradient, (self.rows, columns), &Device::Cpu)?;
        let store = (&self.output * gradient)?.sum_all()?.backward()?;
        let of = |variable: &Var| match store.get(variable) {
            Some(gradient) => gradient.flatten_all()?.to_vec1(),
            None => Ok(vec![0f32; variable.elem_count()]),
        };
        let some = |variable: &Option<Var>| variable.as_ref().map_or_else(|| Ok(Vec::new()), of);
        let layers = self.variables.0.iter().map(|(weight, bias)| Ok((some(weight)?, of(bias)?)));
        let layers = layers.collect::<candle_core::Result<_>>()?;
        Ok(Gradients { layers, input: some(&self.input)?, added: some(&self.added)? })
    }
}

/// `a · b` for a [m, k] and b [k, n].
pub fn product(a: &Tensor, b: &Tensor) -> Result<Vec<f32>> {
    a.matmul(b).and_then(|c| c.flatten_all()?.to_vec1()).map_err(failed)
}

/// A matrix for [`product`].
pub fn matrix(values: Vec<f32>, rows: usize, columns: usize) -> Result<Tensor> {
    Tensor::from_vec(values, (rows, columns), &Device::Cpu).map_err(failed)
}

/// The same matrix, rows as columns.
pub fn transposed(matrix: &Tensor) -> Result<Tensor> {
    matrix.t().map_err(failed)
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
    fn layers_without_inputs_give_what_is_added() {
        let network = Network::new(&[0, 3], 1.0, 1).unwrap();
        let variables = network.variables().unwrap();
        let pass = variables.forward(2, Vec::new(), Some(vec![1.0; 6])).unwrap();
        assert_eq!(pass.output().unwrap(), [1.0; 6]);
        assert_eq!(pass.backward(vec![0.5; 6]).unwrap().added, [0.5; 6]);
    }
}
