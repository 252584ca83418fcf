//! Importance of a recommender's interactions: a score for each pair of a user and an item, higher for more valuable.
//!
//! | method | score of an interaction | low means |
//! |---|---|---|
//! | `mean_loss` | −loss, averaged over the epochs of small factor models (Wang 2021) | the models never learn it |
//! | `grad_norm` | −‖∂loss/∂(p_u, q_i, b_i)‖, averaged over the same epochs (Paul 2021) | it changes the factors a lot |
//! | `leave_self_out` | probability of a walk from the user's other items to it (Paudel 2017) | other users do not connect it to the rest |
//! | `knn_shapley` | its Shapley value among its user's nearest neighbours of held-out items (Jia 2019) | it supports items that are not chosen |
//! | `auto` | mean of the ranks by `mean_loss` and `leave_self_out` | it is unusual by both |
//!
//! Only the presence of a pair counts, not its weight. Pairs with negative feedback (weights that sum to less than 0) are not interactions
//! and get no score.

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
