//! What runs a graph: a session of this process, or one of another process.

use std::time::Instant;

use crate::lanes::Lanes;
pub use crate::session::{Inputs, Ran};
use crate::session::{Provider, RunMemory, Session};
use runtime::error::Result;
use runtime::parallel;
use runtime::progress::Progress;

/// Opening a lane takes as long as a run or two of a small model.
const MIN_RUNS_PER_LANE: usize = 8;

/// Runs one graph.
pub trait Runner {
    /// The name of the model.
    fn model(&self) -> &str;

    fn provider(&self) -> Provider;

    /// The size of the graph and its weights.
    fn bytes(&self) -> u64;

    /// Runs the graph on `inputs` and returns the outputs in `wanted`, in that order.
    fn run(&mut self, inputs: Inputs, wanted: &[&str], memory: RunMemory, progress: &dyn Progress) -> Result<Ran>;

    /// Runs the graph on each of `runs`, in their order or side by side on up to `threads` threads.
    fn run_each(
        &mut self,
        runs: Vec<Inputs>,
        wanted: &[&str],
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<Vec<Ran>>;
}

impl Runner for Session {
    fn model(&self) -> &str {
        &self.name
    }

    fn provider(&self) -> Provider {
        self.provider
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn run(&mut self, inputs: Inputs, wanted: &[&str], memory: RunMemory, progress: &dyn Progress) -> Result<Ran> {
        let began = Instant::now();
        let run = self.begin(wanted, memory)?;
        let outputs = parallel::watched(progress, || run.end(), || self.run_here(inputs, wanted, &run))?;
        Ok((outputs, began.elapsed()))
    }

    fn run_each(
        &mut self,
        runs: Vec<Inputs>,
        wanted: &[&str],
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<Vec<Ran>> {
        let lanes = match threads.min(runs.len() / MIN_RUNS_PER_LANE) {
            0 | 1 => None,
            count => Lanes::open(self, count, progress)?,
        };
        match lanes {
            Some(lanes) => lanes.run_each(runs, wanted, progress),
            None => runs.into_iter().map(|run| self.run(run, wanted, RunMemory::Keep, progress)).collect(),
        }
    }
}
