//! Predictors: trained on the columns of a query, stored, and run on others; and how good predictions are.
//!
//! ```text
//! Table ─ Encoder ─▶ Features ─ Binning ─▶ codes ─┬─ train ─▶ Trained ─▶ model.onnx, data.safetensors
//!                                                 └─ Model ─▶ predictions
//! ```

mod calibration;
mod folds;
mod graph;
pub mod metrics;
mod model;
mod outcome;
mod training;

#[cfg(test)]
mod tests;

pub use folds::Split;
pub use model::Model;
pub use outcome::Outcome;
pub use training::{Task, Trained, train};
