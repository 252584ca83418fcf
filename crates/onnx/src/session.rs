//! Running graphs: ONNX Runtime's sessions and execution providers.
//!
//! Loading and running happen on a separate thread while the calling thread waits, so that both can be cancelled at any time.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ndarray::ArrayD;
use ort::ep::{CUDA, ExecutionProvider as _};
use ort::session::builder::{GraphOptimizationLevel, LoadCanceler, SessionBuilder};
use ort::session::{HasSelectedOutputs, NoSelectedOutputs, OutputSelector, RunOptions, SessionInputValue};
use ort::value::{DynValue, PrimitiveTensorElementType, TensorElementType, ValueType};

use crate::environment;
use crate::environment::{EnvironmentOptions, environment};
use crate::pinned::Pinned;
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

/// The precision of graphs on CUDA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Half, for models whose vectors it does not change.
    Auto,
    Float32,
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
    /// On CUDA.
    pub precision: Precision,
    /// Bytes that a session may use on the CUDA device.
    pub gpu_memory_limit: Option<usize>,
    /// Number of threads for a run on the CPU.
    pub threads: usize,
}

impl SessionOptions {
    pub(crate) fn tools(&self) -> prepared::Tools<'_> {
        prepared::Tools { preparer: &self.preparer, library: &self.environment.library }
    }

    /// What `on_cuda` or `on_cpu` makes, as `execution` says, and why it is not on CUDA where that is for the machine to say.
    pub fn choose<T>(
        &self,
        on_cuda: impl FnOnce() -> Result<T>,
        on_cpu: impl FnOnce() -> Result<T>,
    ) -> Result<(T, Option<NotOnCuda>)> {
        let not_on_cuda = match self.execution {
            Execution::Cpu => None,
            Execution::Cuda => return Ok((on_cuda()?, None)),
            // A build of ONNX Runtime for the CPU alone is not reported as missing CUDA.
            Execution::Auto if !self.environment.knows_cuda() => None,
            Execution::Auto => match on_cuda() {
                Ok(made) => return Ok((made, None)),
                Err(Error::CudaMissing(reason)) => Some(NotOnCuda::Missing(reason)),
                Err(Error::RefusedOnnx { reason, .. } | Error::ModelRun { reason, .. }) => {
                    Some(NotOnCuda::Refused(reason))
                }
                Err(other) => return Err(other),
            },
        };
        Ok((on_cpu()?, not_on_cuda))
    }
}

/// Prepares the graph in the file `source` for this processor, unless that has been done, and returns the folder with it, which is stored
/// beside `source`.
pub fn prepare(name: &str, source: &Path, options: &SessionOptions, progress: &dyn Progress) -> Result<PathBuf> {
    options.environment.check_library()?;
    prepared::folder(name, source, &options.tools(), progress)
}

/// Runs the graph in the file `source` on CUDA in a separate process, unless that has been done.
pub fn try_on_cuda(name: &str, source: &Path, options: &SessionOptions, progress: &dyn Progress) -> Result<()> {
    options.environment.check_library()?;
    prepared::try_on_cuda(name, source, options.device_id, &options.tools(), progress)
}

/// Minimum memory for loading a graph, in addition to its files.
const NEEDED_TO_LOAD: usize = 32 << 20;

/// The inputs of a run, by name.
pub type Inputs<'a> = Vec<(&'a str, Tensor)>;

/// The outputs of a run, and how long it took, without waiting for others.
pub type Ran = (Vec<Tensor>, Duration);

/// What to do with the memory of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunMemory {
    /// Keep it for the next run.
    Keep,
    /// Return it to the system, which costs some milliseconds for each 100 MB.
    GiveBack,
}

/// A graph loaded into this process.
pub struct Session {
    inner: ort::session::Session,
    /// On CUDA; `None` once a run has failed with it.
    pinned: Option<Pinned>,
    /// The name of the model.
    pub name: String,
    pub provider: Provider,
    /// The size of the graph and its weights.
    pub bytes: u64,
    /// The folder of the prepared graph or, on CUDA, the file of the graph, and how it was loaded: for sessions beside this one.
    loaded_from: PathBuf,
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
    /// Loads the graph that [`prepare`] has put into the folder `prepared`, to run on the CPU.
    pub fn on_cpu(name: &str, prepared: &Path, options: &SessionOptions, progress: &dyn Progress) -> Result<Self> {
        environment::prepare(&options.environment)?;
        let bytes = sealed::size(prepared);
        memory::require(NEEDED_TO_LOAD + bytes as usize)?;
        let loader = Loader::new(name, options);
        let inner = parallel::watched(progress, || loader.cancel(), || loader.cpu(prepared))?;
        Ok(Self::new(inner, name, Provider::Cpu, bytes, prepared, options))
    }

    /// Loads the graph in the file `source` to run on CUDA. It runs as it was given, so it is tried there in a separate process first, unless
    /// that has been done.
    pub fn on_cuda(name: &str, source: &Path, options: &SessionOptions, progress: &dyn Progress) -> Result<Self> {
        environment::prepare(&options.environment)?;
        let loader = Loader::new(name, options);
        parallel::watched(progress, || (), || loader.cuda_builder().map(drop))?;
        prepared::try_on_cuda(name, source, options.device_id, &options.tools(), progress)?;
        Self::tried_on_cuda(name, source, options, progress)
    }

