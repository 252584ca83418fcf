//! Acting as another role for a moment.

use std::ffi::CString;

use pgrx::pg_sys;

use crate::error::{Error, Result};

/// The role in whose name the call runs.
pub fn caller() -> pg_sys::Oid {
    // SAFETY: a plain read.
    unsafe { pg_sys::GetUserId() }
}

/// Runs `body` as `role` and takes the caller's identity back whatever happens.
pub fn as_role<T>(role: pg_sys::Oid, body: impl FnOnce() -> T) -> T {
    with_identity(role, pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32, body)
}

/// Runs `body`, which executes SQL that `role` wrote, as `role`: with its rights, never the caller's, and with the
/// `search_path` it was written under, never the caller's. Nothing that outlives the call can be changed in it.
pub fn as_author<T>(role: pg_sys::Oid, search_path: &str, body: impl FnOnce() -> Result<T>) -> Result<T> {
    let path = CString::new(search_path).map_err(|_| Error::Internal("a search_path with a zero byte".into()))?;
    let flags = (pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION) as i32;
    with_identity(role, flags, || {
        // SAFETY: a nest level of settings is opened here and closed here; an error that is raised inside ends the
        // transaction or subtransaction, which closes it.
        unsafe {
            let level = pg_sys::NewGUCNestLevel();
            pg_sys::set_config_option(
                c"search_path".as_ptr(),
                path.as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SAVE,
                true,
                0,
                false,
            );
            let result = body();
            pg_sys::AtEOXact_GUC(true, level);
            result
        }
    })
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
