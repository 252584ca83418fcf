//! Features of items and users, as numbers.

mod encoder;
mod table;

use std::sync::Arc;

use ndarray::Array2;

use kernels::Csr;
use kernels::matrix::flat;

pub use encoder::Encoder;
pub use table::FeatureTable;

/// Features of all users or all items, in the order of their ids; rows without features are empty.
#[derive(Clone, Debug, Default)]
pub struct Features {
    /// [rows, columns]: 1 for each category that holds, standardised numbers.
    pub attributes: Csr,
    /// [rows, width]: vectors, such as embeddings of a text or an image, each normalised; 0 if missing. No columns without vectors.
    pub vectors: Array2<f32>,
    /// The encoder, if they were encoded. A model stores it for later items and users.
    pub encoder: Option<Arc<Encoder>>,
}

impl Features {
    pub fn rows(&self) -> usize {
        self.attributes.rows()
    }

    /// Length of a vector; 0 if there are none.
    pub fn width(&self) -> usize {
        self.vectors.ncols()
    }

    pub fn vector(&self, row: usize) -> &[f32] {
        &flat(self.vectors.view())[row * self.width()..][..self.width()]
    }

    /// Whether a row has features.
    pub fn knows(&self, row: usize) -> bool {
        !self.attributes.row(row).0.is_empty() || self.vector(row).iter().any(|&x| x != 0.0)
    }
}

#[cfg(test)]
mod tests;
