//! Importance of training rows: a score for each row, higher for more valuable.
//!
//! | method | score of a row | low means |
//! |---|---|---|
//! | `auto` | probability that its label is right, by an ensemble not trained on it | it is most likely mislabelled |
//! | `loss` | −loss, averaged over the epochs of several small networks | the networks never learn it |
//! | `el2n` | −‖p − y‖ after a few epochs (Paul 2021) | the prediction is far from its label early in training |
//! | `grad_norm` | −‖∂loss/∂w‖, averaged over networks (Paul 2021, GraNd) | it changes the weights a lot |
//! | `aum` | margin of its label over the next class, averaged over epochs (Pleiss 2020) | another class is preferred throughout |
//! | `forgetting` | −number of times it was learned and forgotten (Toneva 2019) | it is forgotten repeatedly, or never learned |
//! | `self_confidence` | out-of-fold probability of its label (Northcutt 2021) | the other rows contradict it |
//! | `tracin` | −Σ‖∂loss/∂w‖², or the effect of its steps on validation rows (Pruthi 2020) | its steps raise the loss |
//! | `influence` | rise of the validation loss when it is left out (Koh, Liang 2017) | the model is better without it |
//! | `knn_shapley` | Shapley value for a nearest-neighbour model (Jia 2019) | it misleads its neighbours |
//! | `data_oob` | accuracy of the trees that did not draw it (Kwon, Zou 2023) | trees without it contradict it |
//!
//! From the bottom up: [`Task`] is what a method is given, `networks` and `out_of_sample` are the learners that several methods share,
//! `dynamics` trains networks once for all methods that observe them, `methods` has a file for each method, and `registry` names them all.
//! [`score`] runs some of them on a task. [`interactions`] does the same for a recommender's interactions.

pub mod compare;
mod dynamics;
pub mod interactions;
pub mod label_errors;
mod method;
mod methods;
pub mod model;
mod networks;
mod out_of_sample;
mod ranks;
mod registry;
mod score;
pub mod statistics;
mod task;
pub mod weights;

pub use method::{ImportanceMethod, OutputError};
pub use ranks::ranks;
pub use registry::Method;
pub use score::score;
pub use task::Task;

#[cfg(test)]
mod tests;
