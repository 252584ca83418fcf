//! What waits for a lane, and what a lane that is free takes.
//!
//! Small requests go before large ones: each kind has as many lanes as there are processors, so that a long one never makes a short one wait.
//! Texts of several small requests run together where they have one model, one party and about one length. Large ones are run in parts, in
//! turn. A small run that turns out to take long ([`Queue::demote_slow`]) makes room for another.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ndarray::Array2;

use crate::request::{Answer, Failure, Reply, Request, RunsWork, TextWork, Vectors, Work};
use embedding::text_graph::{MAX_SPLIT, MAX_TOKENS_PER_RUN};
use onnx::runner::Ran;
use onnx::tensor::Tensor;
use runtime::error::Error;
use runtime::memory;

/// A request of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    pub slot: usize,
    /// Differs for each request of the slot.
    pub number: u64,
}

/// Texts with more tokens, padding included, are not small.
const MAX_SMALL_TOKENS: usize = 512;
/// Nor is a run with more values.
const MAX_SMALL_VALUES: usize = 4096;

/// A small run that takes longer does not count as one, nor a large one: others get its place.
const SLOW_SMALL: Duration = Duration::from_millis(200);
const SLOW_LARGE: Duration = Duration::from_secs(2);

/// So many of those. Who holds more connections than this can keep others waiting.
pub const MAX_SLOW: usize = 64;

struct Job {
    graph: Arc<PathBuf>,
    work: Work,
    threads: usize,
    arrived: Instant,
    /// Whether no other small request was there when it came.
    found_idle: bool,
    /// Texts or runs that were not taken yet begin here.
    next: usize,
    /// Texts or runs without a result.
    unfinished: usize,
    /// Lanes that work on it.
    running: usize,
    /// The size of the graph, for a request that loads it.
    bytes: u64,
    vectors: Vectors,
    runs: Vec<Ran>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Small,
    Large,
    /// Was one of these.
    Slow,
}

/// The number of a batch.
pub type BatchId = u64;

/// What a lane runs at a time.
pub struct Batch {
    pub id: BatchId,
    pub graph: Arc<PathBuf>,
    /// Use all processors.
    pub wide: bool,
    pub parts: Vec<Part>,
}

/// Texts or runs of one request, by number.
#[derive(Clone)]
pub struct Part {
    pub ticket: Ticket,
    pub work: Work,
    pub units: Range<usize>,
}

/// The results of a part.
pub enum Results {
    Opened(u64),
    Vectors(Array2<f32>),
    Runs(Vec<Vec<Tensor>>),
}

/// How a part of a batch ended: its results, and how long they took.
pub type Ended = Result<(Results, Duration), Failure>;

struct Running {
    class: Class,
    tickets: Vec<Ticket>,
    since: Instant,
}

/// How long a request waited for a lane, for statistics.
#[derive(Default)]
pub struct Waits {
    pub requests: u64,
    pub time: Duration,
}

/// What a worker runs at a time.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// Lanes of each kind.
    pub lanes: usize,
    /// Tokens of a run, padding included.
    pub max_tokens: usize,
    /// Tokens of a run of several small requests. A processor is as fast with some hundred as with more, and the callers wait for less.
    pub max_shared_tokens: usize,
    /// Texts of a run that are allowed even where callers allow fewer.
    pub min_batch: usize,
    /// Small requests run together if at least this share of the tokens is no padding.
    pub min_used: f64,
}

impl Capacity {
    /// A lane for each of `lanes` processors. Lanes share the tokens of a run, but not for ever: a run of few texts takes more time for each.
    pub fn of_processors(lanes: usize) -> Self {
        let lanes = lanes.max(1);
        Self {
            lanes,
            max_tokens: MAX_TOKENS_PER_RUN / lanes.min(MAX_SPLIT),
            max_shared_tokens: 256,
            min_batch: 1,
            min_used: 0.95,
        }
    }

    /// A device that is fast only with many texts at a time. Two lanes: one copies while another computes.
    pub fn of_device() -> Self {
        let max_tokens = 16 * MAX_TOKENS_PER_RUN;
        Self { lanes: 2, max_tokens, max_shared_tokens: max_tokens, min_batch: 1024, min_used: 0.5 }
    }
}

