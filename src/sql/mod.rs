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
mod recommendation;
mod statistics;
mod synthesis;
mod synthetic_report;
mod top_k;
mod training;
mod vectors;
mod views;

use crate::pg::errors::raise;
use runtime::error::{Error, Result};

/// `k` of a list: 1 or more; more than there are items means all of them.
fn list_length(k: i32) -> Result<usize> {
    if k < 1 {
        return Err(Error::argument("k", k, "Give the number of items wanted, 1 or more."));
    }
    Ok(k as usize)
}

/// A number of rows: 0 or more.
fn row_count(n: i64) -> Result<u64> {
    u64::try_from(n).map_err(|_| Error::argument("n", n, "Give the number of rows wanted, 0 or more."))
}

/// An argument without a default, of a function that takes NULL for others.
fn given<T>(argument: Option<T>, name: &str) -> Result<T> {
    argument.ok_or_else(|| Error::argument(name, "null", "This argument must be given."))
}
