//! The SQL surface: arguments in, rows out. Each function is declared in `sql/*.sql`, with its defaults, labels, cost
//! and comment, and only implemented here.

mod augment_interactions;
mod augment_text;
mod augmentation;
mod cache;
mod compare_training;
mod embedding;
mod evaluation;
mod importance;
mod importance_window;
mod interaction_importance;
mod models;
mod prediction;
mod prediction_metrics;
mod recommendation;
mod rerank;
mod search;
mod search_evaluation;
mod search_training;
mod search_tuning;
mod statistics;
mod synthesis;
mod synthetic_report;
mod top_k;
mod training;
mod vectors;
mod views;

use crate::pg::errors::raise;
use runtime::error::{Error, Result};

/// The length `k` of a list, 1 or more. A `k` above the number of items returns all of them.
fn list_length(k: i32) -> Result<usize> {
    if k < 1 {
        return Err(Error::argument("k", k, "The number of items must be 1 or more."));
    }
    Ok(k as usize)
}

/// A NULL in an array that must not contain one.
fn null_element(argument: &str) -> Error {
    Error::invalid(format!("argument \"{argument}\" must not contain nulls"), "Leave NULL out of the array.")
}

/// A number of rows, 0 or more.
fn row_count(n: i64) -> Result<u64> {
    u64::try_from(n).map_err(|_| Error::argument("n", n, "The number of rows must be 0 or more."))
}

/// The value of an argument that must not be NULL, in a function that is not `STRICT`.
fn given<T>(argument: Option<T>, name: &str) -> Result<T> {
    argument.ok_or_else(|| {
        Error::invalid(format!("argument \"{name}\" must not be null"), format!("Pass a value for \"{name}\"."))
    })
}
