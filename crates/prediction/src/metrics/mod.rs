//! Metrics of predictions as states that rows are added to, and that are merged: the aggregates of SQL, which run in parallel.
//!
//! | state | metrics | memory |
//! |---|---|---|
//! | [`Ranked`] | AUC, average precision, NDCG, lift, calibration | 16 bytes a row |
//! | [`Errors`] | log loss, Brier score, RMSE, MAE, R² | none |
//! | [`Confusion`] | accuracy, precision, recall, F1 | the pairs of classes |
//!
//! Each is defined as in scikit-learn. What is undefined without rows, or with rows of one kind, is `None`.

mod confusion;
mod errors;
mod ranked;
#[cfg(test)]
mod tests;
mod wilson;

pub use confusion::{Average, Confusion};
pub use errors::Errors;
pub use ranked::{Bin, Ranked};
pub use wilson::{Interval, wilson};

use runtime::error::{Error, Result};

/// Returns an error to cancel.
pub type Check<'a> = &'a dyn Fn() -> Result<()>;

/// What an aggregate keeps of its rows.
pub trait State: Default {
    /// Adds the rows of another state.
    fn merge(&mut self, other: &Self, check: Check) -> Result<()>;

    fn serialize(&self, check: Check) -> Result<Vec<u8>>;

    /// Reads what [`serialize`](Self::serialize) wrote.
    fn deserialize(bytes: &[u8], check: Check) -> Result<Self>;
}

fn cut() -> Error {
    Error::Internal("invalid state of a metric".into())
}

/// The first numbers of `bytes`, and the rest.
fn numbers<const N: usize>(mut bytes: &[u8]) -> Result<([f64; N], &[u8])> {
    let mut out = [0.0; N];
    for number in &mut out {
        let (first, rest) = bytes.split_first_chunk::<8>().ok_or_else(cut)?;
        (*number, bytes) = (f64::from_le_bytes(*first), rest);
    }
    Ok((out, bytes))
}
