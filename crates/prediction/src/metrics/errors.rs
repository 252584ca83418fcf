//! Metrics that are means over rows.

use super::{Check, State, cut, numbers};
use runtime::error::Result;

/// Probabilities are at least this far from 0 and 1, so that a logarithm is finite: the resolution of double precision, as in scikit-learn.
const MIN_PROBABILITY: f64 = f64::EPSILON;

/// Sums of the errors of predictions. Labels of classes are 0 and 1.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Errors {
    rows: f64,
    squares: f64,
    magnitudes: f64,
    log_losses: f64,
    /// Of the labels; and the sum of their squared distances from it.
    mean: f64,
    spread: f64,
}

impl Errors {
    pub fn add(&mut self, predicted: f64, label: f64) {
        let error = predicted - label;
        let p = predicted.clamp(MIN_PROBABILITY, 1.0 - MIN_PROBABILITY);
        let log_loss = -(label * p.ln() + (1.0 - label) * (-p).ln_1p());
        let one = Self {
            rows: 1.0,
            squares: error * error,
            magnitudes: error.abs(),
            log_losses: log_loss,
            mean: label,
            spread: 0.0,
        };
        self.join(&one);
    }

    /// Chan, Golub, LeVeque (1983), for the spread.
    fn join(&mut self, other: &Self) {
        let rows = self.rows + other.rows;
        if other.rows == 0.0 {
            return;
        }
        let distance = other.mean - self.mean;
        self.spread += other.spread + distance * distance * (self.rows / rows) * other.rows;
        self.mean += distance * (other.rows / rows);
        self.rows = rows;
        self.squares += other.squares;
        self.magnitudes += other.magnitudes;
        self.log_losses += other.log_losses;
    }

    pub fn rows(&self) -> f64 {
        self.rows
    }

    fn mean_of(&self, sum: f64) -> Option<f64> {
        (self.rows > 0.0).then(|| sum / self.rows)
    }

    /// −(y ln p + (1 − y) ln(1 − p)), for probabilities.
    pub fn log_loss(&self) -> Option<f64> {
        self.mean_of(self.log_losses)
    }

    /// Mean squared error; of probabilities, the Brier score.
    pub fn mean_squared(&self) -> Option<f64> {
        self.mean_of(self.squares)
    }

    pub fn rmse(&self) -> Option<f64> {
        self.mean_squared().map(f64::sqrt)
    }

    pub fn mae(&self) -> Option<f64> {
        self.mean_of(self.magnitudes)
    }

    /// 1 − Σ(y − p)² / Σ(y − ȳ)²; `None` unless labels differ.
    pub fn r2(&self) -> Option<f64> {
        (self.spread > 0.0).then(|| 1.0 - self.squares / self.spread)
    }
}

impl State for Errors {
    fn merge(&mut self, other: &Self, _check: Check) -> Result<()> {
        self.join(other);
        Ok(())
    }

    fn serialize(&self, _check: Check) -> Result<Vec<u8>> {
        let Self { rows, squares, magnitudes, log_losses, mean, spread } = *self;
        Ok([rows, squares, magnitudes, log_losses, mean, spread].iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    fn deserialize(bytes: &[u8], _check: Check) -> Result<Self> {
        let ([rows, squares, magnitudes, log_losses, mean, spread], rest) = numbers(bytes)?;
        let state = Self { rows, squares, magnitudes, log_losses, mean, spread };
        if rest.is_empty() { Ok(state) } else { Err(cut()) }
    }
}
