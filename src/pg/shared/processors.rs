//! The processors that all processes of the server use at the moment, so that a loop takes no more threads than are free.
//!
//! Without shared memory each process takes what it wants.

use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::region::{Row, Table};
use crate::pg::memory::is_own_thread;
use runtime::parallel::available_threads;
use runtime::processors::{Lender, free, lend_by};

pub static TABLE: Table<Usage> = Table::new(c"pg_reco processors");

/// The one row of the table.
#[repr(C)]
pub struct Usage {
    taken: AtomicU32,
}

// SAFETY: a number, of which zero is a value.
unsafe impl Row for Usage {}

/// What this process has taken, to be given back where it ends without unwinding.
static TAKEN: AtomicU32 = AtomicU32::new(0);

/// # Safety
/// As for [`Table::start`].
pub unsafe fn start() {
    // SAFETY: the caller's.
    unsafe { TABLE.start() };
    lend_by(Lender { take, give_back });
}

fn take(wanted: usize) -> Option<usize> {
    // Helper threads work within what their process has taken.
    let Some([usage]) = TABLE.unlocked().filter(|_| is_own_thread()) else { return None };
    free_on_exit();
    let all = available_threads();
    let mut got = 1;
    let _ = usage.taken.fetch_update(Relaxed, Relaxed, |taken| {
        got = free(wanted, all, taken as usize);
        Some(taken + got as u32)
    });
    TAKEN.fetch_add(got as u32, Relaxed);
    Some(got)
}

fn give_back(got: usize) {
    if let Some([usage]) = TABLE.unlocked() {
        TAKEN.fetch_sub(got as u32, Relaxed);
        usage.taken.fetch_sub(got as u32, Relaxed);
    }
}

/// A lane of this process begins or ends a run, on any thread. It waits for no processor: it was asked to.
pub fn lane_runs(begins: bool) {
    if let Some([usage]) = TABLE.unlocked() {
        match begins {
            true => (TAKEN.fetch_add(1, Relaxed), usage.taken.fetch_add(1, Relaxed)),
            false => (TAKEN.fetch_sub(1, Relaxed), usage.taken.fetch_sub(1, Relaxed)),
        };
    }
}

/// Registers a callback that gives back what this process has taken: a terminated backend does not unwind.
pub fn free_on_exit() {
    static REGISTERED: Once = Once::new();

    #[pg_guard]
    unsafe extern "C-unwind" fn on_exit(_code: i32, _argument: pg_sys::Datum) {
        give_back(TAKEN.load(Relaxed) as usize);
    }

    // SAFETY: the function stays where it is: a library is never unloaded.
    REGISTERED.call_once(|| unsafe { pg_sys::on_shmem_exit(Some(on_exit), pg_sys::Datum::from(0)) });
}
