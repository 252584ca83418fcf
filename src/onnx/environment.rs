//! ONNX Runtime's library and its process-wide state: opened on first use by the process that uses it, never before a
//! fork.

use std::path::{Path, PathBuf};

use once_cell::sync::OnceCell;
use ort::AsPointer;
use ort::environment::Environment;
use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};

use crate::error::{Error, Result};

/// What the process's first session decides for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentOptions {
    /// Path of `libonnxruntime.so`.
    pub library: PathBuf,
    /// Bytes that all runs of this process together may take on the CPU, weights not counted.
    pub run_memory_limit: Option<usize>,
}

/// The environment; a failure may be tried again with another path.
pub fn environment(options: &EnvironmentOptions) -> Result<&'static Environment> {
    static ENVIRONMENT: OnceCell<Environment> = OnceCell::new();
    ENVIRONMENT.get_or_try_init(|| {
        let library = &options.library;
        check_library(library)?;
        let environment = ort::init_from(library)
            .map_err(|e| missing(library, e.to_string()))?
            .with_name("pg_reco")
            .with_telemetry(false)
            .build()
            .map_err(|e| missing(library, e.to_string()))?;
        register_arena(&environment, options.run_memory_limit).map_err(|e| missing(library, e.to_string()))?;
        Ok(environment)
    })
}

pub fn check_library(library: &Path) -> Result<()> {
    if library.is_file() { Ok(()) } else { Err(missing(library, "no such file".into())) }
}

fn missing(library: &Path, reason: String) -> Error {
    Error::RuntimeMissing { path: library.display().to_string(), reason }
}

/// Makes the one arena out of which every session's runs take their memory, so that one limit holds for all.
fn register_arena(environment: &Environment, limit: Option<usize>) -> ort::Result<()> {
    // 1 is kSameAsRequested: the arena grows by what a run needs, not to the next power of two.
    let entries = [(c"max_mem", limit.unwrap_or(0)), (c"arena_extend_strategy", 1)];
    let (keys, values): (Vec<_>, Vec<_>) = entries.iter().map(|(key, value)| (key.as_ptr(), *value)).unzip();
    let memory = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Arena, MemoryType::Default)?;
    let api = ort::api();
    // SAFETY: keys and values are as many as said and outlive the call; the configuration made is given back once, after
    // its only use; environment and memory are live objects of this library.
    unsafe {
        let mut arena = std::ptr::null_mut();
        let made = (api.CreateArenaCfgV2)(keys.as_ptr(), values.as_ptr(), keys.len(), &mut arena);
        ort::Error::<()>::result_from_status(made)?;
        let registered = (api.CreateAndRegisterAllocator)(environment.ptr().cast_mut(), memory.ptr(), arena);
        (api.ReleaseArenaCfg)(arena);
        ort::Error::<()>::result_from_status(registered)
    }
}