pub struct Queue {
    capacity: Capacity,
    jobs: HashMap<Ticket, Job>,
    small: VecDeque<Ticket>,
    large: VecDeque<Ticket>,
    running: HashMap<BatchId, Running>,
    batches: BatchId,
    pub waits: Waits,
}

impl Queue {
    pub fn new(capacity: Capacity) -> Self {
        Self {
            capacity,
            jobs: HashMap::new(),
            small: VecDeque::new(),
            large: VecDeque::new(),
            running: HashMap::new(),
            batches: 0,
            waits: Waits::default(),
        }
    }

    /// Requests that have no answer yet.
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// How many texts or runs of a request have their result.
    pub fn done(&self, ticket: Ticket) -> usize {
        self.jobs.get(&ticket).map_or(0, |job| units_of(&job.work) - job.unfinished)
    }

    /// Requests of which nothing runs yet.
    pub fn waiting(&self) -> usize {
        self.jobs.values().filter(|job| job.running == 0).count()
    }

    pub fn push(&mut self, ticket: Ticket, request: Request, now: Instant) {
        let units = units_of(&request.work);
        let is_small = is_small(&request.work);
        let small_running = self.busy(Class::Small) > 0;
        let runs = match &request.work {
            Work::Runs(_) => vec![(Vec::new(), Duration::ZERO); units],
            _ => Vec::new(),
        };
        let job = Job {
            graph: Arc::new(request.graph),
            work: request.work,
            threads: request.threads.max(1),
            arrived: now,
            found_idle: self.small.is_empty() && !small_running,
            next: 0,
            unfinished: units,
            running: 0,
            bytes: 0,
            vectors: Vectors::default(),
            runs,
        };
        self.jobs.insert(ticket, job);
        if is_small { &mut self.small } else { &mut self.large }.push_back(ticket);
    }

    fn busy(&self, class: Class) -> usize {
        self.running.values().filter(|running| running.class == class).count()
    }

    /// What a free lane should run now.
    pub fn take(&mut self, now: Instant) -> Option<Batch> {
        let small_busy = self.busy(Class::Small);
        if small_busy < self.capacity.lanes && !self.small.is_empty() {
            return self.take_small(self.capacity.lanes - small_busy, now);
        }
        if self.busy(Class::Large) < self.capacity.lanes { self.take_large(now) } else { None }
    }

    /// `free` lanes share what waits.
    fn take_small(&mut self, free: usize, now: Instant) -> Option<Batch> {
        let oldest = *self.small.front()?;
        let job = &self.jobs[&oldest];
        let graph = job.graph.clone();
        let tickets = match &job.work {
            Work::Texts(work) if !work.graph.depends_on_batch => self.together_with(oldest, &graph, work, free),
            _ => vec![oldest],
        };
        let alone = self.running.is_empty() && self.jobs.len() == 1;
        let wide = alone && job.found_idle && job.threads > 1 && !matches!(job.work, Work::Open);
        self.small.retain(|ticket| !tickets.contains(ticket));
        let parts = tickets.iter().filter_map(|&ticket| self.part(ticket, usize::MAX, now)).collect();
        Some(self.batch(Class::Small, graph, wide, parts, now))
    }

