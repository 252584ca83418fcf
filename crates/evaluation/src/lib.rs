//! How good a recommender is: splitting interactions, asking a model about what was held out, and measuring the answers.
//!
//! ```text
//! rows ─ CasesBuilder ─▶ Cases ─┐
//! model ─────▶ Catalogue ───────┼─ evaluate ─▶ Measured ─ summarise ─▶ Line        (one model)
//!                    Segments ──┘                       └ compare ───▶ Comparison  (two, on the same cases)
//! ```
//!
//! Every user is asked once and all metrics come from the one list; with `auc` or with candidates all items are scored as
//! well. That costs, for each user, one list of `k` and one scan of the items; memory is 104 bytes a user, for a batch of
//! users their lists, and for `diversity` the interactions once more.

mod bootstrap;
mod cases;
mod catalogue;
mod cross_validate;
mod evaluate;
mod metrics;
mod order;
mod sampler;
mod segments;
mod significance;
mod split;
mod summary;

pub use bootstrap::Bootstrap;
pub use cases::{Cases, CasesBuilder, Counts, Terms};
pub use catalogue::Catalogue;
pub use cross_validate::cross_validate;
pub use evaluate::{Candidates, Measured, Protocol, evaluate};
pub use metrics::{Metric, MetricSet};
pub use sampler::Sampler;
pub use segments::{By, Group, Segments};
pub use significance::mean_interval;
pub use split::{SplitMethod, split};
pub use summary::{Comparison, Line, compare, summarise};

#[cfg(test)]
mod tests;
