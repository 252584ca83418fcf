//! The progress of each backend's long call: `reco.stat_progress`.
//!
//! A call takes a row with its first report and frees it at its end, in any way. Of nested calls, the one that reported last is shown.

use std::cell::Cell;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::region::{Row, Table};
use runtime::error::{Error, Result};
use runtime::fixed_text::FixedText;

pub static TABLE: Table<Report> = Table::new(c"pg_reco progress");

/// A row of `reco.stat_progress`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Report {
    /// 0 in a free row.
    pub pid: i32,
    pub database: pg_sys::Oid,
    /// The session user.
    pub user: pg_sys::Oid,
    /// Identifies the call among those of the backend.
    pub call: u64,
    pub function: FixedText<32>,
    pub model: FixedText<200>,
    pub phase: FixedText<64>,
    pub done: u64,
    /// 0 if unknown.
    pub total: u64,
    /// Microseconds since 2000.
    pub started: i64,
}

// SAFETY: numbers and bytes, of which all zeros is a value.
unsafe impl Row for Report {}

thread_local! {
    /// This backend's row, while it has one.
    static PLACE: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Updates this backend's row, or takes one with the initial content `begin`. If no row is free, the call is not shown.
pub fn show(call: u64, begin: impl FnOnce() -> Report, phase: &str, done: usize, total: usize) {
    if !TABLE.is_there() {
        return;
    }
    free_on_exit();
    let fresh = begin();
    let phase = FixedText::new(phase);
    TABLE.exclusive(|rows| {
        let place = PLACE.get().or_else(|| rows.iter().position(|row| row.pid == 0));
        let Some(row) = place.and_then(|place| rows.get_mut(place)) else { return };
        if row.pid == 0 || row.call != call {
            *row = fresh;
        }
        (row.phase, row.done, row.total) = (phase, done as u64, total as u64);
        PLACE.set(place);
    });
}

/// Frees the row of `call`, if it is the one shown.
pub fn clear(call: u64) {
    free(|row| row.call == call);
}

fn free(which: impl FnOnce(&Report) -> bool) {
    let Some(place) = PLACE.get() else { return };
    TABLE.exclusive(|rows| {
        if let Some(row) = rows.get_mut(place).filter(|row| which(row)) {
            row.pid = 0;
            PLACE.set(None);
        }
    });
}

/// Registers a callback that frees the row at backend exit: a terminated backend does not unwind.
fn free_on_exit() {
    thread_local! {
        static REGISTERED: Cell<bool> = const { Cell::new(false) };
    }

    #[pg_guard]
    unsafe extern "C-unwind" fn on_exit(_code: i32, _argument: pg_sys::Datum) {
        free(|_| true);
    }

    if !REGISTERED.replace(true) {
        // SAFETY: the function stays where it is: a library is never unloaded.
        unsafe { pg_sys::on_shmem_exit(Some(on_exit), pg_sys::Datum::from(0)) };
    }
}

/// The rows that the current role may see, as in pg_stat_activity: those of roles whose privileges it has, or all.
pub fn read() -> Result<Vec<Report>> {
    // pg_read_all_stats, whose constant has two names.
    const READ_ALL_STATISTICS: pg_sys::Oid = pg_sys::Oid::from_u32(3375);
    let rows: Vec<Report> = TABLE
        .share(|rows| rows.iter().filter(|row| row.pid != 0).copied().collect())
        .ok_or(Error::NotPreloaded("reco.stat_progress"))?;
    // SAFETY: look-ups of roles' memberships, outside of the lock.
    let may_see = |role| unsafe { pg_sys::has_privs_of_role(pg_sys::GetUserId(), role) };
    let all = may_see(READ_ALL_STATISTICS);
    Ok(rows.into_iter().filter(|row| all || may_see(row.user)).collect())
}
