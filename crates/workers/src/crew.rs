//! The threads of a worker, which run what waits, and what they share with its main thread.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::Thread;
use std::time::{Duration, Instant};

use ndarray::{Array2, s};

use crate::graphs::Graphs;
pub use crate::graphs::{Open, Opened, Width};
pub use crate::lane::{End, Lane};
use crate::queue::{Batch, BatchId, Capacity, Ended, MAX_SLOW, Part, Queue, Results, Ticket};
use crate::request::{Failure, Reply, Request, TextWork, Work};
use onnx::runner::Inputs;
use onnx::session::RunMemory;
use onnx::tensor::Tensor;
use runtime::error::Result;
use runtime::memory;
use runtime::parallel::{locked, spawn, with_helpers};

/// Memory that must be available for a run: ONNX Runtime may crash where it gets none.
const NEEDED_TO_RUN: usize = 64 << 20;

/// What has been done, for statistics.
#[derive(Default)]
pub struct Counts {
    pub runs: AtomicU64,
    /// Texts, images or other rows of those runs.
    pub rows: AtomicU64,
    pub max_batch: AtomicU64,
    /// Nanoseconds of all lanes.
    pub busy: AtomicU64,
    /// Nanoseconds that requests waited for a lane.
    pub waited: AtomicU64,
    pub requests: AtomicU64,
    pub failed: AtomicU64,
    pub withdrawn: AtomicU64,
}

/// The outcome of a request.
pub type Outcome = (Ticket, Reply);

/// The runs of all lanes, and the batches that nobody waits for any more.
#[derive(Default)]
struct Running {
    runs: Vec<(BatchId, Arc<dyn End>)>,
    ended: Vec<BatchId>,
}

/// Shared by the main thread and the lanes.
pub struct Crew<'a> {
    queue: Mutex<Queue>,
    /// The lanes that wait, the last one to have run last. It is the first to run again: its processor still knows it.
    idle: Mutex<Vec<Thread>>,
    stopped: AtomicBool,
    /// The CUDA device is of no use to this process any more.
    broken: AtomicBool,
    running: Mutex<Running>,
    graphs: Mutex<Graphs>,
    budget: AtomicU64,
    finished: Mutex<Vec<Outcome>>,
    pub counts: Counts,
    open: &'a Open<'a>,
    /// Wakes the main thread.
    wake: &'a (dyn Fn() + Sync),
    /// Called where a lane begins and ends a run.
    works: &'a (dyn Fn(bool) + Sync),
}

/// Runs `body` with a crew, whose lanes are stopped and joined before it returns or unwinds.
pub fn with_crew<T>(
    capacity: Capacity,
    open: &Open,
    wake: &(dyn Fn() + Sync),
    works: &(dyn Fn(bool) + Sync),
    body: impl FnOnce(&Crew) -> Result<T>,
) -> Result<T> {
    let crew = Crew {
        queue: Mutex::new(Queue::new(capacity)),
        idle: Mutex::default(),
        stopped: AtomicBool::new(false),
        broken: AtomicBool::new(false),
        running: Mutex::default(),
        graphs: Mutex::default(),
        budget: AtomicU64::new(u64::MAX),
        finished: Mutex::default(),
        counts: Counts::default(),
        open,
        wake,
        works,
    };
    struct StopOnDrop<'a, 'b>(&'a Crew<'b>);
    impl Drop for StopOnDrop<'_, '_> {
        fn drop(&mut self) {
            self.0.stop();
        }
    }
    let run = || {
        std::thread::scope(|scope| {
            let _stop = StopOnDrop(&crew);
            // Lanes for small requests, for large ones, and for those that turn out to be slow.
            for _ in 0..capacity.lanes * 2 + MAX_SLOW {
                spawn(scope, || crew.work())?;
            }
            body(&crew)
        })
    };
    with_helpers(&|| crew.stop(), run)
}

