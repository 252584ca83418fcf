//! Runs of one graph side by side on the CPU: a session for each thread, of one thread each.
//!
//! Two runs on one thread each take less time than one after the other on two threads, since the threads of a run wait for each other in
//! every operator. The sessions map the same weights.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::session::{Inputs, Provider, Ran, RunMemory, Session, Terminable};
use crate::tensor::Tensor;
use runtime::error::{Error, Result};
use runtime::parallel::locked;
use runtime::pool::with_pool;
use runtime::progress::Progress;

pub struct Lanes {
    idle: Mutex<Vec<Session>>,
    count: usize,
}

impl Lanes {
    /// `count` lanes for the graph of `session`; `None` where it does not run on the CPU, or where there is no memory for them, or the
    /// prepared graph was removed: `session` itself goes on.
    pub fn open(session: &Session, count: usize, progress: &dyn Progress) -> Result<Option<Self>> {
        if session.provider != Provider::Cpu {
            return Ok(None);
        }
        match (0..count).map(|_| session.beside(progress)).collect() {
            Ok(idle) => Ok(Some(Self { idle: Mutex::new(idle), count })),
            Err(Error::Canceled) => Err(Error::Canceled),
            Err(_) => Ok(None),
        }
    }

    /// Runs the graph `runs` times. `inputs` gives the inputs of a run, and `take` gets its outputs in `wanted`, in that order; both are
    /// called on the lanes' threads. The last runs return their memory to the system.
    pub fn run<'a>(
        &self,
        runs: usize,
        wanted: &[&str],
        progress: &dyn Progress,
        inputs: impl Fn(usize) -> Result<Inputs<'a>> + Sync,
        take: impl Fn(usize, Vec<Tensor>) -> Result<()> + Sync,
    ) -> Result<()> {
        let (stopped, next) = (AtomicBool::new(false), AtomicUsize::new(0));
        let current: Mutex<Vec<Arc<Terminable>>> = Mutex::default();
        let stop = || {
            stopped.store(true, Ordering::SeqCst);
            locked(&current).iter().for_each(|run| run.end());
        };
        let one = |session: &mut Session, number: usize| {
            let inputs = inputs(number)?;
            let memory = if number + self.count >= runs { RunMemory::GiveBack } else { RunMemory::Keep };
            let run = Arc::new(session.begin(wanted, memory)?);
            locked(&current).push(run.clone());
            // Whoever stops sees the run in the list, or is seen here.
            let outputs =
                if stopped.load(Ordering::SeqCst) { Ok(Vec::new()) } else { session.run_here(inputs, wanted, &run) };
            locked(&current).retain(|other| !Arc::ptr_eq(other, &run));
            if stopped.load(Ordering::SeqCst) { Ok(()) } else { take(number, outputs?) }
        };
        let lane = || {
            let Some(mut session) = locked(&self.idle).pop() else { return Ok(()) };
            let mut outcome = Ok(());
            while outcome.is_ok() && !stopped.load(Ordering::SeqCst) {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= runs {
                    break;
                }
                outcome = one(&mut session, number).inspect_err(|_| stop());
            }
            locked(&self.idle).push(session);
            outcome
        };
        with_pool(self.count, |pool| pool.run(self.count.min(runs), progress, &stop, &lane))
    }

    /// Runs the graph on each of `runs`.
    pub fn run_each(&self, runs: Vec<Inputs>, wanted: &[&str], progress: &dyn Progress) -> Result<Vec<Ran>> {
        let (began, count) = (Instant::now(), runs.len());
        let mut results = Vec::new();
        results.resize_with(count, || (Vec::new(), Duration::ZERO));
        let (inputs, results) = (Mutex::new(runs), Mutex::new(results));
        self.run(
            count,
            wanted,
            progress,
            |number| {
                locked(&results)[number].1 = began.elapsed();
                Ok(std::mem::take(&mut locked(&inputs)[number]))
            },
            |number, outputs| {
                let (taken, took) = &mut locked(&results)[number];
                (*taken, *took) = (outputs, began.elapsed() - *took);
                Ok(())
            },
        )?;
        Ok(results.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}
