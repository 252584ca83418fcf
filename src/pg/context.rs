//! A line in an error's CONTEXT that names the argument whose query was being read.
//!
//! pgrx turns PostgreSQL's errors into panics and raises them again at the function's boundary. PostgreSQL builds the context only then,
//! after the reading code has been left. A [`Context`] that is dropped while an error unwinds therefore leaves its line in
//! PostgreSQL's chain; the jump out of the function resets the chain.

use std::cell::RefCell;
use std::ffi::{CString, c_char, c_int, c_void};

use pgrx::{pg_guard, pg_sys};

/// Bytes of a query that are shown.
const SHOWN: usize = 200;

/// While it lives, the context of errors names the argument whose query is being read.
pub struct Context(*mut Frame);

struct Frame {
    /// The entry in PostgreSQL's chain.
    link: pg_sys::ErrorContextCallback,
    line: CString,
}

thread_local! {
    /// Lines that unwinding left in the chain; freed before the next one is added.
    static LEFT: RefCell<Vec<*mut Frame>> = const { RefCell::new(Vec::new()) };
}

impl Context {
    /// `argument` is the name of the argument whose value is `query`.
    pub fn enter(argument: &str, query: &str) -> Self {
        forget();
        let frame = Box::into_raw(Box::new(Frame {
            link: pg_sys::ErrorContextCallback::default(),
            line: CString::new(line(argument, query)).unwrap_or_default(),
        }));
        // SAFETY: the frame was just made and lives until it is out of the chain, which is PostgreSQL's and changed on its own
        // thread.
        unsafe {
            (*frame).link.callback = Some(say);
            (*frame).link.arg = frame.cast();
            (*frame).link.previous = pg_sys::error_context_stack;
            pg_sys::error_context_stack = &raw mut (*frame).link;
        }
        Self(frame)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if std::thread::panicking() {
            LEFT.with_borrow_mut(|left| left.push(self.0));
            return;
        }
        // SAFETY: `enter` made the frame and nothing else frees it. Whoever came after it in the chain is gone: contexts end in the
        // reverse order of their beginnings.
        unsafe {
            pg_sys::error_context_stack = (*self.0).link.previous;
            drop(Box::from_raw(self.0));
        }
    }
}

/// Removes the lines of caught errors from the chain, and frees them and those that a jump has removed. Must be called after an error was
/// caught.
pub fn forget() {
    for frame in LEFT.take() {
        // SAFETY: each frame was left by `drop`, is freed here alone and is in no chain afterwards; the chain is PostgreSQL's, all
        // of whose links live.
        unsafe {
            let mut at = &raw mut pg_sys::error_context_stack;
            while !(*at).is_null() {
                if std::ptr::eq(*at, &raw const (*frame).link) {
                    *at = (**at).previous;
                } else {
                    at = &raw mut (**at).previous;
                }
            }
            drop(Box::from_raw(frame));
        }
    }
}

fn line(argument: &str, query: &str) -> String {
    let shown = query.floor_char_boundary(SHOWN);
    let rest = if shown < query.len() { "…" } else { "" };
    format!("while reading {argument} => '{}{rest}'", query[..shown].replace('\'', "''"))
}

#[pg_guard]
unsafe extern "C-unwind" fn say(frame: *mut c_void) {
    unsafe extern "C-unwind" {
        fn errcontext_msg(format: *const c_char, ...) -> c_int;
    }
    // SAFETY: PostgreSQL calls with the argument that `enter` gave, a frame in its chain, while it makes an error; the line is a C
    // string. The function copies it, and its own errors jump to the guard.
    unsafe {
        let line = &(*frame.cast::<Frame>()).line;
        pg_sys::ffi::pg_guard_ffi_boundary(|| errcontext_msg(c"%s".as_ptr(), line.as_ptr()));
    }
}
