//! Errors and panics of tantivy as errors of this engine.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use runtime::error::{Error, Result};

/// An index whose files are not as they were written.
pub fn damaged(reason: impl std::fmt::Display) -> Error {
    Error::Damaged(format!("search index: {reason}"))
}

/// Runs `work`, which reads an index. tantivy panics on some damaged files; that is an error here.
pub fn reading<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    guarded(|reason| damaged(reason), work)
}

/// Runs `work` and turns a panic of it into `error` of its message.
pub fn guarded<T>(error: impl FnOnce(&str) -> Error, work: impl FnOnce() -> Result<T>) -> Result<T> {
    // What `work` has changed is dropped with it, or its owner is not used again.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        match text.map(error) {
            Some(error) => Err(error),
            // Not a message: what a `Progress` unwinds with is its caller's.
            None => resume_unwind(panic),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_become_errors_and_other_panics_go_on() {
        let error = reading(|| -> Result<()> { panic!("offset {}", 7) }).unwrap_err();
        assert!(matches!(error, Error::Damaged(message) if message == "search index: offset 7"));
        let other = catch_unwind(|| reading(|| -> Result<()> { std::panic::panic_any(7u8) }));
        assert_eq!(other.unwrap_err().downcast_ref(), Some(&7u8));
    }
}
