//! The thread pool of a call.
//!
//! [`with_pool`] gives the loops inside of it one pool: threads start with the first loop and end with the call. Between two loops they are
//! idle, and [`dismiss`] joins them; the next loop starts them again. A loop outside of [`with_pool`] has a pool of its own.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::{Error, Result};
use crate::helpers::{Finished, OnUnwind, Running, locked, panicked, spawn_worker, with_helpers};
use crate::processors::Share;
use crate::progress::Progress;

/// A pool whose threads start when they are first needed.
pub struct Pool {
    threads: usize,
    started: RefCell<Option<Started>>,
}

thread_local! {
    /// The pool of the call that runs on this thread: on its stack, until the call returns.
    static CURRENT: Cell<*const Pool> = const { Cell::new(std::ptr::null()) };
}

/// Runs `body` with the pool of the call around it, or with a new one of `threads` threads.
pub fn with_pool<T>(threads: usize, body: impl FnOnce(&Pool) -> Result<T>) -> Result<T> {
    // SAFETY: the pool stands on this thread's stack, in a call that has not returned: it takes itself off when it does.
    if let Some(pool) = unsafe { CURRENT.get().as_ref() } {
        return body(pool);
    }
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            CURRENT.set(std::ptr::null());
        }
    }
    let pool = Pool { threads: threads.max(1), started: RefCell::default() };
    CURRENT.set(&raw const pool);
    let _leave = Leave;
    body(&pool)
}

/// Ends and joins the idle threads of the current call. Has no effect while they work.
pub fn dismiss() {
    // SAFETY: as in `with_pool`.
    if let Some(pool) = unsafe { CURRENT.get().as_ref() }
        && let Ok(mut started) = pool.started.try_borrow_mut()
    {
        drop(started.take());
    }
}

impl Pool {
    /// Runs `body` on up to `threads` threads at once, as many as processors are free, while this thread checks `progress`. On a cancel
    /// request it calls `stop`, which must make `body` return soon. Returns when all have: the first error of any.
    pub fn run(
        &self,
        threads: usize,
        progress: &dyn Progress,
        stop: &dyn Fn(),
        body: &(dyn Fn() -> Result<()> + Sync),
    ) -> Result<()> {
        let share = Share::take(threads.clamp(1, self.threads));
        self.start(self.threads)?;
        self.run_on(share.processors(), progress, stop, body)
    }

    /// Runs `body` once, on a thread of a pool of up to `threads` threads, as many as processors are free, for rayon's iterators in it.
    pub fn run_whole(
        &self,
        threads: usize,
        progress: &dyn Progress,
        stop: &dyn Fn(),
        body: &(dyn Fn() -> Result<()> + Sync),
    ) -> Result<()> {
        let share = Share::take(threads.clamp(1, self.threads));
        self.start(share.processors())?;
        self.run_on(1, progress, stop, body)
    }

    fn run_on(
        &self,
        threads: usize,
        progress: &dyn Progress,
        stop: &dyn Fn(),
        body: &(dyn Fn() -> Result<()> + Sync),
    ) -> Result<()> {
        let started = self.started.borrow();
        let Some(pool) = started.as_ref().and_then(|started| started.pool.as_ref()) else {
            return Err(Error::Internal("thread pool did not start".into()));
        };
        let threads = threads.clamp(1, pool.current_num_threads());
        let finished = Finished::default();
        let outcome = Mutex::new(Ok(()));
        let job = || {
            let _announce = finished.announce_on_drop();
            let _running = Running::new();
            let result = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| Err(panicked(&*panic)));
            let mut outcome = locked(&outcome);
            if outcome.is_ok() {
                *outcome = result;
            }
        };
        let watched = with_helpers(stop, || {
            pool.in_place_scope(|jobs| {
                // An error that PostgreSQL raises in `check` must stop the jobs too: the scope waits for them.
                let stop_on_unwind = OnUnwind(stop);
                (0..threads).for_each(|_| jobs.spawn(|_| job()));
                let watched = finished.wait(threads, progress).inspect_err(|_| stop());
                std::mem::forget(stop_on_unwind);
                finished.wait_to_the_end(threads);
                watched
            })
        });
        watched.and(outcome.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Starts `threads` threads unless that many were started before.
    fn start(&self, threads: usize) -> Result<()> {
        if self.started.borrow().as_ref().is_none_or(|started| started.wanted != threads) {
            // Those that run end first.
            drop(self.started.take());
            self.started.replace(Some(Started::new(threads)?));
        }
        Ok(())
    }
}

/// The threads of a pool, joined when it is dropped.
struct Started {
    /// The number that was asked for.
    wanted: usize,
    pool: Option<ThreadPool>,
    threads: Vec<JoinHandle<()>>,
}

impl Started {
    /// Up to `threads` threads: fewer than asked for still do the work.
    fn new(threads: usize) -> Result<Self> {
        let (mut started, mut failure) = (Self { wanted: threads, pool: None, threads: Vec::new() }, None);
        let start = |thread: rayon::ThreadBuilder| match spawn_worker(|| thread.run()) {
            Ok(thread) => {
                started.threads.push(thread);
                Ok(())
            }
            Err(e) => {
                failure = Some(e);
                Err(std::io::Error::other("no thread"))
            }
        };
        let pool = ThreadPoolBuilder::new().num_threads(threads).spawn_handler(start).build();
        match pool {
            Ok(pool) => {
                started.pool = Some(pool);
                Ok(started)
            }
            Err(_) if !started.threads.is_empty() => {
                let mut fewer = Self::new(started.threads.len())?;
                fewer.wanted = threads;
                Ok(fewer)
            }
            Err(e) => Err(failure.unwrap_or_else(|| Error::Resources(format!("could not start threads: {e}")))),
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // Tells them to end.
        drop(self.pool.take());
        for thread in self.threads.drain(..) {
            // A job's panic is caught in the job.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::thread::{ThreadId, current};

    use super::*;
    use crate::parallel::{for_each_chunk, has_helpers};
    use crate::progress::Unwatched;

    /// The threads that a loop runs on.
    fn threads_of_a_loop() -> BTreeSet<String> {
        let seen = Mutex::new(BTreeSet::new());
        let look = |(): &mut (), _, _: &mut [u8]| {
            let id: ThreadId = current().id();
            std::thread::sleep(std::time::Duration::from_millis(2));
            seen.lock().unwrap().insert(format!("{id:?}"));
            Ok(())
        };
        for_each_chunk(&mut [0u8; 8], 1, 2, &Unwatched, || (), look).unwrap();
        seen.into_inner().unwrap()
    }

    #[test]
    fn loops_of_a_call_share_its_threads() {
        with_pool(2, |_| {
            let first = threads_of_a_loop();
            assert_eq!(first.len(), 2);
            assert_eq!(threads_of_a_loop(), first);
            assert!(!has_helpers(), "idle threads are no helpers");
            Ok(())
        })
        .unwrap();
        assert!(CURRENT.get().is_null());
    }

    #[test]
    fn threads_that_were_dismissed_start_again() {
        with_pool(2, |_| {
            let first = threads_of_a_loop();
            dismiss();
            assert!(threads_of_a_loop().is_disjoint(&first));
            Ok(())
        })
        .unwrap();
        dismiss();
    }

    #[test]
    fn a_pool_is_left_and_its_threads_joined_where_the_call_unwinds() {
        let unwound = catch_unwind(|| {
            with_pool(2, |_| {
                threads_of_a_loop();
                if has_helpers() { Ok(()) } else { panic!("an error of PostgreSQL's") }
            })
        });
        assert!(unwound.is_err() && CURRENT.get().is_null());
    }
}