    /// Small requests to run with the oldest one, itself included: those nearest in length.
    fn together_with(&self, oldest: Ticket, graph: &Path, work: &TextWork, free: usize) -> Vec<Ticket> {
        let alike = |ticket: Ticket| match &self.jobs[&ticket] {
            Job { graph: other, work: Work::Texts(texts), .. }
                if other.as_path() == graph && texts.graph == work.graph && texts.party == work.party =>
            {
                Some((texts.longest(), ticket, texts.clone()))
            }
            _ => None,
        };
        let mut alike: Vec<(usize, Ticket, Arc<TextWork>)> = self.small.iter().copied().filter_map(alike).collect();
        alike.sort_by_key(|(longest, ..)| *longest);
        let Some(place) = alike.iter().position(|(_, ticket, _)| *ticket == oldest) else { return vec![oldest] };
        let share = alike.len().div_ceil(free.max(1));
        let tokens = |texts: &TextWork| (0..texts.len()).map(|i| texts.text(i).len()).sum::<usize>();
        let (mut first, mut end) = (place, place + 1);
        let (mut rows, mut used, mut max_batch) = (work.len(), tokens(work), work.max_batch);
        while end - first < share {
            let length = alike[place].0;
            let shorter = first.checked_sub(1).map(|i| (length - alike[i].0, i));
            let longer = alike.get(end).map(|(longest, ..)| (longest - length, end));
            let Some((_, next)) = shorter.into_iter().chain(longer).min() else { break };
            let (longest, _, texts) = &alike[next];
            let padded = (rows + texts.len()) * (*longest).max(alike[end - 1].0);
            let (more, batch) = (used + tokens(texts), max_batch.min(texts.max_batch));
            if rows + texts.len() > batch.max(self.capacity.min_batch)
                || padded > self.capacity.max_shared_tokens
                || (more as f64) < self.capacity.min_used * padded as f64
            {
                break;
            }
            (rows, used, max_batch) = (rows + texts.len(), more, batch);
            (first, end) = (first.min(next), end.max(next + 1));
        }
        alike[first..end].iter().map(|(_, ticket, _)| *ticket).collect()
    }

    fn take_large(&mut self, now: Instant) -> Option<Batch> {
        let place = self.large.iter().position(|ticket| self.jobs[ticket].running < self.jobs[ticket].threads)?;
        let ticket = self.large.remove(place)?;
        let job = &self.jobs[&ticket];
        let (graph, next) = (job.graph.clone(), job.next);
        let alone = self.running.is_empty() && self.jobs.len() == 1;
        let (units, wide) = match &job.work {
            Work::Open => (1, false),
            Work::Runs(work) => (1, alone && work.runs.len() == 1 && job.threads > 1),
            Work::Texts(work) if work.len() == 1 => (1, alone && job.threads > 1),
            Work::Texts(work) => {
                // A caller that may have one lane alone gets longer runs; the last texts are shared by the lanes that are free.
                let longer = self.capacity.lanes.min(MAX_SPLIT) / self.capacity.lanes.min(job.threads).min(MAX_SPLIT);
                let free = (self.capacity.lanes - self.busy(Class::Large)).min(job.threads - job.running);
                let share = work.tokens_from(next).div_ceil(free.max(1));
                (self.fitting(work, next, share.min(self.capacity.max_tokens * longer.max(1))), false)
            }
        };
        let part = self.part(ticket, units, now)?;
        if part.units.end < units_of(&part.work) {
            // In turn with others.
            self.large.push_back(ticket);
        }
        Some(self.batch(Class::Large, graph, wide, vec![part], now))
    }

    /// The texts of a run that begins with number `first`: as many as fit, padding included.
    fn fitting(&self, work: &TextWork, first: usize, max_tokens: usize) -> usize {
        let rest = work.len() - first;
        let fits = |n: usize| n * work.text(first + n - 1).len() <= max_tokens;
        let most = work.max_batch.max(self.capacity.min_batch).max(1);
        (1..=rest.min(most)).take_while(|&n| n == 1 || fits(n)).count()
    }

    /// The next `units` of a request. Every ticket that waits has its job.
    fn part(&mut self, ticket: Ticket, units: usize, now: Instant) -> Option<Part> {
        let waits = &mut self.waits;
        let job = self.jobs.get_mut(&ticket)?;
        if job.next == 0 {
            waits.requests += 1;
            waits.time += now - job.arrived;
        }
        let first = job.next;
        job.next = first.saturating_add(units).min(units_of(&job.work));
        job.running += 1;
        Some(Part { ticket, work: job.work.clone(), units: first..job.next })
    }

    fn batch(&mut self, class: Class, graph: Arc<PathBuf>, wide: bool, parts: Vec<Part>, now: Instant) -> Batch {
        self.batches += 1;
        let tickets = parts.iter().map(|part| part.ticket).collect();
        self.running.insert(self.batches, Running { class, tickets, since: now });
        Batch { id: self.batches, graph, wide, parts }
    }

