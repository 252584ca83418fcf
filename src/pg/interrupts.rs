//! Cancel requests, progress and counts for the engine.
//!
//! PostgreSQL processes whatever interrupt is pending wherever it is asked to, and may end the process there. While helper threads
//! live that would be undefined behaviour: an interrupt that ends or aborts makes [`Progress::check`] say so, the helpers are stopped and
//! joined, and [`raise_pending`] has it processed. One that does neither waits until no helper lives, and the work goes on.

use std::cell::Cell;
use std::ptr::addr_of;
use std::time::{Duration, Instant};

use pgrx::{check_for_interrupts, notice, pg_sys};

use crate::pg::shared::{models, progress};
use crate::pg::{memory, settings};
use runtime::error::{Error, Result};
use runtime::fixed_text::FixedText;
use runtime::memory::Ceiling;
use runtime::parallel::has_helpers;
use runtime::progress::{Progress, Run};

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
    /// What it may take of memory.
    ceiling: Ceiling,
}

impl Statement {
    pub fn new(function: &'static str, model: &str) -> Self {
        memory::prepare();
        let now = Instant::now();
        Self {
            function,
            model: model.to_owned(),
            began: now,
            last_notice: Cell::new(now),
            number: Cell::new(None),
            ceiling: Ceiling::new(settings::training_memory()),
        }
    }

    /// The function that was called.
    pub fn function(&self) -> &'static str {
        self.function
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
        Ceiling::lift();
        if let Some(number) = self.number.get() {
            progress::clear(number);
        }
    }
}

impl Progress for Statement {
    fn check(&self) -> Result<()> {
        if memory::is_exhausted() || must_stop() {
            return Err(Error::Canceled);
        }
        if !has_helpers() {
            raise_pending();
        }
        self.ceiling.hold()
    }

    fn report(&self, phase: &str, done: usize, total: usize) {
        let number = self.number();
        progress::show(number, || self.row(number), phase, done, total);
        let interval = Duration::from_secs(settings::PROGRESS_INTERVAL.get().max(0) as u64);
        if !interval.is_zero() && self.last_notice.get().elapsed() >= interval {
            self.last_notice.set(Instant::now());
            let message = match total {
                0 => format!("{phase}: {done}"),
                total => format!("{phase}: {done} of {total}"),
            };
            tell(&message);
        }
    }

    fn ran(&self, run: &Run) {
        models::ran(run);
    }
}

/// Has PostgreSQL process what is pending, which [`Progress::check`] may have seen. To be called where no helper thread lives.
pub fn raise_pending() {
    memory::check();
    check_for_interrupts!();
}

/// Whether a flag that PostgreSQL's signal handlers set on this thread is up.
macro_rules! is_up {
    ($flag:ident) => {
        // SAFETY: a plain number that only this thread and its signal handlers write; read once.
        unsafe { addr_of!(pg_sys::$flag).read_volatile() as i32 != 0 }
    };
}

/// Whether an interrupt is pending that ends the statement or the connection. Has nothing processed.
fn must_stop() -> bool {
    is_up!(InterruptPending)
        && (is_up!(QueryCancelPending)
            || is_up!(ProcDiePending)
            || is_up!(ClientConnectionLost)
            || is_overdue()
            || may_conflict()
            || is_client_gone())
}

/// `transaction_timeout`, which may have been switched off since.
#[cfg(any(feature = "pg17", feature = "pg18"))]
fn is_overdue() -> bool {
    is_up!(TransactionTimeoutPending) && is_up!(TransactionTimeout)
}

#[cfg(not(any(feature = "pg17", feature = "pg18")))]
fn is_overdue() -> bool {
    false
}

/// Whether the statement stands in the way of a standby's recovery. No flag outside PostgreSQL's own file says so: on a standby it is what no
/// other flag explains.
#[cfg(any(feature = "pg16", feature = "pg17", feature = "pg18"))]
fn may_conflict() -> bool {
    // SAFETY: reads shared memory that every backend is attached to.
    let is_standby = unsafe { pg_sys::RecoveryInProgress() };
    is_standby
        && !(is_up!(ProcSignalBarrierPending)
            || is_up!(LogMemoryContextPending)
            || is_up!(ParallelMessagePending)
            || is_up!(IdleInTransactionSessionTimeoutPending)
            || is_up!(IdleSessionTimeoutPending)
            || is_up!(IdleStatsUpdateTimeoutPending)
            || is_up!(CheckClientConnectionPending))
}

/// Before PostgreSQL 16 a conflict comes as a cancel request or as the order to end.
#[cfg(not(any(feature = "pg16", feature = "pg17", feature = "pg18")))]
fn may_conflict() -> bool {
    false
}

/// Where `client_connection_check_interval` asks for it: whether the client has closed its connection. The flag stays, so that PostgreSQL
/// makes the same check, and sets the next one's time, as soon as it may.
fn is_client_gone() -> bool {
    #[cfg(not(feature = "pg13"))]
    if is_up!(CheckClientConnectionPending) && is_up!(client_connection_check_interval) {
        return events(libc::POLLRDHUP) & (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) != 0;
    }
    false
}

/// What is true of the client's socket now: those of `wanted`, and errors. None where there is no client.
fn events(wanted: libc::c_short) -> libc::c_short {
    // SAFETY: null, or the connection's description, which lives as long as the process and in every version begins with the number of its
    // socket.
    let Some(&fd) = (unsafe { pg_sys::MyProcPort.cast::<libc::c_int>().as_ref() }) else { return 0 };
    let mut socket = libc::pollfd { fd, events: wanted, revents: 0 };
    // SAFETY: one description, on this stack; returns at once.
    if unsafe { libc::poll(&mut socket, 1, 0) } > 0 { socket.revents } else { 0 }
}

/// Sends a NOTICE. PostgreSQL processes interrupts when it has sent one, and waits for a client that takes none: while helper threads live it is
/// sent with interrupts held, and only to a client that takes it at once. The next one is due soon.
fn tell(message: &str) {
    if !has_helpers() {
        notice!("{message}");
    } else if events(libc::POLLOUT) & libc::POLLOUT != 0 {
        // SAFETY: this thread's own count. Where sending raises an error, PostgreSQL sets it to 0.
        unsafe { pg_sys::InterruptHoldoffCount += 1 };
        notice!("{message}");
        // SAFETY: as above, and nothing was raised.
        unsafe { pg_sys::InterruptHoldoffCount -= 1 };
    }
}
