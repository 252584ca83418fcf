//! The `reco.*` settings.

use std::ffi::{CStr, CString};
use std::path::Path;

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};
use pgrx::pg_sys;

use onnx::environment::EnvironmentOptions;
use onnx::session::{Execution, Precision, SessionOptions};
use runtime::parallel;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum)]
#[allow(non_camel_case_types)]
pub enum ExecutionProvider {
    auto,
    cpu,
    cuda,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum)]
#[allow(non_camel_case_types)]
pub enum CudaPrecision {
    auto,
    float32,
}

static ONNXRUNTIME_LIBRARY: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c"$libdir/pg_reco/libonnxruntime.so"));
static EXECUTION_PROVIDER: GucSetting<ExecutionProvider> =
    GucSetting::<ExecutionProvider>::new(ExecutionProvider::auto);
static CUDA_PRECISION: GucSetting<CudaPrecision> = GucSetting::<CudaPrecision>::new(CudaPrecision::auto);
static DEVICE_ID: GucSetting<i32> = GucSetting::<i32>::new(0);
static GPU_MEMORY_LIMIT: GucSetting<i32> = GucSetting::<i32>::new(0);
static RUN_MEMORY_LIMIT: GucSetting<i32> = GucSetting::<i32>::new(1 << 20);
static TRAINING_MEMORY: GucSetting<i32> = GucSetting::<i32>::new(4 << 20);
static CACHE_SIZE: GucSetting<i32> = GucSetting::<i32>::new(1 << 20);
static MAX_MODEL_SIZE: GucSetting<i32> = GucSetting::<i32>::new(1 << 20);
static PRELOAD_MODELS: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static THREADS: GucSetting<i32> = GucSetting::<i32>::new(0);
static MAX_THREADS: GucSetting<i32> = GucSetting::<i32>::new(0);
static MODEL_WORKERS: GucSetting<i32> = GucSetting::<i32>::new(-1);
static WORKER_THREADS: GucSetting<i32> = GucSetting::<i32>::new(0);
static MAX_BATCH: GucSetting<i32> = GucSetting::<i32>::new(32);
static KEEP_VERSIONS: GucSetting<i32> = GucSetting::<i32>::new(10);
static EMBEDDING_MODEL: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"all-minilm-l6-v2"));
static IMAGE_MODEL: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"efficientnet-lite0"));
pub static PROGRESS_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(0);

/// More processors of one kind than a machine has.
const MAX_WORKERS: i32 = 33;

