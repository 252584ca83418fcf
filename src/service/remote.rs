//! Models that run in a model worker: what a session asks of it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgrx::pg_sys;

use super::graph_file::GraphFile;
use crate::pg::latch;
use crate::pg::segment::Segment;
use crate::pg::shared::workers::{CPU, MESSAGE, Phase, Posted, Worker, own_slot, worker};
use embedding::TextGraph;
use embedding::text_graph::{Embedded, Limits, TextRunner, Texts};
use onnx::environment::EnvironmentOptions;
use onnx::runner::{Inputs, Ran, Runner};
use onnx::session::{self, Provider, RunMemory, SessionOptions};
use runtime::error::{Error, Result};
use runtime::progress::{Part, Progress};
use workers::request::{Answer, Failure, Reply, Request, RunsWork, TextWork, Vectors, Work, reply_from_bytes};

/// How often a request is posted if workers end while they run it.
const TRIES: usize = 2;
/// How often files that disappear are recreated.
const REMAKES: usize = 5;

/// How long a session waits for a worker that is being started again, and for the first start of one.
const MAX_START: Duration = Duration::from_secs(30);
const MAX_FIRST_START: Duration = Duration::from_secs(5);
/// How long it sleeps where nothing would wake it.
const INTERVAL: Duration = Duration::from_millis(10);
/// How long it sleeps before it looks how far a large request is.
const LOOK: Duration = Duration::from_millis(100);
/// How long it sleeps otherwise.
const MAX_SLEEP: Duration = Duration::from_secs(1);

/// Texts and tokens of a request. A reply of more would need a large segment, and a caller would see no progress.
const MAX_TEXTS: usize = 4096;
const MAX_TOKENS: usize = 1 << 18;

/// A model that a worker runs.
pub struct Remote {
    /// The number of the worker.
    worker: usize,
    file: GraphFile,
    options: SessionOptions,
    /// Where the worker loads the graph from.
    graph: PathBuf,
    bytes: u64,
    /// The dimensions of its vectors, once known.
    dimensions: usize,
}

/// The hash of the settings of a worker that a session may have changed for itself.
pub fn settings_hash(options: &EnvironmentOptions) -> u64 {
    let mut hash = DefaultHasher::new();
    options.hash(&mut hash);
    hash.finish()
}

/// Whether the worker for the CPU runs at the moment, as `options` say: a session that runs models itself may ask it instead.
pub fn is_available(options: &SessionOptions) -> bool {
    worker(CPU).is_some_and(|worker| is_running_as(worker, options))
}

fn is_running_as(worker: &Worker, options: &SessionOptions) -> bool {
    worker.is_running() && worker.settings() == settings_hash(&options.environment)
}

/// Whether worker `number` runs models as `options` say. Waits for one that is being started.
fn is_there(number: usize, options: &SessionOptions, progress: &dyn Progress) -> Result<bool> {
    let Some(worker) = worker(number) else { return Ok(false) };
    let most = if worker.has_started() { MAX_START } else { MAX_FIRST_START };
    if !worker.is_running() && !worker.is_missing() && !wait_for_start(number, most, progress)? {
        // PostgreSQL has no process for it. The other sessions need not wait.
        worker.set_missing();
    }
    Ok(is_running_as(worker, options))
}

impl Remote {
    /// A graph, whose file in the cache is `source`, loaded by the worker for the CPU; `None` if there is none.
    pub fn on_cpu(
        file: &GraphFile,
        source: &Path,
        options: &SessionOptions,
        progress: &dyn Progress,
    ) -> Result<Option<Self>> {
        if !is_there(CPU, options, progress)? {
            return Ok(None);
        }
        Self::open(CPU, file, source, options, progress).map(Some)
    }

    /// [`on_cpu`](Self::on_cpu) for the worker of the CUDA device.
    pub fn on_cuda(
        file: &GraphFile,
        source: &Path,
        options: &SessionOptions,
        progress: &dyn Progress,
    ) -> Result<Option<Self>> {
        let number = CPU + 1 + options.device_id.max(0) as usize;
        if !is_there(number, options, progress)? {
            return Ok(None);
        }
        Self::open(number, file, source, options, progress).map(Some)
    }

    fn open(
        worker: usize,
        file: &GraphFile,
        source: &Path,
        options: &SessionOptions,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let (file, options) = (file.clone(), options.clone());
        let mut remote = Self { worker, file, options, graph: PathBuf::new(), bytes: 0, dimensions: 0 };
        remote.graph = remote.ready(source, progress)?;
        match remote.ask(Work::Open, 0, progress)? {
            Answer::Opened(bytes) => remote.bytes = bytes,
            _ => return Err(unexpected()),
        }
        Ok(remote)
    }

