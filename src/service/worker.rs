//! Model workers: background workers that own the sessions of all connections, one for the CPU and one for each CUDA device.
//!
//! A worker has no database and reads nothing but graphs in the cache that a session has prepared and tried. Its lanes are threads
//! ([`workers::crew`]); its main thread alone calls PostgreSQL: it waits for requests, hands them to the lanes, and writes the replies.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder, BgWorkerStartTime, SignalWakeFlags};
use pgrx::prelude::*;
use pgrx::{GucContext, pg_sys};

use super::remote::settings_hash;
use crate::pg::bell::Bell;
use crate::pg::segment::Segment;
use crate::pg::shared::processors;
use crate::pg::shared::workers::{self as shared, CPU, MESSAGE, Phase, SLOTS, Slot, Worker};
use crate::pg::{latch, memory, settings};
use onnx::environment::{self, EnvironmentOptions};
use onnx::session::{Execution, Session, SessionOptions};
use runtime::error::{Error, Result};
use runtime::progress::Unwatched;
use runtime::sealed;
use workers::crew::{Crew, Opened, Width, with_crew};
use workers::queue::{Capacity, Ticket};
use workers::request::{Failure, Reply, Request, reply_to_bytes};

/// Threads of a run that has all processors to itself. More do not help texts of a sentence.
const MAX_WIDTH: usize = 8;

/// How long the main thread sleeps while something runs, and while nothing does.
const BUSY_INTERVAL: Duration = Duration::from_millis(100);
const IDLE_INTERVAL: Duration = Duration::from_secs(10);

/// How soon PostgreSQL starts a worker again.
const RESTART: Duration = Duration::from_secs(1);

/// Registers the workers. Called once, when the library is loaded.
pub fn register() {
    // SAFETY: a plain read.
    if !unsafe { pg_sys::process_shared_preload_libraries_in_progress } {
        return;
    }
    for number in 0..settings::model_workers() {
        let name = match number {
            CPU => "pg_reco model worker for the CPU".to_owned(),
            device => format!("pg_reco model worker for CUDA device {}", device - 1),
        };
        BackgroundWorkerBuilder::new(&name)
            .set_type("pg_reco model worker")
            .set_library("pg_reco")
            .set_function("pg_reco_model_worker")
            .set_argument((number as i32).into_datum())
            // Also on a standby.
            .set_start_time(BgWorkerStartTime::ConsistentState)
            .set_restart_time(Some(RESTART))
            .enable_shmem_access(None)
            .load();
    }
}

#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn pg_reco_model_worker(number: pg_sys::Datum) {
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGTERM);
    match serve(number.value()) {
        Ok(Ended::Told) => {}
        Ok(Ended::Orphaned) => {
            // SAFETY: the server is gone, and there is nothing to tidy up.
            unsafe { libc::_exit(1) }
        }
        Err(error) => log!("model worker ends: {error}"),
    }
    memory::check();
    // SAFETY: all lanes have been joined. PostgreSQL starts a worker again that ends with 1.
    unsafe { pg_sys::proc_exit(1) };
}

/// Why a worker ends.
enum Ended {
    /// By a signal, or to read its settings anew.
    Told,
    /// The postmaster has ended.
    Orphaned,
}

/// The session options of a worker.
fn options(number: usize) -> SessionOptions {
    let options = settings::session_options();
    match number {
        CPU => SessionOptions { execution: Execution::Cpu, ..options },
        device => SessionOptions { execution: Execution::Cuda, device_id: device as i32 - 1, ..options },
    }
}

/// Those of them that a process cannot change once it has run a model.
fn process_settings(options: &SessionOptions) -> (&EnvironmentOptions, Option<usize>) {
    let gpu_memory_limit = options.gpu_memory_limit.filter(|_| options.execution == Execution::Cuda);
    (&options.environment, gpu_memory_limit)
}

