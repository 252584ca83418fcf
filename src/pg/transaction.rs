//! Callbacks at the end of a transaction.

use std::cell::{Cell, RefCell};

use pgrx::pg_guard;
use pgrx::pg_sys;

/// A callback that runs after the transaction has ended. It must not fail.
type Callback = Box<dyn FnOnce()>;

#[derive(Default)]
struct Pending {
    at_commit: Vec<Callback>,
    at_abort: Vec<Callback>,
}

thread_local! {
    static PENDING: RefCell<Pending> = RefCell::default();
    static NUMBER: Cell<u64> = const { Cell::new(0) };
}

/// A number that identifies the current transaction of this backend. It changes with each COMMIT and ROLLBACK, also in procedures.
pub fn number() -> u64 {
    register();
    NUMBER.get()
}

/// Runs `callback` once the transaction has committed.
pub fn at_commit(callback: impl FnOnce() + 'static) {
    register();
    PENDING.with_borrow_mut(|pending| pending.at_commit.push(Box::new(callback)));
}

/// Runs `callback` once the transaction has rolled back.
pub fn at_abort(callback: impl FnOnce() + 'static) {
    register();
    PENDING.with_borrow_mut(|pending| pending.at_abort.push(Box::new(callback)));
}

/// Whether a call must close what it opened. While an error unwinds, or the transaction is being rolled back, PostgreSQL does it.
pub fn goes_on() -> bool {
    // SAFETY: a plain look at this backend's state.
    !std::thread::panicking() && unsafe { pg_sys::IsTransactionState() }
}

fn register() {
    thread_local! {
        static REGISTERED: Cell<bool> = const { Cell::new(false) };
    }
    if !REGISTERED.replace(true) {
        // SAFETY: the callback is a function of this library, which is never unloaded.
        unsafe { pg_sys::RegisterXactCallback(Some(at_end), std::ptr::null_mut()) };
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn at_end(event: pg_sys::XactEvent::Type, _argument: *mut std::ffi::c_void) {
    use pg_sys::XactEvent::{XACT_EVENT_ABORT, XACT_EVENT_COMMIT, XACT_EVENT_PREPARE};
    if matches!(event, XACT_EVENT_COMMIT | XACT_EVENT_ABORT | XACT_EVENT_PREPARE) {
        NUMBER.set(NUMBER.get() + 1);
    }
    let callbacks = match event {
        XACT_EVENT_COMMIT => PENDING.take().at_commit,
        XACT_EVENT_ABORT => PENDING.take().at_abort,
        // A prepared transaction may end in another process: what it leaves on disk is swept away some time.
        XACT_EVENT_PREPARE => return drop(PENDING.take()),
        _ => return,
    };
    for callback in callbacks {
        callback();
    }
}
