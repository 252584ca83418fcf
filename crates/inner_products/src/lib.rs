//! Search for the greatest inner products: the best items for a user, the best vectors for a query.
//!
//! For one user a fused scan, or a bound from a compressed copy and the factors only of what it lets pass; for a tile of users a matrix product
//! whose results never leave the registers unless they can enter a list. All give the same list to the last bit.
//! Vectors of length one are also searched by clusters: what is found has its exact score, and something may be missed.

mod item_factors;
mod listed;
pub mod neighbours;
pub mod quantized;
pub mod scan;
mod top_k;

pub use item_factors::ItemFactors;
pub use listed::{ItemSet, Listed, Scored};
pub use neighbours::Neighbours;
pub use top_k::TopK;
