//! The runs: networks trained side by side, each observed after every epoch.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::observer::{Epochs, Observer, Run, Seen, Tally};
use crate::networks::{BLOCK, Descent, Finding, Inputs, Targets, Training, Wanted, assess, learning_rates};
use crate::task::Task;
use runtime::draw::mix;
use runtime::error::{Error, Result};
use runtime::jobs::{Relay, Signal};
use runtime::memory;
use runtime::options::Options;
use runtime::parallel::for_each_chunk;

#[derive(Clone, Copy, Debug)]
struct Plan {
    runs: usize,
    epochs: Epochs,
    rate: f32,
    descent: Descent,
}

impl Plan {
    fn read(options: &mut Options) -> Result<Self> {
        let runs = options.integer("runs", 10, 1, 1000)? as usize;
        let all = options.integer("epochs", 20, 1, 1000)?;
        Ok(Self {
            runs,
            epochs: Epochs {
                all: all as usize,
                el2n: options.integer("el2n_epoch", 5.min(all), 1, all)? as usize,
                grad_norm: options.integer("grad_norm_epoch", 20.min(all), 1, all)? as usize,
            },
            rate: options.float("learning_rate", 0.03, 1e-6, 10.0)?,
            descent: Descent {
                hidden: options.integer("hidden", 64, 1, 1024)? as usize,
                batch: options.integer("batch", 128, 1, 65_536)? as usize,
                momentum: 0.9,
                weight_decay: 5e-4,
            },
        })
    }
}

/// What the runs share.
struct Work<'a> {
    observers: &'a [&'a dyn Observer],
    run: Run,
    /// The last epoch that any observer needs.
    last_epoch: usize,
    rate: f32,
    descent: Descent,
    inputs: Inputs<'a>,
    targets: Targets<'a>,
    /// For observers that use validation rows.
    validation: Option<(Inputs<'a>, Targets<'a>)>,
}

/// Scores [observers, rows]. Options: `runs` 10, `epochs` 20, `hidden` 64, `learning_rate` 0.03, `batch` 128, `el2n_epoch` 5 and
/// `grad_norm_epoch` 20, both at most `epochs`. A validation query without rows counts as none.
pub fn score(observers: &[&dyn Observer], task: &Task, options: &mut Options) -> Result<Vec<Vec<f64>>> {
    let plan = Plan::read(options)?;
    let rows = task.rows();
    let inputs = Inputs::new(&task.samples.features.matrix)?;
    let targets = Targets::new(&task.samples.labels)?;
    let validation = match task.validation {
        Some(other) if observers.iter().any(|o| o.uses_validation()) && other.features.rows() > 0 => {
            Some((inputs.like(&other.features.matrix)?, targets.like(&other.labels)?))
        }
        _ => None,
    };
    let last_epoch = observers.iter().map(|observer| observer.last_epoch(&plan.epochs)).max().unwrap_or(0);
    let run = Run { rows, epochs: plan.epochs, validation: validation.is_some() };
    let Plan { rate, descent, .. } = plan;
    let work = Work { observers, run, last_epoch, rate, descent, inputs, targets, validation };
    let sums = observers.iter().map(|_| memory::filled(0f64, rows)).collect::<Result<_>>()?;
    let merge = Mutex::new(Merge { next: 0, waiting: BTreeMap::new(), sums });
    let relay = Relay::counting(task.progress, "epochs", plan.runs * last_epoch);
    let mut runs = memory::filled(0u8, plan.runs)?;
    let seed = task.seed;
    for_each_chunk(
        &mut runs,
        1,
        task.threads,
        &relay,
        || (),
        |_, run, _| {
            let scores = work.run(mix(seed ^ mix(run as u64)), &relay.signal).inspect_err(|_| relay.signal.stop())?;
            merge.lock().unwrap_or_else(PoisonError::into_inner).take(run, scores);
            Ok(())
        },
    )?;
    let mut sums = merge.into_inner().unwrap_or_else(PoisonError::into_inner).sums;
    sums.iter_mut().flatten().for_each(|sum| *sum /= plan.runs as f64);
    Ok(sums)
}

impl Work<'_> {
    /// Scores [observers, rows] of one network.
    fn run(&self, seed: u64, signal: &Signal) -> Result<Vec<Vec<f32>>> {
        for rate in learning_rates(self.rate) {
            if let Some(scores) = self.train(seed, rate, signal)? {
                return Ok(scores);
            }
        }
        let hint = "The networks diverge, even at a 64th of it. Choose a lower one.";
        Err(Error::argument("option \"learning_rate\"", self.rate, hint))
    }

    /// The same at one learning rate; `None` where the network diverges.
    fn train(&self, seed: u64, rate: f32, signal: &Signal) -> Result<Option<Vec<Vec<f32>>>> {
        let check = || signal.check();
        let mut tallies: Vec<Box<dyn Tally>> =
            self.observers.iter().map(|observer| observer.start(&self.run)).collect::<Result<_>>()?;
        let mut training = Training::new(&self.inputs, &self.targets, self.descent, seed, &check)?;
        let mut findings = [Finding::default(); BLOCK];
        for epoch in 1..=self.last_epoch {
            training.epoch(rate, mix(seed.wrapping_add(epoch as u64)), &check)?;
            if !training.is_finite() {
                return Ok(None);
            }
            if let Some((inputs, targets)) = &self.validation {
                training.gradient_of(inputs, targets, &check)?;
            }
            let gradient_square = self.observers.iter().any(|observer| observer.needs_gradient(epoch, &self.run));
            for first in (0..self.inputs.rows()).step_by(BLOCK) {
                check()?;
                let out = &mut findings[..BLOCK.min(self.inputs.rows() - first)];
                let along = self.run.validation.then_some(&training.gradient);
                let wanted = Wanted { gradient_square, along };
                assess(&training.weights, &self.inputs, &self.targets, first, wanted, out, &mut training.scratch);
                let seen = Seen { epoch, rate, first, findings: out };
                tallies.iter_mut().for_each(|tally| tally.add(&seen));
                if !seen.is_finite() {
                    return Ok(None);
                }
            }
            training.clear();
            signal.finished(1);
        }
        Ok(Some(tallies.into_iter().map(|tally| tally.finish()).collect()))
    }
}

/// Adds the runs' scores in the order of the runs, whichever ends first.
struct Merge {
    next: usize,
    waiting: BTreeMap<usize, Vec<Vec<f32>>>,
    /// [observers, rows]
    sums: Vec<Vec<f64>>,
}

impl Merge {
    fn take(&mut self, run: usize, scores: Vec<Vec<f32>>) {
        self.waiting.insert(run, scores);
        while let Some(scores) = self.waiting.remove(&self.next) {
            let pairs = self.sums.iter_mut().flatten().zip(scores.iter().flatten());
            pairs.for_each(|(sum, &x)| *sum += f64::from(x));
            self.next += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::{Aum, El2n, GradNorm, Tracin};

    #[test]
    fn an_epoch_of_its_own_is_enough_for_el2n_and_grad_norm() {
        let epochs = Epochs { all: 20, el2n: 5, grad_norm: 10 };
        assert_eq!([El2n.last_epoch(&epochs), GradNorm.last_epoch(&epochs), Aum.last_epoch(&epochs)], [5, 10, 20]);
        let run = |validation| Run { rows: 1, epochs, validation };
        assert!(GradNorm.needs_gradient(10, &run(true)) && !GradNorm.needs_gradient(9, &run(false)));
        assert!(Tracin.needs_gradient(9, &run(false)) && !Tracin.needs_gradient(9, &run(true)));
    }
}
