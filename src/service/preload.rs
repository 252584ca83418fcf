//! Loads the models in `reco.preload_models` at the start of a connection, before its first statement.
//!
//! A backend reads the settings of its role and database in a transaction before it accepts statements. The end of that transaction is used
//! because it exists in all versions of PostgreSQL, for `shared_preload_libraries` and `session_preload_libraries` alike.

use std::sync::atomic::{AtomicBool, Ordering};

use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;
use pgrx::{PgTryBuilder, pg_sys};

use crate::pg::interrupts::Statement;
use crate::pg::{errors, settings};
use crate::service::loaded;

/// Whether this process has had its first transaction.
static DONE: AtomicBool = AtomicBool::new(false);

/// Called once, when the library is loaded.
pub fn register() {
    // SAFETY: plain reads; the callback is a function of this library, which is never unloaded. A library that is loaded by
    // the first call of one of its functions comes too late: there is a statement by then, and a snapshot.
    unsafe {
        if pg_sys::process_shared_preload_libraries_in_progress {
            pg_sys::RegisterXactCallback(Some(at_end), std::ptr::null_mut());
        } else if !pg_sys::ActiveSnapshotSet() {
            if pg_sys::IsTransactionState() {
                pg_sys::RegisterXactCallback(Some(at_end), std::ptr::null_mut());
            } else {
                // Before PostgreSQL 15 session_preload_libraries is read after that transaction.
                pg_sys::StartTransactionCommand();
                preload();
                pg_sys::CommitTransactionCommand();
            }
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn at_end(event: pg_sys::XactEvent::Type, _argument: *mut std::ffi::c_void) {
    if event == pg_sys::XactEvent::XACT_EVENT_PRE_COMMIT && !DONE.load(Ordering::Relaxed) {
        preload();
    }
}

fn preload() {
    // Background workers and the like have nothing to serve.
    // SAFETY: plain reads.
    let serves = unsafe {
        pg_sys::MyBackendType == pg_sys::BackendType::B_BACKEND && pg_sys::MyDatabaseId != pg_sys::InvalidOid
    };
    if !serves || DONE.swap(true, Ordering::Relaxed) {
        return;
    }
    for name in settings::preload_models() {
        load(&name);
    }
}

/// Loads a model. A failure is a warning and does not end the connection.
fn load(name: &str) {
    // SAFETY: the subtransaction begun here is ended here, one way or the other; a snapshot pushed in it goes with it.
    unsafe {
        let context = pg_sys::CurrentMemoryContext;
        let owner = pg_sys::CurrentResourceOwner;
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        let caught = |error: CaughtError| {
            let (CaughtError::PostgresError(report)
            | CaughtError::ErrorReport(report)
            | CaughtError::RustPanic { ereport: report, .. }) = error;
            Some(report.message().to_owned())
        };
        let failed = PgTryBuilder::new(|| {
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
            errors::raise(loaded::model(name, &Statement::new("preload", name)));
            pg_sys::PopActiveSnapshot();
            None
        })
        .catch_others(caught)
        .catch_rust_panic(caught)
        .execute();
        match &failed {
            None => pg_sys::ReleaseCurrentSubTransaction(),
            Some(_) => pg_sys::RollbackAndReleaseCurrentSubTransaction(),
        }
        pg_sys::MemoryContextSwitchTo(context);
        pg_sys::CurrentResourceOwner = owner;
        if let Some(reason) = failed {
            warning!("could not load model \"{name}\" of reco.preload_models: {reason}");
        }
    }
}