    /// Where the worker finds the graph: it loads only what has been prepared or tried.
    fn ready(&self, source: &Path, progress: &dyn Progress) -> Result<PathBuf> {
        if self.worker == CPU {
            return session::prepare(&self.file.entry.name, source, &self.options, progress);
        }
        session::try_on_cuda(&self.file.entry.name, source, &self.options, progress)?;
        Ok(source.to_owned())
    }

    /// Asks the worker. `room` is the bytes of the reply, if known.
    fn ask(&mut self, work: Work, room: usize, progress: &dyn Progress) -> Result<Answer> {
        let mut request = Request { graph: self.graph.clone(), work, threads: self.options.threads };
        let mut remakes = 0;
        loop {
            match self.reply(&request.to_bytes()?, room, progress)? {
                Ok(answer) => return Ok(answer),
                // Another session has removed the files, as reco.drop_model does: they are created again.
                Err(Failure::Gone) if remakes < REMAKES => {
                    remakes += 1;
                    match self.remake(progress) {
                        // They were removed while they were made.
                        Err(Error::File { .. } | Error::ModelRun { .. }) if remakes < REMAKES => {}
                        remade => remade?,
                    }
                    request.graph = self.graph.clone();
                }
                Err(failure) => return Err(self.error(failure)),
            }
        }
    }

    fn remake(&mut self, progress: &dyn Progress) -> Result<()> {
        let gone = || Error::ModelRun { model: self.file.entry.name.clone(), reason: "it is gone".into() };
        let source = self.file.find(progress)?.ok_or_else(gone)?;
        self.graph = self.ready(&source, progress)?;
        Ok(())
    }

    fn reply(&self, request: &[u8], room: usize, progress: &dyn Progress) -> Result<Reply> {
        for _ in 0..TRIES {
            if let Some(reply) = exchange(self.worker, request, room, progress)? {
                return reply_from_bytes(&reply);
            }
        }
        Err(Error::WorkerEnded(self.file.entry.name.clone()))
    }

    fn error(&self, failure: Failure) -> Error {
        let failed = |reason: String| Error::ModelRun { model: self.file.entry.name.clone(), reason };
        match failure {
            Failure::Run(reason) => failed(reason),
            Failure::Gone => failed("its files in the cache were removed again and again".into()),
            Failure::Memory(reason) => Error::Resources(reason),
            Failure::NoCuda(reason) => Error::CudaMissing(reason),
            Failure::NoRuntime(reason) => {
                Error::RuntimeMissing { path: self.options.environment.library.display().to_string(), reason }
            }
            Failure::Internal(reason) => Error::Internal(reason),
        }
    }

    /// Whose requests may run together with this one. A graph sees all texts of a run: one that somebody else made could tell them to another
    /// caller. A superuser's is trusted.
    fn party(&self) -> u64 {
        // SAFETY: look-ups of roles, and plain reads.
        unsafe {
            if pg_sys::superuser_arg(self.file.entry.stamp.owner) {
                return 0;
            }
            let mut hash = DefaultHasher::new();
            (pg_sys::MyDatabaseId.to_u32(), pg_sys::GetUserId().to_u32(), pg_sys::GetOuterUserId().to_u32())
                .hash(&mut hash);
            hash.finish().max(1)
        }
    }

    fn runs(
        &mut self,
        runs: Vec<Inputs>,
        wanted: &[&str],
        give_back: bool,
        progress: &dyn Progress,
    ) -> Result<Vec<Ran>> {
        let count = runs.len();
        let named = |run: Inputs| run.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect();
        let wanted = wanted.iter().map(|&output| output.to_owned()).collect();
        let work = RunsWork { runs: runs.into_iter().map(named).collect(), wanted, give_back };
        match self.ask(Work::Runs(Arc::new(work)), 0, &Silent(progress))? {
            Answer::Runs(runs) if runs.len() == count => Ok(runs),
            _ => Err(unexpected()),
        }
    }
}

impl Runner for Remote {
    fn model(&self) -> &str {
        &self.file.entry.name
    }

