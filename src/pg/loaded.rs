//! The models that this backend has ready: looked up by name at each call, loaded when they are not there or outdated.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use memmap2::Mmap;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode};

use crate::embedding::{ImageConfig, ImageEmbedder, TextConfig, TextEmbedder};
use crate::error::{Error, Result};
use crate::onnx::inspect::Signature;
use crate::onnx::session::{Execution, Session, SessionOptions};
use crate::pg::cache;
use crate::pg::catalog::{self, DATA_FILE, Entry, ONNX_FILE, Stamp, TOKENIZER_FILE, Task};
use crate::pg::settings;
use crate::pg::shared::models;
use crate::progress::{Progress, SCAN};
use crate::recommendation;

/// A model ready for use. What a run changes is in a cell: a backend runs one thing at a time.
pub enum Ready {
    Text(Box<RefCell<TextEmbedder>>),
    Image(RefCell<ImageEmbedder>),
    Recommender(Box<Recommender>),
    Graph(RefCell<Graph>),
}

impl Ready {
    pub fn task(&self) -> Task {
        match self {
            Self::Text(_) => Task::TextEmbedding,
            Self::Image(_) => Task::ImageEmbedding,
            Self::Recommender(_) => Task::Recommendation,
            Self::Graph(_) => Task::Predict,
        }
    }

    /// What it runs on, as `reco.stat_models` names it.
    pub fn provider(&self) -> &'static str {
        match self {
            Self::Text(model) => model.borrow().session().provider.name(),
            Self::Image(model) => model.borrow().session().provider.name(),
            Self::Recommender(_) => SCAN,
            Self::Graph(graph) => graph.borrow().session.provider.name(),
        }
    }
}

pub struct Recommender {
    pub entry: Entry,
    pub model: recommendation::Model,
}

pub struct Graph {
    pub session: Session,
    pub signature: Signature,
}

struct Slot {
    stamp: Stamp,
    /// Sessions are made anew when a setting that shapes them has changed; recommenders need none.
    options: Option<SessionOptions>,
    ready: Rc<Ready>,
}

thread_local! {
    static SLOTS: RefCell<HashMap<String, Slot>> = RefCell::new(HashMap::new());
}

/// The version of `name` in use, ready to run. An error where the caller may not use it.
pub fn model(name: &str, progress: &dyn Progress) -> Result<Rc<Ready>> {
    slot(name.to_owned(), name, progress, load)
}

fn slot(
    key: String,
    name: &str,
    progress: &dyn Progress,
    load: impl FnOnce(&Entry, &SessionOptions, &dyn Progress) -> Result<Ready>,
) -> Result<Rc<Ready>> {
    let stamp = catalog::stamp(name)?;
    let options = settings::session_options();
    let found = SLOTS.with_borrow(|slots| {
        let slot = slots.get(&key).filter(|s| s.stamp == stamp && s.options.as_ref().is_none_or(|o| *o == options))?;
        Some(slot.ready.clone())
    });
    if let Some(ready) = found {
        return Ok(ready);
    }
    let entry = catalog::find(name, Some(stamp.version))?;
    progress.report("loading the model", 0, 0);
    let began = Instant::now();
    let ready = Rc::new(load(&entry, &options, progress)?);
    models::loaded(name, ready.provider(), began.elapsed(), entry.files.iter().map(|f| f.size).sum());
    let keeps_options = !matches!(*ready, Ready::Recommender(_));
    let slot = Slot { stamp, options: keeps_options.then_some(options), ready: ready.clone() };
    SLOTS.with_borrow_mut(|slots| slots.insert(key, slot));
    Ok(ready)
}

/// The graph of any model, ready for `reco.predict`.
pub fn graph(name: &str, progress: &dyn Progress) -> Result<Rc<Ready>> {
    slot(format!("{name}\0graph"), name, progress, |entry, options, progress| {
        load(&Entry { task: Task::Predict, ..entry.clone() }, options, progress)
    })
}

/// Gives this backend's memory for `name` back.
pub fn unload(name: &str) -> bool {
    SLOTS.with_borrow_mut(|slots| {
        let graph = slots.remove(&format!("{name}\0graph"));
        slots.remove(name).or(graph).is_some()
    })
}

/// Loads `entry` without keeping it: also the check that an imported model works.
pub fn load(entry: &Entry, options: &SessionOptions, progress: &dyn Progress) -> Result<Ready> {
    let folder = cache::folder(entry, progress)?;
    let onnx = map(&folder.join(ONNX_FILE))?;
    match entry.task {
        Task::Recommendation => {
            let model = recommendation::Model::open(&entry.name, onnx, map(&folder.join(DATA_FILE))?)?;
            Ok(Ready::Recommender(Box::new(Recommender { entry: entry.clone(), model })))
        }
        Task::TextEmbedding => {
            let signature = Signature::read(onnx)?;
            let config = TextConfig::read(&entry.config, &signature)?;
            let path = folder.join(TOKENIZER_FILE);
            let tokenizer = fs::read(&path).map_err(|source| Error::File {
                action: "read",
                path: path.display().to_string(),
                source,
            })?;
            let session = session(entry, &folder, options, progress)?;
            let model = TextEmbedder::new(&tokenizer, session, config, &signature)?;
            Ok(Ready::Text(Box::new(RefCell::new(model))))
        }
        Task::ImageEmbedding => {
            let config = ImageConfig::read(&entry.config, &Signature::read(onnx)?)?;
            Ok(Ready::Image(RefCell::new(ImageEmbedder::new(session(entry, &folder, options, progress)?, config))))
        }
        Task::Predict => {
            let signature = Signature::read(onnx)?;
            Ok(Ready::Graph(RefCell::new(Graph { session: session(entry, &folder, options, progress)?, signature })))
        }
    }
}

fn session(entry: &Entry, folder: &Path, options: &SessionOptions, progress: &dyn Progress) -> Result<Session> {
    thread_local! {
        /// Why CUDA did not work, once that is known and was said: it is not looked for again.
        static CUDA_MISSING: RefCell<bool> = const { RefCell::new(false) };
    }
    let mut options = options.clone();
    if options.execution == Execution::Auto && CUDA_MISSING.with_borrow(|m| *m) {
        options.execution = Execution::Cpu;
    }
    let session = Session::load(&entry.name, folder, ONNX_FILE, &options, progress)?;
    if let Some(reason) = &session.cuda_missing {
        CUDA_MISSING.set(true);
        let reason = reason.lines().next().unwrap_or_default();
        let message = format!("models run on the CPU, since CUDA does not work here: {reason}");
        ErrorReport::new(PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, message, "pg_reco")
            .set_hint("SET reco.execution_provider = 'cpu' runs on the CPU without this notice.")
            .report(PgLogLevel::NOTICE);
    }
    Ok(session)
}

/// Maps a file of the cache. The pages are shared with every process that maps it.
fn map(path: &Path) -> Result<Bytes> {
    let failed = |source| Error::File { action: "map", path: path.display().to_string(), source };
    let file = File::open(path).map_err(failed)?;
    // SAFETY: files of the cache are renamed into place whole and never written again.
    let map = unsafe { Mmap::map(&file) }.map_err(failed)?;
    Ok(Bytes::from_owner(map))
}