    /// [`on_cuda`](Self::on_cuda) for a graph that has been tried there.
    pub fn tried_on_cuda(name: &str, source: &Path, options: &SessionOptions, progress: &dyn Progress) -> Result<Self> {
        environment::prepare(&options.environment)?;
        memory::require(NEEDED_TO_LOAD)?;
        let loader = Loader::new(name, options);
        let inner = parallel::watched(progress, || loader.cancel(), || loader.cuda(source))?;
        let bytes = fs::metadata(source).map_or(0, |m| m.len());
        Ok(Self::new(inner, name, Provider::Cuda, bytes, source, options))
    }

    fn new(
        inner: ort::session::Session,
        name: &str,
        provider: Provider,
        bytes: u64,
        loaded_from: &Path,
        options: &SessionOptions,
    ) -> Self {
        let (name, loaded_from) = (name.to_owned(), loaded_from.to_owned());
        let pinned = (provider == Provider::Cuda).then(|| Pinned::of(&inner, options.device_id)).flatten();
        Self { inner, pinned, name, provider, bytes, loaded_from, options: options.clone() }
    }

    /// Another session of the same prepared graph, which runs on the CPU, on the thread that calls it. Both map the same weights.
    pub(crate) fn beside(&self, progress: &dyn Progress) -> Result<Self> {
        let options = SessionOptions { threads: 1, execution: Execution::Cpu, ..self.options.clone() };
        Self::on_cpu(&self.name, &self.loaded_from, &options, progress)
    }

    /// A run that another thread can end.
    pub fn begin(&self, wanted: &[&str], memory: RunMemory) -> Result<Terminable> {
        let failed = |reason: String| Error::ModelRun { model: self.name.clone(), reason };
        let options = RunOptions::new().map_err(|e| failed(e.to_string()))?;
        if self.provider == Provider::Cuda {
            return Ok(Terminable::Bound(options));
        }
        let mut selector = OutputSelector::no_default();
        for output in wanted {
            selector = selector.with(*output);
        }
        let mut options = options.with_outputs(selector);
        if memory == RunMemory::GiveBack {
            options.set("memory.enable_memory_arena_shrinkage", "cpu:0").map_err(|e| failed(e.to_string()))?;
        }
        Ok(Terminable::Selected(options))
    }

    /// Runs the graph on `inputs` on the calling thread, which does not look for cancel requests, and returns the outputs in `wanted`, in that
    /// order.
    pub fn run_here(&mut self, inputs: Inputs, wanted: &[&str], run: &Terminable) -> Result<Vec<Tensor>> {
        let failed = |reason: String| Error::ModelRun { model: self.name.clone(), reason };
        let mut has_failed = false;
        if let (Some(pinned), Terminable::Bound(options)) = (&self.pinned, run)
            && Pinned::takes(&inputs)
        {
            match pinned.run(&mut self.inner, &inputs, wanted, options, tensor) {
                Ok(outputs) => return Ok(outputs),
                // Without it the run succeeds, or fails for the same reason.
                Err(_) => has_failed = true,
            }
        }
        let inputs = inputs
            .into_iter()
            .map(|(input, tensor)| Ok((Cow::from(input), value(tensor)?)))
            .collect::<ort::Result<Vec<(Cow<str>, SessionInputValue)>>>()
            .map_err(|e| failed(e.to_string()))?;
        let outputs = match run {
            Terminable::Selected(options) => self.inner.run_with_options(inputs, options),
            Terminable::Bound(options) => self.inner.run_with_options(inputs, options),
        };
        let outputs = outputs.map_err(|e| failed(e.to_string()))?;
        if has_failed {
            self.pinned = None;
        }
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

impl<'a> Loader<'a> {
    fn new(name: &'a str, options: &'a SessionOptions) -> Self {
        Self { name, options, canceled: AtomicBool::new(false), canceler: Mutex::new(None) }
    }

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

    fn cuda(&self, source: &Path) -> Result<ort::session::Session> {
        self.commit(self.cuda_builder()?, source).map_err(|e| Error::CudaMissing(e.to_string()))
    }

    fn cuda_builder(&self) -> Result<SessionBuilder> {
        let mut builder = self.builder()?;
        // Products of 19 bits, its default, would not keep vectors as near to those of the CPU as half precision is required to.
        let mut cuda = CUDA::default().with_device_id(self.options.device_id).with_tf32(false);
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
pub enum Terminable {
    /// Returns the outputs selected.
    Selected(RunOptions<HasSelectedOutputs>),
    /// Returns those that are bound, or all.
    Bound(RunOptions<NoSelectedOutputs>),
}

// SAFETY: no output is preallocated here, and the only use from a second thread is `terminate`.
unsafe impl Sync for Terminable {}

impl Terminable {
    /// Makes the run return soon, with an error.
    pub fn end(&self) {
        // A run that has just ended needs no terminating; nothing else can fail here.
        match self {
            Self::Selected(options) => drop(options.terminate()),
            Self::Bound(options) => drop(options.terminate()),
        }
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
