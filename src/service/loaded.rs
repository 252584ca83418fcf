//! The models that this backend has loaded. They are looked up by name at each call, and loaded if missing or outdated.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Instant, SystemTime};

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode};

use crate::pg::settings;
use crate::pg::shared::models;
use crate::service::cache;
use crate::service::catalog;
use crate::service::catalog::{DATA_FILE, Entry, ONNX_FILE, Privilege, Stamp, TOKENIZER_FILE, Task};
use crate::service::graph_file::{GraphFile, GraphKind};
use crate::service::precision::{self, Vectors};
use crate::service::selection::{self, QueryRun, Selectable, Selection};
use crate::service::{remote, runners};
use embedding::text_graph::{Limits, TextRunner};
use embedding::trial::{image_vectors, text_vectors};
use embedding::{
    CrossEncoder, ImageConfig, ImageEmbedder, PairConfig, PairTokenizer, TextConfig, TextEmbedder, TextTokenizer,
};
use interactions::Signals;
use onnx::environment;
use onnx::inspect::Signature;
use onnx::runner::Runner;
use onnx::session::{Execution, NotOnCuda, Provider, RunMemory, SessionOptions};
use onnx::tensor::Tensor;
use runtime::error::{Error, Result};
use runtime::progress::{Progress, Run, SCAN};

use runtime::sealed;
use search::Fusion;
use synthesis::RunGraph;

/// A loaded model. State that a run changes is in a cell: a backend runs one call at a time.
pub enum Ready {
    Text(Box<RefCell<TextEmbedder>>),
    Image(RefCell<ImageEmbedder>),
    Pair(Box<RefCell<CrossEncoder>>),
    Recommender(Box<Recommender>),
    Synthesizer(Box<Synthesizer>),
    Search(Box<SearchIndex>),
    Predictor(Box<Predictor>),
    Graph(RefCell<Graph>),
}

impl Ready {
    pub fn task(&self) -> Task {
        match self {
            Self::Text(_) => Task::TextEmbedding,
            Self::Image(_) => Task::ImageEmbedding,
            Self::Pair(_) => Task::TextPair,
            Self::Recommender(_) => Task::Recommendation,
            Self::Synthesizer(_) => Task::Synthesis,
            Self::Search(_) => Task::Search,
            Self::Predictor(_) => Task::Prediction,
            Self::Graph(_) => Task::Predict,
        }
    }

    /// The provider, as in `reco.stat_models`.
    pub fn provider(&self) -> &'static str {
        match self {
            Self::Text(model) => model.borrow().runner().provider().name(),
            Self::Image(model) => model.borrow().runner().provider().name(),
            Self::Pair(model) => model.borrow().runner().provider().name(),
            Self::Recommender(_) | Self::Search(_) | Self::Predictor(_) => SCAN,
            Self::Synthesizer(model) => model.runner.as_ref().map_or(SCAN, |s| s.borrow().provider().name()),
            Self::Graph(graph) => graph.borrow().runner.provider().name(),
        }
    }
}

pub struct Recommender {
    pub entry: Entry,
    pub model: recommendation::Model,
    /// How a history is read.
    pub signals: Signals,
    /// What makes lists on CUDA, and the settings that it was opened with.
    device: RefCell<Option<(SessionOptions, Box<dyn TextRunner>)>>,
}

impl Recommender {
    /// The items, for filters and groups.
    pub fn select(
        &self,
        filter: Option<&str>,
        group_by: Option<&str>,
        run: QueryRun,
        progress: &dyn Progress,
    ) -> Result<Rc<Selection>> {
        let ids = self.model.item_ids();
        let items = Selectable {
            entry: &self.entry,
            query: self.entry.config["items"].as_str(),
            id: "item_id",
            missing: "items => 'SELECT item_id, … FROM …'",
            len: ids.len(),
            find: &|id| ids.find(id),
        };
        selection::select(&items, filter, group_by, run, progress)
    }

