//! Top-k recommendation: training on interactions, opening what was trained, ranking items for a user or a history.
//!
//! A trained model is two files. The ONNX graph scores every item for a history (`item_index`, `weight` → `scores`) in any
//! ONNX runtime, and holds what serving reads: item factors, neighbours, popularity. The data file (safetensors) holds
//! what only this engine needs: ids, the interactions trained on, user factors. Both are read in place from a memory map.

mod ease;
mod gf_cf;
mod ials;
mod item_graph;
mod item_knn;
mod model;
mod options;
mod popularity;
mod ranker;
mod scan;
mod store;
mod top_k;
mod train;
mod trainer;
mod weighting;

pub use model::{Exclude, Model, Reason, Recommendation, Scored, Who};
pub use ranker::{Contribution, ItemSet};
pub use top_k::TopK;
pub use train::{Trained, train};
pub use trainer::Training;

use crate::error::{Error, Result};

/// What `reco.train` can train.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Popularity,
    ItemKnn,
    Ials,
    Ease,
    GfCf,
}

impl Algorithm {
    pub const ALL: [Algorithm; 5] = [Self::Popularity, Self::ItemKnn, Self::Ials, Self::Ease, Self::GfCf];

    pub fn name(self) -> &'static str {
        match self {
            Self::Popularity => "popularity",
            Self::ItemKnn => "item_knn",
            Self::Ials => "ials",
            Self::Ease => "ease",
            Self::GfCf => "gf_cf",
        }
    }

    /// Whether training draws at random, so that there is an option `seed`.
    pub fn is_stochastic(self) -> bool {
        matches!(self, Self::Ials | Self::GfCf)
    }

    pub fn from_name(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|a| a.name() == name).ok_or_else(|| Error::UnknownName {
            what: "algorithm",
            name: name.into(),
            known: Self::ALL.map(Self::name).join(", "),
        })
    }
}

#[cfg(test)]
mod tests;