fn serve(number: usize) -> Result<Ended> {
    let worker = shared::worker(number).ok_or_else(|| Error::Internal(format!("there is no model worker {number}")))?;
    memory::prepare();
    environment::prepare_process();
    processors::free_on_exit();
    let options = options(number);
    let capacity = match number {
        CPU => Capacity::of_processors(settings::worker_threads()),
        _ => Capacity::of_device(),
    };
    let lanes = capacity.lanes;
    let bell = Bell::new()?;
    let runs = |begins| {
        if number == CPU {
            processors::lane_runs(begins);
        }
    };
    with_crew(capacity, &|graph, width| open(graph, width, lanes, &options), &|| bell.ring(), &runs, |crew| {
        worker.begin(number, lanes, settings_hash(&options.environment));
        let mut desk = Desk {
            number,
            worker,
            crew,
            slots: SLOTS.unlocked().unwrap_or_default(),
            taken: HashMap::new(),
            tended: Instant::now(),
            changed: true,
            exhausted: false,
        };
        loop {
            let interval = if desk.is_idle() { IDLE_INTERVAL } else { BUSY_INTERVAL };
            if !latch::wait_or_read(bell.file(), interval) {
                return Ok(Ended::Orphaned);
            }
            bell.hear();
            if BackgroundWorker::sigterm_received() || memory::is_exhausted() {
                return Ok(Ended::Told);
            }
            if BackgroundWorker::sighup_received() {
                // SAFETY: between two requests, on the main thread.
                unsafe { pg_sys::ProcessConfigFile(GucContext::Sighup as pg_sys::GucContext::Type) };
                if process_settings(&self::options(number)) != process_settings(&options) {
                    return Ok(Ended::Told);
                }
            }
            if crew.is_broken() {
                log!("model worker ends because the CUDA device failed");
                return Ok(Ended::Told);
            }
            desk.tend();
            if desk.exhausted {
                return Err(Error::Resources("out of memory".into()));
            }
        }
    })
}

/// Loads a graph. Runs on a lane.
fn open(graph: &Path, width: Width, lanes: usize, options: &SessionOptions) -> std::result::Result<Opened, Failure> {
    // A session has made sure of it when it loaded the model, which may have been long ago.
    let folder = if graph.is_dir() { graph } else { graph.parent().unwrap_or(graph) };
    let is_whole = || matches!(sealed::is_whole(folder, &Unwatched), Ok(true)) && graph.exists();
    if !is_whole() {
        return Err(Failure::Gone);
    }
    let threads = if width == Width::All { lanes.min(MAX_WIDTH) } else { 1 };
    let options = SessionOptions { threads, ..options.clone() };
    // The connection that asks knows the name of the model.
    let opened = match options.execution {
        Execution::Cuda => Session::tried_on_cuda("", graph, &options, &Unwatched),
        Execution::Cpu | Execution::Auto => Session::on_cpu("", graph, &options, &Unwatched),
    };
    environment::trim_memory();
    match opened {
        Ok(session) => Ok(Opened { bytes: session.bytes, lane: Box::new(session) }),
        Err(_) if !is_whole() => Err(Failure::Gone),
        Err(error) => Err(error.into()),
    }
}

/// The main thread's part: from slots to lanes, and back.
struct Desk<'a, 'b> {
    number: usize,
    worker: &'static Worker,
    crew: &'a Crew<'b>,
    slots: &'static [Slot],
    /// What is being worked on, by slot.
    taken: HashMap<usize, Taken>,
    /// When the crew was last tended, and whether something has happened since.
    tended: Instant,
    changed: bool,
    /// Whether an answer could not be given: the worker ends, and who waits asks the next one.
    exhausted: bool,
}

struct Taken {
    number: u64,
    /// Waits for room.
    reply: Option<Vec<u8>>,
}

impl Desk<'_, '_> {
    /// Whether nothing will have to be done before something happens.
    fn is_idle(&self) -> bool {
        self.taken.is_empty() && !self.changed
    }

    fn tend(&mut self) {
        for (ticket, reply) in self.crew.finished() {
            self.answer(ticket, reply);
        }
        let slots = self.slots;
        let is_stale = |(&place, taken): (&usize, &Taken)| {
            let (number, phase) = slots[place].state();
            (number != taken.number || phase == Phase::Idle).then_some(place)
        };
        let stale: Vec<usize> = self.taken.iter().filter_map(is_stale).collect();
        stale.into_iter().for_each(|place| self.withdrawn(place));
        for (place, slot) in slots.iter().enumerate() {
            match slot.state() {
                (number, Phase::Posted) if slot.is_for(self.number) => self.take_in(place, number),
                (number, Phase::RoomMade) => {
                    if let Some(reply) = self.taken.get_mut(&place).and_then(|taken| taken.reply.take()) {
                        self.write(Ticket { slot: place, number }, Phase::RoomMade, reply);
                    }
                }
                _ => {}
            }
        }
        if self.tended.elapsed() >= BUSY_INTERVAL {
            (self.tended, self.changed) = (Instant::now(), false);
            for (&slot, taken) in &self.taken {
                slots[slot].set_done(self.crew.done(Ticket { slot, number: taken.number }));
            }
            self.crew.tend(settings::cache_size());
            self.count();
        }
    }

