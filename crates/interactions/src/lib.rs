//! Who did what with which item: ids as dense indices, interactions as a sparse matrix.
//!
//! [`InteractionsBuilder`] takes (user, item, weight, time) rows in any order; [`Interactions`] is the same whatever that
//! order was. Memory while building: 12 bytes a row (20 with times) plus one hash entry an id.

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