    /// Whether lists are made on CUDA: where it was chosen, and scores are inner products. On the CPU they are exact and fast, so `auto` is not
    /// such a choice.
    fn is_on_cuda(&self) -> bool {
        settings::session_options().execution == Execution::Cuda && self.model.has_product()
    }

    /// What lists are made by, as in `reco.stat_models`.
    pub fn provider(&self) -> &'static str {
        if self.is_on_cuda() { Provider::Cuda.name() } else { SCAN }
    }

    /// Calls `body` with what makes lists on CUDA, if they are made there.
    pub fn with_device<T>(
        &self,
        progress: &dyn Progress,
        body: impl FnOnce(Option<&mut dyn Runner>) -> Result<T>,
    ) -> Result<T> {
        if !self.is_on_cuda() {
            return body(None);
        }
        let options = settings::session_options();
        let mut device = self.device.borrow_mut();
        if device.as_ref().is_none_or(|(opened, _)| *opened != options) {
            *device = None;
            let graph = GraphFile::new(&self.entry, GraphKind::Product);
            let file = graph.find(progress)?.ok_or_else(|| Error::Internal("a model has no product".into()))?;
            *device = Some((options.clone(), runners::on_cuda(&graph, &file, &options, progress)?));
        }
        body(device.as_mut().map(|(_, runner)| &mut **runner as &mut dyn Runner))
    }
}

pub struct SearchIndex {
    pub entry: Entry,
    pub model: search::Model,
    pub fusion: Fusion,
}

impl SearchIndex {
    /// The rows that a filter leaves.
    pub fn select(&self, filter: Option<&str>, run: QueryRun, progress: &dyn Progress) -> Result<Rc<Selection>> {
        let rows = Selectable {
            entry: &self.entry,
            query: self.entry.source.as_deref(),
            id: "id",
            missing: "a source",
            len: self.model.len(),
            find: &|id| self.model.find(id),
        };
        selection::select(&rows, filter, None, run, progress)
    }
}

pub struct Predictor {
    pub entry: Entry,
    pub model: prediction::Model,
}

pub struct Synthesizer {
    pub model: synthesis::model::Model,
    /// For methods that generate rows with their graph.
    runner: Option<RefCell<Box<dyn TextRunner>>>,
}

impl Synthesizer {
    /// Calls `body` with a function that runs the graph.
    pub fn run<T>(&self, progress: &dyn Progress, body: impl FnOnce(&mut RunGraph) -> Result<T>) -> Result<T> {
        let mut run = |inputs: Vec<(&'static str, Tensor)>, wanted: &[&str]| {
            let none = || Error::Internal("synthesizer has no graph to run".into());
            let runner = &mut *self.runner.as_ref().ok_or_else(none)?.borrow_mut();
            let rows = inputs.first().map_or(0, |(_, tensor)| tensor.shape().first().copied().unwrap_or(0));
            let (outputs, took) = runner.run(inputs, wanted, RunMemory::Keep, progress)?;
            progress.ran(&Run {
                runs: 1,
                model: runner.model(),
                provider: runner.provider().name(),
                rows,
                tokens: None,
                took,
            });
            Ok(outputs)
        };
        body(&mut run)
    }
}

pub struct Graph {
    pub runner: Box<dyn TextRunner>,
    pub signature: Signature,
}

struct Slot {
    stamp: Stamp,
    /// The settings of its session, which is recreated when they change; `None` without a session.
    options: Option<SessionOptions>,
    /// Whether there was a model worker for those settings when it was loaded.
    with_worker: bool,
    ready: Rc<Ready>,
    /// What counts in the budget: the size of its files, or a part of that.
    bytes: u64,
    /// Increases with each use, over all slots.
    used: u64,
}

/// Of a model that is read where all connections have mapped it, this part of its files counts: what is not mapped, and the tables of its pages.
const MAPPED: u64 = 16;

/// How often files that disappear during loading are recreated.
const TRIES: usize = 5;

/// The loaded models, within the budget `reco.cache_size`.
#[derive(Default)]
struct Slots {
    by_key: HashMap<String, Slot>,
    uses: u64,
}

