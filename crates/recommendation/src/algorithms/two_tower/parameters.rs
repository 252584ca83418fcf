//! The options of `two_tower`.

use serde_json::Value;

use crate::weighting::Weighting;
use runtime::error::Result;
use runtime::options::Options;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parameters {
    /// Width of an item's vector, with the number that is its popularity.
    pub factors: usize,
    pub hidden: usize,
    pub epochs: usize,
    pub batch_size: usize,
    pub learning_rate: f32,
    /// τ
    pub temperature: f32,
    pub id_dropout: f32,
    pub weighting: Weighting,
    pub seed: u64,
}

impl Parameters {
    pub fn read(options: &mut Options) -> Result<Self> {
        Ok(Self {
            factors: options.integer("factors", 64, 2, 1024)? as usize,
            hidden: options.integer("hidden", 128, 1, 4096)? as usize,
            epochs: options.integer("epochs", 10, 1, 10_000)? as usize,
            batch_size: options.integer("batch_size", 1024, 1, 8192)? as usize,
            learning_rate: options.float("learning_rate", 0.002, 1e-7, 1.0)?,
            temperature: options.float("temperature", 0.1, 0.01, 10.0)?,
            id_dropout: options.float("id_dropout", 0.2, 0.0, 1.0)?,
            weighting: Weighting::read(options)?,
            seed: options.integer("seed", 0, 0, u64::MAX)?,
        })
    }

    /// Width of `v` and `x`: the factors without the popularity.
    pub fn width(&self) -> usize {
        self.factors - 1
    }
}

pub fn stored_parameters(options: &Value) -> Result<Parameters> {
    let mut reader = Options::new("two_tower", options)?;
    let parameters = Parameters::read(&mut reader)?;
    reader.finish()?;
    Ok(parameters)
}
