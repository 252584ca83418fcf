//! Running graphs: ONNX Runtime's sessions and execution providers.
//!
//! Loading and running happen on a separate thread while the calling thread waits, so that both can be cancelled at any time.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use ndarray::ArrayD;
use ort::ep::{CUDA, ExecutionProvider};
use ort::session::builder::{GraphOptimizationLevel, LoadCanceler, SessionBuilder};
use ort::session::{HasSelectedOutputs, OutputSelector, RunOptions, SessionInputValue};
use ort::value::{DynValue, PrimitiveTensorElementType, TensorElementType, ValueType};

use crate::environment;
use crate::environment::{EnvironmentOptions, environment};
use crate::prepared;
use crate::tensor::Tensor;
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::parallel;
use runtime::progress::Progress;
use runtime::sealed;

/// Where graphs should run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Execution {
    /// On CUDA if available, otherwise on the CPU.
    Auto,
    Cpu,
    /// On CUDA only.
    Cuda,
}

/// Where a session runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    Cpu,
    Cuda,
}

impl Provider {
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionOptions {
    pub environment: EnvironmentOptions,
    /// Path of the program `pg_reco_prepare`.
    pub preparer: PathBuf,
    pub execution: Execution,
    pub device_id: i32,
    /// Bytes that a session may use on the CUDA device.
    pub gpu_memory_limit: Option<usize>,
    /// Number of threads for a run on the CPU.
    pub threads: usize,
}

/// Minimum memory for loading a graph, in addition to its files.
const NEEDED_TO_LOAD: usize = 32 << 20;

/// What to do with the memory of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunMemory {
    /// Keep it for the next run.
    Keep,
    /// Return it to the system, which costs some milliseconds for each 100 MB.
    GiveBack,
}

/// A loaded graph.
pub struct Session {
    inner: ort::session::Session,
    /// The name of the model.
    pub name: String,
    pub provider: Provider,
    /// The size of the graph and its weights.
    pub bytes: u64,
    /// Why `Execution::Auto` does not use CUDA.
    pub not_on_cuda: Option<NotOnCuda>,
    /// The folder of the prepared graph, and how it was loaded: for sessions beside this one.
    prepared: PathBuf,
    options: SessionOptions,
}

/// Why a graph runs on the CPU instead of CUDA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotOnCuda {
    /// CUDA is not available.
    Missing(String),
    /// This graph does not run on CUDA.
    Refused(String),
}

impl Session {
    /// Loads the graph in the file `source`. `name` is the name of the model, for messages. The graph prepared for this processor is stored beside
    /// `source`. Only graphs that ran in a trial in a separate process are loaded.
    pub fn load(name: &str, source: &Path, options: &SessionOptions, progress: &dyn Progress) -> Result<Self> {
        let tools = prepared::Tools { preparer: &options.preparer, library: &options.environment.library };
        environment::prepare(&options.environment)?;
        let prepared = prepared::folder(name, source, &tools, progress)?;
        memory::require(NEEDED_TO_LOAD + sealed::size(&prepared) as usize)?;
        let loader = Loader { name, options, canceled: AtomicBool::new(false), canceler: Mutex::new(None) };
        let watched = |load: &(dyn Fn() -> Result<ort::session::Session> + Sync)| {
            parallel::watched(progress, || loader.cancel(), load)
        };
        // CUDA runs the graph as it was given, which the process that prepared it has not: it is tried there by itself first.
        let on_cuda = || {
            parallel::watched(progress, || (), || loader.cuda_builder().map(drop))?;
            prepared::try_on_cuda(name, source, options.device_id, &tools, progress)?;
            watched(&|| loader.cuda(source))
        };
        let (inner, not_on_cuda) = match options.execution {
            Execution::Cpu => (None, None),
            Execution::Cuda => (Some(on_cuda()?), None),
            Execution::Auto if !loader.knows_cuda()? => (None, None),
            Execution::Auto => match on_cuda() {
                Ok(session) => (Some(session), None),
                Err(Error::CudaMissing(reason)) => (None, Some(NotOnCuda::Missing(reason))),
                Err(Error::RefusedOnnx { reason, .. } | Error::ModelRun { reason, .. }) => {
                    (None, Some(NotOnCuda::Refused(reason)))
                }
                Err(other) => return Err(other),
            },
        };
        let (inner, provider, bytes) = match inner {
            Some(session) => (session, Provider::Cuda, fs::metadata(source).map_or(0, |m| m.len())),
            None => (watched(&|| loader.cpu(&prepared))?, Provider::Cpu, sealed::size(&prepared)),
        };
        Ok(Self { inner, name: name.to_owned(), provider, bytes, not_on_cuda, prepared, options: options.clone() })
    }