impl Slots {
    fn find(&mut self, key: &str, stamp: &Stamp, options: &SessionOptions) -> Option<Rc<Ready>> {
        let slot = self.by_key.get_mut(key)?;
        let is_outdated = |o| o != options || !slot.with_worker && remote::is_available(options);
        if slot.stamp != *stamp || slot.options.as_ref().is_some_and(is_outdated) {
            return None;
        }
        self.uses += 1;
        slot.used = self.uses;
        Some(slot.ready.clone())
    }

    fn insert(&mut self, key: String, mut slot: Slot) {
        self.uses += 1;
        slot.used = self.uses;
        self.by_key.insert(key, slot);
    }

    /// Unloads the least recently used models until the rest fits `budget`. The last used one stays, whatever its size, and so does what a call
    /// uses now: a search runs another model in between.
    fn keep_to(&mut self, budget: u64) {
        while self.by_key.len() > 1 && self.by_key.values().map(|s| s.bytes).sum::<u64>() > budget {
            let unused =
                self.by_key.iter().filter(|(_, slot)| Rc::strong_count(&slot.ready) == 1 && slot.used < self.uses);
            let Some(oldest) = unused.min_by_key(|(_, slot)| slot.used).map(|(key, _)| key.clone()) else { return };
            self.by_key.remove(&oldest);
        }
    }
}

thread_local! {
    static SLOTS: RefCell<Slots> = RefCell::default();
}

/// The version of `name` in use, loaded. An error if the caller does not have the privilege serve.
pub fn model(name: &str, progress: &dyn Progress) -> Result<Rc<Ready>> {
    model_for(name, Privilege::Serve, progress)
}

/// [`model`] for a call that requires `privilege`.
pub fn model_for(name: &str, privilege: Privilege, progress: &dyn Progress) -> Result<Rc<Ready>> {
    slot(name.to_owned(), name, privilege, progress, load)
}

fn slot(
    key: String,
    name: &str,
    privilege: Privilege,
    progress: &dyn Progress,
    load: impl Fn(&Entry, &SessionOptions, &dyn Progress) -> Result<(Ready, u64)>,
) -> Result<Rc<Ready>> {
    let stamp = catalog::stamp(name, privilege)?;
    let options = settings::session_options();
    let found = SLOTS.with_borrow_mut(|slots| {
        let found = slots.find(&key, &stamp, &options);
        slots.keep_to(settings::cache_size());
        found
    });
    if let Some(ready) = found {
        return Ok(ready);
    }
    let entry = catalog::find(name, Some(stamp.version), privilege)?;
    progress.report("loading the model", 0, 0);
    let began = Instant::now();
    let (ready, bytes) = load(&entry, &options, progress)?;
    environment::trim_memory();
    models::loaded(name, ready.provider(), began.elapsed(), bytes);
    let keeps_options = match &ready {
        Ready::Recommender(_) | Ready::Search(_) | Ready::Predictor(_) => false,
        Ready::Synthesizer(model) => model.runner.is_some(),
        Ready::Text(_) | Ready::Image(_) | Ready::Pair(_) | Ready::Graph(_) => true,
    };
    let bytes = if keeps_options { bytes } else { bytes / MAPPED };
    let ready = Rc::new(ready);
    let with_worker = remote::is_available(&options);
    let slot =
        Slot { with_worker, stamp, options: keeps_options.then_some(options), ready: ready.clone(), bytes, used: 0 };
    SLOTS.with_borrow_mut(|slots| {
        slots.insert(key, slot);
        slots.keep_to(settings::cache_size());
    });
    Ok(ready)
}

/// The graph of any model, for `reco.predict`.
pub fn graph(name: &str, progress: &dyn Progress) -> Result<Rc<Ready>> {
    slot(format!("{name}\0graph"), name, Privilege::Serve, progress, |entry, options, progress| {
        load(&Entry { task: Task::Predict, ..entry.clone() }, options, progress)
    })
}

