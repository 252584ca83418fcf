//! Labels as networks learn them, and the loss of a prediction.

use super::finding::Finding;
use runtime::error::Result;
use runtime::memory;
use tabular::Labels;

/// Residuals are clipped at this many standard deviations of the labels in training, so that one outlier does not make a network diverge.
const MAX_RESIDUAL: f32 = 3.0;

/// The label of each row.
pub enum Targets<'a> {
    /// Softmax and cross entropy.
    Classes { codes: &'a [u32], classes: usize },
    /// One linear output and half the squared error, of numbers of mean 0 and variance 1.
    Numbers { values: Vec<f32>, mean: f64, deviation: f64 },
}

impl<'a> Targets<'a> {
    pub fn new(labels: &'a Labels) -> Result<Self> {
        let Labels::Numbers(values) = labels else { return Self::scaled(labels, 0.0, 1.0) };
        let n = values.len().max(1) as f64;
        let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        let variance = values.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
        // Labels that are all the same stay at distance 0.
        let deviation = if variance > 0.0 { variance.sqrt() } else { 1.0 };
        Self::scaled(labels, mean, deviation)
    }

    /// Other labels, standardised like these.
    pub fn like<'b>(&self, labels: &'b Labels) -> Result<Targets<'b>> {
        match self {
            Self::Classes { .. } => Targets::scaled(labels, 0.0, 1.0),
            Self::Numbers { mean, deviation, .. } => Targets::scaled(labels, *mean, *deviation),
        }
    }

    fn scaled(labels: &'a Labels, mean: f64, deviation: f64) -> Result<Self> {
        Ok(match labels {
            Labels::Classes { codes, names } => Self::Classes { codes, classes: names.len() },
            Labels::Numbers(numbers) => {
                let mut values = Vec::new();
                memory::reserve(&mut values, numbers.len())?;
                values.extend(numbers.iter().map(|&x| ((f64::from(x) - mean) / deviation) as f32));
                Self::Numbers { values, mean, deviation }
            }
        })
    }

    /// Number of outputs of a network.
    pub fn outputs(&self) -> usize {
        match self {
            Self::Classes { classes, .. } => *classes,
            Self::Numbers { .. } => 1,
        }
    }

    /// Turns the outputs for a row into ∂loss/∂outputs = prediction − label.
    #[inline(always)]
    pub fn compare(&self, row: usize, outputs: &mut [f32]) -> Finding {
        match self {
            Self::Numbers { values, .. } => {
                outputs[0] -= values[row];
                let error = outputs[0].abs();
                Finding { loss: 0.5 * error * error, error, ..Finding::default() }
            }
            Self::Classes { codes, classes: 2 } => {
                // The same as below, by the logistic function of the margin.
                let class = codes[row] as usize & 1;
                let margin = outputs[class] - outputs[1 - class];
                let small = exp(-margin.abs());
                let missing = if margin > 0.0 { small } else { 1.0 } / (1.0 + small);
                outputs[class] = -missing;
                outputs[1 - class] = missing;
                let loss = (-margin).max(0.0) + (1.0 + small).ln();
                Finding { loss, error: missing * std::f32::consts::SQRT_2, margin, ..Finding::default() }
            }
            Self::Classes { codes, .. } => {
                let class = codes[row] as usize;
                let own = outputs[class];
                outputs[class] = f32::NEG_INFINITY;
                let other = outputs.iter().fold(f32::NEG_INFINITY, |most, &x| if x > most { x } else { most });
                outputs[class] = own;
                let most = own.max(other);
                outputs.iter_mut().for_each(|x| *x = exp(*x - most));
                let sum: f32 = outputs.iter().sum();
                outputs.iter_mut().for_each(|x| *x /= sum);
                // 1 − p of its class, without the loss of digits.
                let missing: f32 = outputs[..class].iter().sum::<f32>() + outputs[class + 1..].iter().sum::<f32>();
                outputs[class] = -missing;
                let error = outputs.iter().map(|x| x * x).sum::<f32>().sqrt();
                // Of one class alone there is no other.
                let margin = if other == f32::NEG_INFINITY { 0.0 } else { own - other };
                Finding { loss: sum.ln() - (own - most), error, margin, ..Finding::default() }
            }
        }
    }

    /// Adds `share` times the prediction to `out`, in the unit of the labels. `residual` is prediction − label.
    pub fn restore(&self, row: usize, residual: &[f32], out: &mut [f32], share: f32) {
        match self {
            Self::Numbers { values, mean, deviation } => {
                let number = f64::from(residual[0] + values[row]) * deviation + mean;
                out[0] += share * number as f32;
            }
            Self::Classes { codes, .. } => {
                out.iter_mut().zip(residual).for_each(|(out, x)| *out += share * x);
                out[codes[row] as usize] += share;
            }
        }
    }

    /// Clips the residual of a number, which has no bound of its own.
    #[inline(always)]
    pub fn bound(&self, residual: &mut [f32]) {
        if let Self::Numbers { .. } = self {
            residual.iter_mut().for_each(|x| *x = x.clamp(-MAX_RESIDUAL, MAX_RESIDUAL));
        }
    }
}

/// `e^x` of `x` ≤ 0 to one unit in the last place, without a branch: 2^n e^r, and a polynomial for e^r (Cephes, Moshier 1992).
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// Adding it leaves a whole number in the lower bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.max(-87.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p * r + c;
    }
    let power = f32::from_bits((shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127)) << 23);
    (p * r * r + r + 1.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_that_of_the_standard_library() {
        for i in 0..=8700 {
            let x = -(i as f32) / 100.0;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) - exact).abs() <= 2e-7 * exact, "{x}: {} {exact}", exp(x));
        }
        assert!(exp(f32::NEG_INFINITY) < 1e-37 && exp(0.0) == 1.0);
    }
}