    /// Another session of the same prepared graph, which runs on the CPU, on the thread that calls it. Both map the same weights.
    pub(crate) fn beside(&self, progress: &dyn Progress) -> Result<Self> {
        let options = SessionOptions { threads: 1, execution: Execution::Cpu, ..self.options.clone() };
        let loader = Loader {
            name: &self.name,
            options: &options,
            canceled: AtomicBool::new(false),
            canceler: Mutex::new(None),
        };
        let inner = parallel::watched(progress, || loader.cancel(), || loader.cpu(&self.prepared))?;
        Ok(Self {
            inner,
            name: self.name.clone(),
            provider: Provider::Cpu,
            bytes: self.bytes,
            not_on_cuda: None,
            prepared: self.prepared.clone(),
            options,
        })
    }

    /// Runs the graph on `inputs` and returns the outputs in `wanted`, in that order.
    pub fn run(
        &mut self,
        inputs: Vec<(&str, Tensor)>,
        wanted: &[&str],
        memory: RunMemory,
        progress: &dyn Progress,
    ) -> Result<Vec<Tensor>> {
        let run = self.begin(wanted, memory)?;
        parallel::watched(progress, || run.end(), || self.run_here(inputs, wanted, &run))
    }

    /// A run that another thread can end.
    pub(crate) fn begin(&self, wanted: &[&str], memory: RunMemory) -> Result<Terminable> {
        let failed = |reason: String| Error::ModelRun { model: self.name.clone(), reason };
        let mut selector = OutputSelector::no_default();
        for output in wanted {
            selector = selector.with(*output);
        }
        let mut options = RunOptions::new().map_err(|e| failed(e.to_string()))?.with_outputs(selector);
        if memory == RunMemory::GiveBack {
            options.set("memory.enable_memory_arena_shrinkage", "cpu:0").map_err(|e| failed(e.to_string()))?;
        }
        Ok(Terminable(options))
    }

    /// [`run`](Self::run) on the calling thread, which does not look for cancel requests.
    pub(crate) fn run_here(
        &mut self,
        inputs: Vec<(&str, Tensor)>,
        wanted: &[&str],
        run: &Terminable,
    ) -> Result<Vec<Tensor>> {
        let failed = |reason: String| Error::ModelRun { model: self.name.clone(), reason };
        let inputs = inputs
            .into_iter()
            .map(|(input, tensor)| Ok((Cow::from(input), value(tensor)?)))
            .collect::<ort::Result<Vec<(Cow<str>, SessionInputValue)>>>()
            .map_err(|e| failed(e.to_string()))?;
        let outputs = self.inner.run_with_options(inputs, &run.0).map_err(|e| failed(e.to_string()))?;
        let outputs = wanted.iter().map(|&output| {
            let value = outputs.get(output).ok_or_else(|| failed(format!("output \"{output}\" is missing")))?;
            tensor(value).map_err(failed)
        });
        outputs.collect()
    }
}

/// Creates sessions until one works or the caller cancels.
struct Loader<'a> {
    name: &'a str,
    options: &'a SessionOptions,
    canceled: AtomicBool,
    /// The handle of the current load.
    canceler: Mutex<Option<LoadCanceler>>,
}

