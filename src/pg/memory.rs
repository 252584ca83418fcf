//! Out-of-memory handling.
//!
//! By default Rust aborts, and PostgreSQL then restarts every connection. Here only the connection that ran out of memory ends, with a `FATAL`
//! error: its transaction is rolled back and no other connection is affected. Allocations of ONNX Runtime and PostgreSQL are not handled here:
//! they fail with errors of their own, as do those made through [`runtime::memory`].
//!
//! The process ends only when no helper thread is working: a helper that gets no memory waits, the others are stopped and joined, and then
//! the main thread raises `FATAL`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode, pg_sys};

use runtime::{memory, parallel};

struct Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// Reserved memory that is freed when memory runs out, so that the error can be reported. Never touched, it occupies no page.
static RESERVE: AtomicPtr<libc::c_void> = AtomicPtr::new(std::ptr::null_mut());
const RESERVED: usize = 4 << 20;

/// Set when an allocation that must not fail has failed: the main thread must end the process.
static EXHAUSTED: AtomicBool = AtomicBool::new(false);

/// The number of helper threads that wait for memory, and since when, in milliseconds of [`now`].
static WAITING: AtomicUsize = AtomicUsize::new(0);
static WAITING_SINCE: AtomicU64 = AtomicU64::new(0);

/// How long helper threads may take to stop, and how long one may wait for memory, before the process ends while that one sleeps.
const PATIENCE: Duration = Duration::from_secs(3);

/// Interval at which a helper thread retries its allocation.
const RETRY: Duration = Duration::from_millis(2);

/// Called when the library is loaded and at the start of each call, since an error in a statement undoes part of it.
pub fn prepare() {
    memory::when_stuck(end_if_stuck);
    if RESERVE.load(Ordering::Relaxed).is_null() {
        // SAFETY: plain allocation; null is as good as no reserve.
        RESERVE.store(unsafe { libc::malloc(RESERVED) }, Ordering::Relaxed);
    }
    // SAFETY: the chain is PostgreSQL's, walked and lengthened on its own thread. What is put at its end lives as long as the
    // process; whoever stands before it takes itself off again and leaves it.
    unsafe {
        let mut end = &raw mut pg_sys::error_context_stack;
        while !(*end).is_null() {
            if std::ptr::eq(*end, &raw const ON_ERROR) {
                return;
            }
            end = &raw mut (**end).previous;
        }
        *end = &raw mut ON_ERROR;
    }
}

/// Called by PostgreSQL for each of its errors, before it is raised.
static mut ON_ERROR: pg_sys::ErrorContextCallback = pg_sys::ErrorContextCallback {
    previous: std::ptr::null_mut(),
    callback: Some(on_error),
    arg: std::ptr::null_mut(),
};

/// A PostgreSQL error is copied on its way through Rust. Without memory for the copy it would fail again and again until the server gives up:
/// the reserve is freed for it.
unsafe extern "C-unwind" fn on_error(_argument: *mut std::ffi::c_void) {
    // SAFETY: called while an error is being raised, of which it asks for the code.
    if unsafe { pg_sys::geterrcode() } == PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY as i32 {
        release();
    }
}

fn release() {
    // SAFETY: allocated by malloc, and given back once: the swap leaves null.
    unsafe { libc::free(RESERVE.swap(std::ptr::null_mut(), Ordering::Relaxed)) };
}

/// Whether the connection must end because a thread got no memory. [`check`] ends it once no helper thread is running.
pub fn is_exhausted() -> bool {
    EXHAUSTED.load(Ordering::Relaxed)
}

/// Ends the connection if a thread got no memory. Must not be called while helper threads run.
pub fn check() {
    if is_exhausted() {
        end();
    }
}

/// Ends the connection while a helper thread waits for memory in vain. All helpers that could stop have stopped by then.
fn end_if_stuck() {
    // A helper may start threads and wait for them too: only PostgreSQL's own thread may raise.
    if WAITING.load(Ordering::Relaxed) > 0 && is_own_thread() {
        let since = Duration::from_millis(WAITING_SINCE.load(Ordering::Relaxed));
        if now().saturating_sub(since) > PATIENCE {
            end();
        }
    }
}

/// The monotonic clock.
fn now() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the time to plain data on this stack.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        let ask = || unsafe { System.alloc(layout) };
        let block = ask();
        let block = if block.is_null() { exhausted(&ask) } else { block };
        memory::took(if block.is_null() { 0 } else { layout.size() as isize });
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let ask = || unsafe { System.alloc_zeroed(layout) };
        let block = ask();
        let block = if block.is_null() { exhausted(&ask) } else { block };
        memory::took(if block.is_null() { 0 } else { layout.size() as isize });
        block
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above; where it fails the block stays as it was.
        let ask = || unsafe { System.realloc(block, layout, size) };
        let grown = ask();
        let grown = if grown.is_null() { exhausted(&ask) } else { grown };
        memory::took(if grown.is_null() { 0 } else { size as isize - layout.size() as isize });
        grown
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        memory::took(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}

/// Handles a failed allocation. Returns null if the caller can handle it. Otherwise the main thread ends the connection, and a helper thread
/// waits until `ask` succeeds with memory that others have freed, or until the main thread ends the process. Null makes Rust abort, and
/// PostgreSQL then restarts: a last resort on the main thread only.
#[cold]
fn exhausted(ask: &dyn Fn() -> *mut u8) -> *mut u8 {
    if memory::is_fallible() {
        return std::ptr::null_mut();
    }
    EXHAUSTED.store(true, Ordering::Relaxed);
    if !is_own_thread() {
        return wait(ask);
    }
    // It cannot go back to where it would join them.
    parallel::stop_helpers(PATIENCE);
    end();
    std::ptr::null_mut()
}

/// Waits on a helper thread for memory. The main thread notices and stops the other helpers.
fn wait(ask: &dyn Fn() -> *mut u8) -> *mut u8 {
    if WAITING.fetch_add(1, Ordering::Relaxed) == 0 {
        WAITING_SINCE.store(now().as_millis() as u64, Ordering::Relaxed);
    }
    loop {
        std::thread::sleep(RETRY);
        let block = ask();
        if !block.is_null() {
            WAITING.fetch_sub(1, Ordering::Relaxed);
            return block;
        }
    }
}

/// Whether this is the process's first thread, the only one that may call PostgreSQL.
pub fn is_own_thread() -> bool {
    // SAFETY: both only ask the system for a number.
    unsafe { libc::syscall(libc::SYS_gettid) == libc::c_long::from(libc::getpid()) }
}

/// Raises `FATAL`, which does not return; returns if called again while that is under way.
fn end() {
    static ENDING: AtomicBool = AtomicBool::new(false);
    if ENDING.swap(true, Ordering::Relaxed) {
        return;
    }
    release();
    ErrorReport::new(PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY, "out of memory", "pg_reco")
        .set_hint("Reduce the work of the call, or add memory to the server.")
        .report(PgLogLevel::FATAL);
}
