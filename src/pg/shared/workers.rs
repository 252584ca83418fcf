//! Model workers and the requests that sessions post to them, in shared memory.
//!
//! A session has one slot, and posts one request at a time. The state of a slot is one atomic number: which request it is about, and its phase.
//! Each side changes it by compare-and-exchange, so that a session can withdraw at any time but for the moments in which the worker copies a
//! message. What is larger than a slot goes through a segment of dynamic shared memory, which the session makes and the worker attaches.

use std::cell::{Cell, UnsafeCell};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU32, AtomicU64, AtomicUsize};
use std::time::Duration;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::region::{Row, Table};
use runtime::error::{Error, Result};

pub static WORKERS: Table<Worker> = Table::new(c"pg_reco workers");
pub static SLOTS: Table<Slot> = Table::new(c"pg_reco requests");

/// The worker that runs models on the CPU. The one of CUDA device n is number n + 1.
pub const CPU: usize = 0;

/// Bytes of a message that needs no segment: a vector of 4,000 dimensions, or the tokens of some texts.
pub const MESSAGE: usize = 16 << 10;

/// A worker.
#[repr(C)]
pub struct Worker {
    /// Counts its starts; 0 before the first one.
    starts: AtomicU64,
    /// 1 if it was waited for in vain, until it starts.
    missing: AtomicU32,
    /// 0 while it does not run.
    pid: AtomicI32,
    latch: AtomicUsize,
    /// The hash of its settings that a session may have changed for itself.
    settings: AtomicU64,
    lanes: AtomicU32,
    /// Microseconds since 2000.
    started: AtomicI64,
    pub counts: Counts,
}

/// Of one run of a worker's process, for `reco.stat_workers`.
#[derive(Default)]
#[repr(C)]
pub struct Counts {
    pub models: AtomicU64,
    pub bytes: AtomicU64,
    pub requests: AtomicU64,
    pub failed: AtomicU64,
    pub withdrawn: AtomicU64,
    pub waiting: AtomicU64,
    pub running: AtomicU64,
    pub runs: AtomicU64,
    pub rows: AtomicU64,
    pub max_batch: AtomicU64,
    /// Nanoseconds that requests waited for a lane.
    pub waited: AtomicU64,
    /// Nanoseconds that lanes ran.
    pub busy: AtomicU64,
}

/// Where a session and a worker meet.
#[repr(C)]
pub struct Slot {
    state: AtomicU64,
    /// The process that has the slot, 0 if it is free.
    owner: AtomicI32,
    latch: AtomicUsize,
    /// The number of the worker that is asked.
    worker: AtomicU32,
    /// The handle of the segment, 0 if the message is in the slot.
    segment: AtomicU32,
    /// Bytes of the message.
    size: AtomicU64,
    /// Parts of the request that are done.
    done: AtomicU64,
    message: UnsafeCell<[u8; MESSAGE]>,
}

// SAFETY: atomics and bytes, of which all zeros is a value. Latches are kept as numbers: they lie in shared memory, at the same address in every
// process.
unsafe impl Row for Worker {}
// SAFETY: as above.
unsafe impl Row for Slot {}
// SAFETY: the message is read and written by the side whose phase it is.
unsafe impl Sync for Slot {}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Phase {
    /// The session's.
    Idle,
    /// The message is a request.
    Posted,
    /// The worker reads it.
    Reading,
    /// The worker has it.
    Taken,
    /// The worker writes the reply.
    Answering,
    /// The message is the reply.
    Answered,
    /// The reply has more bytes than there is room for.
    NeedsRoom,
    /// There is a segment for it.
    RoomMade,
}

impl Phase {
    const ALL: [Self; 8] = [
        Self::Idle,
        Self::Posted,
        Self::Reading,
        Self::Taken,
        Self::Answering,
        Self::Answered,
        Self::NeedsRoom,
        Self::RoomMade,
    ];
}

const PHASE_BITS: u32 = 3;

fn state(number: u64, phase: Phase) -> u64 {
    number << PHASE_BITS | phase as u64
}

impl Slot {
    /// The request that the slot is about, and its phase.
    pub fn state(&self) -> (u64, Phase) {
        let state = self.state.load(SeqCst);
        (state >> PHASE_BITS, Phase::ALL[(state & ((1 << PHASE_BITS) - 1)) as usize])
    }

    /// Moves on, unless the other side was first.
    pub fn change(&self, number: u64, from: Phase, to: Phase) -> bool {
        self.state.compare_exchange(state(number, from), state(number, to), SeqCst, SeqCst).is_ok()
    }

    pub fn is_for(&self, worker: usize) -> bool {
        self.worker.load(Relaxed) as usize == worker
    }

    /// The segment's handle and the bytes of the message.
    pub fn message(&self) -> (u32, usize) {
        (self.segment.load(Relaxed), self.size.load(Relaxed) as usize)
    }