    /// Takes in the results of a batch, for each of its parts, and returns the outcomes of the requests that are done.
    pub fn finish(&mut self, batch: Batch, results: Vec<Ended>) -> Vec<(Ticket, Reply)> {
        self.running.remove(&batch.id);
        let mut done = Vec::new();
        for (part, result) in batch.parts.into_iter().zip(results) {
            // Withdrawn, or failed in another part.
            let Some(job) = self.jobs.get_mut(&part.ticket) else { continue };
            job.running -= 1;
            let outcome = match result.and_then(|(results, took)| job.add(&part.units, results, took)) {
                Ok(()) if job.unfinished > 0 => continue,
                outcome => outcome,
            };
            let job = self.remove(part.ticket);
            done.extend(job.map(|job| (part.ticket, outcome.and_then(|()| job.answer()))));
        }
        done
    }

    /// Forgets a request. Returns the batches that ran for it alone: they may end.
    pub fn withdraw(&mut self, ticket: Ticket) -> Vec<BatchId> {
        self.remove(ticket);
        let is_idle = |running: &Running| running.tickets.iter().all(|ticket| !self.jobs.contains_key(ticket));
        let concerned = self.running.iter().filter(|(_, running)| running.tickets.contains(&ticket));
        concerned.filter(|(_, running)| is_idle(running)).map(|(&id, _)| id).collect()
    }

    fn remove(&mut self, ticket: Ticket) -> Option<Job> {
        self.small.retain(|other| *other != ticket);
        self.large.retain(|other| *other != ticket);
        self.jobs.remove(&ticket)
    }

    /// Makes room for others where a run takes long. Returns whether there is such room now.
    pub fn demote_slow(&mut self, now: Instant) -> bool {
        let slow = self.busy(Class::Slow);
        let is_slow = |running: &&mut Running| match running.class {
            Class::Small => now - running.since > SLOW_SMALL,
            Class::Large => now - running.since > SLOW_LARGE,
            Class::Slow => false,
        };
        let demoted = self.running.values_mut().filter(is_slow).take(MAX_SLOW.saturating_sub(slow));
        demoted.map(|running| running.class = Class::Slow).count() > 0
    }
}

impl Job {
    fn add(&mut self, units: &Range<usize>, results: Results, took: Duration) -> Result<(), Failure> {
        match results {
            Results::Opened(bytes) => self.bytes = bytes,
            Results::Vectors(vectors) => {
                let all = &mut self.vectors;
                if all.values.is_empty() {
                    all.values = memory::matrix(units_of(&self.work), vectors.ncols(), 0f32)?;
                }
                if all.values.ncols() != vectors.ncols() {
                    return Err(Error::Dimensions { left: all.values.ncols(), right: vectors.ncols() }.into());
                }
                all.values.slice_mut(ndarray::s![units.clone(), ..]).assign(&vectors);
                all.runs += 1;
                all.took += took;
            }
            Results::Runs(outputs) => {
                for (run, outputs) in self.runs[units.clone()].iter_mut().zip(outputs) {
                    *run = (outputs, took);
                }
            }
        }
        self.unfinished -= units.len();
        Ok(())
    }

    fn answer(self) -> Reply {
        Ok(match self.work {
            Work::Open => Answer::Opened(self.bytes),
            Work::Texts(_) => Answer::Vectors(self.vectors),
            Work::Runs(_) => Answer::Runs(self.runs),
        })
    }
}

fn units_of(work: &Work) -> usize {
    match work {
        Work::Open => 1,
        Work::Texts(work) => work.len(),
        Work::Runs(work) => work.runs.len(),
    }
}

fn is_small(work: &Work) -> bool {
    match work {
        Work::Open => true,
        Work::Texts(work) => work.len() * work.longest() <= MAX_SMALL_TOKENS && work.len() <= work.max_batch,
        Work::Runs(work) => {
            let values = |work: &RunsWork| work.runs.iter().flatten().map(|(_, tensor)| tensor.len()).sum::<usize>();
            work.runs.len() == 1 && values(work) <= MAX_SMALL_VALUES
        }
    }
}

#[cfg(test)]
mod tests;
