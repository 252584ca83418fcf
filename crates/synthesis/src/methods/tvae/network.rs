//! The parameters of encoder and decoder, in one vector.

use ndarray::{ArrayView2, ArrayViewMut2};

use crate::methods::modes::Encoding;
use neural::dense::PAD;
use neural::products::transpose;
use runtime::draw::{mix, uniform};
use runtime::error::Result;
use runtime::memory;

/// The position of a layer `x W + b` among the parameters.
#[derive(Clone, Copy, Debug)]
pub struct Layer {
    pub inputs: usize,
    pub outputs: usize,
    /// Offset of the weight [inputs, outputs]; the bias [outputs] follows it.
    pub at: usize,
}

impl Layer {
    pub fn size(&self) -> usize {
        (self.inputs + 1) * self.outputs
    }

    pub fn bias(&self) -> usize {
        self.at + self.inputs * self.outputs
    }

    /// The weight and the bias among all parameters.
    pub fn of(self, parameters: &[f32]) -> Result<(ArrayView2<'_, f32>, &[f32])> {
        let (weight, rest) = parameters[self.at..].split_at(self.inputs * self.outputs);
        Ok((ArrayView2::from_shape((self.inputs, self.outputs), weight)?, &rest[..self.outputs]))
    }

    /// The same of all gradients, to write to.
    pub fn of_mut(self, parameters: &mut [f32]) -> Result<(ArrayViewMut2<'_, f32>, &mut [f32])> {
        let (weight, rest) = parameters[self.at..].split_at_mut(self.inputs * self.outputs);
        Ok((ArrayViewMut2::from_shape((self.inputs, self.outputs), weight)?, &mut rest[..self.outputs]))
    }

    /// The transposed weight, [outputs, inputs], which stands where the weight stands among all parameters.
    pub fn transposed(self, transposed: &[f32]) -> Result<ArrayView2<'_, f32>> {
        Ok(ArrayView2::from_shape((self.outputs, self.inputs), &transposed[self.at..self.bias()])?)
    }

    /// Writes it.
    pub fn transpose(self, parameters: &[f32], transposed: &mut [f32]) -> Result<()> {
        let to = ArrayViewMut2::from_shape((self.outputs, self.inputs), &mut transposed[self.at..self.bias()])?;
        transpose(self.of(parameters)?.0, to);
        Ok(())
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Number of classes of all heads.
    pub columns: usize,
    pub numbers: usize,
    pub latent: usize,
    pub hidden: usize,
    pub encoder: [Layer; 3],
    pub decoder: [Layer; 3],
    /// Offset of the log-deviations within classes [columns].
    pub deviations: usize,
    pub parameters: usize,
}

pub struct Network {
    pub shape: Shape,
    pub parameters: Vec<f32>,
}

impl Network {
    /// The decoder's last hidden layer is half as wide, since each output of a new row costs as many operations as that
    /// layer is wide. Widths are rounded up to whole registers. Weights and biases are uniform up to 1 / √inputs,
    /// deviations 0.1, as in the paper's code.
    pub fn new(encoding: &Encoding, hidden: usize, latent: usize, seed: u64) -> Result<Self> {
        let (hidden, latent) = (hidden.next_multiple_of(PAD), latent.next_multiple_of(PAD));
        let narrow = hidden.div_ceil(2).next_multiple_of(PAD);
        let mut parameters = 0;
        let mut layer = |inputs: usize, outputs: usize| {
            let layer = Layer { inputs, outputs, at: parameters };
            parameters += layer.size();
            layer
        };
        let inputs = encoding.columns + encoding.numbers;
        let outputs = inputs.next_multiple_of(PAD);
        let encoder = [layer(inputs, hidden), layer(hidden, hidden), layer(hidden, 2 * latent)];
        let decoder = [layer(latent, hidden), layer(hidden, narrow), layer(narrow, outputs)];
        let deviations = parameters;
        parameters += encoding.columns;
        let mut values = memory::filled(0f32, parameters)?;
        for (number, layer) in encoder.iter().chain(&decoder).enumerate() {
            // One of each head's inputs is 1: that counts, not how many columns there are.
            let inputs = if number == 0 { encoding.heads.len() } else { layer.inputs };
            let bound = 1.0 / (inputs as f32).sqrt();
            let seed = mix(seed ^ mix(number as u64));
            let all = values[layer.at..][..layer.size()].iter_mut().enumerate();
            all.for_each(|(i, x)| *x = bound * uniform(seed, i as u64));
        }
        values[deviations..].fill(0.1f32.ln());
        let shape = Shape {
            columns: encoding.columns,
            numbers: encoding.numbers,
            latent,
            hidden,
            encoder,
            decoder,
            deviations,
            parameters,
        };
        Ok(Self { shape, parameters: values })
    }

    /// The weight and the bias of a layer.
    pub fn layer(&self, layer: Layer) -> Result<(ArrayView2<'_, f32>, &[f32])> {
        layer.of(&self.parameters)
    }

    /// Log-deviations within classes.
    pub fn deviations(&self) -> &[f32] {
        &self.parameters[self.shape.deviations..]
    }
}