    pub fn set_message(&self, segment: u32, size: usize) {
        self.segment.store(segment, Relaxed);
        self.size.store(size as u64, Relaxed);
    }

    /// Reads the first bytes of the message in the slot. Only in a phase that is the caller's.
    pub fn read(&self, size: usize) -> &[u8] {
        // SAFETY: the other side does not write in this phase; at most as many bytes as there are.
        let message = unsafe { &*self.message.get() };
        &message[..size.min(MESSAGE)]
    }

    /// Writes a message into the slot. Only in a phase that is the caller's.
    pub fn write(&self, message: &[u8]) {
        let size = message.len().min(MESSAGE);
        // SAFETY: the other side neither reads nor writes in this phase.
        unsafe { std::ptr::copy_nonoverlapping(message.as_ptr(), self.message.get().cast(), size) };
        self.set_message(0, size);
    }

    /// How many parts of the request are done. The worker says so now and then.
    pub fn done(&self) -> usize {
        self.done.load(Relaxed) as usize
    }

    pub fn set_done(&self, done: usize) {
        self.done.store(done as u64, Relaxed);
    }

    /// Wakes the session.
    pub fn wake(&self) {
        wake(&self.latch);
    }
}

impl Worker {
    pub fn has_started(&self) -> bool {
        self.starts.load(SeqCst) > 0
    }

    pub fn is_missing(&self) -> bool {
        self.missing.load(Relaxed) != 0
    }

    pub fn set_missing(&self) {
        self.missing.store(1, Relaxed);
    }

    /// The hash that it began with.
    pub fn settings(&self) -> u64 {
        self.settings.load(SeqCst)
    }

    pub fn is_running(&self) -> bool {
        self.pid.load(SeqCst) != 0
    }

    pub fn wake(&self) {
        wake(&self.latch);
    }

    /// Registers this process as the worker.
    pub fn begin(&self, number: usize, lanes: usize, settings: u64) {
        thread_local! {
            static NUMBER: Cell<usize> = const { Cell::new(0) };
        }

        #[pg_guard]
        unsafe extern "C-unwind" fn on_exit(_code: i32, _argument: pg_sys::Datum) {
            let number = NUMBER.get();
            if let Some(worker) = WORKERS.unlocked().and_then(|workers| workers.get(number)) {
                worker.pid.store(0, SeqCst);
                worker.latch.store(0, SeqCst);
            }
            // Who waits must ask again.
            SLOTS.unlocked().into_iter().flatten().filter(|slot| slot.is_for(number)).for_each(Slot::wake);
        }

        NUMBER.set(number);
        // An earlier process that ended while it copied a message left its turn.
        for slot in SLOTS.unlocked().into_iter().flatten().filter(|slot| slot.is_for(number)) {
            let (request, phase) = slot.state();
            if matches!(phase, Phase::Reading | Phase::Answering) {
                slot.change(request, phase, Phase::Taken);
            }
        }
        self.counts.reset();
        self.lanes.store(lanes as u32, Relaxed);
        self.settings.store(settings, Relaxed);
        // SAFETY: plain reads; the function stays where it is: a library is never unloaded.
        unsafe {
            pg_sys::before_shmem_exit(Some(on_exit), pg_sys::Datum::from(0));
            self.started.store(pg_sys::GetCurrentTimestamp(), Relaxed);
            self.latch.store(pg_sys::MyLatch as usize, SeqCst);
            self.missing.store(0, Relaxed);
            self.starts.fetch_add(1, SeqCst);
            self.pid.store(pg_sys::MyProcPid, SeqCst);
        }
    }
}

impl Counts {
    fn reset(&self) {
        let Self { models, bytes, requests, failed, withdrawn, waiting, running, runs, rows, max_batch, waited, busy } =
            self;
        for count in [models, bytes, requests, failed, withdrawn, waiting, running, runs, rows, max_batch, waited, busy]
        {
            count.store(0, Relaxed);
        }
    }
}

fn wake(latch: &AtomicUsize) {
    let latch = latch.load(SeqCst) as *mut pg_sys::Latch;
    if !latch.is_null() {
        // SAFETY: a process's latch lies in shared memory as long as the server runs. If the process has ended, another one may wake for nothing.
        unsafe { pg_sys::SetLatch(latch) };
    }
}

/// The number of slots: one for each process that can run SQL, but for those that only replicate.
pub fn slots() -> usize {
    // SAFETY: both settings are read from the configuration before any library is preloaded.
    unsafe { (pg_sys::MaxConnections + pg_sys::max_worker_processes).max(1) as usize }
}

/// Worker `number`, if there is to be one.
pub fn worker(number: usize) -> Option<&'static Worker> {
    WORKERS.unlocked()?.get(number)
}

thread_local! {
    /// This session's slot, once it has one.
    static OWN: Cell<Option<usize>> = const { Cell::new(None) };
}

