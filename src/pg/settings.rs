//! The `reco.*` settings.

use std::ffi::{CStr, CString};
use std::path::Path;

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};
use pgrx::pg_sys;

use onnx::environment::EnvironmentOptions;
use onnx::session::{Execution, SessionOptions};
use runtime::parallel;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum)]
#[allow(non_camel_case_types)]
pub enum ExecutionProvider {
    auto,
    cpu,
    cuda,
}

static ONNXRUNTIME_LIBRARY: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c"$libdir/pg_reco/libonnxruntime.so"));
static EXECUTION_PROVIDER: GucSetting<ExecutionProvider> =
    GucSetting::<ExecutionProvider>::new(ExecutionProvider::auto);
static DEVICE_ID: GucSetting<i32> = GucSetting::<i32>::new(0);
static GPU_MEMORY_LIMIT: GucSetting<i32> = GucSetting::<i32>::new(0);
static RUN_MEMORY_LIMIT: GucSetting<i32> = GucSetting::<i32>::new(1 << 20);
static TRAINING_MEMORY: GucSetting<i32> = GucSetting::<i32>::new(4 << 20);
static CACHE_SIZE: GucSetting<i32> = GucSetting::<i32>::new(1 << 20);
static MAX_MODEL_SIZE: GucSetting<i32> = GucSetting::<i32>::new(1 << 20);
static PRELOAD_MODELS: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static THREADS: GucSetting<i32> = GucSetting::<i32>::new(0);
static MAX_THREADS: GucSetting<i32> = GucSetting::<i32>::new(0);
static MAX_BATCH: GucSetting<i32> = GucSetting::<i32>::new(32);
static KEEP_VERSIONS: GucSetting<i32> = GucSetting::<i32>::new(10);
static EMBEDDING_MODEL: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"all-minilm-l6-v2"));
static IMAGE_MODEL: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"efficientnet-lite0"));
pub static PROGRESS_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(0);

