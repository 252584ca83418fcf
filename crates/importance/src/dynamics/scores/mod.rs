//! From what networks say of a row, epoch after epoch, to its scores: a method a file.

mod aum;
mod el2n;
mod forgetting;
mod grad_norm;
mod loss;
mod tracin;

use super::network::Finding;
use crate::Method;
use runtime::error::{Error, Result};

/// What the network of an epoch says of some rows.
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
    fn for_each(&self, scores: &mut [f32], change: impl Fn(&mut f32, &Finding)) {
        scores[self.first..].iter_mut().zip(self.findings).for_each(|(score, finding)| change(score, finding));
    }
}

/// A method's scores in the making, of one network.
trait Score {
    fn add(&mut self, seen: &Seen);

    /// [rows]
    fn finish(self: Box<Self>) -> Vec<f32>;
}

/// The epochs, from 1, whose networks `el2n` and `grad_norm` ask.
#[derive(Clone, Copy, Debug)]
pub struct Epochs {
    pub all: usize,
    pub el2n: usize,
    pub grad_norm: usize,
}

impl Epochs {
    /// The last one that any of `methods` asks.
    pub fn last(&self, methods: &[Method]) -> usize {
        let last = |method: &Method| match method {
            Method::El2n => self.el2n,
            Method::GradNorm => self.grad_norm,
            _ => self.all,
        };
        methods.iter().map(last).max().unwrap_or(0)
    }

    /// Whether any of `methods` asks for ‖gradient‖² after `epoch`.
    pub fn want_gradient(&self, methods: &[Method], epoch: usize, validation: bool) -> bool {
        methods.iter().any(|method| match method {
            Method::GradNorm => epoch == self.grad_norm,
            Method::Tracin => !validation,
            _ => false,
        })
    }
}

/// The scores of one network's training.
pub struct Tally(Vec<Box<dyn Score>>);

impl Tally {
    /// `validation` says whether `tracin` is towards validation rows.
    pub fn new(methods: &[Method], epochs: Epochs, validation: bool, rows: usize) -> Result<Self> {
        let score = |method: &Method| -> Result<Box<dyn Score>> {
            Ok(match method {
                Method::Loss => Box::new(loss::Loss::new(rows, epochs.all)?),
                Method::El2n => Box::new(el2n::El2n::new(rows, epochs.el2n)?),
                Method::GradNorm => Box::new(grad_norm::GradNorm::new(rows, epochs.grad_norm)?),
                Method::Aum => Box::new(aum::Aum::new(rows, epochs.all)?),
                Method::Forgetting => Box::new(forgetting::Forgetting::new(rows, epochs.all)?),
                Method::Tracin => Box::new(tracin::Tracin::new(rows, validation)?),
                other => return Err(Error::Internal(format!("{} is no score of dynamics", other.name()))),
            })
        };
        Ok(Self(methods.iter().map(score).collect::<Result<_>>()?))
    }

    /// False where what is seen is no number.
    pub fn add(&mut self, seen: &Seen) -> bool {
        self.0.iter_mut().for_each(|score| score.add(seen));
        let finite = |f: &Finding| [f.loss, f.margin, f.gradient_square, f.along].iter().all(|x| x.is_finite());
        seen.findings.iter().all(finite)
    }

    /// The scores [methods, rows].
    pub fn finish(self) -> Vec<Vec<f32>> {
        self.0.into_iter().map(|score| score.finish()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_of_its_own_is_enough_for_el2n_and_grad_norm() {
        let epochs = Epochs { all: 20, el2n: 5, grad_norm: 10 };
        assert_eq!(epochs.last(&[Method::El2n]), 5);
        assert_eq!(epochs.last(&[Method::El2n, Method::GradNorm]), 10);
        assert_eq!(epochs.last(&[Method::El2n, Method::Aum]), 20);
        assert!(epochs.want_gradient(&[Method::GradNorm], 10, true));
        assert!(!epochs.want_gradient(&[Method::GradNorm], 9, false));
        assert!(epochs.want_gradient(&[Method::Tracin], 9, false) && !epochs.want_gradient(&[Method::Tracin], 9, true));
    }

    #[test]
    fn what_is_no_number_is_told() {
        let epochs = Epochs { all: 1, el2n: 1, grad_norm: 1 };
        let mut tally = Tally::new(&[Method::Loss], epochs, false, 1).unwrap();
        let findings = [Finding { loss: f32::NAN, ..Finding::default() }];
        assert!(!tally.add(&Seen { epoch: 1, rate: 0.1, first: 0, findings: &findings }));
        assert!(Tally::new(&[Method::Auto], epochs, false, 1).is_err());
    }
}
