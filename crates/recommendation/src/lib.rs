//! Top-k recommendation: training on interactions, opening what was trained, ranking items for a user or a history.
//!
//! A trained model is two files. The ONNX graph scores every item for a history (`item_index`, `weight` → `scores`) in any
//! ONNX runtime, and holds what serving reads: item factors, neighbours, popularity. The data file (safetensors) holds
//! what only this engine needs: ids, the interactions trained on, user factors. Both are read in place from a memory map.

mod bpr;
mod ease;
mod gf_cf;
mod hybrid;
mod ials;
mod item_factors;
mod item_graph;
mod item_knn;
mod lightgcn;
mod linear_fold_in;
mod model;
mod mult_vae;
mod neumf;
mod popularity;
pub mod promotion;
mod quality;
mod quantized;
mod ranker;
mod request;
mod rerank;
mod scan;
mod top_k;
mod train;
mod trainer;
mod tune;
mod two_tower;
mod weighting;

pub use model::{Model, Reason, Recommendation, Scored, Who};
pub use quality::Metric;
pub use ranker::{Contribution, ItemSet};
pub use request::{Groups, Request};
pub use top_k::TopK;
pub use train::{Trained, train};
pub use trainer::{Previous, Training};
pub use tune::{Search, Trial, tune};
pub use two_tower::{embed_items, item_encoder};

use runtime::error::{Error, Result};

/// What `reco.train` can train.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Popularity,
    ItemKnn,
    Ease,
    GfCf,
    Ials,
    Bpr,
    LightGcn,
    NeuMf,
    MultVae,
    TwoTower,
    Hybrid,
}

impl Algorithm {
    pub const ALL: [Algorithm; 11] = [
        Self::Popularity,
        Self::ItemKnn,
        Self::Ease,
        Self::GfCf,
        Self::Ials,
        Self::Bpr,
        Self::LightGcn,
        Self::NeuMf,
        Self::MultVae,
        Self::TwoTower,
        Self::Hybrid,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Popularity => "popularity",
            Self::ItemKnn => "item_knn",
            Self::Ease => "ease",
            Self::GfCf => "gf_cf",
            Self::Ials => "ials",
            Self::Bpr => "bpr",
            Self::LightGcn => "lightgcn",
            Self::NeuMf => "neumf",
            Self::MultVae => "mult_vae",
            Self::TwoTower => "two_tower",
            Self::Hybrid => "hybrid",
        }
    }

    /// Whether training draws at random, so that there is an option `seed`.
    pub fn is_stochastic(self) -> bool {
        matches!(
            self,
            Self::GfCf
                | Self::Ials
                | Self::Bpr
                | Self::LightGcn
                | Self::NeuMf
                | Self::MultVae
                | Self::TwoTower
                | Self::Hybrid
        )
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