impl Loader<'_> {
    fn cancel(&self) {
        self.canceled.store(true, Ordering::SeqCst);
        if let Ok(guard) = self.canceler.lock()
            && let Some(canceler) = guard.as_ref()
        {
            // A load that has just ended needs no cancelling; nothing else can fail here.
            let _ = canceler.cancel();
        }
    }

    /// Loads the prepared graph.
    fn cpu(&self, prepared: &Path) -> Result<ort::session::Session> {
        let failed = |e: ort::Error| self.failed(e.to_string());
        let builder =
            self.builder()?.with_optimization_level(GraphOptimizationLevel::Disable).map_err(|e| failed(e.into()))?;
        self.commit(builder, &prepared::graph(prepared)).map_err(failed)
    }

    fn failed(&self, reason: String) -> Error {
        Error::ModelRun { model: self.name.to_owned(), reason }
    }

    /// Whether this build of ONNX Runtime includes CUDA. A CPU-only build is not reported as missing CUDA.
    fn knows_cuda(&self) -> Result<bool> {
        environment(&self.options.environment)?;
        Ok(CUDA::is_available().unwrap_or(true))
    }

    fn cuda(&self, source: &Path) -> Result<ort::session::Session> {
        self.commit(self.cuda_builder()?, source).map_err(|e| Error::CudaMissing(e.to_string()))
    }

    fn cuda_builder(&self) -> Result<SessionBuilder> {
        let mut builder = self.builder()?;
        let mut cuda = CUDA::default().with_device_id(self.options.device_id);
        if let Some(limit) = self.options.gpu_memory_limit {
            cuda = cuda.with_memory_limit(limit);
        }
        cuda.register(&mut builder).map_err(|e| Error::CudaMissing(e.to_string()))?;
        Ok(builder)
    }

    fn builder(&self) -> Result<SessionBuilder> {
        ort::session::Session::builder(environment(&self.options.environment)?)
            .and_then(|b| Ok(b.with_intra_threads(self.options.threads)?))
            .and_then(|b| Ok(b.with_env_allocators()?))
            // A plan of the memory for each shape that was ever run would be one more block of the size of a run.
            .and_then(|b| Ok(b.with_memory_pattern(false)?))
            // Idle threads sleep: a backend that waits for its client must not hold a processor.
            .and_then(|b| Ok(b.with_intra_op_spinning(false)?))
            .and_then(|b| Ok(b.with_log_level(ort::logging::LogLevel::Fatal)?))
            .map_err(|e| self.failed(e.to_string()))
    }

    fn commit(&self, mut builder: SessionBuilder, path: &Path) -> ort::Result<ort::session::Session> {
        // Made before the lock is taken: whoever cancels must not wait for memory.
        let canceler = builder.canceler();
        if let Ok(mut guard) = self.canceler.lock() {
            *guard = Some(canceler);
        }
        if self.canceled.load(Ordering::SeqCst) {
            return Err(ort::Error::new("loading was canceled"));
        }
        builder.commit_from_file(path)
    }
}

/// ONNX Runtime documents `RunOptionsSetTerminate` as callable from any thread while the options are in use by a run;
/// `ort` leaves `Sync` off options that select outputs only because preallocated outputs might not be.
pub(crate) struct Terminable(RunOptions<HasSelectedOutputs>);

// SAFETY: no output is preallocated here, and the only use from a second thread is `terminate`.
unsafe impl Sync for Terminable {}

impl Terminable {
    /// Makes the run return soon, with an error.
    pub(crate) fn end(&self) {
        // A run that has just ended needs no terminating; nothing else can fail here.
        drop(self.0.terminate());
    }
}

/// The input of a graph, which takes the array's memory over; texts are copied.
fn value(tensor: Tensor) -> ort::Result<SessionInputValue<'static>> {
    use ort::value::Tensor as OrtTensor;
    Ok(match tensor {
        Tensor::F32(array) => OrtTensor::from_array(array)?.into(),
        Tensor::F64(array) => OrtTensor::from_array(array)?.into(),
        Tensor::I32(array) => OrtTensor::from_array(array)?.into(),
        Tensor::I64(array) => OrtTensor::from_array(array)?.into(),
        Tensor::Bool(array) => OrtTensor::from_array(array)?.into(),
        Tensor::Text(array) => OrtTensor::from_string_array(&array)?.into(),
    })
}

fn tensor(value: &DynValue) -> std::result::Result<Tensor, String> {
    fn array<T: PrimitiveTensorElementType + Clone>(value: &DynValue) -> ort::Result<ArrayD<T>> {
        Ok(value.try_extract_array()?.to_owned())
    }
    let ValueType::Tensor { ty, .. } = value.dtype() else {
        return Err("an output is not a tensor".into());
    };
    let read = match ty {
        TensorElementType::Float32 => array(value).map(Tensor::F32),
        TensorElementType::Float64 => array(value).map(Tensor::F64),
        TensorElementType::Int32 => array(value).map(Tensor::I32),
        TensorElementType::Int64 => array(value).map(Tensor::I64),
        TensorElementType::Bool => array(value).map(Tensor::Bool),
        TensorElementType::String => value.try_extract_string_array().map(Tensor::Text),
        other => return Err(format!("output type {other:?} is not supported")),
    };
    read.map_err(|e| e.to_string())
}
