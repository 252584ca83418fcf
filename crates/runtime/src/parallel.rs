//! Threads for blocks of work, watched and cancellable.
//!
//! The calling thread does not work: it waits and calls [`Progress::check`] every few milliseconds, so that it notices a cancel request at
//! once, however long a block takes. The threads live as long as the call, or as long as the call of [`with_pool`](crate::pool::with_pool)
//! around it. All signals are blocked in them, so that PostgreSQL's signal handlers run on the main thread only.
//!
//! A process must not end while such a thread is running. Code that may end the process calls [`has_helpers`] first, then stops and joins
//! the helpers.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle, Scope, ScopedJoinHandle};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::memory;
use crate::pool::{self, with_pool};
use crate::progress::Progress;

/// How long the waiting thread sleeps between two calls of [`Progress::check`].
const WATCH_INTERVAL: Duration = Duration::from_millis(5);

/// The default number of threads: one for each processor.
pub fn available_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

/// Blocks all signals on the current thread while `body` runs. Threads started in it inherit the mask.
pub fn with_signals_blocked<T>(body: impl FnOnce() -> T) -> T {
    // SAFETY: both sets are plain data on this stack; pthread_sigmask only reads the first and writes the second.
    let before = unsafe {
        let mut all = std::mem::zeroed();
        let mut before = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        before
    };
    struct Restore(libc::sigset_t);
    impl Drop for Restore {
        fn drop(&mut self) {
            // SAFETY: the mask was written by pthread_sigmask above.
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
        }
    }
    let _restore = Restore(before);
    body()
}

/// Bytes for a helper thread: its stack, and what the C library allocates when it starts (thread-local data, caches).
const STACK: usize = 2 << 20;
const STARTING: usize = 1 << 20;

/// Starts a scoped thread with all signals blocked, and waits until it runs. Failure to start is an error, not a panic.
pub fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    body: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>> {
    let body = || {
        let _running = Running::new();
        body()
    };
    launch(body, |builder, body| builder.spawn_scoped(scope, body))
}

/// Starts a thread of a pool, as [`spawn`] does. It counts as a helper only while it works.
pub(crate) fn spawn_worker(body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    launch(body, |builder, body| builder.spawn(body))
}

/// The C library ends the process if there is no memory for a new thread's thread-local data. So enough memory must be available while
/// threads start: of several threads, none may start working before the last one runs.
fn launch<'scope, T, H>(
    body: impl FnOnce() -> T + Send + 'scope,
    start: impl FnOnce(Builder, Box<dyn FnOnce() -> T + Send + 'scope>) -> std::io::Result<H>,
) -> Result<H> {
    memory::require(STACK + STARTING)?;
    let started = Arc::new(AtomicBool::new(false));
    let (starts, starter) = (started.clone(), std::thread::current());
    let counted = Box::new(move || {
        touch_thread_locals();
        starts.store(true, Ordering::Release);
        starter.unpark();
        drop((starts, starter));
        body()
    });
    let builder = Builder::new().name("pg_reco".into()).stack_size(STACK);
    let thread = with_signals_blocked(|| start(builder, counted))
        .map_err(|e| Error::Resources(format!("could not start a thread: {e}")))?;
    while !started.load(Ordering::Acquire) {
        memory::end_if_stuck();
        std::thread::park_timeout(WATCH_INTERVAL);
    }
    Ok(thread)
}

/// Makes the C library allocate a thread's thread-local data, and its entry for a destructor.
fn touch_thread_locals() {
    struct Ends;
    impl Drop for Ends {
        fn drop(&mut self) {}
    }
    thread_local! {
        static TOUCHED: Ends = const { Ends };
    }
    TOUCHED.with(|_| ());
}

/// Helper threads that are working in this process, for [`stop_helpers`].
static RUNNING: AtomicUsize = AtomicUsize::new(0);

pub(crate) struct Running;

