//! Item graphs: a sparse matrix `W` [items, items] of how much choosing one item speaks for another.
//!
//! Every linear item-item model is one: a history `H` with confidences `c` scores `score(j) = Σ_{i ∈ H} c_i W_ij`. `W` is stored by
//! rows of a fixed width, as two dense matrices: an ONNX graph gathers such rows in one operator, and serving reads them in
//! place. A history costs O(|H| · width) time, whatever the number of items and users.
//!
//! Items that score above 0 are ranked; of the rest such a model has nothing good to say.

mod neighbours;
mod onnx;
mod ranker;

pub use neighbours::{List, Neighbours, products};
pub use onnx::{Confidences, confidences, scatter_scores};
pub use ranker::{ItemGraph, ItemGraphRanker, best};
