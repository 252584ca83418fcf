//! Which interactions of a recommender's source matter, and which look like chance: a score for each pair of a user and an item,
//! higher for more valuable.
//!
//! | method | score of an interaction | low means |
//! |---|---|---|
//! | `mean_loss` | −loss, mean over the epochs of small factor models (Wang 2021) | the models never come to expect it |
//! | `grad_norm` | −‖∂loss/∂(p_u, q_i, b_i)‖, mean over the same epochs (Paul 2021) | it pulls hard on the factors |
//! | `leave_self_out` | probability of a walk from the user's other items to it (Paudel 2017) | other users do not connect it to the rest |
//! | `knn_shapley` | its Shapley value among its user's nearest neighbours of held-out items (Jia 2019) | it speaks for what is not chosen |
//! | `auto` | mean of the ranks by `mean_loss` and `leave_self_out` | both find it strange |
//!
//! Weights say no more than which pairs there are: each pair of the source's `by_user` counts once. What a user turned down (weights that
//! sum to less than 0) is no interaction and gets no score.

mod factors;
mod method;
mod methods;
mod registry;
mod task;

pub use method::{InteractionMethod, Plan};
pub use registry::Method;
pub use task::Task;

#[cfg(test)]
mod tests;
