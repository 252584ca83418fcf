//! Search: an index of words and vectors, one ranking of both, and how good it is.

mod fusion;
mod judged;
mod learned;
mod model;
mod options;

pub use fusion::{Candidate, Fusion};
pub use judged::{Judgements, Measured};
pub use learned::{Fitted, Judged, fit};
pub use lexical::{Language, TextField};
pub use model::{Found, IndexBuilder, Model, Query, is_file, packed_ranker};
pub use options::{Options, weight_of};

#[cfg(test)]
mod tests;