/// Unloads the model from this backend. Returns whether it was loaded.
pub fn unload(name: &str) -> bool {
    SLOTS.with_borrow_mut(|slots| {
        let graph = slots.by_key.remove(&format!("{name}\0graph"));
        slots.by_key.remove(name).or(graph).is_some()
    })
}

/// Loads `entry` without keeping it, which also checks that an imported model works. Also returns the bytes of its files.
pub fn load(entry: &Entry, options: &SessionOptions, progress: &dyn Progress) -> Result<(Ready, u64)> {
    let mut tries = 1;
    loop {
        let folder = cache::folder(entry, progress)?;
        let loaded_from = identity(&folder);
        match load_from(&folder, entry, options, progress) {
            // Another backend has removed the files, as reco.drop_model does: they are created again.
            Err(Error::File { .. } | Error::ModelRun { .. })
                if tries < TRIES && (loaded_from.is_none() || identity(&folder) != loaded_from) =>
            {
                tries += 1;
            }
            outcome => return outcome,
        }
    }
}

/// Distinguishes a folder from a later one of the same name. The inode alone may be reused.
fn identity(folder: &Path) -> Option<(u64, Option<SystemTime>)> {
    fs::metadata(folder).ok().map(|f| (f.ino(), f.created().ok()))
}

fn load_from(folder: &Path, entry: &Entry, options: &SessionOptions, progress: &dyn Progress) -> Result<(Ready, u64)> {
    let source = folder.join(ONNX_FILE);
    let onnx = cache::map(&source)?;
    match entry.task {
        Task::Recommendation => {
            let model = recommendation::Model::open(&entry.name, onnx, cache::map(&folder.join(DATA_FILE))?)?;
            let signals = match &entry.config["signals"] {
                serde_json::Value::Null => Signals::default(),
                stored => serde_json::from_value(stored.clone())
                    .map_err(|e| catalog::damaged(entry, format!("invalid signals: {e}")))?,
            };
            let ready = Ready::Recommender(Box::new(Recommender {
                entry: entry.clone(),
                model,
                signals,
                device: RefCell::default(),
            }));
            Ok((ready, sealed::size(folder)))
        }
        Task::Search => {
            let model = search::Model::open(&entry.name, cache::map_all(entry, progress)?)?;
            let fusion = serde_json::from_value(entry.config["fusion"].clone())
                .map_err(|e| catalog::damaged(entry, format!("invalid fusion: {e}")))?;
            let bytes = entry.files.iter().map(|file| file.size).sum();
            Ok((Ready::Search(Box::new(SearchIndex { entry: entry.clone(), model, fusion })), bytes))
        }
        Task::Prediction => {
            let model = prediction::Model::open(&entry.name, onnx, cache::map(&folder.join(DATA_FILE))?)?;
            let bytes = sealed::size(folder) + model.bytes() as u64;
            Ok((Ready::Predictor(Box::new(Predictor { entry: entry.clone(), model })), bytes))
        }
        Task::Synthesis => {
            let model =
                synthesis::model::Model::open(&entry.name, onnx, cache::map(&folder.join(DATA_FILE))?, progress)?;
            let runner = match model.method.runs_graph() {
                true => Some(RefCell::new(runner(entry, &source, None, options, progress)?)),
                false => None,
            };
            let bytes = sealed::size(folder) + runner.as_ref().map_or(0, |runner| runner.borrow().bytes());
            Ok((Ready::Synthesizer(Box::new(Synthesizer { model, runner })), bytes))
        }
        Task::TextEmbedding => {
            let signature = Signature::read(onnx)?;
            let config = TextConfig::read(&entry.config, &signature)?;
            let tokenizer = prepared_tokenizer(folder, progress)?;
            let model = |runner| -> Result<TextEmbedder> {
                let tokenizer = TextTokenizer::open(&tokenizer, config.max_length)?;
                Ok(TextEmbedder::new(tokenizer, runner, config.clone(), &signature))
            };
            let limits = Limits { max_batch: settings::max_batch(), threads: options.threads };
            let vectors = |runner: Box<dyn TextRunner>, progress: &dyn Progress| {
                text_vectors(&mut model(runner)?, limits, progress)
            };
            let model = model(runner(entry, &source, Some(&vectors), options, progress)?)?;
            let bytes = model.runner().bytes() + sealed::size(&tokenizer);
            Ok((Ready::Text(Box::new(RefCell::new(model))), bytes))
        }
        Task::TextPair => {
            let signature = Signature::read(onnx)?;
            let config = PairConfig::read(&entry.config, &signature)?;
            let folder = prepared_tokenizer(folder, progress)?;
            let tokenizer = PairTokenizer::open(&folder, config.max_length)?;
            let model =
                CrossEncoder::new(tokenizer, runner(entry, &source, None, options, progress)?, &config, &signature);
            let bytes = model.runner().bytes() + sealed::size(&folder);
            Ok((Ready::Pair(Box::new(RefCell::new(model))), bytes))
        }
        Task::ImageEmbedding => {
            let config = ImageConfig::read(&entry.config, &Signature::read(onnx)?)?;
            let vectors = |runner: Box<dyn TextRunner>, progress: &dyn Progress| {
                image_vectors(&mut ImageEmbedder::new(runner, config.clone()), progress)
            };
            let runner = runner(entry, &source, Some(&vectors), options, progress)?;
            let bytes = runner.bytes();
            Ok((Ready::Image(RefCell::new(ImageEmbedder::new(runner, config))), bytes))
        }
        Task::Predict => {
            let signature = Signature::read(onnx)?;
            let runner = runner(entry, &source, None, options, progress)?;
            let bytes = runner.bytes();
            Ok((Ready::Graph(RefCell::new(Graph { runner, signature })), bytes))
        }
    }
}

