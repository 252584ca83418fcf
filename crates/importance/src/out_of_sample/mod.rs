//! Predictions for each row by models that were not trained on it.

mod ensemble;
mod out_of_fold;

pub use ensemble::{BOOSTING, label_over_other, predict};
pub use out_of_fold::{Plan, all_rows, boosted};

#[cfg(test)]
mod tests;
