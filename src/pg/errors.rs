//! Raises the engine's errors as PostgreSQL errors.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode};

use crate::pg::interrupts;
use runtime::error::Error;

/// The result of a SQL function. The name must be `Result`: pgrx's macro looks for it to find a set of rows inside.
pub type Result<T> = std::result::Result<T, Raised>;

/// An error on its way out of a SQL function. Converting an [`Error`] into it raises the PostgreSQL error, with SQLSTATE and hint.
#[derive(Debug)]
pub struct Raised(());

impl std::fmt::Display for Raised {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("raised")
    }
}

impl From<Error> for Raised {
    #[track_caller]
    fn from(error: Error) -> Self {
        raise(Err(error))
    }
}

/// Raises an error where none can be returned: in an iterator, and while arguments are read.
#[track_caller]
pub fn raise<T>(result: std::result::Result<T, Error>) -> T {
    result.unwrap_or_else(|error| {
        report(error).report(PgLogLevel::ERROR);
        // Reporting at ERROR does not return.
        std::process::abort()
    })
}

#[track_caller]
fn report(error: Error) -> ErrorReport {
    if matches!(error, Error::Canceled) {
        // Every helper thread has ended by now: PostgreSQL may raise its own error, or end the process.
        interrupts::raise_pending();
    }
    let report = ErrorReport::new(code(error.sqlstate()), sentence(&error), "pg_reco");
    match error.hint() {
        Some(hint) => report.set_hint(hint),
        None => report,
    }
}

fn sentence(error: &Error) -> String {
    match error {
        Error::Canceled => "canceling statement due to user request".into(),
        other => other.to_string(),
    }
}

/// The PostgreSQL error code of an [`Error::sqlstate`].
fn code(sqlstate: &str) -> PgSqlErrorCode {
    use PgSqlErrorCode::*;
    match sqlstate {
        "57014" => ERRCODE_QUERY_CANCELED,
        "22023" => ERRCODE_INVALID_PARAMETER_VALUE,
        "22003" => ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
        "22008" => ERRCODE_DATETIME_FIELD_OVERFLOW,
        "22004" => ERRCODE_NULL_VALUE_NOT_ALLOWED,
        "2202E" => ERRCODE_ARRAY_ELEMENT_ERROR,
        "22P03" => ERRCODE_INVALID_BINARY_REPRESENTATION,
        "0A000" => ERRCODE_FEATURE_NOT_SUPPORTED,
        "34000" => ERRCODE_INVALID_CURSOR_NAME,
        "38000" => ERRCODE_EXTERNAL_ROUTINE_EXCEPTION,
        "42501" => ERRCODE_INSUFFICIENT_PRIVILEGE,
        "42703" => ERRCODE_UNDEFINED_COLUMN,
        "42704" => ERRCODE_UNDEFINED_OBJECT,
        "42804" => ERRCODE_DATATYPE_MISMATCH,
        "42809" => ERRCODE_WRONG_OBJECT_TYPE,
        "53000" => ERRCODE_INSUFFICIENT_RESOURCES,
        "53100" => ERRCODE_DISK_FULL,
        "54000" => ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        "55000" => ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        "58000" => ERRCODE_SYSTEM_ERROR,
        "58030" => ERRCODE_IO_ERROR,
        "58P01" => ERRCODE_UNDEFINED_FILE,
        "XX001" => ERRCODE_DATA_CORRUPTED,
        _ => ERRCODE_INTERNAL_ERROR,
    }
}

/// Errors that SPI returns are internal errors here: errors in SQL are raised, not returned.
pub trait SpiResult<T> {
    /// Converts the error.
    fn spi(self) -> std::result::Result<T, Error>;
}

impl<T> SpiResult<T> for std::result::Result<T, pgrx::spi::Error> {
    fn spi(self) -> std::result::Result<T, Error> {
        self.map_err(|error| Error::Internal(error.to_string()))
    }
}
