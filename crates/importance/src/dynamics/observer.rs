//! What a method observes of networks in training, and how it turns that into scores.

use crate::networks::Finding;
use runtime::error::Result;

/// A method whose scores come from observing networks in training.
pub trait Observer: Sync {
    /// The last epoch it observes: training need not go on beyond.
    fn last_epoch(&self, epochs: &Epochs) -> usize {
        epochs.all
    }

    /// Whether it needs [`Finding::gradient_square`] after `epoch`.
    fn needs_gradient(&self, _epoch: usize, _run: &Run) -> bool {
        false
    }

    /// Whether it compares gradients with that of the validation rows, where there are any.
    fn uses_validation(&self) -> bool {
        false
    }

    /// Begins the scores of one network.
    fn start(&self, run: &Run) -> Result<Box<dyn Tally>>;
}

/// The scores of one network, updated after every epoch.
pub trait Tally {
    fn add(&mut self, seen: &Seen);

    /// Scores [rows].
    fn finish(self: Box<Self>) -> Vec<f32>;
}

/// The epochs, counted from 1, after which a network is observed.
#[derive(Clone, Copy, Debug)]
pub struct Epochs {
    pub all: usize,
    pub el2n: usize,
    pub grad_norm: usize,
}

/// The training of one network.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub rows: usize,
    pub epochs: Epochs,
    /// Whether gradients are compared with that of validation rows.
    pub validation: bool,
}

/// What the network says of some rows after an epoch.
pub struct Seen<'a> {
    /// From 1.
    pub epoch: usize,
    /// The learning rate.
    pub rate: f32,
    /// The first of the rows.
    pub first: usize,
    /// [rows]
    pub findings: &'a [Finding],
}

impl Seen<'_> {
    /// Changes the `scores` [all rows] of the rows seen.
    pub fn for_each(&self, scores: &mut [f32], change: impl Fn(&mut f32, &Finding)) {
        scores[self.first..].iter_mut().zip(self.findings).for_each(|(score, finding)| change(score, finding));
    }

    /// Whether every number is finite: false once the network diverges.
    pub fn is_finite(&self) -> bool {
        let finite = |f: &Finding| [f.loss, f.margin, f.gradient_square, f.along].iter().all(|x| x.is_finite());
        self.findings.iter().all(finite)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_not_finite_is_told() {
        let findings = [Finding { loss: f32::NAN, ..Finding::default() }];
        assert!(!Seen { epoch: 1, rate: 0.1, first: 0, findings: &findings }.is_finite());
        assert!(Seen { epoch: 1, rate: 0.1, first: 0, findings: &[Finding::default()] }.is_finite());
    }
}
