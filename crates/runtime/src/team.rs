//! Work that runs on a thread pool as a whole, and splits itself there.
//!
//! A training of many small steps would lose time if the calling thread started and awaited each of them. It is one job of the pool instead,
//! in which rayon's parallel iterators use all of its threads, while the calling thread checks for cancel requests.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::parallel::locked;
use crate::pool::with_pool;
use crate::progress::{Counted, Progress};

/// The threads, for the work that runs on them.
pub struct Team<'a> {
    stop: &'a AtomicBool,
    done: &'a AtomicUsize,
}

/// Runs `work` on `threads` threads while this one checks `progress`. It reports `phase` and `total`.
pub fn run<T: Send>(
    threads: usize,
    progress: &dyn Progress,
    phase: &str,
    total: usize,
    work: impl FnOnce(&Team) -> Result<T> + Send,
) -> Result<T> {
    progress.check()?;
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let counted = Counted { whole: progress, phase, done: &done, total };
    let (work, result) = (Mutex::new(Some(work)), Mutex::new(None));
    let job = || {
        let work = locked(&work).take();
        let made = work.map(|work| work(&Team { stop: &stop, done: &done })).transpose()?;
        *locked(&result) = made;
        Ok(())
    };
    with_pool(threads, |pool| pool.run_whole(threads, &counted, &|| stop.store(true, Ordering::Relaxed), &job))?;
    let result = result.into_inner().unwrap_or_else(PoisonError::into_inner);
    result.ok_or_else(|| Error::Internal("job has no result".into()))
}

impl Team<'_> {
    /// An error if the work should stop. Call it about every 10 ms.
    pub fn check(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) { Err(Error::Canceled) } else { Ok(()) }
    }

    /// `n` units of the phase are finished.
    pub fn finished(&self, n: usize) {
        self.done.fetch_add(n, Ordering::Relaxed);
    }

    /// The results of `work` for 0 to n − 1, in order, computed on all threads.
    pub fn each<T: Send>(&self, n: usize, work: impl Fn(usize) -> Result<T> + Sync) -> Result<Vec<T>> {
        self.check()?;
        (0..n).into_par_iter().map(|i| self.check().and_then(|()| work(i))).collect()
    }

    /// Fills `output` in chunks of `chunk` elements; `work` gets the number of the chunk and the chunk.
    pub fn fill<T: Send>(
        &self,
        output: &mut [T],
        chunk: usize,
        work: impl Fn(usize, &mut [T]) -> Result<()> + Sync,
    ) -> Result<()> {
        self.check()?;
        let chunks = output.par_chunks_mut(chunk.max(1)).enumerate();
        chunks.try_for_each(|(number, part)| self.check().and_then(|()| work(number, part)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Unwatched;

    fn threads_of_this_process() -> usize {
        std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
    }

    #[test]
    fn results_come_in_order_from_threads_whose_signals_are_blocked() {
        let blocked = |_| {
            // SAFETY: pthread_sigmask only writes the set, which is plain data on this stack.
            let blocked = unsafe {
                let mut set = std::mem::zeroed();
                libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &mut set);
                libc::sigismember(&set, libc::SIGTERM) == 1
            };
            Ok(blocked)
        };
        let all = run(3, &Unwatched, "test", 1, |team| team.each(50, blocked)).unwrap();
        assert!(all.into_iter().all(|blocked| blocked));
        let squares = run(2, &Unwatched, "test", 1, |team| team.each(100, |i| Ok(i * i))).unwrap();
        assert!(squares.iter().enumerate().all(|(i, &x)| x == i * i));
    }

    #[test]
    fn a_cancel_request_ends_the_work() {
        struct Soon(std::cell::Cell<u32>);
        impl Progress for Soon {
            fn check(&self) -> Result<()> {
                self.0.set(self.0.get() + 1);
                if self.0.get() > 3 { Err(Error::Canceled) } else { Ok(()) }
            }
        }
        let endless = |team: &Team| loop {
            team.each(8, |_| {
                std::thread::sleep(std::time::Duration::from_millis(1));
                Ok(())
            })?;
        };
        let result: Result<()> = run(2, &Soon(std::cell::Cell::new(0)), "test", 0, endless);
        assert!(matches!(result, Err(Error::Canceled)));
    }

    #[test]
    fn no_thread_is_left_behind() {
        // Other tests run at the same time: what counts is that many calls leave no more behind than one.
        let before = threads_of_this_process();
        for _ in 0..40 {
            run(8, &Unwatched, "test", 1, |team| team.each(20, Ok)).unwrap();
        }
        assert!(threads_of_this_process() < before + 100);
    }
}
