//! The options of `mult_vae`.

use serde_json::Value;

use crate::weighting::Weighting;
use runtime::error::Result;
use runtime::options::Options;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parameters {
    /// Width of z.
    pub factors: usize,
    /// Width of H and of Y, the bias in it.
    pub hidden: usize,
    pub epochs: usize,
    /// Users.
    pub batch_size: usize,
    pub learning_rate: f32,
    pub beta: f32,
    pub dropout: f32,
    pub weighting: Weighting,
    pub seed: u64,
}

impl Parameters {
    pub fn read(options: &mut Options) -> Result<Self> {
        Ok(Self {
            factors: options.integer("factors", 64, 1, 1024)? as usize,
            hidden: options.integer("hidden", 256, 2, 2048)? as usize,
            epochs: options.integer("epochs", 50, 1, 10_000)? as usize,
            batch_size: options.integer("batch_size", 256, 1, 4096)? as usize,
            learning_rate: options.float("learning_rate", 0.001, 1e-7, 1.0)?,
            beta: options.float("beta", 0.2, 0.0, 100.0)?,
            dropout: options.float("dropout", 0.5, 0.0, 0.99)?,
            weighting: Weighting::read(options)?,
            seed: options.integer("seed", 0, 0, u64::MAX)?,
        })
    }
}

pub fn stored_parameters(options: &Value) -> Result<Parameters> {
    let mut reader = Options::new("mult_vae", options)?;
    let parameters = Parameters::read(&mut reader)?;
    reader.finish()?;
    Ok(parameters)
}
