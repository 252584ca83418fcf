//! The methods, a folder each. The registry knows them all.

mod aim;
mod cart;
mod copula;
mod ctgan;
mod marginal;
mod modes;
pub(crate) mod registry;
mod tvae;
