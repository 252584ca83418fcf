//! Jobs that take long, each on one thread, which hear of a cancel request while they run.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::error::{Error, Result};
use crate::memory;
use crate::parallel::for_each_chunk;
use crate::progress::{Progress, Run};

/// What a job shares with the thread that watches.
#[derive(Default)]
pub struct Signal {
    stop: AtomicBool,
    done: AtomicUsize,
}

impl Signal {
    /// An error once the work should stop: to be called about every 10 ms.
    pub fn check(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) { Err(Error::Canceled) } else { Ok(()) }
    }

    /// `n` units of the phase are finished.
    pub fn finished(&self, n: usize) {
        self.done.fetch_add(n, Ordering::Relaxed);
    }
}

/// The results of `work` for 0 to n − 1, in that order, on `threads` threads. `phase` and `total` are what is reported.
pub fn jobs<T: Send>(
    n: usize,
    threads: usize,
    progress: &dyn Progress,
    (phase, total): (&str, usize),
    work: impl Fn(&Signal, usize) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let signal = Signal::default();
    let watch = Watch { whole: progress, signal: &signal, phase, total };
    let mut results = Vec::new();
    memory::reserve(&mut results, n)?;
    results.resize_with(n, || None);
    for_each_chunk(
        &mut results,
        1,
        threads,
        &watch,
        || (),
        |(), job, result| {
            result[0] = Some(work(&signal, job)?);
            Ok(())
        },
    )?;
    results.into_iter().map(|result| result.ok_or_else(|| Error::Internal("a job has no result".into()))).collect()
}

/// Passes a cancel request on to the jobs, and what they have finished to whoever asks.
struct Watch<'a> {
    whole: &'a dyn Progress,
    signal: &'a Signal,
    phase: &'a str,
    total: usize,
}

impl Progress for Watch<'_> {
    fn check(&self) -> Result<()> {
        // Also where the look itself unwinds: the jobs must end then.
        struct StopOnDrop<'a>(&'a Signal);
        impl Drop for StopOnDrop<'_> {
            fn drop(&mut self) {
                self.0.stop.store(true, Ordering::Relaxed);
            }
        }
        let stop = StopOnDrop(self.signal);
        self.whole.report(self.phase, self.signal.done.load(Ordering::Relaxed), self.total);
        self.whole.check()?;
        std::mem::forget(stop);
        Ok(())
    }

    fn ran(&self, run: &Run) {
        self.whole.ran(run);
    }
}
