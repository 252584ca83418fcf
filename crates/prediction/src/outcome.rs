//! What a predictor predicts.

use serde::{Deserialize, Serialize};

/// What is predicted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Classes {
        /// In the order of their probabilities.
        names: Vec<String>,
    },
    Number,
}
