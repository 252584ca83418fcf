//! The recommenders, a room each. Nothing outside names one of them but the [registry](super::registry).

pub mod bpr;
pub mod ease;
pub mod gf_cf;
pub mod hybrid;
pub mod ials;
pub mod item_knn;
pub mod lightgcn;
pub mod mult_vae;
pub mod neumf;
pub mod popularity;
pub mod two_tower;
