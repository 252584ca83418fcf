//! What can be learned from synthetic rows: gradient boosting (Friedman 2001) on encoded tables.
//!
//! - Two-sample test: the AUC of classifying real against synthetic rows, as many of each, cross-validated in 3 folds
//!   (Lopez-Paz, Oquab 2017). It is 0.5 if they cannot be told apart, and 1 if all can.
//! - Efficacy: models of the label trained on synthetic rows, on real rows and on both, evaluated on the same unseen
//!   real rows: the holdout, or a fifth of the real rows. Whether adding synthetic rows raises F1 is decided by the 95
//!   % interval of the difference over 400 bootstrap resamples of the evaluated rows (Efron 1979).
//!
//! Cost: six fits of 100 rounds, each on one thread. Tables with more than `model_rows` rows are sampled.

mod efficacy;
mod two_sample;

use kernels::Csr;
use runtime::error::Result;
use runtime::memory;
use runtime::progress::Progress;
use tabular::{Features, Table, Value};

pub use efficacy::efficacy;
pub use two_sample::two_sample;

/// Options of the boosted trees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ModelOptions {
    /// Default 100,000: maximum number of rows of each table.
    pub rows: usize,
    /// Default 100, and fewer for many classes.
    pub rounds: Option<usize>,
}

/// Appends rows of a table to another with the same columns in any order.
fn append(to: &mut Table, from: &Table, rows: &[u32], progress: &dyn Progress) -> Result<()> {
    let names: Vec<String> = to.columns().map(|(name, ..)| name.to_owned()).collect();
    let columns: Vec<_> = names.iter().filter_map(|name| from.column(name)).map(|(_, column)| column).collect();
    let mut values: Vec<Value> = Vec::with_capacity(columns.len());
    for (n, &row) in rows.iter().enumerate() {
        if n % 1024 == 0 {
            progress.check()?;
        }
        values.clear();
        values.extend(columns.iter().map(|column| column.get(row as usize)));
        to.push(&values, || format!("row {}", row + 1))?;
    }
    Ok(())
}

/// An empty table with these columns of another.
fn like(table: &Table, keep: impl Fn(&str) -> bool) -> Table {
    let columns = table.columns().filter(|(name, ..)| keep(name));
    Table::new(columns.map(|(name, kind, _)| (name.to_owned(), kind)).collect())
}

/// The rows of both tables, one after the other, with one encoding.
fn stack(mut a: Features, b: &Features) -> Result<Features> {
    let Csr { indptr, indices, values, .. } = &mut a.matrix;
    let before = indices.len() as u64;
    memory::extend(indices, &b.matrix.indices)?;
    memory::extend(values, &b.matrix.values)?;
    memory::reserve(indptr, b.rows())?;
    indptr.extend(b.matrix.indptr.iter().skip(1).map(|at| at + before));
    Ok(a)
}
