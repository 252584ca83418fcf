//! The options of `lightgcn`.

use crate::weighting::Weighting;
use runtime::error::{Error, Result};
use runtime::options::Options;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parameters {
    pub factors: usize,
    pub layers: usize,
    pub learning_rate: f32,
    pub batch_size: usize,
    pub epochs: usize,
    /// λ
    pub regularization: f32,
    pub contrastive_weight: f32,
    /// ε
    pub noise: f32,
    /// τ
    pub temperature: f32,
    pub contrastive_layer: usize,
    pub weighting: Weighting,
    pub seed: u64,
}

impl Parameters {
    pub fn read(options: &mut Options) -> Result<Self> {
        let parameters = Self {
            factors: options.integer("factors", 64, 1, 1024)? as usize,
            layers: options.integer("layers", 2, 1, 8)? as usize,
            learning_rate: options.float("learning_rate", 0.001, 1e-7, 10.0)?,
            batch_size: options.integer("batch_size", 2048, 1, 1 << 16)? as usize,
            epochs: options.integer("epochs", 20, 0, 100_000)? as usize,
            regularization: options.float("regularization", 1e-4, 0.0, 1e6)?,
            contrastive_weight: options.float("contrastive_weight", 0.2, 0.0, 1e6)?,
            noise: options.float("noise", 0.2, 0.0, 1e3)?,
            // Exponentials of −2/τ must not all vanish.
            temperature: options.float("temperature", 0.15, 0.05, 100.0)?,
            contrastive_layer: options.integer("contrastive_layer", 1, 1, 8)? as usize,
            weighting: Weighting::read(options)?,
            seed: options.integer("seed", 0, 0, u64::MAX)?,
        };
        if parameters.contrastive_layer > parameters.layers {
            let hint = format!("There are {} layers.", parameters.layers);
            return Err(Error::argument("option \"contrastive_layer\"", parameters.contrastive_layer, hint));
        }
        Ok(parameters)
    }

    pub fn is_contrastive(&self) -> bool {
        self.contrastive_weight > 0.0
    }

    /// The first layer in the mean.
    pub fn first_layer(&self) -> usize {
        usize::from(self.is_contrastive())
    }

    /// What each layer counts in the mean.
    pub fn layer_weight(&self) -> f32 {
        1.0 / (self.layers + 1 - self.first_layer()) as f32
    }
}
