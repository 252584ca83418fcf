//! Decision trees on encoded tables: gradient boosting and bagged forests, for classes and for numbers.
//!
//! A table of [`Features`](super::Features) is [`Binned`] first: a byte a column and row. The categories of one column
//! of the source, which the encoder spreads over as many features, are one column of codes here, and a split sends one
//! of them left and all others right.
//!
//! | learner | trees | split by | source |
//! |---|---|---|---|
//! | [`Boosting`] | leaf by leaf, the best first; one a round and class | gain of the second-order loss | Friedman 2001; Ke et al. 2017 (LightGBM) |
//! | [`Forest`] | to the last row, or to `least_rows`; each on rows drawn with replacement | Gini impurity, or variance | Breiman 2001 |
//!
//! The same input and seed give the same bits on any number of threads: a tree is the work of one thread, sums of
//! gradients are whole numbers, and chance comes from (seed, place).

mod binned;
mod boosting;
mod forest;
mod grow;
mod split;
mod target;
mod tree;

pub use binned::{Binned, Binning};
pub use boosting::{Boosting, BoostingOptions};
pub use forest::{Columns, Drawn, Forest, ForestOptions, for_each_tree};
pub use target::Target;
pub use tree::Tree;

#[cfg(test)]
mod tests;
