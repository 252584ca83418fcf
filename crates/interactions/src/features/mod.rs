//! What is known of items or users besides their interactions, as numbers.

mod encoder;
mod table;

use std::sync::Arc;

use kernels::Csr;

pub use encoder::Encoder;
pub use table::FeatureTable;

/// Features of every user or of every item, in the order of their ids; a row of which nothing is known is empty.
#[derive(Clone, Debug, Default)]
pub struct Features {
    /// [rows, columns]: 1 for each category that holds, standardised numbers.
    pub attributes: Csr,
    /// [rows, width]: vectors, such as embeddings of a text or an image, each normalised; 0 where there is none.
    pub vectors: Vec<f32>,
    /// Length of a vector; 0 where there are none.
    pub width: usize,
    /// How they were encoded, where they were: a model stores it for items and users that come later.
    pub encoder: Option<Arc<Encoder>>,
}

impl Features {
    pub fn rows(&self) -> usize {
        self.attributes.rows()
    }

    pub fn vector(&self, row: usize) -> &[f32] {
        &self.vectors[row * self.width..][..self.width]
    }

    /// Whether anything is known of a row.
    pub fn knows(&self, row: usize) -> bool {
        !self.attributes.row(row).0.is_empty() || self.vector(row).iter().any(|&x| x != 0.0)
    }
}

#[cfg(test)]
mod tests;
