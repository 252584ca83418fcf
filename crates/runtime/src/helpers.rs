//! Helper threads: started with all signals blocked, watched, stopped and joined.
//!
//! A process must not end while such a thread is running. Code that may end the process asks [`has_helpers`] first, and [`stop`]s them.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::memory;
use crate::progress::Progress;

/// How long the waiting thread sleeps between two calls of [`Progress::check`].
const WATCH_INTERVAL: Duration = Duration::from_millis(5);

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

/// Helper threads that are working in this process, for [`stop`].
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
pub fn with_helpers<T>(stop: &dyn Fn(), body: impl FnOnce() -> T) -> T {
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

/// Stops all helper threads of the current thread, and waits until none is working, for at most `patience`. Does not allocate.
pub(crate) fn stop(patience: Duration) {
    let mut next = HELPERS.get();
    // SAFETY: the list's parts stand on this thread's stack, in calls that have not returned: each takes itself off when it does.
    while let Some(helpers) = unsafe { next.as_ref() } {
        (helpers.stop)();
        next = helpers.outer;
    }
    let until = Instant::now() + patience;
    while RUNNING.load(Ordering::SeqCst) > 0 && Instant::now() < until {
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

/// What a mutex guards, also after a panic on another thread: its work is discarded as a whole.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
                *locked(&self.0.count) += 1;
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
        let count = locked(&self.count);
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
