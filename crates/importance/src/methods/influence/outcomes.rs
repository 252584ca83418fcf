//! Predictions, loss and curvature of a linear model for one row, as functions of its outputs.

use kernels::statistics::softmax_f64;
use tabular::Labels;

/// The label of each row.
#[derive(Clone, Copy)]
pub enum Outcomes<'a> {
    Classes {
        codes: &'a [u32],
        classes: usize,
    },
    /// Standardised by `mean` and `deviation`.
    Numbers {
        values: &'a [f32],
        mean: f64,
        deviation: f64,
    },
}

impl<'a> Outcomes<'a> {
    pub fn new(labels: &'a Labels) -> Self {
        match labels {
            Labels::Classes { codes, names } => Self::Classes { codes, classes: names.len() },
            Labels::Numbers(values) => {
                let n = values.len().max(1) as f64;
                let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
                let variance = values.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
                Self::Numbers { values, mean, deviation: if variance > 0.0 { variance.sqrt() } else { 1.0 } }
            }
        }
    }

    /// Other labels, standardised like these.
    pub fn like<'b>(&self, labels: &'b Labels) -> Outcomes<'b> {
        match (self, Outcomes::new(labels)) {
            (Self::Numbers { mean, deviation, .. }, Outcomes::Numbers { values, .. }) => {
                Outcomes::Numbers { values, mean: *mean, deviation: *deviation }
            }
            (_, other) => other,
        }
    }

    pub fn outputs(&self) -> usize {
        match self {
            Self::Classes { classes, .. } if *classes > 2 => *classes,
            _ => 1,
        }
    }

    /// Turns outputs into predictions: probabilities of the classes, or of the second one where there are two.
    pub fn predict(&self, z: &mut [f64]) {
        match (self, z) {
            (Self::Numbers { .. }, _) => {}
            (Self::Classes { .. }, [z]) => *z = 1.0 / (1.0 + (-*z).exp()),
            (Self::Classes { .. }, z) => softmax_f64(z),
        }
    }

    /// Turns outputs into ∂loss/∂outputs and returns the loss.
    pub fn residual(&self, row: usize, z: &mut [f64]) -> f64 {
        match self {
            Self::Numbers { values, mean, deviation } => {
                z[0] -= (f64::from(values[row]) - mean) / deviation;
                0.5 * z[0] * z[0]
            }
            Self::Classes { codes, .. } => {
                let code = codes[row] as usize;
                if let [z] = z {
                    // −ln σ(±z) = ln(1 + e^∓z), and a residual that keeps its digits.
                    let m = if code == 1 { *z } else { -*z };
                    let small = (-m.abs()).exp();
                    let missing = if m > 0.0 { small } else { 1.0 } / (1.0 + small);
                    *z = if code == 1 { -missing } else { missing };
                    return (-m).max(0.0) + small.ln_1p();
                }
                let most = z.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
                let own = z[code] - most;
                self.predict(z);
                // The predicted probability may round to 0, its logarithm not.
                let sum: f64 = if z[code] > 1e-300 { own - z[code].ln() } else { 0.0 };
                z[code] -= 1.0;
                sum - own
            }
        }
    }

    /// `u ← A u` with `A = ∂²loss/∂outputs²` at the predictions `p`.
    pub fn curve(&self, p: &[f64], u: &mut [f64]) {
        match self {
            Self::Numbers { .. } => {}
            Self::Classes { .. } if p.len() == 1 => u[0] *= p[0] * (1.0 - p[0]),
            Self::Classes { .. } => {
                let mean: f64 = p.iter().zip(&*u).map(|(p, u)| p * u).sum();
                u.iter_mut().zip(p).for_each(|(u, p)| *u = p * (*u - mean));
            }
        }
    }

    /// The `a` for which `a (I − 11ᵀ/K)` has the trace of `A`; `A` itself where there is one output.
    pub fn mean_curve(&self, p: &[f64]) -> f64 {
        match self {
            Self::Numbers { .. } => 1.0,
            Self::Classes { .. } if p.len() == 1 => p[0] * (1.0 - p[0]),
            Self::Classes { .. } => (1.0 - p.iter().map(|p| p * p).sum::<f64>()).max(0.0) / (p.len() - 1) as f64,
        }
    }
}
