//! What the neural recommenders and synthesizers share: dense layers with their gradients, tables of
//! embeddings of which a step touches few rows, Adam for both, and forward passes for serving;
//! and for networks whose gradients are in closed form, plain matrix products and elementary functions.
//!
//! Training gives the same bytes on any number of threads: work is split into chunks of a fixed size, the result of a chunk depends on its number
//! only, and results are summed in the order of the chunks.

pub mod adam;
pub mod dense;
pub mod elementary;
pub mod network;
pub mod products;
pub mod table;