/// This session's slot; `None` if none is free at the moment.
pub fn own_slot() -> Option<&'static Slot> {
    let slots = SLOTS.unlocked()?;
    if let Some(own) = OWN.get() {
        return slots.get(own);
    }
    // SAFETY: plain reads.
    let (pid, latch) = unsafe { (pg_sys::MyProcPid, pg_sys::MyLatch as usize) };
    let place = slots.iter().position(|slot| slot.owner.compare_exchange(0, pid, SeqCst, SeqCst).is_ok())?;
    OWN.set(Some(place));
    slots[place].latch.store(latch, SeqCst);
    free_on_exit();
    Some(&slots[place])
}

/// Registers a callback that frees the slot at backend exit.
fn free_on_exit() {
    #[pg_guard]
    unsafe extern "C-unwind" fn on_exit(_code: i32, _argument: pg_sys::Datum) {
        let Some(own) = OWN.take() else { return };
        if let Some(slot) = SLOTS.unlocked().and_then(|slots| slots.get(own)) {
            withdraw(slot);
            slot.latch.store(0, SeqCst);
            slot.owner.store(0, SeqCst);
        }
    }

    // SAFETY: the function stays where it is: a library is never unloaded.
    unsafe { pg_sys::before_shmem_exit(Some(on_exit), pg_sys::Datum::from(0)) };
}

/// A request of this session that a worker may be working on. It is withdrawn when dropped.
pub struct Posted {
    pub slot: &'static Slot,
    pub number: u64,
    pub worker: &'static Worker,
    /// The start of the worker that the request was posted to.
    start: u64,
}

impl Posted {
    /// Posts the message that was put into `slot` to worker `number`.
    pub fn new(slot: &'static Slot, number: usize) -> Result<Self> {
        let worker = worker(number).ok_or_else(|| Error::Internal(format!("there is no model worker {number}")))?;
        let (before, _) = slot.state();
        slot.worker.store(number as u32, Relaxed);
        slot.set_done(0);
        let start = worker.starts.load(SeqCst);
        slot.state.store(state(before + 1, Phase::Posted), SeqCst);
        worker.wake();
        Ok(Self { slot, number: before + 1, worker, start })
    }

    /// Whether the worker that may have had the request has ended.
    pub fn is_lost(&self) -> bool {
        self.worker.starts.load(SeqCst) != self.start || !self.worker.is_running()
    }
}

impl Drop for Posted {
    fn drop(&mut self) {
        if withdraw(self.slot) {
            self.worker.wake();
        }
    }
}

/// Makes the slot idle. Returns whether a worker may be working on its request.
fn withdraw(slot: &Slot) -> bool {
    loop {
        let (number, phase) = slot.state();
        let copies = matches!(phase, Phase::Reading | Phase::Answering);
        let asked = worker(slot.worker.load(Relaxed) as usize);
        // A worker that has ended copies no more.
        if !copies || !asked.is_some_and(Worker::is_running) {
            if phase == Phase::Idle {
                return false;
            }
            if slot.change(number, phase, Phase::Idle) {
                return matches!(phase, Phase::Taken | Phase::NeedsRoom | Phase::RoomMade);
            }
        }
        std::thread::yield_now();
    }
}

/// A row of `reco.stat_workers`.
pub struct Statistics {
    pub worker: usize,
    /// 0 while it does not run.
    pub pid: i32,
    pub starts: u64,
    /// Microseconds since 2000.
    pub started: i64,
    pub lanes: u32,
    pub models: u64,
    pub bytes: u64,
    pub requests: u64,
    pub failed: u64,
    pub withdrawn: u64,
    pub waiting: u64,
    pub running: u64,
    pub runs: u64,
    pub rows: u64,
    pub max_batch: u64,
    pub waited: Duration,
    pub busy: Duration,
}

/// What each worker has done since its start.
pub fn statistics() -> Result<Vec<Statistics>> {
    let workers = WORKERS.unlocked().ok_or(Error::NotPreloaded("reco.stat_workers"))?;
    let rows = workers.iter().enumerate().map(|(number, worker)| {
        let Worker { starts, pid, started, lanes, counts, .. } = worker;
        Statistics {
            worker: number,
            pid: pid.load(Relaxed),
            starts: starts.load(Relaxed),
            started: started.load(Relaxed),
            lanes: lanes.load(Relaxed),
            models: counts.models.load(Relaxed),
            bytes: counts.bytes.load(Relaxed),
            requests: counts.requests.load(Relaxed),
            failed: counts.failed.load(Relaxed),
            withdrawn: counts.withdrawn.load(Relaxed),
            waiting: counts.waiting.load(Relaxed),
            running: counts.running.load(Relaxed),
            runs: counts.runs.load(Relaxed),
            rows: counts.rows.load(Relaxed),
            max_batch: counts.max_batch.load(Relaxed),
            waited: Duration::from_nanos(counts.waited.load(Relaxed)),
            busy: Duration::from_nanos(counts.busy.load(Relaxed)),
        }
    });
    Ok(rows.collect())
}
