//! Tables as learners take them. Columns of numbers, categories, texts, times and vectors become a sparse matrix of features;
//! one column becomes the labels.
//!
//! ```text
//! Table ─ Encoder ─▶ Features ─┐
//!       └ Labels ──────────────┴─▶ Samples ─▶ trees, metrics
//! ```

mod encoder;
mod labels;
mod metrics;
mod samples;
mod table;
pub mod trees;

pub use encoder::{Encoder, EncoderOptions, MAX_DEVIATIONS, Rule};
pub use labels::{LabelKind, Labels};
pub use metrics::{auc, metrics, most_likely};
pub use samples::{Features, Samples};
pub use table::{Column, ColumnKind, NONE, Table, Value};

#[cfg(test)]
mod tests;