impl Running {
    pub(crate) fn new() -> Self {
        RUNNING.fetch_add(1, Ordering::SeqCst);
        Self
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Helper threads that the current thread has started and not joined: a list on its stack, innermost call first.
struct Helpers<'a> {
    /// Makes them end soon.
    stop: &'a dyn Fn(),
    outer: *const Helpers<'static>,
}

thread_local! {
    static HELPERS: Cell<*const Helpers<'static>> = const { Cell::new(std::ptr::null()) };
}

/// Runs `body`, which starts threads that `stop` ends, and joins them before it returns or unwinds.
pub(crate) fn with_helpers<T>(stop: &dyn Fn(), body: impl FnOnce() -> T) -> T {
    struct Leave(*const Helpers<'static>);
    impl Drop for Leave {
        fn drop(&mut self) {
            HELPERS.set(self.0);
        }
    }
    let helpers = Helpers { stop, outer: HELPERS.get() };
    let _leave = Leave(helpers.outer);
    HELPERS.set((&raw const helpers).cast());
    body()
}

/// Whether the current thread has started helper threads that it has not joined yet.
pub fn has_helpers() -> bool {
    !HELPERS.get().is_null()
}

/// Stops all helper threads of the current thread, and waits until none is working, for at most `patience`. For ending a process that cannot
/// return to where it would join them. Does not allocate.
pub fn stop_helpers(patience: Duration) {
    let mut next = HELPERS.get();
    // SAFETY: the list's parts stand on this thread's stack, in calls that have not returned: each takes itself off when it does.
    while let Some(helpers) = unsafe { next.as_ref() } {
        (helpers.stop)();
        next = helpers.outer;
    }
    pool::dismiss();
    let until = std::time::Instant::now() + patience;
    while RUNNING.load(Ordering::SeqCst) > 0 && std::time::Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Runs `work` on a new thread while this one checks `progress`. On a cancel request it calls `stop`, which must make `work` return soon, waits
/// for `work`, and returns the error.
pub fn watched<T: Send>(
    progress: &dyn Progress,
    stop: impl Fn(),
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    let finished = Finished::default();
    let run = || {
        std::thread::scope(|scope| {
            let thread = spawn(scope, || {
                let _announce = finished.announce_on_drop();
                work()
            })?;
            // A `check` that unwinds (PostgreSQL raised an error in it) must stop the thread too: the scope waits for it.
            let stop_on_unwind = OnUnwind(&stop);
            let watched = finished.wait(1, progress).inspect_err(|_| stop());
            std::mem::forget(stop_on_unwind);
            finished.wait_to_the_end(1);
            let result = thread.join().unwrap_or_else(|panic| Err(panicked(&*panic)));
            watched.and(result)
        })
    };
    with_helpers(&stop, run)
}

/// Splits `output` into chunks of `chunk` elements and fills them on `threads` threads.
///
/// `work` gets the thread's own scratch state (from `init`), the number of the chunk, and the chunk. The result of a chunk must depend on its
/// number only, so that any number of threads gives the same output. Stops between chunks if `progress` returns an error; the output must
/// then be discarded.
pub fn for_each_chunk<T: Send, S>(
    output: &mut [T],
    chunk: usize,
    threads: usize,
    progress: &dyn Progress,
    init: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize, &mut [T]) -> Result<()> + Sync,
) -> Result<()> {
    progress.check()?;
    if output.is_empty() {
        return Ok(());
    }
    let chunk = chunk.max(1);
    let threads = threads.clamp(1, output.len().div_ceil(chunk));
    let stop = AtomicBool::new(false);
    let queue = Mutex::new(output.chunks_mut(chunk).enumerate());
    let body = || {
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut state = init();
        while !stop.load(Ordering::Relaxed) {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((number, part)) = next else { break };
            work(&mut state, number, part).inspect_err(|_| stop.store(true, Ordering::Relaxed))?;
        }
        Ok(())
    };
    with_pool(threads, |pool| pool.run(threads, progress, &|| stop.store(true, Ordering::Relaxed), &body))
}

/// Calls its function when dropped, which happens only while unwinding: the straight path forgets it.
pub(crate) struct OnUnwind<'a>(pub &'a dyn Fn());

impl Drop for OnUnwind<'_> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Counts the threads that have ended, and wakes the one that waits for them.
#[derive(Default)]
pub(crate) struct Finished {
    count: Mutex<usize>,
    changed: Condvar,
}

impl Finished {
    pub fn announce_on_drop(&self) -> impl Drop + '_ {
        struct Announce<'a>(&'a Finished);
        impl Drop for Announce<'_> {
            fn drop(&mut self) {
                *self.0.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
                self.0.changed.notify_all();
            }
        }
        Announce(self)
    }

    /// Waits until `threads` have ended, or `progress` says that they should.
    pub fn wait(&self, threads: usize, progress: &dyn Progress) -> Result<()> {
        while !self.have_ended(threads) {
            memory::end_if_stuck();
            progress.check()?;
        }
        Ok(())
    }

    /// Waits until `threads` have ended, after they were stopped.
    pub fn wait_to_the_end(&self, threads: usize) {
        while !self.have_ended(threads) {
            memory::end_if_stuck();
        }
    }

    /// Whether `threads` have ended, looked at for a few milliseconds at most.
    fn have_ended(&self, threads: usize) -> bool {
        let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(count, WATCH_INTERVAL, |count| *count < threads);
        *waited.unwrap_or_else(PoisonError::into_inner).0 >= threads
    }
}