/// The folder with the mappable form of a tokenizer, created from its published form on first use.
fn prepared_tokenizer(folder: &Path, progress: &dyn Progress) -> Result<PathBuf> {
    let prepared = folder.join(TextTokenizer::PREPARED);
    sealed::ensure(&prepared, None, progress, |aside| {
        let path = folder.join(TOKENIZER_FILE);
        let json = fs::read(&path).map_err(sealed::failed("read", &path))?;
        TextTokenizer::prepare(&json, aside)
    })?;
    Ok(prepared)
}

/// What runs the graph of `entry`. `vectors` is there for models whose outputs are vectors.
fn runner(
    entry: &Entry,
    source: &Path,
    vectors: Option<&Vectors>,
    options: &SessionOptions,
    progress: &dyn Progress,
) -> Result<Box<dyn TextRunner>> {
    thread_local! {
        /// Whether CUDA was found missing and this was reported: it is not tried again.
        static CUDA_MISSING: RefCell<bool> = const { RefCell::new(false) };
    }
    let mut options = options.clone();
    if options.execution == Execution::Auto && CUDA_MISSING.with_borrow(|m| *m) {
        options.execution = Execution::Cpu;
    }
    let name = &entry.name;
    let stored = GraphFile::new(entry, GraphKind::Stored);
    let (runner, not_on_cuda) = options.choose(
        || {
            let (graph, file) = precision::choose(&stored, source, vectors, &options, progress)?;
            runners::on_cuda(&graph, &file, &options, progress)
        },
        || runners::on_cpu(&stored, source, &options, progress),
    )?;
    let message = match not_on_cuda {
        None => return Ok(runner),
        Some(NotOnCuda::Missing(reason)) => {
            CUDA_MISSING.set(true);
            format!(
                "running models on the CPU because CUDA is not available: {}",
                reason.lines().next().unwrap_or_default()
            )
        }
        Some(NotOnCuda::Refused(reason)) => {
            let reason = reason.lines().next().unwrap_or_default();
            format!("running model \"{name}\" on the CPU because it does not run on CUDA: {reason}")
        }
    };
    ErrorReport::new(PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, message, "pg_reco")
        .set_hint("Set reco.execution_provider to cpu to suppress this message.")
        .report(PgLogLevel::NOTICE);
    Ok(runner)
}
