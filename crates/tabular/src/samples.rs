//! Encoded rows and their labels.

use ndarray::ArrayViewMut2;

use super::labels::Labels;
use kernels::Csr;
use kernels::matrix::rows_mut;

/// Features and labels of the same rows.
#[derive(Clone, Debug)]
pub struct Samples {
    pub features: Features,
    pub labels: Labels,
}

/// An encoded table.
#[derive(Clone, Debug, Default)]
pub struct Features {
    /// [rows, columns]: standardised numbers, 1 for the category of a row, counts of hashed words.
    pub matrix: Csr,
    /// One-hot groups: adjacent columns that stand for the categories of one source column, as (first, count), ascending.
    pub categories: Vec<(u32, u32)>,
}

impl Features {
    pub fn rows(&self) -> usize {
        self.matrix.rows()
    }

    pub fn columns(&self) -> usize {
        self.matrix.columns
    }

    /// Writes the rows from `first` on to `out` [rows, columns], densely.
    pub fn write_rows(&self, first: usize, mut out: ArrayViewMut2<f32>) {
        out.fill(0.0);
        for (row, out) in (first..).zip(rows_mut(out)) {
            let (columns, values) = self.matrix.row(row);
            columns.iter().zip(values).for_each(|(&column, &value)| out[column as usize] = value);
        }
    }
}
