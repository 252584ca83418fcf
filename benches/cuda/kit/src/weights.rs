//! Takes the weights out of an ONNX graph, and puts drawn ones in.
//!
//! Only the data of large float initializers change; every other byte of the model stays as it is.

use std::f64::consts::TAU;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::Result;
use crate::wire::{self, Field, Value};

/// Field numbers of `onnx.proto`.
const MODEL_GRAPH: u64 = 7;
const GRAPH_INITIALIZER: u64 = 5;
const TENSOR_DATA_TYPE: u64 = 2;
const TENSOR_RAW_DATA: u64 = 9;

/// `TensorProto.DataType.FLOAT`.
const FLOAT: u64 = 1;

/// The field of a tensor in a skeleton that says what its data were like. ONNX has no such field.
const TENSOR_SHAPE_OF_DATA: u64 = 1000;

/// Tensors of fewer floats are constants of the computation, and small biases.
const MIN_FLOATS: usize = 64;

/// What is kept of a tensor's data.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Distribution {
    count: u64,
    mean: f64,
    deviation: f64,
    least: f64,
    greatest: f64,
}

/// The model without its weights.
pub fn strip(model: &[u8]) -> Result<Vec<u8>> {
    with_initializers(model, &mut |fields| {
        let is_float = fields.iter().any(|f| f.number == TENSOR_DATA_TYPE && matches!(f.value, Value::Varint(FLOAT)));
        replaced(fields, TENSOR_RAW_DATA, TENSOR_SHAPE_OF_DATA, |data| {
            Ok((is_float && data.len() >= MIN_FLOATS * 4).then(|| Distribution::of(data).to_bytes()))
        })
    })
}

/// A model with normal weights for those that `strip` took. The same seed gives the same model.
pub fn draw(skeleton: &[u8], seed: u64) -> Result<Vec<u8>> {
    let mut rng = StdRng::seed_from_u64(seed);
    with_initializers(skeleton, &mut |fields| {
        replaced(fields, TENSOR_SHAPE_OF_DATA, TENSOR_RAW_DATA, |kept| {
            Ok(Some(Distribution::from_bytes(kept)?.draw(&mut rng)))
        })
    })
}

/// The model with every initializer of its graph passed through `change`.
fn with_initializers(model: &[u8], change: &mut dyn FnMut(&[Field]) -> Result<Vec<u8>>) -> Result<Vec<u8>> {
    replaced(&wire::fields(model)?, MODEL_GRAPH, MODEL_GRAPH, |graph| {
        let changed = replaced(&wire::fields(graph)?, GRAPH_INITIALIZER, GRAPH_INITIALIZER, |tensor| {
            change(&wire::fields(tensor)?).map(Some)
        });
        changed.map(Some)
    })
}

/// A message in which each field `old` gives way to a field `new` with what `change` makes of it; where that is nothing, it stays.
fn replaced(
    fields: &[Field],
    old: u64,
    new: u64,
    mut change: impl FnMut(&[u8]) -> Result<Option<Vec<u8>>>,
) -> Result<Vec<u8>> {
    let mut message = Vec::new();
    for field in fields {
        let changed = match field.bytes().filter(|_| field.number == old) {
            Some(bytes) => change(bytes)?,
            None => None,
        };
        match changed {
            Some(bytes) => wire::put_bytes(&mut message, new, &bytes),
            None => message.extend_from_slice(field.whole),
        }
    }
    Ok(message)
}

impl Distribution {
    /// Of little-endian floats.
    fn of(data: &[u8]) -> Self {
        let values = || data.as_chunks().0.iter().map(|&bytes| f64::from(f32::from_le_bytes(bytes)));
        let count = values().count();
        let mean = values().sum::<f64>() / count as f64;
        let variance = values().map(|value| (value - mean).powi(2)).sum::<f64>() / count as f64;
        Self {
            count: count as u64,
            mean,
            deviation: variance.sqrt(),
            least: values().fold(f64::INFINITY, f64::min),
            greatest: values().fold(f64::NEG_INFINITY, f64::max),
        }
    }

    /// Normal floats within the bounds: what was positive, such as a scale, stays so.
    fn draw(&self, rng: &mut StdRng) -> Vec<u8> {
        let mut data = Vec::new();
        for _ in 0..self.count {
            // Box and Muller's method; 1 - u is never 0.
            let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
            let value = self.mean + self.deviation * radius * (TAU * rng.random::<f64>()).cos();
            data.extend_from_slice(&(value.clamp(self.least, self.greatest) as f32).to_le_bytes());
        }
        data
    }

    fn to_bytes(self) -> Vec<u8> {
        let mut bytes = self.count.to_le_bytes().to_vec();
        for value in [self.mean, self.deviation, self.least, self.greatest] {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let (&[count, mean, deviation, least, greatest], []) = bytes.as_chunks() else {
            return Err("not a skeleton that strip has written".into());
        };
        let [mean, deviation, least, greatest] = [mean, deviation, least, greatest].map(f64::from_le_bytes);
        if !(least <= greatest && mean.is_finite() && deviation.is_finite()) {
            return Err("weights without a mean and bounds".into());
        }
        Ok(Self { count: u64::from_le_bytes(count), mean, deviation, least, greatest })
    }
}

#[cfg(test)]
mod tests;
