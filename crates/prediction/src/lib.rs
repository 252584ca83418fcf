//! Predictors: how good predictions are, by metrics over rows.

pub mod metrics;
