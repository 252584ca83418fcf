//! Search: an index of words and vectors, one ranking of both, and how good it is.

mod digest;
pub mod events;
mod features;
mod fusion;
mod judged;
mod learned;
mod linear;
mod model;
mod options;
mod probing;
mod queries;
mod ranking;
mod segment;
mod update;

pub use digest::RowDigest;
pub use fusion::{Candidate, Fusion};
pub use judged::{Judgements, Measured};
pub use learned::{Fitted, Judged, fit};
pub use lexical::{Language, TextField};
pub use model::{Contents, Found, Model, Query, SynonymsOf, is_file};
pub use options::{Options, weight_of};
pub use probing::{Probing, probing};
pub use queries::{PastQueries, QUERIES};
pub use segment::{Kept, NewSegment, Packed, SegmentBuilder, folder_name};
pub use tabular::trees::Ensemble;
pub use update::{Met, Update};

#[cfg(test)]
mod tests;