pub(crate) fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    let message = panic
        .downcast_ref::<&str>()
        .map(|s| s.to_string())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "unknown cause".into());
    Error::Internal(format!("helper thread failed: {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Unwatched;
    use std::cell::Cell;

    struct CancelAfter(Cell<usize>);
    impl Progress for CancelAfter {
        fn check(&self) -> Result<()> {
            let left = self.0.get();
            self.0.set(left.saturating_sub(1));
            if left == 0 { Err(Error::Canceled) } else { Ok(()) }
        }
    }

    #[test]
    fn every_chunk_is_filled_once_on_any_number_of_threads() {
        for threads in [1, 2, 7, 100] {
            let mut out = vec![0usize; 1003];
            for_each_chunk(
                &mut out,
                10,
                threads,
                &Unwatched,
                || (),
                |_, number, part| {
                    part.iter_mut().enumerate().for_each(|(i, x)| *x += number * 10 + i);
                    Ok(())
                },
            )
            .unwrap();
            assert!(out.iter().enumerate().all(|(i, &x)| i == x));
        }
    }

    #[test]
    fn a_cancel_request_stops_work_that_takes_long() {
        let mut out = vec![0u8; 1000];
        let start = std::time::Instant::now();
        let result = for_each_chunk(
            &mut out,
            1,
            2,
            &CancelAfter(Cell::new(3)),
            || (),
            |_, _, _| {
                std::thread::sleep(Duration::from_millis(10));
                Ok(())
            },
        );
        assert!(matches!(result, Err(Error::Canceled)));
        assert!(start.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn an_error_in_one_chunk_is_the_answer_of_all() {
        let mut out = vec![0u8; 100];
        let result = for_each_chunk(
            &mut out,
            1,
            2,
            &Unwatched,
            || (),
            |_, number, _| {
                if number == 42 { Err(Error::Internal("chunk 42".into())) } else { Ok(()) }
            },
        );
        assert!(matches!(result, Err(Error::Internal(m)) if m == "chunk 42"));
    }

    #[test]
    fn a_panic_in_a_thread_becomes_an_error() {
        let result: Result<()> = watched(&Unwatched, || (), || panic!("boom"));
        assert!(matches!(result, Err(Error::Internal(m)) if m.contains("boom")));
    }

    /// Looks whether helper threads live, wherever it is asked.
    #[derive(Default)]
    struct Living(Cell<usize>);
    impl Progress for Living {
        fn check(&self) -> Result<()> {
            self.0.set(self.0.get() + usize::from(has_helpers()));
            Ok(())
        }
    }

    #[test]
    fn who_watches_knows_that_helpers_live_and_nobody_does_afterwards() {
        let living = Living::default();
        let nap = || {
            std::thread::sleep(Duration::from_millis(20));
            Ok(())
        };
        assert!(!has_helpers());
        watched(&living, || (), nap).unwrap();
        for_each_chunk(&mut [0u8; 4], 1, 2, &living, || (), |(), _, _| nap()).unwrap();
        assert!(living.0.get() > 2 && !has_helpers());
        let failed = watched(&CancelAfter(Cell::new(0)), || (), nap);
        assert!(failed.is_err() && !has_helpers());
        let unwound = std::panic::catch_unwind(|| {
            struct Unwinds;
            impl Progress for Unwinds {
                fn check(&self) -> Result<()> {
                    panic!("an error of PostgreSQL's")
                }
            }
            watched(&Unwinds, || (), nap)
        });
        assert!(unwound.is_err() && !has_helpers());
    }

    #[test]
    fn helpers_are_stopped_from_within_the_look_of_who_watches() {
        struct Ends;
        impl Progress for Ends {
            fn check(&self) -> Result<()> {
                stop_helpers(Duration::ZERO);
                Ok(())
            }
        }
        let (outer, inner) = (AtomicBool::new(false), AtomicBool::new(false));
        let until = |stop: &AtomicBool| {
            while !stop.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            Ok(())
        };
        // Its own watcher would wait for ever.
        watched(&Ends, || outer.store(true, Ordering::Relaxed), || until(&outer)).unwrap();
        with_helpers(&|| outer.store(false, Ordering::Relaxed), || {
            watched(&Ends, || inner.store(true, Ordering::Relaxed), || until(&inner))
        })
        .unwrap();
        assert!(!outer.load(Ordering::Relaxed), "those of an outer call are stopped as well");
    }

    #[test]
    fn watched_work_is_asked_to_stop() {
        let stop = AtomicBool::new(false);
        let result = watched(
            &CancelAfter(Cell::new(2)),
            || stop.store(true, Ordering::Relaxed),
            || {
                while !stop.load(Ordering::Relaxed) {
                    std::thread::yield_now();
                }
                Ok(())
            },
        );
        assert!(matches!(result, Err(Error::Canceled)));
    }
}