/// Defines the settings. Called once, when the library is loaded.
pub fn register() {
    let flags = GucFlags::default();
    // A library is code that runs inside the server: only superusers may set its path.
    GucRegistry::define_string_guc(
        c"reco.onnxruntime_library",
        c"Sets the path of the ONNX Runtime shared library.",
        c"$libdir is replaced with PostgreSQL's library directory. A session reads the setting when it first runs a model.",
        &ONNXRUNTIME_LIBRARY,
        GucContext::Suset,
        flags,
    );
    GucRegistry::define_enum_guc(
        c"reco.execution_provider",
        c"Selects where models run.",
        c"auto uses CUDA if available, otherwise the CPU with a notice. cuda raises an error if CUDA is not available.",
        &EXECUTION_PROVIDER,
        GucContext::Userset,
        flags,
    );
    GucRegistry::define_int_guc(
        c"reco.device_id",
        c"Sets the CUDA device.",
        c"Devices are numbered from 0, as by nvidia-smi.",
        &DEVICE_ID,
        0,
        1023,
        GucContext::Userset,
        flags,
    );
    GucRegistry::define_enum_guc(
        c"reco.cuda_precision",
        c"Selects the precision of embedding models on CUDA.",
        c"auto uses half precision if a trial shows that it does not change the vectors of the model. float32 never does.",
        &CUDA_PRECISION,
        GucContext::Userset,
        flags,
    );
    GucRegistry::define_int_guc(
        c"reco.gpu_memory_limit",
        c"Sets the maximum memory of a model on the CUDA device.",
        c"0 means no limit. A change applies to models that are loaded afterwards.",
        &GPU_MEMORY_LIMIT,
        0,
        i32::MAX,
        GucContext::Suset,
        GucFlags::UNIT_KB,
    );
    GucRegistry::define_int_guc(
        c"reco.run_memory_limit",
        c"Sets the maximum memory for running the models of a session on the CPU.",
        c"The weights of models are not included. 0 means no limit. A session reads the setting when it first runs a model.",
        &RUN_MEMORY_LIMIT,
        0,
        i32::MAX,
        GucContext::Suset,
        GucFlags::UNIT_KB,
    );
    GucRegistry::define_int_guc(
        c"reco.training_memory",
        c"Sets the maximum memory of a call for reading, training, evaluating and generating rows.",
        c"Models and their runs are not included. 0 means no limit. A call that needs more fails before it allocates.",
        &TRAINING_MEMORY,
        0,
        i32::MAX,
        GucContext::Suset,
        GucFlags::UNIT_KB,
    );
    GucRegistry::define_int_guc(
        c"reco.cache_size",
        c"Sets the maximum total size of the models that a session keeps loaded.",
        c"Least recently used models are unloaded. The last used model is always kept.",
        &CACHE_SIZE,
        0,
        i32::MAX,
        GucContext::Suset,
        GucFlags::UNIT_KB,
    );
    GucRegistry::define_int_guc(
        c"reco.max_model_size",
        c"Sets the maximum size of an imported model, including its tokenizer.",
        c"Larger models are rejected.",
        &MAX_MODEL_SIZE,
        0,
        i32::MAX,
        GucContext::Suset,
        GucFlags::UNIT_KB,
    );
    GucRegistry::define_string_guc(
        c"reco.preload_models",
        c"Lists models to load at the start of a session.",
        c"Names are separated by commas. Requires pg_reco in shared_preload_libraries or session_preload_libraries.",
        &PRELOAD_MODELS,
        GucContext::Userset,
        flags,
    );
    GucRegistry::define_int_guc(
        c"reco.threads",
        c"Sets the number of threads of a statement for models and training.",
        c"0 means the number of processors. Limited by reco.max_threads.",
        &THREADS,
        0,
        1024,
        GucContext::Userset,
        flags,
    );
    GucRegistry::define_int_guc(
        c"reco.max_threads",
        c"Sets the maximum number of threads of a statement.",
        c"0 means the number of processors.",
        &MAX_THREADS,
        0,
        1024,
        GucContext::Suset,
        flags,
    );
    GucRegistry::define_int_guc(
        c"reco.max_batch",
        c"Sets the maximum number of texts in one run of a model.",
        c"Long texts are run in smaller batches to limit memory.",
        &MAX_BATCH,
        1,
        4096,
        GucContext::Userset,
        flags,
    );
    GucRegistry::define_int_guc(
        c"reco.keep_versions",
        c"Sets the number of versions of a model to keep after training.",
        c"0 keeps all versions. The version in use is always kept.",
        &KEEP_VERSIONS,
        0,
        i32::MAX,
        GucContext::Userset,
        flags,
    );
    GucRegistry::define_string_guc(
        c"reco.embedding_model",
        c"Sets the default model for embedding texts.",
        c"The task of the model must be text_embedding.",
        &EMBEDDING_MODEL,
        GucContext::Userset,
        flags,
    );
    GucRegistry::define_string_guc(
        c"reco.image_model",
        c"Sets the default model for embedding images.",
        c"The task of the model must be image_embedding.",
        &IMAGE_MODEL,
        GucContext::Userset,
        flags,
    );
    GucRegistry::define_int_guc(
        c"reco.progress_interval",
        c"Sets the interval between progress messages of long calls, in seconds.",
        c"0 disables progress messages.",
        &PROGRESS_INTERVAL,
        0,
        86_400,
        GucContext::Userset,
        flags,
    );
    // SAFETY: a plain read. PostgreSQL has such settings only where the library is preloaded, and there would be no workers otherwise.
    if unsafe { pg_sys::process_shared_preload_libraries_in_progress } {
        register_workers();
    }
    #[cfg(any(feature = "pg15", feature = "pg16", feature = "pg17", feature = "pg18"))]
    // SAFETY: the prefix is a C string constant.
    unsafe {
        pg_sys::MarkGUCPrefixReserved(c"reco".as_ptr());
    }
}

