//! Cancel requests, progress and counts for the engine.

use std::cell::Cell;
use std::ptr::addr_of;
use std::time::{Duration, Instant};

use pgrx::{check_for_interrupts, notice, pg_sys};

use crate::error::{Error, Result};
use crate::fixed_text::FixedText;
use crate::pg::shared::{models, progress};
use crate::pg::{memory, settings};
use crate::progress::{Progress, Run};

/// A call of one of this extension's functions: cancelled by its user, its timeout or the server's end; reports by `NOTICE`
/// and in `reco.stat_progress`; counts its runs in `reco.stat_models`.
pub struct Statement {
    function: &'static str,
    /// The model that it uses or makes; empty where it is not about one.
    model: String,
    began: Instant,
    last_notice: Cell<Instant>,
    /// Its number in `reco.stat_progress` among this backend's calls, once it has reported.
    number: Cell<Option<u64>>,
}

impl Statement {
    pub fn new(function: &'static str, model: &str) -> Self {
        memory::prepare();
        let now = Instant::now();
        Self { function, model: model.to_owned(), began: now, last_notice: Cell::new(now), number: Cell::new(None) }
    }

    fn number(&self) -> u64 {
        thread_local! {
            static LAST: Cell<u64> = const { Cell::new(0) };
        }
        self.number.get().unwrap_or_else(|| {
            LAST.set(LAST.get() + 1);
            self.number.set(Some(LAST.get()));
            LAST.get()
        })
    }

    /// Its row in `reco.stat_progress`, with nothing done.
    fn row(&self, number: u64) -> progress::Report {
        // SAFETY: plain reads of this backend's state and of the clock.
        let (pid, database, user, now) = unsafe {
            let user = pg_sys::GetAuthenticatedUserId();
            (pg_sys::MyProcPid, pg_sys::MyDatabaseId, user, pg_sys::GetCurrentTimestamp())
        };
        progress::Report {
            pid,
            database,
            user,
            call: number,
            function: FixedText::new(self.function),
            model: FixedText::new(&self.model),
            phase: FixedText::new(""),
            done: 0,
            total: 0,
            started: now - self.began.elapsed().as_micros() as i64,
        }
    }
}

impl Drop for Statement {
    fn drop(&mut self) {
        if let Some(number) = self.number.get() {
            progress::clear(number);
        }
    }
}

impl Progress for Statement {
    fn check(&self) -> Result<()> {
        memory::check();
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
        let number = self.number();
        progress::show(number, || self.row(number), phase, done, total);
        let interval = Duration::from_secs(settings::PROGRESS_INTERVAL.get().max(0) as u64);
        if !interval.is_zero() && self.last_notice.get().elapsed() >= interval {
            self.last_notice.set(Instant::now());
            match total {
                0 => notice!("{phase}: {done}"),
                total => notice!("{phase}: {done} of {total}"),
            }
        }
    }

    fn ran(&self, run: &Run) {
        models::ran(run);
    }
}

/// Raises the interrupt that `Progress::check` saw.
pub fn raise_pending() {
    check_for_interrupts!();
}
