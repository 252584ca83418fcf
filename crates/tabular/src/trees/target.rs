//! What a tree predicts.

use crate::labels::Labels;

/// The label of each binned row.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    Classes { codes: &'a [u32], classes: usize },
    Numbers(&'a [f32]),
}

impl<'a> From<&'a Labels> for Target<'a> {
    fn from(labels: &'a Labels) -> Self {
        match labels {
            Labels::Classes { codes, names } => Self::Classes { codes, classes: names.len() },
            Labels::Numbers(values) => Self::Numbers(values),
        }
    }
}

impl Target<'_> {
    /// Length of a prediction: a probability for each class, or one number.
    pub fn outputs(&self) -> usize {
        match self {
            Self::Classes { classes, .. } => *classes,
            Self::Numbers(_) => 1,
        }
    }
}
