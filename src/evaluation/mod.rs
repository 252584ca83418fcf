//! How good a recommender is: splitting interactions, and ranking metrics on what was held out.

mod evaluate;
mod metrics;
mod split;

pub use evaluate::{Evaluation, evaluate_model};
pub use metrics::{Metrics, RankedUser};
pub use split::{SplitMethod, split};
