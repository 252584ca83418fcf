//! Every recommender there is.

use super::algorithm::Algorithm;
use super::algorithms::bpr::Bpr;
use super::algorithms::ease::Ease;
use super::algorithms::gf_cf::GfCf;
use super::algorithms::hybrid::Hybrid;
use super::algorithms::ials::Ials;
use super::algorithms::item_knn::ItemKnn;
use super::algorithms::lightgcn::LightGcn;
use super::algorithms::mult_vae::MultVae;
use super::algorithms::neumf::NeuMf;
use super::algorithms::popularity::Popularity;
use super::algorithms::two_tower::TwoTower;
use runtime::error::{Error, Result};

/// In the order in which errors list them.
pub static ALGORITHMS: [&dyn Algorithm; 11] = [
    &Popularity,
    &ItemKnn,
    &Ease,
    &GfCf,
    &Ials,
    &Bpr,
    &LightGcn,
    &NeuMf,
    &MultVae,
    &TwoTower,
    &Hybrid { registry: algorithm },
];

/// The algorithm of this name.
pub fn algorithm(name: &str) -> Result<&'static dyn Algorithm> {
    ALGORITHMS.into_iter().find(|algorithm| algorithm.name() == name).ok_or_else(|| Error::UnknownName {
        what: "algorithm",
        name: name.into(),
        known: ALGORITHMS.map(|algorithm| algorithm.name()).join(", "),
    })
}
