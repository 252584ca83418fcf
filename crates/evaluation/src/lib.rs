//! Evaluation of recommenders: splitting interactions, querying a model for held-out ones, and measuring its lists.
//!
//! ```text
//! rows ─ CasesBuilder ─▶ Cases ─┐
//! model ─────▶ Catalogue ───────┼─ evaluate ─▶ Measured ─ summarise ─▶ Line        (one model)
//!                    Segments ──┘                       └ compare ───▶ Comparison  (two, on the same cases)
//! ```
//!
//! Each user gets one list, from which all metrics are computed; `auc` and given candidates also need the scores of all items.
//! Time: one list of `k` and one scan of the items per user. Memory: 104 bytes per user, the lists of one batch of users, and a
//! copy of the interactions for `diversity`.

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
pub use segments::{ALL, By, Group, Segments};
pub use significance::{mean_interval, paired_t_test};
pub use split::{SplitMethod, split};
pub use summary::{Comparison, Line, compare, summarise};

#[cfg(test)]
mod tests;
