//! ONNX Runtime's library and its process-wide state. A process loads it on first use, never before a fork.

use std::path::{Path, PathBuf};
use std::sync::Once;

use once_cell::sync::OnceCell;
use ort::AsPointer;
use ort::environment::Environment;
use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};

use runtime::error::{Error, Result};
use runtime::memory;

/// Options of the process. The first session sets them for all later ones.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EnvironmentOptions {
    /// Path of `libonnxruntime.so`.
    pub library: PathBuf,
    /// Bytes that all runs of this process together may use on the CPU, without weights.
    pub run_memory_limit: Option<usize>,
}

/// ONNX Runtime's library of CUDA, which it loads from the folder of its own.
const CUDA_LIBRARY: &str = "libonnxruntime_providers_cuda.so";

impl EnvironmentOptions {
    pub(crate) fn check_library(&self) -> Result<()> {
        if self.library.is_file() { Ok(()) } else { Err(missing(&self.library, "no such file".into())) }
    }

    /// Whether this build of ONNX Runtime includes CUDA. Loads nothing.
    pub fn knows_cuda(&self) -> bool {
        let library = self.library.canonicalize();
        library.is_ok_and(|library| library.with_file_name(CUDA_LIBRARY).is_file())
    }
}

static ENVIRONMENT: OnceCell<Environment> = OnceCell::new();

/// Memory that must be available, since ONNX Runtime crashes without memory at start: its library takes 30 MB, its setup 10 MB, and its
/// threads reserve more.
const NEEDED_TO_START: usize = 128 << 20;

/// Must be called on the main thread before any thread calls [`environment`].
pub fn prepare(options: &EnvironmentOptions) -> Result<()> {
    if ENVIRONMENT.get().is_none() {
        options.check_library()?;
        memory::require(NEEDED_TO_START)?;
        prepare_process();
    }
    Ok(())
}

/// The part of [`prepare`] that threads must not run: a process that starts threads first calls it before.
pub fn prepare_process() {
    static PREPARED: Once = Once::new();
    PREPARED.call_once(set_process_up);
}

fn set_process_up() {
    // Microsoft's builds keep a database of what they were used for under the home directory, and a thread that uploads it. Switching that off
    // through the API comes too late: both are there by then.
    // SAFETY: no other thread of ours runs, and none of ONNX Runtime's before its environment is made.
    unsafe { std::env::set_var("ORT_DISABLE_TELEMETRY", "1") };
    give_memory_back();
    load_unwinder();
}

/// Makes the C library return freed memory to the system. By default it raises these thresholds to tens of megabytes after a large block was
/// freed, and every connection would keep that much unused memory.
#[cfg(target_env = "gnu")]
fn give_memory_back() {
    // SAFETY: both set a number; a value that is refused changes nothing.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, 256 << 10);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 20);
    }
}

#[cfg(not(target_env = "gnu"))]
fn give_memory_back() {}

/// Makes the C library load the library that it unwinds threads with. Otherwise it does so when a thread first ends early, and aborts if there
/// is no memory then.
#[cfg(target_env = "gnu")]
fn load_unwinder() {
    let mut frames = [std::ptr::null_mut(); 1];
    // SAFETY: writes at most as many frames as there is room for.
    unsafe { libc::backtrace(frames.as_mut_ptr(), 1) };
}

#[cfg(not(target_env = "gnu"))]
fn load_unwinder() {}

/// Returns free memory between used blocks to the system: loading a model takes several times the memory that it keeps.
pub fn trim_memory() {
    // SAFETY: safe to call at any time, from any thread.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0)
    };
}

/// The environment. After a wrong path another one can be tried; an error inside the library is permanent.
pub fn environment(options: &EnvironmentOptions) -> Result<&'static Environment> {
    static SPOILT: OnceCell<String> = OnceCell::new();
    ENVIRONMENT.get_or_try_init(|| {
        if let Some(reason) = SPOILT.get() {
            return Err(missing(&options.library, format!("{reason} (reconnect to try again)")));
        }
        let library = &options.library;
        let environment = ort::init_from(library)
            .map_err(|e| missing(library, e.to_string()))?
            .with_name("pg_reco")
            .with_telemetry(false)
            .build()
            .and_then(|environment| {
                register_arena(&environment, options.run_memory_limit)?;
                Ok(environment)
            })
            .map_err(|e| missing(library, SPOILT.get_or_init(|| e.to_string()).clone()))?;
        Ok(environment)
    })
}

fn missing(library: &Path, reason: String) -> Error {
    Error::RuntimeMissing { path: library.display().to_string(), reason }
}

/// Creates the arena that the runs of all sessions share, so that one limit applies to all.
fn register_arena(environment: &Environment, limit: Option<usize>) -> ort::Result<()> {
    let (key, value) = (c"max_mem".as_ptr(), limit.unwrap_or(0));
    let memory = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Arena, MemoryType::Default)?;
    let api = ort::api();
    // SAFETY: the one key and its value outlive the call; the configuration made is given back once, after
    // its only use; environment and memory are live objects of this library.
    unsafe {
        let mut arena = std::ptr::null_mut();
        let made = (api.CreateArenaCfgV2)(&key, &value, 1, &mut arena);
        ort::Error::<()>::result_from_status(made)?;
        let registered = (api.CreateAndRegisterAllocator)(environment.ptr().cast_mut(), memory.ptr(), arena);
        (api.ReleaseArenaCfg)(arena);
        ort::Error::<()>::result_from_status(registered)
    }
}
