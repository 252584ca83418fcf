//! Restrictions on SQL that runs as another role, beyond privileges and the read-only transaction: it must not change session state that a
//! rollback does not restore (session-level advisory locks, prepared statements, the random seed).
//!
//! Two of PostgreSQL's hooks are used, one before a function and one before a utility command runs. They also tell when settings may have
//! changed.

use std::cell::Cell;
use std::ffi::{CStr, c_int, c_void};
use std::sync::OnceLock;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode, pg_guard, pg_sys};

use crate::pg::transaction;

thread_local! {
    /// The number of active calls that run another role's SQL.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// The last transaction in which a setting may have changed.
    static SETTINGS_TOUCHED: Cell<Option<u64>> = const { Cell::new(None) };
}

static NEXT_ACCESS_HOOK: OnceLock<pg_sys::object_access_hook_type> = OnceLock::new();
static NEXT_UTILITY_HOOK: OnceLock<pg_sys::ProcessUtility_hook_type> = OnceLock::new();

/// The oid of `pg_proc`, and those of built-in functions, which are the same in all versions.
const PG_PROC: u32 = 1255;
const SET_CONFIG: u32 = 2078;
const SETSEED: u32 = 1599;
/// `pg_advisory_lock` to `pg_advisory_unlock_all`: session-level locks.
const SESSION_ADVISORY_LOCKS: std::ops::RangeInclusive<u32> = 2880..=2892;

/// Called once, when the library is loaded.
pub fn register() {
    // SAFETY: the hooks are variables of this process, set before or between statements; what was there is called on.
    unsafe {
        if NEXT_ACCESS_HOOK.set(pg_sys::object_access_hook).is_ok() {
            pg_sys::object_access_hook = Some(on_access);
        }
        if NEXT_UTILITY_HOOK.set(pg_sys::ProcessUtility_hook).is_ok() {
            pg_sys::ProcessUtility_hook = Some(on_utility);
        }
    }
}

/// While it lives, SQL runs as another role.
pub struct InAnothersName(());

impl InAnothersName {
    pub fn begin() -> Self {
        DEPTH.set(DEPTH.get() + 1);
        Self(())
    }
}

impl Drop for InAnothersName {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

/// Whether a setting may have changed in this transaction, or may still change within the current statement.
pub fn settings_touched() -> bool {
    SETTINGS_TOUCHED.get() == Some(transaction::number())
}

fn touch_settings() {
    SETTINGS_TOUCHED.set(Some(transaction::number()));
}

#[pg_guard]
unsafe extern "C-unwind" fn on_access(
    access: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
    sub_object: c_int,
    argument: *mut c_void,
) {
    if access == pg_sys::ObjectAccessType::OAT_FUNCTION_EXECUTE && class.to_u32() == PG_PROC {
        match object.to_u32() {
            SET_CONFIG => touch_settings(),
            function if DEPTH.get() > 0 && (function == SETSEED || SESSION_ADVISORY_LOCKS.contains(&function)) => {
                let hint =
                    "Its effect would outlive the call. Use transaction-level locks (pg_advisory_xact_lock) instead.";
                refuse("a function that changes the caller's session", hint);
            }
            _ => {}
        }
    }
    if let Some(Some(next)) = NEXT_ACCESS_HOOK.get() {
        // SAFETY: the hook that stood here before, with its own arguments.
        unsafe { next(access, class, object, sub_object, argument) };
    }
}

/// Commands that do not change session state beyond what a rollback restores.
fn is_harmless(tag: pg_sys::NodeTag) -> bool {
    use pg_sys::NodeTag::*;
    matches!(
        tag,
        T_VariableSetStmt
            | T_VariableShowStmt
            | T_ExplainStmt
            | T_DeclareCursorStmt
            | T_FetchStmt
            | T_ClosePortalStmt
            | T_LockStmt
            | T_CallStmt
            | T_DoStmt
    )
}

/// Checks a utility command before it runs.
unsafe fn look_at(planned: *mut pg_sys::PlannedStmt) {
    // SAFETY: PostgreSQL gives a planned statement with the command in it.
    let (tag, name) = unsafe {
        let command = (*planned).utilityStmt;
        ((*command).type_, pg_sys::GetCommandTagName(pg_sys::CreateCommandTag(command)))
    };
    if tag == pg_sys::NodeTag::T_VariableSetStmt {
        touch_settings();
    }
    if DEPTH.get() > 0 && !is_harmless(tag) {
        // SAFETY: the name of a command is a C string constant.
        let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
        refuse(&name, "The stored queries of a model must be read-only.");
    }
}

fn refuse(what: &str, hint: &str) {
    let message = format!("cannot run {what} as the owner of a model");
    ErrorReport::new(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, message, "pg_reco")
        .set_hint(hint)
        .report(PgLogLevel::ERROR);
}

#[cfg(not(feature = "pg13"))]
#[pg_guard]
unsafe extern "C-unwind" fn on_utility(
    planned: *mut pg_sys::PlannedStmt,
    query: *const std::ffi::c_char,
    read_only_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    parameters: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    receiver: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: PostgreSQL's own arguments, passed on as they are.
    unsafe {
        look_at(planned);
        match NEXT_UTILITY_HOOK.get() {
            Some(Some(next)) => {
                next(planned, query, read_only_tree, context, parameters, environment, receiver, completion)
            }
            _ => pg_sys::standard_ProcessUtility(
                planned,
                query,
                read_only_tree,
                context,
                parameters,
                environment,
                receiver,
                completion,
            ),
        }
    }
}

#[cfg(feature = "pg13")]
#[pg_guard]
unsafe extern "C-unwind" fn on_utility(
    planned: *mut pg_sys::PlannedStmt,
    query: *const std::ffi::c_char,
    context: pg_sys::ProcessUtilityContext::Type,
    parameters: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    receiver: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: PostgreSQL's own arguments, passed on as they are.
    unsafe {
        look_at(planned);
        match NEXT_UTILITY_HOOK.get() {
            Some(Some(next)) => next(planned, query, context, parameters, environment, receiver, completion),
            _ => {
                pg_sys::standard_ProcessUtility(planned, query, context, parameters, environment, receiver, completion)
            }
        }
    }
}
