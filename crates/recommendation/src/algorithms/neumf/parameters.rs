//! The options of `neumf`.

use serde_json::Value;

use crate::weighting::Weighting;
use runtime::error::Result;
use runtime::options::Options;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parameters {
    /// f: width of the factorisation and of the perceptron's last layer.
    pub factors: usize,
    pub layers: usize,
    pub negatives: usize,
    pub learning_rate: f32,
    pub batch_size: usize,
    pub epochs: usize,
    /// λ of the embeddings, a sample.
    pub regularization: f32,
    pub weighting: Weighting,
    pub seed: u64,
}

impl Parameters {
    pub fn read(options: &mut Options) -> Result<Self> {
        Ok(Self {
            factors: options.integer("factors", 16, 1, 256)? as usize,
            layers: options.integer("layers", 3, 1, 6)? as usize,
            negatives: options.integer("negatives", 4, 1, 100)? as usize,
            learning_rate: options.float("learning_rate", 0.003, 1e-7, 1.0)?,
            batch_size: options.integer("batch_size", 1024, 1, 1 << 16)? as usize,
            epochs: options.integer("epochs", 8, 1, 10_000)? as usize,
            regularization: options.float("regularization", 0.0, 0.0, 1e3)?,
            weighting: Weighting::read(options)?,
            seed: options.integer("seed", 0, 0, u64::MAX)?,
        })
    }

    /// Width of the perceptron's embedding of a user, and of an item.
    pub fn embedding(&self) -> usize {
        (self.hidden(0) / 2).max(1)
    }

    /// Width of a layer.
    pub fn hidden(&self, layer: usize) -> usize {
        self.factors << (self.layers - 1 - layer)
    }

    /// Width of what serving keeps of a user or an item: the factorisation's embedding, and its part of the first layer.
    pub fn state(&self) -> usize {
        self.factors + self.hidden(0)
    }
}

pub fn stored_parameters(options: &Value) -> Result<Parameters> {
    let mut reader = Options::new("neumf", options)?;
    let parameters = Parameters::read(&mut reader)?;
    reader.finish()?;
    Ok(parameters)
}
