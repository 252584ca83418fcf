//! Interactions of users and items: ids as dense indices, interactions as a sparse matrix.
//!
//! [`InteractionsBuilder`] takes (user, item, weight, time) rows; the resulting [`Interactions`] do not depend on their order. Memory while
//! building: 12 bytes for each row (20 with times) and one hash entry for each id.

mod builder;
mod features;
mod interner;
mod signals;
mod subset;

pub use builder::{Interactions, InteractionsBuilder};
pub use features::{Encoder, FeatureTable, Features};
pub use interner::{Id, Interner};
pub use signals::Signals;
pub use subset::HeldOut;