    fn withdrawn(&mut self, place: usize) {
        self.changed = true;
        if let Some(Taken { number, .. }) = self.taken.remove(&place) {
            self.crew.withdraw(Ticket { slot: place, number });
        }
    }

    fn take_in(&mut self, place: usize, number: u64) {
        let slot = &self.slots[place];
        if !slot.change(number, Phase::Posted, Phase::Reading) {
            return;
        }
        let (segment, size) = slot.message();
        let request = match segment {
            0 => Ok(slot.read(size).to_vec()),
            handle => Segment::attach(handle).map_or_else(|| Err(no_segment()), |segment| segment.read(size)),
        };
        slot.change(number, Phase::Reading, Phase::Taken);
        self.taken.insert(place, Taken { number, reply: None });
        self.changed = true;
        let ticket = Ticket { slot: place, number };
        match request.and_then(|bytes| Request::from_bytes(&bytes)) {
            Ok(request) => self.crew.submit(ticket, request),
            Err(error) => self.answer(ticket, Err(error.into())),
        }
    }

    fn answer(&mut self, ticket: Ticket, reply: Reply) {
        self.changed = true;
        let bytes = reply_to_bytes(&reply).or_else(|error| reply_to_bytes(&Err(error.into())));
        match bytes {
            Ok(bytes) => self.write(ticket, Phase::Taken, bytes),
            // There is no memory for a few bytes either.
            Err(_) => self.exhausted = true,
        }
    }

    /// Writes a reply into the slot of a request, if it waits in `phase`.
    fn write(&mut self, ticket: Ticket, phase: Phase, reply: Vec<u8>) {
        let (slot, number) = (&self.slots[ticket.slot], ticket.number);
        if !slot.change(number, phase, Phase::Answering) {
            // Withdrawn; `tend` sees it too where another request has the slot by now.
            return;
        }
        let room = match slot.message() {
            _ if reply.len() <= MESSAGE => None,
            (0, _) => None,
            (handle, _) => Segment::attach(handle).filter(|segment| segment.size() >= reply.len()).map(|s| (s, handle)),
        };
        match room {
            Some((segment, handle)) => {
                segment.write(&reply);
                slot.set_message(handle, reply.len());
            }
            None if reply.len() <= MESSAGE => slot.write(&reply),
            None => {
                let (handle, _) = slot.message();
                slot.set_message(handle, reply.len());
                if let Some(taken) = self.taken.get_mut(&ticket.slot) {
                    taken.reply = Some(reply);
                }
                slot.change(number, Phase::Answering, Phase::NeedsRoom);
                return slot.wake();
            }
        }
        self.taken.remove(&ticket.slot);
        slot.change(number, Phase::Answering, Phase::Answered);
        slot.wake();
    }

    /// Publishes what has been done.
    fn count(&self) {
        let (there, from) = (&self.worker.counts, &self.crew.counts);
        let (requests, waiting) = self.crew.load();
        let (models, bytes) = self.crew.loaded();
        for (to, value) in [
            (&there.models, models as u64),
            (&there.bytes, bytes),
            (&there.waiting, waiting as u64),
            (&there.running, (requests - waiting) as u64),
            (&there.requests, from.requests.load(Relaxed)),
            (&there.failed, from.failed.load(Relaxed)),
            (&there.withdrawn, from.withdrawn.load(Relaxed)),
            (&there.runs, from.runs.load(Relaxed)),
            (&there.rows, from.rows.load(Relaxed)),
            (&there.max_batch, from.max_batch.load(Relaxed)),
            (&there.waited, from.waited.load(Relaxed)),
            (&there.busy, from.busy.load(Relaxed)),
        ] {
            to.store(value, Relaxed);
        }
    }
}

fn no_segment() -> Error {
    Error::Internal("the segment of a request to a model worker is gone".into())
}
