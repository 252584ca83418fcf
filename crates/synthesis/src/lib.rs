//! Synthetic rows: learning the distribution of a table's rows, and drawing new ones from it.
//!
//! A source becomes a [`Frame`]: for each field either codes of categories or numbers. A synthesizer learns from a
//! frame and produces frames. Types, precision, bounds, keys, constraints and conditions are handled around it, once
//! for all synthesizers.

pub mod align;
pub mod augment;
pub mod conditions;
pub mod constraints;
mod description;
mod frame;
pub mod interactions;
mod keys;
pub mod made;
mod methods;
pub mod model;
mod part;
pub mod related;
pub mod report;
pub mod sampler;
pub mod schema;
mod synthesizer;
pub mod text;
mod training;

pub use frame::{Field, FieldKind, Frame, Values};
pub use methods::registry::{by_name, synthesizers};
pub use part::Part;
pub use synthesizer::{BLOCK, Draw, Generator, Parts, Released, RunGraph, Synthesizer, Task};
pub use training::Training;
