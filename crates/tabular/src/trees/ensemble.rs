//! A boosted ensemble over numbers as plain arrays: to be stored, and to score rows that were never binned.

use super::binned::Binning;
use super::boosting::Boosting;

/// Marks a leaf in [`Ensemble::columns`].
pub const LEAF: u32 = u32::MAX;

/// The trees of a [`Boosting`] with one score. A row goes left where its number is at most the threshold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ensemble {
    /// [trees]: the first node of each.
    pub roots: Vec<u32>,
    /// [nodes]: the column that a node splits by, or [`LEAF`].
    pub columns: Vec<u32>,
    /// [nodes]: the threshold, or the value of a leaf.
    pub numbers: Vec<f32>,
    /// [nodes]: the left child; the right one follows it.
    pub left: Vec<u32>,
    pub base: f32,
    /// [columns], or fewer: weights of the numbers themselves, where the trees only add to a linear score.
    pub linear: Vec<f32>,
}

impl Ensemble {
    /// `None` if there are categories, or several scores.
    pub fn of(boosting: &Boosting, binning: &Binning) -> Option<Self> {
        let mut ensemble = Self { base: boosting.single_base()?, ..Self::default() };
        for tree in boosting.grown() {
            let first = ensemble.columns.len() as u32;
            ensemble.roots.push(first);
            for node in 0..tree.nodes() {
                match tree.split_at(node) {
                    Some((column, code, left)) => {
                        let (feature, threshold) = binning.threshold(column, code?)?;
                        ensemble.columns.push(feature);
                        ensemble.numbers.push(threshold);
                        ensemble.left.push(first + left);
                    }
                    None => {
                        ensemble.columns.push(LEAF);
                        ensemble.numbers.push(tree.values(node).first().map_or(0.0, |(_, value)| *value));
                        ensemble.left.push(0);
                    }
                }
            }
        }
        Some(ensemble)
    }

    /// Only the first trees: what fewer rounds of boosting would have given.
    pub fn truncate(&mut self, trees: usize) {
        if let Some(&end) = self.roots.get(trees) {
            self.roots.truncate(trees);
            self.columns.truncate(end as usize);
            self.numbers.truncate(end as usize);
            self.left.truncate(end as usize);
        }
    }

    /// Whether every node leads to a later one that exists: arrays from a file may say anything.
    pub fn is_sound(&self) -> bool {
        let nodes = self.columns.len();
        let node_is_sound = |node: usize| {
            let left = self.left[node] as usize;
            self.columns[node] == LEAF || left > node && left + 1 < nodes
        };
        self.linear.iter().all(|weight| weight.is_finite())
            && self.numbers.len() == nodes
            && self.left.len() == nodes
            && self.roots.iter().all(|&root| (root as usize) < nodes)
            && (0..nodes).all(node_is_sound)
    }

    /// The score of a row [columns].
    pub fn score(&self, row: &[f32]) -> f32 {
        let linear: f32 = self.linear.iter().zip(row).map(|(weight, x)| weight * x).sum();
        self.roots.iter().fold(self.base + linear, |score, &root| {
            let mut node = root as usize;
            loop {
                let (column, number) = (self.columns[node], self.numbers[node]);
                if column == LEAF {
                    return score + number;
                }
                let goes_left = row.get(column as usize).is_some_and(|&x| x <= number);
                node = self.left[node] as usize + usize::from(!goes_left);
            }
        })
    }
}
