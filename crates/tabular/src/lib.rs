//! Rows of a table as learners take them: columns of numbers, categories, texts, times and vectors become a sparse matrix of
//! features, and one column the labels.

mod encoder;
mod labels;
mod metrics;
mod table;
pub mod trees;

use kernels::Csr;

pub use encoder::{Encoder, EncoderOptions};
pub use labels::{LabelKind, Labels};
pub use metrics::{auc, metrics, most_likely};
pub use table::{Column, ColumnKind, NONE, Table, Value};

/// Rows as learners take them.
#[derive(Clone, Debug)]
pub struct Samples {
    pub features: Features,
    pub labels: Labels,
}

/// An encoded table.
#[derive(Clone, Debug, Default)]
pub struct Features {
    /// [rows, columns]: standardised numbers, 1 for each category that holds, hashed words.
    pub matrix: Csr,
    /// Neighbouring columns of which a row has exactly one: the categories of one column of the source, as (first, count), ascending.
    pub categories: Vec<(u32, u32)>,
}

impl Features {
    pub fn rows(&self) -> usize {
        self.matrix.rows()
    }

    pub fn columns(&self) -> usize {
        self.matrix.columns
    }

    /// Writes the rows from `first` on into `out` [rows, columns], and zeros where they have nothing.
    pub fn write_rows(&self, first: usize, out: &mut [f32]) {
        out.fill(0.0);
        for (row, out) in (first..).zip(out.chunks_exact_mut(self.columns().max(1))) {
            let (columns, values) = self.matrix.row(row);
            columns.iter().zip(values).for_each(|(&column, &value)| out[column as usize] = value);
        }
    }
}

#[cfg(test)]
mod tests;
