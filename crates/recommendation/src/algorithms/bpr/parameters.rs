//! The options of `bpr`.

use crate::linear_fold_in::FoldIn;
use crate::weighting::Weighting;
use runtime::error::Result;
use runtime::options::Options;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parameters {
    pub factors: usize,
    pub learning_rate: f32,
    /// λ
    pub regularization: f32,
    pub iterations: usize,
    pub weighting: Weighting,
    pub seed: u64,
}

impl Parameters {
    pub fn read(options: &mut Options) -> Result<Self> {
        Ok(Self {
            factors: options.integer("factors", 64, 1, 1024)? as usize,
            learning_rate: options.float("learning_rate", 0.05, 1e-7, 10.0)?,
            regularization: options.float("regularization", 0.01, 0.0, 1e3)?,
            iterations: options.integer("iterations", 100, 0, 100_000)? as usize,
            weighting: Weighting::read(options)?,
            seed: options.integer("seed", 0, 0, u64::MAX)?,
        })
    }

    pub fn fold_in(&self) -> FoldIn {
        FoldIn { weighting: self.weighting, exponent: 1.0, biased: true }
    }
}
