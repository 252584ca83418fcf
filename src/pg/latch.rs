//! Waiting on this process's latch.

use std::time::Duration;

use pgrx::pg_sys;

/// Waits until the latch of this process is set, for at most `timeout`, and resets it. A signal handler sets it too: the caller looks for
/// interrupts. Ends the process if the postmaster has.
pub fn wait(timeout: Duration) {
    wait_for(None, timeout, true);
}

/// [`wait`], or until `file` can be read, as a process that has threads: it returns where the postmaster has ended.
pub fn wait_or_read(file: i32, timeout: Duration) -> bool {
    wait_for(Some(file), timeout, false)
}

/// Returns whether the postmaster lives.
fn wait_for(file: Option<i32>, timeout: Duration, exit: bool) -> bool {
    let death = if exit { pg_sys::WL_EXIT_ON_PM_DEATH } else { pg_sys::WL_POSTMASTER_DEATH };
    let readable = if file.is_some() { pg_sys::WL_SOCKET_READABLE } else { 0 };
    let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | death | readable;
    let timeout = timeout.as_millis().min(i32::MAX as u128) as std::ffi::c_long;
    // SAFETY: the latch is this process's own, and the file is open.
    unsafe {
        let happened = pg_sys::WaitLatchOrSocket(
            pg_sys::MyLatch,
            events as i32,
            file.unwrap_or(pg_sys::PGINVALID_SOCKET),
            timeout,
            wait_event(),
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
        happened as u32 & pg_sys::WL_POSTMASTER_DEATH == 0
    }
}

/// What `pg_stat_activity` shows: the name since PostgreSQL 17, and "Extension" before.
fn wait_event() -> u32 {
    #[cfg(any(feature = "pg17", feature = "pg18"))]
    {
        use std::cell::Cell;
        thread_local! {
            static EVENT: Cell<u32> = const { Cell::new(0) };
        }
        if EVENT.get() == 0 {
            // SAFETY: a C string constant.
            EVENT.set(unsafe { pg_sys::WaitEventExtensionNew(c"RecoModelWorker".as_ptr()) });
        }
        EVENT.get()
    }
    #[cfg(not(any(feature = "pg17", feature = "pg18")))]
    pg_sys::PG_WAIT_EXTENSION
}