fn register_workers() {
    let flags = GucFlags::default();
    GucRegistry::define_int_guc(
        c"reco.model_workers",
        c"Sets the number of background workers that run models for all sessions.",
        c"-1 means one for the CPU and one for each CUDA device, in this order. 0 means that each session runs its models itself.",
        &MODEL_WORKERS,
        -1,
        MAX_WORKERS,
        GucContext::Postmaster,
        flags,
    );
    GucRegistry::define_int_guc(
        c"reco.worker_threads",
        c"Sets the number of lanes of the model worker for the CPU, each of one thread.",
        c"0 means the number of processors.",
        &WORKER_THREADS,
        0,
        1024,
        GucContext::Postmaster,
        flags,
    );
}

fn text(setting: &GucSetting<Option<CString>>) -> String {
    setting.get().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default()
}

pub fn embedding_model() -> String {
    text(&EMBEDDING_MODEL)
}

pub fn image_model() -> String {
    text(&IMAGE_MODEL)
}

/// The names in `reco.preload_models`.
pub fn preload_models() -> Vec<String> {
    text(&PRELOAD_MODELS).split(',').map(str::trim).filter(|n| !n.is_empty()).map(str::to_owned).collect()
}

/// Bytes.
pub fn cache_size() -> u64 {
    bytes(&CACHE_SIZE) as u64
}

/// Bytes.
pub fn max_model_size() -> u64 {
    bytes(&MAX_MODEL_SIZE) as u64
}

fn bytes(kilobytes: &GucSetting<i32>) -> usize {
    (kilobytes.get().max(0) as usize).saturating_mul(1024)
}

fn limit(kilobytes: &GucSetting<i32>) -> Option<usize> {
    Some(bytes(kilobytes)).filter(|&b| b > 0)
}

pub fn threads() -> usize {
    let given = |setting: &GucSetting<i32>| match setting.get() {
        0 => parallel::available_threads(),
        n => n.max(1) as usize,
    };
    given(&THREADS).min(given(&MAX_THREADS))
}

/// Bytes.
pub fn training_memory() -> Option<usize> {
    limit(&TRAINING_MEMORY)
}

/// One for the CPU and one for each CUDA device by default.
pub fn model_workers() -> usize {
    match MODEL_WORKERS.get() {
        -1 => {
            let is_device = |n: &i32| Path::new(&format!("/dev/nvidia{n}")).exists();
            1 + (0..MAX_WORKERS - 1).take_while(is_device).count()
        }
        n => n.clamp(0, MAX_WORKERS) as usize,
    }
}

pub fn worker_threads() -> usize {
    match WORKER_THREADS.get() {
        0 => parallel::available_threads(),
        n => n.max(1) as usize,
    }
}

/// 0 for all.
pub fn keep_versions() -> i32 {
    KEEP_VERSIONS.get().max(0)
}

pub fn max_batch() -> usize {
    MAX_BATCH.get().max(1) as usize
}

/// The session options of the current settings.
pub fn session_options() -> SessionOptions {
    // SAFETY: PostgreSQL fills this buffer with a C string before any extension is loaded.
    let libdir = unsafe { CStr::from_ptr(std::ptr::addr_of!(pg_sys::pkglib_path).cast()) }.to_string_lossy();
    SessionOptions {
        environment: EnvironmentOptions {
            library: text(&ONNXRUNTIME_LIBRARY).replace("$libdir", &libdir).into(),
            run_memory_limit: limit(&RUN_MEMORY_LIMIT),
        },
        preparer: Path::new(&*libdir).join("pg_reco/pg_reco_prepare"),
        execution: match EXECUTION_PROVIDER.get() {
            ExecutionProvider::auto => Execution::Auto,
            ExecutionProvider::cpu => Execution::Cpu,
            ExecutionProvider::cuda => Execution::Cuda,
        },
        device_id: DEVICE_ID.get(),
        precision: match CUDA_PRECISION.get() {
            CudaPrecision::auto => Precision::Auto,
            CudaPrecision::float32 => Precision::Float32,
        },
        gpu_memory_limit: limit(&GPU_MEMORY_LIMIT),
        threads: threads(),
    }
}