    fn provider(&self) -> Provider {
        if self.worker == CPU { Provider::Cpu } else { Provider::Cuda }
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn run(&mut self, inputs: Inputs, wanted: &[&str], memory: RunMemory, progress: &dyn Progress) -> Result<Ran> {
        let runs = self.runs(vec![inputs], wanted, memory == RunMemory::GiveBack, progress)?;
        runs.into_iter().next().ok_or_else(unexpected)
    }

    fn run_each(
        &mut self,
        runs: Vec<Inputs>,
        wanted: &[&str],
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<Vec<Ran>> {
        if runs.is_empty() {
            return Ok(Vec::new());
        }
        self.options.threads = threads;
        self.runs(runs, wanted, false, progress)
    }
}

impl TextRunner for Remote {
    fn embed(
        &mut self,
        graph: &TextGraph,
        texts: &Texts,
        limits: Limits,
        progress: &dyn Progress,
        take: &mut (dyn FnMut(Embedded) -> Result<()> + Send),
    ) -> Result<()> {
        self.options.threads = limits.threads;
        let party = self.party();
        let all = texts.counts.iter().sum();
        let (mut first, mut done) = (0, 0);
        while first < texts.tokens.len() {
            let mut tokens = 0;
            let fits = |text: &&&[u32]| {
                tokens += text.len();
                tokens <= MAX_TOKENS
            };
            let count = texts.tokens[first..].iter().take(MAX_TEXTS).take_while(fits).count().max(1);
            let work = TextWork::new(graph.clone(), limits.max_batch, party, &texts.tokens[first..first + count])?;
            let part = Part { whole: progress, phase: "texts embedded", before: done, total: all };
            // What is besides the vectors takes some numbers.
            let room = count * self.dimensions * size_of::<f32>() + 64;
            match self.ask(Work::Texts(Arc::new(work)), room, &part)? {
                Answer::Vectors(Vectors { values, runs, took }) if values.nrows() == count => {
                    self.dimensions = values.ncols();
                    take(Embedded { first, vectors: values, runs, took })?;
                }
                _ => return Err(unexpected()),
            }
            done += texts.counts[first..first + count].iter().sum::<usize>();
            first += count;
            if first < texts.tokens.len() {
                progress.report("texts embedded", done, all);
            }
        }
        Ok(())
    }
}

/// Reports nothing: what runs within a call is no unit of the call's own.
struct Silent<'a>(&'a dyn Progress);

impl Progress for Silent<'_> {
    fn check(&self) -> Result<()> {
        self.0.check()
    }
}

fn unexpected() -> Error {
    Error::Internal("a model worker answered another question".into())
}

/// Posts a request to worker `number` and waits for the reply. `None` if the worker ended.
fn exchange(number: usize, request: &[u8], room: usize, progress: &dyn Progress) -> Result<Option<Vec<u8>>> {
    if !wait_for_start(number, MAX_START, progress)? {
        return Ok(None);
    }
    let slot = loop {
        match own_slot() {
            Some(slot) => break slot,
            None => rest(INTERVAL, progress)?,
        }
    };
    // Dropped after the request is withdrawn.
    let mut segment = None;
    if request.len().max(room) > MESSAGE {
        let made = Segment::create(request.len().max(room))?;
        made.write(request);
        slot.set_message(made.handle(), request.len());
        segment = Some(made);
    } else {
        slot.write(request);
    }
    let posted = Posted::new(slot, number)?;
    let mut reported = 0;
    loop {
        let (number, phase) = slot.state();
        if number != posted.number {
            return Err(Error::Internal("a slot of a model worker is used by another call".into()));
        }
        match phase {
            Phase::Answered => {
                let (handle, size) = slot.message();
                let reply = match &segment {
                    Some(segment) if segment.handle() == handle => segment.read(size)?,
                    _ => slot.read(size).to_vec(),
                };
                return Ok(Some(reply));
            }
            Phase::NeedsRoom => {
                let (_, size) = slot.message();
                let made = Segment::create(size)?;
                slot.set_message(made.handle(), size);
                segment = Some(made);
                slot.change(number, Phase::NeedsRoom, Phase::RoomMade);
                posted.worker.wake();
            }
            _ if posted.is_lost() => return Ok(None),
            _ => {}
        }
        let done = slot.done();
        if done > reported {
            reported = done;
            progress.report("units done", done, 0);
        }
        rest(if segment.is_some() { LOOK } else { MAX_SLEEP }, progress)?;
    }
}

/// Waits for a worker that is being started. Returns whether it runs.
fn wait_for_start(number: usize, most: Duration, progress: &dyn Progress) -> Result<bool> {
    let began = Instant::now();
    while !worker(number).is_some_and(Worker::is_running) {
        if began.elapsed() > most {
            return Ok(false);
        }
        rest(INTERVAL, progress)?;
    }
    Ok(true)
}

fn rest(time: Duration, progress: &dyn Progress) -> Result<()> {
    latch::wait(time);
    progress.check()
}
