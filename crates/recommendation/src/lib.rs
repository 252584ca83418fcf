//! Top-k recommendation: training on interactions, opening what was trained, ranking items for a user or a history.
//!
//! A trained model is two files. The ONNX graph scores every item for a history (`item_index`, `weight` → `scores`) in any
//! ONNX runtime, and holds what serving reads: item factors, neighbours, popularity. The data file (safetensors) holds
//! what only this engine needs: ids, the interactions trained on, user factors. Both are read in place from a memory map.

mod algorithm;
mod algorithms;
mod item_graph;
mod linear_fold_in;
mod model;
mod product;
pub mod promotion;
mod quality;
mod ranker;
mod registry;
mod request;
mod rerank;
mod train;
mod training;
mod tune;
mod weighting;

pub use algorithm::Algorithm;
pub use algorithms::two_tower::{embed_items, item_encoder};
pub use inner_products::{ItemSet, Scored, TopK};
pub use model::{Model, Reason, Recommendation, Who};
pub use quality::Metric;
pub use ranker::Contribution;
pub use registry::{ALGORITHMS, algorithm};
pub use request::{Groups, Request};
pub use train::{Trained, train};
pub use training::{Previous, Training};
pub use tune::{Search, Trial, tune};

#[cfg(test)]
mod tests;