/// Makes the settings known to PostgreSQL. Called once, when the library is loaded.
pub fn register() {
    let flags = GucFlags::default();
    // A path to a library is code to be run: only a superuser may name one.
    GucRegistry::define_string_guc(
        c"reco.onnxruntime_library",
        c"Path of ONNX Runtime's shared library.",
        c"$libdir stands for PostgreSQL's library directory. Read by each connection when it first runs a model.",
        &ONNXRUNTIME_LIBRARY,
        GucContext::Suset,
        flags,
    );
    GucRegistry::define_enum_guc(
        c"reco.execution_provider",
        c"Where models run: auto, cpu or cuda.",
        c"auto takes CUDA where it works, else the CPU, and says so once; cuda is an error where CUDA does not work.",
        &EXECUTION_PROVIDER,
        GucContext::Userset,
        flags,
    );
    GucRegistry::define_int_guc(
        c"reco.device_id",
        c"Number of the CUDA device.",
        c"As nvidia-smi counts them, from 0.",
        &DEVICE_ID,
        0,
        1023,
        GucContext::Userset,
        flags,
    );
    GucRegistry::define_int_guc(
        c"reco.gpu_memory_limit",
        c"Memory that one model may take on the CUDA device.",
        c"In kB where no unit is given; 0 sets no limit. A model loaded after a change keeps to it.",
        &GPU_MEMORY_LIMIT,
        0,
        i32::MAX,
        GucContext::Suset,
        GucFlags::UNIT_KB,
    );
    GucRegistry::define_int_guc(
        c"reco.run_memory_limit",
        c"Memory that the runs of a connection's models may take on the CPU, weights not counted.",
        c"In kB where no unit is given; 0 sets no limit. Read by each connection when it first runs a model.",
        &RUN_MEMORY_LIMIT,
        0,
        i32::MAX,
        GucContext::Suset,
        GucFlags::UNIT_KB,
    );
    GucRegistry::define_int_guc(
        c"reco.training_memory",
        c"Memory that one call may take to read rows, train, measure or make rows, models and their runs not counted.",
        c"In kB where no unit is given; 0 sets no limit. What needs more is an error before it is taken.",
        &TRAINING_MEMORY,
        0,
        i32::MAX,
        GucContext::Suset,
        GucFlags::UNIT_KB,
    );
    GucRegistry::define_int_guc(
        c"reco.cache_size",
        c"Models that a connection keeps loaded, by the size of their files.",
        c"In kB where no unit is given. Above it the least recently used are unloaded; the one in use always stays.",
        &CACHE_SIZE,
        0,
        i32::MAX,
        GucContext::Suset,
        GucFlags::UNIT_KB,
    );
    GucRegistry::define_int_guc(
        c"reco.max_model_size",
        c"Size of a model, its tokenizer included, above which an import is refused.",
        c"In kB where no unit is given.",
        &MAX_MODEL_SIZE,
        0,
        i32::MAX,
        GucContext::Suset,
        GucFlags::UNIT_KB,
    );
    GucRegistry::define_string_guc(
        c"reco.preload_models",
        c"Models that a new connection loads before its first statement, separated by commas.",
        c"Works where shared_preload_libraries or session_preload_libraries has pg_reco.",
        &PRELOAD_MODELS,
        GucContext::Userset,
        flags,
    );
    GucRegistry::define_int_guc(
        c"reco.threads",
        c"Threads that one statement may use for models and training.",
        c"0 stands for the number of processors. No more than reco.max_threads.",
        &THREADS,
        0,
        1024,
        GucContext::Userset,
        flags,
    );
    GucRegistry::define_int_guc(
        c"reco.max_threads",
        c"Threads that one statement may use, whatever reco.threads says.",
        c"0 stands for the number of processors.",
        &MAX_THREADS,
        0,
        1024,
        GucContext::Suset,
        flags,
    );
    GucRegistry::define_int_guc(
        c"reco.max_batch",
        c"Texts that enter a model in one run, at most.",
        c"Long texts are run in smaller batches, so that a run's memory stays bounded.",
        &MAX_BATCH,
        1,
        4096,
        GucContext::Userset,
        flags,
    );
    GucRegistry::define_int_guc(
        c"reco.keep_versions",
        c"Newest versions of a model that a training keeps where the call does not say.",
        c"0 keeps all. The version in use always stays.",
        &KEEP_VERSIONS,
        0,
        i32::MAX,
        GucContext::Userset,
        flags,
    );
    GucRegistry::define_string_guc(
        c"reco.embedding_model",
        c"Model that embeds texts where a call names none.",
        c"A model of task text_embedding in reco.models.",
        &EMBEDDING_MODEL,
        GucContext::Userset,
        flags,
    );
    GucRegistry::define_string_guc(
        c"reco.image_model",
        c"Model that embeds images where a call names none.",
        c"A model of task image_embedding in reco.models.",
        &IMAGE_MODEL,
        GucContext::Userset,
        flags,
    );
    GucRegistry::define_int_guc(
        c"reco.progress_interval",
        c"Seconds between two NOTICEs that say how far a long call is.",
        c"0 switches them off.",
        &PROGRESS_INTERVAL,
        0,
        86_400,
        GucContext::Userset,
        flags,
    );
    #[cfg(any(feature = "pg15", feature = "pg16", feature = "pg17", feature = "pg18"))]
    // SAFETY: the prefix is a C string constant.
    unsafe {
        pg_sys::MarkGUCPrefixReserved(c"reco".as_ptr());
    }
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

/// 0 for all.
pub fn keep_versions() -> i32 {
    KEEP_VERSIONS.get().max(0)
}

pub fn max_batch() -> usize {
    MAX_BATCH.get().max(1) as usize
}

/// How a session is to be made under the current settings.
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
        gpu_memory_limit: limit(&GPU_MEMORY_LIMIT),
        threads: threads(),
    }
}
