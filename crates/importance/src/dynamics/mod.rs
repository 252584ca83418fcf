//! Scores from how small networks learn a row: several of them come out of one pass.
//!
//! `runs` networks of one hidden layer of rectified linear units, each from a seed of its own, are trained by stochastic gradient
//! descent with momentum 0.9 and weight decay 5e-4. After each epoch e = 1 … E they are asked about every row. With p its
//! predicted probabilities, y its label (1 for its class), z the logits, g the gradient of its loss by all weights of both layers:
//!
//! | method | score | mean over | paper |
//! |---|---|---|---|
//! | `loss` | −(−ln p_y) | epochs, runs | |
//! | `el2n` | −‖p − y‖ after epoch `el2n_epoch` | runs | Paul, Ganguli, Dziugaite 2021, def. 2.4 |
//! | `grad_norm` | −‖g‖ after epoch `grad_norm_epoch` | runs | the same, def. 2.1 (GraNd) |
//! | `aum` | z_y − max of the other z | epochs, runs | Pleiss et al. 2020, eq. 1 and 2 |
//! | `forgetting` | −times from right to wrong; −E where never right | runs | Toneva et al. 2019, def. 3.1 |
//! | `tracin` | −Σ_e η‖g‖² | runs | Pruthi et al. 2020, TracInCP, of the row on itself |
//! | `tracin` with validation rows | Σ_e η g·ḡ, ḡ the gradient of their mean loss | runs | the same |
//!
//! Low means: the network is told something that the other rows do not bear out: a wrong label, or a row like no other. Of
//! `tracin` with validation rows, below 0 means that the row's steps raise their loss. At initialisation GraNd tells nothing of
//! labels: the weights have not seen one, and what it ranks is chance; hence an epoch late in training.
//!
//! Labels of numbers: one linear output, half the squared error in standard deviations of the labels; `el2n` is the absolute
//! error. A residual pulls with at most 3 deviations. `aum` and `forgetting` have no meaning there and are errors.
//!
//! Rows are scaled down together where their mean squared length is above 64. A network that diverges starts again at a quarter of the
//! learning rate; the fourth time is an error.
//!
//! Cost: a run's epoch takes about 6 · `hidden` · (features of the rows) multiplications, twice that with `tracin` or, with many
//! classes, where those outnumber the features. Networks train in parallel, one a thread. Memory: for each network under way 4 bytes
//! a row and method, and 12 · `hidden` bytes a feature; 8 bytes a row and method in all.

mod held_out;
mod network;
mod scores;
mod targets;
mod training;

pub(super) use held_out::Networks;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use self::network::{Finding, Inputs, Wanted, assess};
use self::scores::{Epochs, Seen, Tally};
use self::targets::Targets;
use self::training::{Descent, Training};
use super::{Method, Task};
use runtime::draw::mix;
use runtime::error::{Error, Result};
use runtime::jobs::{Relay, Signal};
use runtime::memory;
use runtime::options::Options;
use runtime::parallel::for_each_chunk;

/// Rows asked about between two looks at the stop flag.
const BLOCK: usize = 256;
/// Learning rates that are tried, each a quarter of the one before.
const ATTEMPTS: u32 = 4;

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
    plan: Plan,
    methods: &'a [Method],
    inputs: Inputs<'a>,
    targets: Targets<'a>,
    /// Of `tracin`.
    validation: Option<(Inputs<'a>, Targets<'a>)>,
}

/// The scores [methods, rows], all of [`Method::is_of_dynamics`]. Options: `runs` 10, `epochs` 20, `hidden` 64, `learning_rate` 0.03,
/// `batch` 128, `el2n_epoch` 5 and `grad_norm_epoch` 20, both at most `epochs`. A validation query without rows is none.
pub fn score(methods: &[Method], task: &Task, options: &mut Options) -> Result<Vec<Vec<f64>>> {
    let plan = Plan::read(options)?;
    for &method in methods.iter().filter(|method| matches!(method, Method::Aum | Method::Forgetting)) {
        task.classes_for(method)?;
    }
    let rows = task.rows();
    let inputs = Inputs::new(&task.samples.features.matrix)?;
    let targets = Targets::new(&task.samples.labels)?;
    let validation = match task.validation {
        Some(other) if methods.contains(&Method::Tracin) && other.features.rows() > 0 => {
            Some((inputs.like(&other.features.matrix)?, targets.like(&other.labels)?))
        }
        _ => None,
    };
    let work = Work { plan, methods, inputs, targets, validation };
    let sums = methods.iter().map(|_| memory::filled(0f64, rows)).collect::<Result<_>>()?;
    let merge = Mutex::new(Merge { next: 0, waiting: BTreeMap::new(), sums });
    let total = plan.runs * plan.epochs.last(methods);
    let relay = Relay::counting(task.progress, "epochs", total);
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
    /// The scores [methods, rows] of one network.
    fn run(&self, seed: u64, signal: &Signal) -> Result<Vec<Vec<f32>>> {
        for attempt in 0..ATTEMPTS {
            if let Some(scores) = self.train(seed, self.plan.rate * 0.25f32.powi(attempt as i32), signal)? {
                return Ok(scores);
            }
        }
        let hint = "The networks diverge, at a 64th of it too: choose a lower one.";
        Err(Error::argument("option \"learning_rate\"", self.plan.rate, hint))
    }

    /// The same at one learning rate; `None` where the network diverges.
    fn train(&self, seed: u64, rate: f32, signal: &Signal) -> Result<Option<Vec<Vec<f32>>>> {
        let check = || signal.check();
        let epochs = self.plan.epochs;
        let mut tally = Tally::new(self.methods, epochs, self.validation.is_some(), self.inputs.rows())?;
        let mut training = Training::new(&self.inputs, &self.targets, self.plan.descent, seed, &check)?;
        let mut findings = [Finding::default(); BLOCK];
        for epoch in 1..=epochs.last(self.methods) {
            training.epoch(rate, mix(seed.wrapping_add(epoch as u64)), &check)?;
            if !training.is_finite() {
                return Ok(None);
            }
            if let Some((inputs, targets)) = &self.validation {
                training.gradient_of(inputs, targets, &check)?;
            }
            let gradient_square = epochs.want_gradient(self.methods, epoch, self.validation.is_some());
            for first in (0..self.inputs.rows()).step_by(BLOCK) {
                check()?;
                let out = &mut findings[..BLOCK.min(self.inputs.rows() - first)];
                let along = self.validation.is_some().then_some(&training.gradient);
                let wanted = Wanted { gradient_square, along };
                assess(&training.weights, &self.inputs, &self.targets, first, wanted, out, &mut training.scratch);
                if !tally.add(&Seen { epoch, rate, first, findings: out }) {
                    return Ok(None);
                }
            }
            training.clear();
            signal.finished(1);
        }
        Ok(Some(tally.finish()))
    }
}

/// Adds the runs' scores in the order of the runs, whichever ends first.
struct Merge {
    next: usize,
    waiting: BTreeMap<usize, Vec<Vec<f32>>>,
    /// [methods, rows]
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
mod tests;
