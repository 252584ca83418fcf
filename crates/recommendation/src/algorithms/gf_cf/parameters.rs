//! The options of `gf_cf`.

use serde_json::Value;

use crate::weighting::Weighting;
use runtime::error::Result;
use runtime::options::Options;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parameters {
    pub neighbours: usize,
    pub factors: usize,
    /// α
    pub low_pass_weight: f32,
    /// τ
    pub sharpening: f32,
    /// a
    pub input_exponent: f32,
    /// b
    pub output_exponent: f32,
    pub iterations: usize,
    pub seed: u64,
    pub weighting: Weighting,
}

impl Parameters {
    pub fn read(options: &mut Options) -> Result<Self> {
        Ok(Self {
            neighbours: options.integer("neighbours", 500, 1, 100_000)? as usize,
            factors: options.integer("factors", 256, 1, 1024)? as usize,
            low_pass_weight: options.float("low_pass_weight", 0.3, 0.0, 100.0)?,
            sharpening: options.float("sharpening", 0.5, 0.0, 10.0)?,
            input_exponent: options.float("input_exponent", 0.5, -2.0, 2.0)?,
            output_exponent: options.float("output_exponent", 0.5, -2.0, 2.0)?,
            iterations: options.integer("iterations", 8, 1, 100)? as usize,
            seed: options.integer("seed", 0, 0, u64::MAX)?,
            weighting: Weighting::read(options)?,
        })
    }

    /// Those of a stored model.
    pub fn stored(options: &Value) -> Result<Self> {
        let mut reader = Options::new("gf_cf", options)?;
        let parameters = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(parameters)
    }

    /// Whether singular vectors take part.
    pub fn has_low_pass(&self) -> bool {
        self.low_pass_weight > 0.0 || self.sharpening > 0.0
    }

    /// The filter's gain at a singular value, besides that of `P`.
    pub fn gain(&self, singular_value: f32) -> f32 {
        let square = singular_value * singular_value;
        if square > 0.0 {
            self.low_pass_weight * (1.0 - self.sharpening * square) - self.sharpening * square * square
        } else {
            0.0
        }
    }
}

/// `degree^exponent`; 0 for an item that nobody chose.
pub fn power(degree: f32, exponent: f32) -> f32 {
    let power = if degree > 0.0 { degree.powf(exponent) } else { 0.0 };
    if power.is_finite() { power } else { 0.0 }
}
