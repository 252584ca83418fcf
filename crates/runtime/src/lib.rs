//! The base of all crates: errors, cancellable threads, progress, options, random numbers, memory, sealed files.
//!
//! It does not depend on PostgreSQL: the caller of the engine passes a [`progress::Progress`].

pub mod draw;
pub mod error;
pub mod fixed_text;
mod helpers;
pub mod histogram;
pub mod jobs;
pub mod mapped;
pub mod memory;
pub mod options;
pub mod parallel;
pub mod pool;
pub mod processors;
pub mod progress;
pub mod sealed;
pub mod sorting;
pub mod team;
