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
mod tree;

pub use binned::{Binned, Binning};
pub use boosting::{Boosting, BoostingOptions};
pub use forest::{Columns, Drawn, Forest, ForestOptions, for_each_tree};
pub use tree::Tree;

use super::Labels;

/// What is to be predicted, a row each of those binned.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    Classes { codes: &'a [u32], classes: usize },
    Numbers(&'a [f32]),
}

impl<'a> From<&'a Labels> for Target<'a> {
    fn from(labels: &'a Labels) -> Self {
        match labels {
            Labels::Classes { codes, names } => Self::Classes { codes, classes: names.len() },
            Labels::Numbers(values) => Self::Numbers(values),
        }
    }
}

impl Target<'_> {
    /// Numbers predicted of a row: a probability for each class, or one number.
    pub fn outputs(&self) -> usize {
        match self {
            Self::Classes { classes, .. } => *classes,
            Self::Numbers(_) => 1,
        }
    }
}

#[cfg(test)]
mod tests;
