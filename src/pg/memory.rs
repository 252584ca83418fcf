//! What happens when the system gives no more memory.
//!
//! Rust's own answer is to abort, on which PostgreSQL restarts every connection. Here the connection that asked ends, as with any
//! `FATAL` error: its transaction is rolled back and nobody else is touched. ONNX Runtime's and PostgreSQL's own
//! allocations do not come this way: they fail with errors of theirs. So do those that are made through
//! [`crate::memory`].

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::time::Duration;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode, pg_sys};

use crate::memory;

struct Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// Memory that is only there to be given back, so that the end can be reported. Untouched, it takes no page.
static RESERVE: AtomicPtr<libc::c_void> = AtomicPtr::new(std::ptr::null_mut());
const RESERVED: usize = 4 << 20;

/// Set by a helper thread that got no memory: the process's own thread must end it.
static EXHAUSTED: AtomicBool = AtomicBool::new(false);

/// How long a helper thread waits for that before it does end the process.
const PATIENCE: Duration = Duration::from_secs(10);

/// Called when the library is loaded, and when a call begins: a statement's error takes away what was set up here.
pub fn prepare() {
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

/// Ends the connection if one of its helper threads got no memory. Called wherever the process's own thread waits.
pub fn check() {
    if EXHAUSTED.load(Ordering::Relaxed) {
        end();
    }
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        let block = unsafe { System.alloc(layout) };
        if block.is_null() { exhausted() } else { block }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let block = unsafe { System.alloc_zeroed(layout) };
        if block.is_null() { exhausted() } else { block }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        let block = unsafe { System.realloc(block, layout, size) };
        if block.is_null() { exhausted() } else { block }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}

/// Gives null back where the caller can deal with it, else ends the connection. Null elsewhere makes Rust abort: the last resort.
#[cold]
fn exhausted() -> *mut u8 {
    if !memory::is_fallible() {
        if is_own_thread() {
            end();
        } else {
            EXHAUSTED.store(true, Ordering::Relaxed);
            std::thread::sleep(PATIENCE);
        }
    }
    std::ptr::null_mut()
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
