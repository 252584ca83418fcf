//! ONNX Runtime's library and its process-wide state: opened on first use by the process that uses it, never before a
//! fork.

use std::path::{Path, PathBuf};

use once_cell::sync::OnceCell;
use ort::AsPointer;
use ort::environment::Environment;
use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};

use runtime::error::{Error, Result};
use runtime::memory;

/// What the process's first session decides for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentOptions {
    /// Path of `libonnxruntime.so`.
    pub library: PathBuf,
    /// Bytes that all runs of this process together may take on the CPU, weights not counted.
    pub run_memory_limit: Option<usize>,
}

static ENVIRONMENT: OnceCell<Environment> = OnceCell::new();

/// ONNX Runtime crashes where it gets no memory while it starts: its library is 30 MB, what it sets up 10, and threads reserve more.
const NEEDED_TO_START: usize = 128 << 20;

/// To be called on the process's own thread before any other calls [`environment`].
pub fn prepare(options: &EnvironmentOptions) -> Result<()> {
    if ENVIRONMENT.get().is_none() {
        check_library(&options.library)?;
        memory::require(NEEDED_TO_START)?;
        // Microsoft's builds keep a database of what they were used for under the home directory, and a thread that uploads
        // it. Switching that off through the API comes too late: both are there by then.
        // SAFETY: no other thread of ours runs, and none of ONNX Runtime's before its environment is made.
        unsafe { std::env::set_var("ORT_DISABLE_TELEMETRY", "1") };
        give_memory_back();
        load_unwinder();
    }
    Ok(())
}

/// Has the C library return what is freed to the system. Left to itself it raises these thresholds to tens of megabytes when
/// it sees a large block freed, and every connection would keep that much which it no longer uses.
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

/// Has the C library load what it unwinds threads with. It does so when a thread first ends early, and aborts where there is
/// no memory for it by then.
#[cfg(target_env = "gnu")]
fn load_unwinder() {
    let mut frames = [std::ptr::null_mut(); 1];
    // SAFETY: writes at most as many frames as there is room for.
    unsafe { libc::backtrace(frames.as_mut_ptr(), 1) };
}

#[cfg(not(target_env = "gnu"))]
fn load_unwinder() {}

/// Returns to the system what lies free between blocks in use: loading takes several times what it leaves.
pub fn trim_memory() {
    // SAFETY: safe to call at any time, from any thread.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0)
    };
}

/// The environment. A path that is no library may be tried again with another; what went wrong within the library stays so.
pub fn environment(options: &EnvironmentOptions) -> Result<&'static Environment> {
    static SPOILT: OnceCell<String> = OnceCell::new();
    ENVIRONMENT.get_or_try_init(|| {
        if let Some(reason) = SPOILT.get() {
            return Err(missing(&options.library, format!("{reason} (connect anew to try again)")));
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

fn check_library(library: &Path) -> Result<()> {
    if library.is_file() { Ok(()) } else { Err(missing(library, "no such file".into())) }
}

fn missing(library: &Path, reason: String) -> Error {
    Error::RuntimeMissing { path: library.display().to_string(), reason }
}

/// Makes the one arena out of which every session's runs take their memory, so that one limit holds for all.
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
