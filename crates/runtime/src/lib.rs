//! What every capability runs on: errors, threads that can be cancelled, progress, options, chance, memory, sealed files.
//!
//! Nothing here knows what is computed, nor PostgreSQL: who embeds the engine hands in a [`progress::Progress`].

pub mod draw;
pub mod error;
pub mod fixed_text;
pub mod histogram;
pub mod jobs;
pub mod mapped;
pub mod memory;
pub mod options;
pub mod parallel;
pub mod progress;
pub mod sealed;
pub mod sorting;
