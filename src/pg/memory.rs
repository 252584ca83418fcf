//! What happens when the system gives no more memory.
//!
//! Rust's own answer is to abort, on which PostgreSQL restarts every connection. Here the connection that asked ends, as with any
//! `FATAL` error: its transaction is rolled back and nobody else is touched. ONNX Runtime's and PostgreSQL's own
//! allocations do not come this way: they fail with errors of theirs. So do those that are made through
//! [`runtime::memory`].
//!
//! The process ends only where no helper thread is at work: a helper that gets no memory waits, all others are told to stop and joined, and
//! then the own thread raises `FATAL`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode, pg_sys};

use runtime::{memory, parallel};

struct Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// Memory that is only there to be given back, so that the end can be reported. Untouched, it takes no page.
static RESERVE: AtomicPtr<libc::c_void> = AtomicPtr::new(std::ptr::null_mut());
const RESERVED: usize = 4 << 20;

/// Set once a thread got no memory that could not go on without: the process's own thread must end it.
static EXHAUSTED: AtomicBool = AtomicBool::new(false);

/// Helper threads that wait for memory, and since when one does, in milliseconds of [`now`].
static WAITING: AtomicUsize = AtomicUsize::new(0);
static WAITING_SINCE: AtomicU64 = AtomicU64::new(0);

/// How long helper threads may take to stop, and one of them wait for memory, before the process ends beside it: it only sleeps then.
const PATIENCE: Duration = Duration::from_secs(3);

/// How often a helper thread asks again for memory.
const RETRY: Duration = Duration::from_millis(2);

/// Called when the library is loaded, and when a call begins: a statement's error takes away what was set up here.
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

/// An error of PostgreSQL's own on its way through Rust is copied. Where there is no memory for that either, the copying fails in
/// the same way, again and again, until the server gives up: the reserve is what it is copied into.
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

/// Whether the connection must end, since a thread got no memory: once no helper thread lives any more, by [`check`].
pub fn is_exhausted() -> bool {
    EXHAUSTED.load(Ordering::Relaxed)
}

/// Ends the connection if a thread got no memory. To be called where no helper thread lives.
pub fn check() {
    if is_exhausted() {
        end();
    }
}

/// Ends it beside a helper thread that waits for memory in vain: those that could stop have done so by then.
fn end_if_stuck() {
    if WAITING.load(Ordering::Relaxed) > 0 {
        let since = Duration::from_millis(WAITING_SINCE.load(Ordering::Relaxed));
        if now().saturating_sub(since) > PATIENCE {
            end();
        }
    }
}

/// The time, from some moment on.
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

/// Gives null back where the caller can deal with it. Else the process's own thread ends the connection, and a helper thread waits until
/// `ask` gives the memory that others have given back by then, or its own thread ends the process. Null elsewhere makes Rust abort, which
/// takes the server with it: the last resort of the own thread alone.
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

/// A helper thread without memory: the thread that watches sees it, and stops all others.
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

fn is_own_thread() -> bool {
    // SAFETY: both only ask the system for a number.
    unsafe { libc::syscall(libc::SYS_gettid) == libc::c_long::from(libc::getpid()) }
}

/// Raises `FATAL`, which does not come back; where even that finds no memory, does.
fn end() {
    static ENDING: AtomicBool = AtomicBool::new(false);
    if ENDING.swap(true, Ordering::Relaxed) {
        return;
    }
    release();
    ErrorReport::new(PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY, "out of memory", "pg_reco")
        .set_hint("Give the call less to do at once, or the server more memory.")
        .report(PgLogLevel::FATAL);
}
