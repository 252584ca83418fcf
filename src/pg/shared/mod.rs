//! Shared memory: counters of models, the progress of long calls, the processors in use, and what is asked of model workers.
//!
//! Shared memory is allocated at server start, only if the library is in `shared_preload_libraries`. Without it nothing is counted, and reading
//! the statistics is an error.

pub mod models;
pub mod processors;
pub mod progress;
mod region;
pub mod workers;

use std::sync::OnceLock;

use pgrx::pg_sys;
#[cfg(not(any(feature = "pg13", feature = "pg14")))]
use pgrx::pg_sys::submodules::ffi::pg_guard_ffi_boundary as guarded;
use pgrx::prelude::*;

use crate::pg::settings;

type Hook = Option<unsafe extern "C-unwind" fn()>;

/// Requests the memory. Called once, when the library is loaded.
pub fn register() {
    static PREVIOUS_STARTUP: OnceLock<Hook> = OnceLock::new();

    #[pg_guard]
    unsafe extern "C-unwind" fn startup() {
        // SAFETY: PostgreSQL calls this once it has made its shared memory; the hook that was there first goes first.
        unsafe {
            if let Some(Some(previous)) = PREVIOUS_STARTUP.get() {
                pg_sys::submodules::ffi::pg_guard_ffi_boundary(|| previous());
            }
            models::TABLE.start();
            progress::TABLE.start();
            processors::start();
            workers::WORKERS.start();
            workers::SLOTS.start();
        }
    }

    // SAFETY: hooks are plain pointers, which the postmaster's one thread reads and writes while it loads libraries.
    unsafe {
        if !pg_sys::process_shared_preload_libraries_in_progress {
            return;
        }
        #[cfg(any(feature = "pg13", feature = "pg14"))]
        request();
        #[cfg(not(any(feature = "pg13", feature = "pg14")))]
        {
            static PREVIOUS_REQUEST: OnceLock<Hook> = OnceLock::new();

            #[pg_guard]
            unsafe extern "C-unwind" fn on_request() {
                // SAFETY: as in `startup`, at the moment when memory may be asked for.
                unsafe {
                    if let Some(Some(previous)) = PREVIOUS_REQUEST.get() {
                        guarded(|| previous());
                    }
                    request();
                }
            }

            PREVIOUS_REQUEST.get_or_init(|| pg_sys::shmem_request_hook);
            pg_sys::shmem_request_hook = Some(on_request);
        }
        PREVIOUS_STARTUP.get_or_init(|| pg_sys::shmem_startup_hook);
        pg_sys::shmem_startup_hook = Some(startup);
    }
}

/// # Safety
/// Only while PostgreSQL takes requests for shared memory.
unsafe fn request() {
    // SAFETY: the caller's. Both settings are read from the configuration before any library is preloaded.
    unsafe {
        models::TABLE.request(models::ROWS);
        processors::TABLE.request(1);
        workers::WORKERS.request(settings::model_workers());
        workers::SLOTS.request(workers::slots());
        // A row for each process that can run SQL.
        progress::TABLE.request((pg_sys::MaxConnections + pg_sys::max_worker_processes).max(1) as usize);
    }
}