impl Crew<'_> {
    fn stop(&self) {
        self.stopped.store(true, SeqCst);
        locked(&self.running).runs.iter().for_each(|(_, run)| run.end());
        locked(&self.idle).drain(..).for_each(|lane| lane.unpark());
    }

    /// Something waits, or a lane may take what it could not before.
    fn call_a_lane(&self) {
        let lane = locked(&self.idle).pop();
        lane.inspect(Thread::unpark);
    }

    /// Whether this process must end: no later run on its device can succeed.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Relaxed)
    }

    pub fn submit(&self, ticket: Ticket, request: Request) {
        self.counts.requests.fetch_add(1, Relaxed);
        locked(&self.queue).push(ticket, request, Instant::now());
        self.call_a_lane();
    }

    /// Forgets a request. Its run ends if no other request is in it.
    pub fn withdraw(&self, ticket: Ticket) {
        self.counts.withdrawn.fetch_add(1, Relaxed);
        let idle = locked(&self.queue).withdraw(ticket);
        let mut running = locked(&self.running);
        running.runs.iter().filter(|(batch, _)| idle.contains(batch)).for_each(|(_, run)| run.end());
        running.ended.extend(idle);
    }

    /// The outcomes since the last call.
    pub fn finished(&self) -> Vec<Outcome> {
        std::mem::take(&mut locked(&self.finished))
    }

    /// To be called about every tenth of a second while something runs, and now and then while nothing does. `budget` is the bytes of graphs to
    /// keep.
    pub fn tend(&self, budget: u64) {
        self.budget.store(budget, Relaxed);
        if locked(&self.queue).demote_slow(Instant::now()) {
            self.call_a_lane();
        }
        let unloaded = locked(&self.graphs).unload(budget);
        drop(unloaded);
    }

    /// How many texts or runs of a request have their result.
    pub fn done(&self, ticket: Ticket) -> usize {
        locked(&self.queue).done(ticket)
    }

    /// Requests without an answer, and how many of them wait for a lane.
    pub fn load(&self) -> (usize, usize) {
        let queue = locked(&self.queue);
        (queue.len(), queue.waiting())
    }

    /// The number of loaded graphs, and their bytes.
    pub fn loaded(&self) -> (usize, u64) {
        let graphs = locked(&self.graphs);
        (graphs.len(), graphs.total_bytes())
    }

    fn work(&self) {
        while let Some(batch) = self.next() {
            let began = Instant::now();
            (self.works)(true);
            let results = catch_unwind(AssertUnwindSafe(|| self.run(&batch)))
                .unwrap_or_else(|panic| all_failed(&batch, panicked(&*panic)));
            (self.works)(false);
            self.counts.busy.fetch_add(began.elapsed().as_nanos() as u64, Relaxed);
            if results.iter().any(|ended| matches!(ended, Err(Failure::Run(reason)) if is_sticky(reason))) {
                // The process ends, and who waits asks the next one.
                self.broken.store(true, Relaxed);
                return (self.wake)();
            }
            let id = batch.id;
            let mut queue = locked(&self.queue);
            let done = queue.finish(batch, results);
            self.counts.waited.store(queue.waits.time.as_nanos() as u64, Relaxed);
            drop(queue);
            locked(&self.running).ended.retain(|ended| *ended != id);
            // Its place is free for what another lane may not take yet.
            self.call_a_lane();
            if !done.is_empty() {
                let failed = done.iter().filter(|(_, outcome)| outcome.is_err()).count();
                self.counts.failed.fetch_add(failed as u64, Relaxed);
                locked(&self.finished).extend(done);
                (self.wake)();
            }
        }
    }

    /// Waits for something to run; `None` once the crew is stopped.
    fn next(&self) -> Option<Batch> {
        let this = std::thread::current();
        loop {
            // In the list first: whoever changes something after the look below wakes it.
            locked(&self.idle).push(this.clone());
            let batch = if self.stopped.load(SeqCst) { None } else { locked(&self.queue).take(Instant::now()) };
            if batch.is_none() && !self.stopped.load(SeqCst) {
                std::thread::park();
            }
            locked(&self.idle).retain(|lane| lane.id() != this.id());
            if self.stopped.load(SeqCst) {
                return None;
            }
            if batch.is_some() {
                // There may be more.
                self.call_a_lane();
                return batch;
            }
        }
    }

    fn run(&self, batch: &Batch) -> Vec<Ended> {
        if let [Part { work: Work::Open, .. }] = batch.parts.as_slice() {
            return vec![self.open_graph(&batch.graph).map(|bytes| (Results::Opened(bytes), Duration::ZERO))];
        }
        let width = if batch.wide { Width::All } else { Width::One };
        self.with_lane(&batch.graph, width, |lane| self.run_on(lane, batch))
            .unwrap_or_else(|failure| all_failed(batch, failure))
    }

    /// Loads a graph unless it is, and returns its bytes.
    fn open_graph(&self, graph: &Path) -> std::result::Result<u64, Failure> {
        let bytes = || locked(&self.graphs).bytes(graph);
        match bytes() {
            Some(bytes) => Ok(bytes),
            None => self.with_lane(graph, Width::One, |_| bytes().unwrap_or_default()),
        }
    }

    /// Calls `body` with a session of the graph, loaded unless one is idle.
    fn with_lane<T>(
        &self,
        graph: &Path,
        width: Width,
        body: impl FnOnce(&mut dyn Lane) -> T,
    ) -> std::result::Result<T, Failure> {
        struct GiveBack<'a, 'b>(&'a Crew<'b>, &'a Path, Width, Option<Box<dyn Lane>>);
        impl Drop for GiveBack<'_, '_> {
            fn drop(&mut self) {
                let mut graphs = locked(&self.0.graphs);
                graphs.give_back(self.1, self.2, self.3.take());
                let unloaded = graphs.unload(self.0.budget.load(Relaxed));
                drop(graphs);
                drop(unloaded);
            }
        }
        let idle = locked(&self.graphs).take(graph, width);
        let mut taken = GiveBack(self, graph, width, idle);
        if taken.3.is_none() {
            let opened = (self.open)(graph, width)?;
            locked(&self.graphs).opened(graph, opened.bytes);
            taken.3 = Some(opened.lane);
        }
        match taken.3.as_deref_mut() {
            Some(lane) => Ok(body(lane)),
            None => Err(Failure::Internal("a lane has no session".into())),
        }
    }

    fn run_on(&self, lane: &mut dyn Lane, batch: &Batch) -> Vec<Ended> {
        let began = Instant::now();
        match self.run_texts(lane, batch.id, &batch.parts) {
            Some(Ok(vectors)) => {
                let rows = vectors.nrows().max(1);
                let took = began.elapsed();
                let mut first = 0;
                let parts = batch.parts.iter().map(|part| {
                    let end = first + part.units.len();
                    let found = vectors.slice(s![first..end, ..]).to_owned();
                    first = end;
                    Ok((Results::Vectors(found), took.mul_f64(part.units.len() as f64 / rows as f64)))
                });
                parts.collect()
            }
            // One of several may be to blame: each runs by itself.
            Some(Err(_)) if batch.parts.len() > 1 && !self.stopped.load(SeqCst) => {
                let parts = batch.parts.iter().map(|part| {
                    let began = Instant::now();
                    let vectors = self.run_texts(lane, batch.id, std::slice::from_ref(part));
                    let vectors = vectors.unwrap_or_else(|| Err(Failure::Internal("no texts".into())))?;
                    Ok((Results::Vectors(vectors), began.elapsed()))
                });
                parts.collect()
            }
            Some(Err(failure)) => all_failed(batch, failure),
            None => batch.parts.iter().map(|part| self.run_part(lane, batch.id, part)).collect(),
        }
    }

    /// The vectors of all parts; `None` where they are no texts.
    fn run_texts(
        &self,
        lane: &mut dyn Lane,
        batch: BatchId,
        parts: &[Part],
    ) -> Option<std::result::Result<Array2<f32>, Failure>> {
        let works: Option<Vec<&TextWork>> = parts
            .iter()
            .map(|part| match &part.work {
                Work::Texts(work) => Some(&**work),
                _ => None,
            })
            .collect();
        let works = works?;
        let graph = &works.first()?.graph;
        let texts = works.iter().zip(parts).flat_map(|(work, part)| part.units.clone().map(|text| work.text(text)));
        let texts: Vec<&[u32]> = texts.collect();
        let mut run = || {
            let outputs =
                self.once(lane, batch, texts.len(), graph.inputs(&texts)?, &[&graph.output], RunMemory::Keep)?;
            graph.vectors(&texts, outputs)
        };
        Some(run().map_err(Failure::from))
    }

    fn run_part(&self, lane: &mut dyn Lane, batch: BatchId, part: &Part) -> Ended {
        let began = Instant::now();
        let results = match &part.work {
            Work::Open | Work::Texts(_) => return Err(Failure::Internal("a batch of several kinds".into())),
            Work::Runs(work) => {
                let wanted: Vec<&str> = work.wanted.iter().map(String::as_str).collect();
                let memory = if work.give_back { RunMemory::GiveBack } else { RunMemory::Keep };
                let run = |run: &crate::request::NamedInputs| {
                    let inputs = run.iter().map(|(name, tensor)| (name.as_str(), tensor.clone())).collect();
                    let rows = run.first().and_then(|(_, tensor)| tensor.shape().first().copied()).unwrap_or(1);
                    self.once(lane, batch, rows, inputs, &wanted, memory)
                };
                Results::Runs(work.runs[part.units.clone()].iter().map(run).collect::<Result<_>>()?)
            }
        };
        Ok((results, began.elapsed()))
    }

    fn once(
        &self,
        lane: &mut dyn Lane,
        batch: BatchId,
        rows: usize,
        inputs: Inputs,
        wanted: &[&str],
        memory: RunMemory,
    ) -> Result<Vec<Tensor>> {
        struct Forget<'a, 'b>(&'a Crew<'b>, BatchId);
        impl Drop for Forget<'_, '_> {
            fn drop(&mut self) {
                locked(&self.0.running).runs.retain(|(batch, _)| *batch != self.1);
            }
        }
        self.counts.runs.fetch_add(1, Relaxed);
        self.counts.rows.fetch_add(rows as u64, Relaxed);
        self.counts.max_batch.fetch_max(rows as u64, Relaxed);
        memory::require(NEEDED_TO_RUN)?;
        let _forget = Forget(self, batch);
        lane.run(inputs, wanted, memory, &|run| {
            let mut running = locked(&self.running);
            running.runs.push((batch, run.clone()));
            // Whoever ends it sees the run in the list, or is seen here.
            if self.stopped.load(SeqCst) || running.ended.contains(&batch) {
                run.end();
            }
        })
    }
}

/// Whether an error of ONNX Runtime is one of those after which every call of CUDA fails.
fn is_sticky(reason: &str) -> bool {
    const ERRORS: [&str; 7] = [
        "illegal memory access",
        "misaligned address",
        "illegal instruction",
        "invalid program counter",
        "unspecified launch failure",
        "device-side assert",
        "uncorrectable ECC error",
    ];
    reason.contains("CUDA") && ERRORS.iter().any(|error| reason.contains(error))
}

fn all_failed(batch: &Batch, failure: Failure) -> Vec<Ended> {
    batch.parts.iter().map(|_| Err(failure.clone())).collect()
}

fn panicked(panic: &(dyn Any + Send)) -> Failure {
    let said = panic.downcast_ref::<&str>().map(|s| s.to_string()).or_else(|| panic.downcast_ref::<String>().cloned());
    Failure::Internal(format!("a lane failed: {}", said.unwrap_or_default()))
}

#[cfg(test)]
pub mod tests;
