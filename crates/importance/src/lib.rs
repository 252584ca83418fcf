//! Which training rows matter, and which mislead: a score for each row, higher for more valuable.
//!
//! | method | score of a row | low means |
//! |---|---|---|
//! | `loss` | −loss, mean over the epochs of several small networks | the networks never learn it |
//! | `el2n` | −‖p − y‖ after a few epochs (Paul 2021) | far from its label from early on |
//! | `grad_norm` | −‖∂loss/∂w‖, mean over networks (Paul 2021, GraNd) | it pulls hard on the weights |
//! | `aum` | margin of its label over the next class, mean over epochs (Pleiss 2020) | another class is preferred throughout |
//! | `forgetting` | −times it was learned and forgotten (Toneva 2019) | it is forgotten again and again, or never learned |
//! | `self_confidence` | out-of-fold probability of its label (Northcutt 2021) | the other rows contradict it |
//! | `tracin` | −Σ‖∂loss/∂w‖², or the effect of its steps on a validation query (Pruthi 2020) | its steps raise the loss |
//! | `influence` | rise of the validation loss when it is left out (Koh, Liang 2017) | the model is better without it |
//! | `knn_shapley` | its Shapley value for nearest neighbours (Jia 2019) | neighbours are misled by it |
//! | `data_oob` | accuracy for it of the trees that did not see it (Kwon, Zou 2023) | trees without it contradict it |
//! | `auto` | see [`methods::auto`](methods) | it is most likely mislabelled |

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
