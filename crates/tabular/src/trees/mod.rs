//! Decision trees on encoded tables: gradient boosting and bagged forests, for classes, for numbers, and for ranks.
//!
//! A table of [`Features`](super::Features) is [`Binned`] first: one byte per column and row. The categories of a
//! source column, which the encoder spreads over as many features, become one column of codes; a split sends one category
//! left and all others right.
//!
//! | learner | trees | split by | source |
//! |---|---|---|---|
//! | [`Boosting`] | best leaf first; one per round and class | gain of the second-order loss | Friedman 2001; Ke et al. 2017 (LightGBM) |
//! | [`Forest`] | fully grown, or down to `least_rows`; each on rows drawn with replacement | Gini impurity, or variance | Breiman 2001 |
//!
//! Results do not depend on the number of threads: each tree is grown by one thread, gradients are summed as integers, and
//! random numbers are hashes of seed and position.

mod binned;
mod boosting;
mod ensemble;
mod forest;
mod grow;
mod ranks;
mod scorer;
mod split;
mod target;
mod tree;

pub use binned::{Binned, Binning};
pub use boosting::{Boosting, BoostingOptions, Watch};
pub use ensemble::{Ensemble, LEAF};
pub use forest::{Columns, Drawn, Forest, ForestOptions, for_each_tree};
pub use ranks::Ranks;
pub use scorer::{Parts, Scorer, Step};
pub use target::Target;
pub use tree::Tree;

#[cfg(test)]
mod tests;
