//! The one handle through which long work reports how far it is and learns that it should stop.
//!
//! The engine never calls PostgreSQL: whoever calls the engine hands it a `Progress`.

use crate::error::Result;

/// Called on the thread that called the engine, once per block of work (about 10 ms).
pub trait Progress {
    /// `Err(Error::Canceled)` when the work should stop; it is passed up unchanged.
    fn check(&self) -> Result<()>;

    /// `done` of `total` units of `phase` are finished; a total of 0 is not known.
    fn report(&self, _phase: &str, _done: usize, _total: usize) {}
}

/// Work that nobody watches: tests, benchmarks.
pub struct Unwatched;

impl Progress for Unwatched {
    fn check(&self) -> Result<()> {
        Ok(())
    }
}
