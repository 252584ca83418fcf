//! The options of iALS.

use serde_json::Value;

use super::problem::Solver;
use crate::weighting::Weighting;
use kernels::Csr;
use runtime::error::Result;
use runtime::options::Options;

/// See [`default_unobserved_weight`].
const UNOBSERVED_SHARE: f64 = 30.0;
const UNOBSERVED_MOST: f64 = 0.5;

/// The model's parameters, of which folding in needs those from `weighting` to `frequency_exponent`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parameters {
    pub factors: usize,
    pub iterations: usize,
    pub seed: u64,
    pub weighting: Weighting,
    /// λ
    pub regularization: f32,
    /// α₀
    pub unobserved_weight: f32,
    /// ν
    pub frequency_exponent: f32,
    pub solver: Solver,
    /// Steps of conjugate gradients in a half-sweep.
    pub steps: usize,
    /// Dimensions of a block.
    pub block_size: usize,
    /// μ
    pub feature_regularization: f32,
}

impl Parameters {
    /// `interactions` are for the default of `unobserved_weight`; a stored model's options have it.
    pub fn read(options: &mut Options, interactions: Option<&Csr>) -> Result<Self> {
        let weighting = Weighting::read(options)?;
        let unobserved = || interactions.map_or(1.0, |matrix| default_unobserved_weight(matrix, weighting));
        let solvers = [("cg", Solver::Cg), ("cholesky", Solver::Cholesky), ("block", Solver::Block)];
        Ok(Self {
            factors: options.integer("factors", 64, 1, 1024)? as usize,
            iterations: options.integer("iterations", 15, 1, 1000)? as usize,
            seed: options.integer("seed", 0, 0, u64::MAX)?,
            weighting,
            regularization: options.float("regularization", 0.006, 1e-9, 1e6)?,
            unobserved_weight: options.float_or("unobserved_weight", unobserved, 1e-9, 1e6)?,
            frequency_exponent: options.float("frequency_exponent", 1.0, 0.0, 2.0)?,
            solver: options.choice("solver", &solvers)?,
            steps: options.integer("cg_steps", 2, 1, 1000)? as usize,
            block_size: options.integer("block_size", 64, 1, 1024)? as usize,
            feature_regularization: options.float("feature_regularization", 10.0, 1e-9, 1e9)?,
        })
    }

    /// Those of a stored model.
    pub fn stored(options: &Value) -> Result<Self> {
        let mut reader = Options::new("ials", options)?;
        let parameters = Self::read(&mut reader, None)?;
        reader.finish()?;
        Ok(parameters)
    }

    /// λ of a row with `interactions`, those turned down included, of the `columns` there are.
    pub fn lambda(&self, interactions: usize, columns: usize) -> f32 {
        let (n, all) = (interactions as f32, columns as f32);
        self.regularization * (n + self.unobserved_weight * all).powf(self.frequency_exponent)
    }

    pub fn lambdas(&self, indptr: &[u64], columns: usize) -> Vec<f32> {
        indptr.windows(2).map(|w| self.lambda((w[1] - w[0]) as usize, columns)).collect()
    }

    /// The confidence of a weight, below 0 for what was turned down.
    pub fn signed_confidence(&self, weight: f32) -> f32 {
        self.weighting.confidence(weight.abs()).copysign(weight)
    }
}

/// All pairs together weigh [`UNOBSERVED_SHARE`] times the observed ones, but a pair at most [`UNOBSERVED_MOST`] times the mean
/// confidence: from 0.02 to 0.5 on data of densities from 0.0007 to 0.04, near the best of a grid on each of them.
fn default_unobserved_weight(matrix: &Csr, weighting: Weighting) -> f64 {
    let total: f64 = matrix.values.iter().map(|&w| f64::from(weighting.confidence(w))).sum();
    let (observed, pairs) = (matrix.entries() as f64, matrix.rows() as f64 * matrix.columns as f64);
    (UNOBSERVED_SHARE * total / pairs).min(UNOBSERVED_MOST * total / observed)
}
