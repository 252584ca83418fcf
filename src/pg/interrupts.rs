//! Cancel requests, progress and counts for the engine.
//!
//! Processing an interrupt may end the process. While helper threads run that would be undefined behaviour. So if an interrupt is pending that
//! ends the process or aborts the statement, [`Progress::check`] returns an error, the helpers are stopped and joined, and
//! [`raise_pending`] processes the interrupt. Other interrupts wait until no helper is running, and the work goes on.

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
use runtime::pool;
use runtime::progress::{Progress, Run};

/// Whether a flag that PostgreSQL's signal handlers set on this thread is set.
macro_rules! is_up {
    ($flag:ident) => {
        // SAFETY: a plain number that only this thread and its signal handlers write; read once.
        unsafe { addr_of!(pg_sys::$flag).read_volatile() as i32 != 0 }
    };
}

/// A call of one of this extension's functions. Can be cancelled by the user, a timeout or a shutdown; reports progress by `NOTICE` and in
/// `reco.stat_progress`; counts model runs in `reco.stat_models`.
pub struct Statement {
    function: &'static str,
    /// The model that it uses or creates; empty if there is none.
    model: String,
    began: Instant,
    last_notice: Cell<Instant>,
    /// Identifies the call in `reco.stat_progress` among those of this backend; set by its first report.
    number: Cell<Option<u64>>,
    /// The memory limit of the call.
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

    /// Its initial row in `reco.stat_progress`.
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
        if !has_helpers() && is_up!(InterruptPending) {
            // Idle threads end as well: what is processed may end the process.
            pool::dismiss();
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

/// Processes pending interrupts. Must not be called while helper threads run.
pub fn raise_pending() {
    memory::check();
    check_for_interrupts!();
}

/// Whether an interrupt is pending that ends the statement or the connection. Does not process it.
fn must_stop() -> bool {
    is_up!(InterruptPending)
        && (is_up!(QueryCancelPending)
            || is_up!(ProcDiePending)
            || is_up!(ClientConnectionLost)
            || is_overdue()
            || may_conflict()
            || is_client_gone())
}

/// `transaction_timeout`, unless it was switched off since.
#[cfg(any(feature = "pg17", feature = "pg18"))]
fn is_overdue() -> bool {
    is_up!(TransactionTimeoutPending) && is_up!(TransactionTimeout)
}

#[cfg(not(any(feature = "pg17", feature = "pg18")))]
fn is_overdue() -> bool {
    false
}

/// Whether the statement may conflict with recovery on a standby. PostgreSQL exports no flag for it: on a standby, a conflict is assumed if no
/// other flag explains the interrupt.
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

/// Before PostgreSQL 16 a conflict arrives as a cancel request or a termination request.
#[cfg(not(any(feature = "pg16", feature = "pg17", feature = "pg18")))]
fn may_conflict() -> bool {
    false
}

/// Whether the client has closed its connection, if `client_connection_check_interval` is set. The flag is not reset, so that PostgreSQL does
/// the same check, and schedules the next one, as soon as it can.
fn is_client_gone() -> bool {
    #[cfg(not(feature = "pg13"))]
    if is_up!(CheckClientConnectionPending) && is_up!(client_connection_check_interval) {
        return events(libc::POLLRDHUP) & (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) != 0;
    }
    false
}

/// The current events of the client's socket: those of `wanted`, and errors. None if there is no client.
fn events(wanted: libc::c_short) -> libc::c_short {
    // SAFETY: null, or the connection's description, which lives as long as the process and in every version begins with the number of its
    // socket.
    let Some(&fd) = (unsafe { pg_sys::MyProcPort.cast::<libc::c_int>().as_ref() }) else { return 0 };
    let mut socket = libc::pollfd { fd, events: wanted, revents: 0 };
    // SAFETY: one description, on this stack; returns at once.
    if unsafe { libc::poll(&mut socket, 1, 0) } > 0 { socket.revents } else { 0 }
}

/// Sends a NOTICE. Sending processes interrupts and waits for a slow client. While helper threads run, a notice is therefore sent with
/// interrupts held, and only if the client can receive it at once.
fn tell(message: &str) {
    if !has_helpers() {
        pool::dismiss();
        notice!("{message}");
    } else if events(libc::POLLOUT) & libc::POLLOUT != 0 {
        // SAFETY: this thread's own count. Where sending raises an error, PostgreSQL sets it to 0.
        unsafe { pg_sys::InterruptHoldoffCount += 1 };
        notice!("{message}");
        // SAFETY: as above, and nothing was raised.
        unsafe { pg_sys::InterruptHoldoffCount -= 1 };
    }
}
