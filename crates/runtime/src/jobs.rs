//! Long jobs on threads that check for cancel requests while they run.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::error::{Error, Result};
use crate::memory;
use crate::parallel::for_each_chunk;
use crate::progress::{Progress, Run};

/// Shared between a job and the waiting thread.
#[derive(Default)]
pub struct Signal {
    stop: AtomicBool,
    done: AtomicUsize,
}

impl Signal {
    /// An error if the work should stop. Call it about every 10 ms.
    pub fn check(&self) -> Result<()> {
        if self.is_stopped() { Err(Error::Canceled) } else { Ok(()) }
    }

    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// `n` units of the phase are finished.
    pub fn finished(&self, n: usize) {
        self.done.fetch_add(n, Ordering::Relaxed);
    }
}

/// Passes cancel requests on to the work, and its progress to the caller.
pub struct Relay<'a> {
    whole: &'a dyn Progress,
    pub signal: Signal,
    /// The phase and total of the units that the signal counts. Without them reports are passed on.
    counted: Option<(&'a str, usize)>,
}

impl<'a> Relay<'a> {
    pub fn new(whole: &'a dyn Progress) -> Self {
        Self { whole, signal: Signal::default(), counted: None }
    }

    pub fn counting(whole: &'a dyn Progress, phase: &'a str, total: usize) -> Self {
        Self { counted: Some((phase, total)), ..Self::new(whole) }
    }
}

impl Progress for Relay<'_> {
    fn check(&self) -> Result<()> {
        // Also where the look itself unwinds: the work must end then.
        struct StopOnDrop<'a>(&'a Signal);
        impl Drop for StopOnDrop<'_> {
            fn drop(&mut self) {
                self.0.stop();
            }
        }
        let stop = StopOnDrop(&self.signal);
        if let Some((phase, total)) = self.counted {
            // Work that was begun anew counts again.
            self.whole.report(phase, self.signal.done.load(Ordering::Relaxed).min(total), total);
        }
        self.whole.check()?;
        std::mem::forget(stop);
        Ok(())
    }

    fn report(&self, phase: &str, done: usize, total: usize) {
        self.whole.report(phase, done, total);
    }

    fn ran(&self, run: &Run) {
        self.whole.ran(run);
    }
}

/// The results of `work` for 0 to n − 1, in order, computed on `threads` threads. `phase` and `total` are reported.
pub fn jobs<T: Send>(
    n: usize,
    threads: usize,
    progress: &dyn Progress,
    (phase, total): (&str, usize),
    work: impl Fn(&Signal, usize) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let relay = Relay::counting(progress, phase, total);
    let mut results = Vec::new();
    memory::reserve(&mut results, n)?;
    results.resize_with(n, || None);
    for_each_chunk(
        &mut results,
        1,
        threads,
        &relay,
        || (),
        |(), job, result| {
            result[0] = Some(work(&relay.signal, job)?);
            Ok(())
        },
    )?;
    results.into_iter().map(|result| result.ok_or_else(|| Error::Internal("job has no result".into()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Unwatched;

    #[test]
    fn results_come_in_the_order_of_the_jobs() {
        let squares = jobs(20, 3, &Unwatched, ("jobs", 20), |_, job| Ok(job * job)).unwrap();
        assert_eq!(squares, (0..20).map(|job| job * job).collect::<Vec<_>>());
    }

    #[test]
    fn a_job_that_runs_hears_of_a_cancel_request() {
        struct Canceled;
        impl Progress for Canceled {
            fn check(&self) -> Result<()> {
                Err(Error::Canceled)
            }
        }
        let relay = Relay::new(&Canceled);
        assert!(relay.signal.check().is_ok());
        assert!(relay.check().is_err() && relay.signal.is_stopped());
        assert!(matches!(relay.signal.check(), Err(Error::Canceled)));
    }
}
