//! Predictions for rows that a network was not trained on.

use ndarray::{ArrayViewMut2, Axis};

use super::finding::Finding;
use super::network::{BLOCK, Inputs, Wanted, assess};
use super::targets::Targets;
use super::training::{Descent, Training, learning_rates};
use kernels::matrix::rows_mut;
use runtime::draw::mix;
use runtime::error::Result;
use tabular::Samples;

const DESCENT: Descent = Descent { hidden: 64, batch: 128, momentum: 0.9, weight_decay: 5e-4 };
const RATE: f32 = 0.05;
const EPOCHS: usize = 20;
/// Rows seen over all epochs: larger training sets get fewer epochs.
const MAX_SEEN: usize = 2_000_000;
const MIN_EPOCHS: usize = 2;

/// Small networks with one hidden layer of 64, for one set of samples.
pub struct Networks<'a> {
    inputs: Inputs<'a>,
    targets: Targets<'a>,
}

impl<'a> Networks<'a> {
    pub fn new(samples: &'a Samples) -> Result<Self> {
        Ok(Self { inputs: Inputs::new(&samples.features.matrix)?, targets: Targets::new(&samples.labels)? })
    }

    /// Trains a network on the rows `train` and writes its predictions for the rows `held`, averaged over its epochs, to `out`
    /// [held, outputs]: probabilities of the classes, or a number. False if it diverges even at a 64th of the learning rate.
    pub fn predict(
        &self,
        train: &[u32],
        held: &[u32],
        seed: u64,
        mut out: ArrayViewMut2<f32>,
        check: &impl Fn() -> Result<()>,
    ) -> Result<bool> {
        let epochs = (MAX_SEEN / train.len().max(1)).clamp(MIN_EPOCHS, EPOCHS);
        for rate in learning_rates(RATE) {
            if self.attempt(train, held, (seed, rate, epochs), out.view_mut(), check)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn attempt(
        &self,
        train: &[u32],
        held: &[u32],
        (seed, rate, epochs): (u64, f32, usize),
        mut out: ArrayViewMut2<f32>,
        check: &impl Fn() -> Result<()>,
    ) -> Result<bool> {
        out.fill(0.0);
        let mut training = Training::new(&self.inputs, &self.targets, DESCENT, seed, check)?.only(train);
        let (wanted, mut finding) = (Wanted { gradient_square: false, along: None }, [Finding::default()]);
        for epoch in 1..=epochs {
            training.epoch(rate, mix(seed.wrapping_add(epoch as u64)), check)?;
            if !training.is_finite() {
                return Ok(false);
            }
            for (rows, out) in held.chunks(BLOCK).zip(out.axis_chunks_iter_mut(Axis(0), BLOCK)) {
                check()?;
                for (&row, out) in rows.iter().zip(rows_mut(out)) {
                    let row = row as usize;
                    let (weights, scratch) = (&training.weights, &mut training.scratch);
                    assess(weights, &self.inputs, &self.targets, row, wanted, &mut finding, scratch);
                    let residual = training.scratch.residual();
                    if residual.iter().any(|x| !x.is_finite()) {
                        return Ok(false);
                    }
                    self.targets.restore(row, residual, out, 1.0 / epochs as f32);
                }
            }
        }
        Ok(true)
    }
}
