//! Cancel requests and progress messages for the engine.

use std::cell::Cell;
use std::ptr::addr_of;
use std::time::{Duration, Instant};

use pgrx::{check_for_interrupts, notice, pg_sys};

use crate::error::{Error, Result};
use crate::pg::settings;
use crate::progress::Progress;

/// The running statement: cancelled by its user, its timeout or the server's end; reports by `NOTICE`.
pub struct Statement {
    last_notice: Cell<Instant>,
}

impl Statement {
    pub fn new() -> Self {
        Self { last_notice: Cell::new(Instant::now()) }
    }
}

impl Default for Statement {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress for Statement {
    fn check(&self) -> Result<()> {
        // SAFETY: flags that PostgreSQL's signal handlers set on this thread; read as such, once each.
        let (any, cancel, die) = unsafe {
            (
                addr_of!(pg_sys::InterruptPending).read_volatile() != 0,
                addr_of!(pg_sys::QueryCancelPending).read_volatile() != 0,
                addr_of!(pg_sys::ProcDiePending).read_volatile() != 0,
            )
        };
        if cancel || die {
            // Raised later, by `raise_pending`, when no helper thread runs any more: ending the process while one does
            // would be undefined behaviour.
            return Err(Error::Canceled);
        }
        if any {
            check_for_interrupts!();
        }
        Ok(())
    }

    fn report(&self, phase: &str, done: usize, total: usize) {
        let interval = Duration::from_secs(settings::PROGRESS_INTERVAL.get().max(0) as u64);
        if !interval.is_zero() && self.last_notice.get().elapsed() >= interval {
            self.last_notice.set(Instant::now());
            match total {
                0 => notice!("{phase}: {done}"),
                total => notice!("{phase}: {done} of {total}"),
            }
        }
    }
}

/// Raises the interrupt that `Progress::check` saw.
pub fn raise_pending() {
    check_for_interrupts!();
}
