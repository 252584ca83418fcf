//! Runs code as another role.

use std::ffi::{CStr, CString};
use std::panic::AssertUnwindSafe;

use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgTryBuilder, Spi, pg_sys};

use crate::pg::cursors::Shield;
use crate::pg::errors::SpiResult;
use crate::pg::foreign::InAnothersName;
use runtime::error::{Error, Result};

/// The current role.
pub fn caller() -> pg_sys::Oid {
    // SAFETY: a plain read.
    unsafe { pg_sys::GetUserId() }
}

/// Runs `body`, which executes SQL of this extension, as `role`. The caller's identity is restored in any case.
pub fn as_role<T>(role: pg_sys::Oid, body: impl FnOnce() -> T) -> T {
    with_identity(role, pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32, body)
}

/// Runs `body`, which executes SQL that `role` wrote, as `role`: with its privileges and the `search_path` that the SQL was written under,
/// never with those of the caller.
///
/// The SQL is read-only and leaves nothing behind in the caller's session. Its settings, locks, cursors and temporary objects are rolled back
/// at the end. Anything that a rollback does not undo is rejected ([`foreign`](super::foreign)), and the caller's cursors are protected.
/// The result must therefore not refer to PostgreSQL's memory.
pub fn as_author<T>(role: pg_sys::Oid, search_path: &str, body: impl FnOnce() -> Result<T>) -> Result<T> {
    let path = CString::new(search_path).map_err(|_| Error::Internal("search_path contains a zero byte".into()))?;
    let flags = (pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION) as i32;
    let shield = Shield::raise()?;
    rolled_back(|| {
        let _read_only = ReadOnly::begin();
        let _name = InAnothersName::begin();
        let result = with_identity(role, flags, || {
            with_settings(
                &[
                    (c"search_path", &path),
                    // A text that its author wrote must mean to the caller what it meant to the author.
                    (c"standard_conforming_strings", c"on"),
                    (c"transform_null_equals", c"off"),
                    (c"row_security", c"on"),
                ],
                body,
            )
        });
        shield.close_others()?;
        result
    })
}

/// Runs `body` in a subtransaction that is always rolled back. In parallel mode PostgreSQL does not allow subtransactions, nor anything that
/// would have to be rolled back.
fn rolled_back<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    // SAFETY: a subtransaction begun here ends here, on every path, with the memory context and the resource owner that were
    // current before.
    unsafe {
        if pg_sys::IsInParallelMode() {
            return body();
        }
        let context = pg_sys::CurrentMemoryContext;
        let owner = pg_sys::CurrentResourceOwner;
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(context);
        let end = || {
            pg_sys::RollbackAndReleaseCurrentSubTransaction();
            pg_sys::MemoryContextSwitchTo(context);
            pg_sys::CurrentResourceOwner = owner;
        };
        // Left open, the subtransaction would be taken for the caller's own.
        let failed = |error: CaughtError| {
            end();
            error.rethrow()
        };
        PgTryBuilder::new(AssertUnwindSafe(|| {
            let result = body();
            end();
            result
        }))
        .catch_others(failed)
        .catch_rust_panic(failed)
        .execute()
    }
}

/// Runs `body` with other settings, and restores all settings afterwards.
fn with_settings<T>(settings: &[(&CStr, &CStr)], body: impl FnOnce() -> T) -> T {
    // SAFETY: a nest level of settings is opened here and closed here; an error that is raised inside ends the
    // transaction or subtransaction, which closes it.
    unsafe {
        let level = pg_sys::NewGUCNestLevel();
        for (name, value) in settings {
            pg_sys::set_config_option(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SAVE,
                true,
                0,
                false,
            );
        }
        let result = body();
        // As at a rollback: at a commit, what was set for the session would stay.
        pg_sys::AtEOXact_GUC(false, level);
        result
    }
}

/// While it lives, the transaction is read-only.
pub struct ReadOnly(bool);

impl ReadOnly {
    pub fn begin() -> Self {
        // SAFETY: a variable of this backend, as SET TRANSACTION READ ONLY sets it.
        Self(unsafe { std::mem::replace(&mut *std::ptr::addr_of_mut!(pg_sys::XactReadOnly), true) })
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { *std::ptr::addr_of_mut!(pg_sys::XactReadOnly) = self.0 };
    }
}

fn with_identity<T>(role: pg_sys::Oid, flags: i32, body: impl FnOnce() -> T) -> T {
    struct Restore(pg_sys::Oid, i32);
    impl Drop for Restore {
        fn drop(&mut self) {
            // SAFETY: both values came from GetUserIdAndSecContext.
            unsafe { pg_sys::SetUserIdAndSecContext(self.0, self.1) };
        }
    }
    let mut before = Restore(pg_sys::InvalidOid, 0);
    // SAFETY: plain reads and writes of this backend's identity, undone by the guard and by an aborting transaction.
    unsafe {
        pg_sys::GetUserIdAndSecContext(&mut before.0, &mut before.1);
        pg_sys::SetUserIdAndSecContext(role, before.1 | flags);
    }
    body()
}

/// The schemas in which the names of the source were resolved. The temporary schema comes last: any role can create a table there that
/// would hide another one.
pub fn search_path() -> Result<String> {
    let path: Option<String> = Spi::get_one(
        "SELECT pg_catalog.string_agg(pg_catalog.quote_ident(name), ', ')
           FROM pg_catalog.unnest(pg_catalog.current_schemas(true)) AS name WHERE name OPERATOR(pg_catalog.!~~) 'pg_temp%'",
    ).spi()?;
    Ok(format!("{}, pg_temp", path.unwrap_or_else(|| "pg_catalog".into())))
}
