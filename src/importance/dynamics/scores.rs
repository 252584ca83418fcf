//! From what networks say of a row, epoch after epoch, to its scores.

use super::network::Finding;
use crate::error::Result;
use crate::importance::Method;
use crate::memory;

/// Learned in the last epoch; ever learned.
const LEARNED: u8 = 1;
const EVER: u8 = 2;

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
pub struct Tally<'a> {
    methods: &'a [Method],
    epochs: Epochs,
    /// Whether `tracin` is towards validation rows.
    validation: bool,
    /// [methods, rows]
    scores: Vec<Vec<f32>>,
    /// [rows] of [`LEARNED`] and [`EVER`], where `forgetting` is asked.
    learned: Vec<u8>,
}

impl<'a> Tally<'a> {
    pub fn new(methods: &'a [Method], epochs: Epochs, validation: bool, rows: usize) -> Result<Self> {
        let scores = methods.iter().map(|_| memory::filled(0f32, rows)).collect::<Result<_>>()?;
        let learned = memory::filled(0, if methods.contains(&Method::Forgetting) { rows } else { 0 })?;
        Ok(Self { methods, epochs, validation, scores, learned })
    }

    /// Takes what the network of `epoch`, from 1, says of the rows from `first` on. False where that is no number.
    pub fn add(&mut self, epoch: usize, rate: f32, first: usize, findings: &[Finding]) -> bool {
        let Epochs { all, el2n, grad_norm } = self.epochs;
        let rows = first..first + findings.len();
        for (method, scores) in self.methods.iter().zip(&mut self.scores) {
            let pairs = scores[rows.clone()].iter_mut().zip(findings);
            match method {
                Method::Loss => pairs.for_each(|(s, f)| *s -= f.loss / all as f32),
                Method::Aum => pairs.for_each(|(s, f)| *s += f.margin / all as f32),
                Method::El2n if epoch == el2n => pairs.for_each(|(s, f)| *s = -f.error),
                Method::GradNorm if epoch == grad_norm => pairs.for_each(|(s, f)| *s = -f.gradient_square.sqrt()),
                Method::Tracin if self.validation => pairs.for_each(|(s, f)| *s += rate * f.along),
                Method::Tracin => pairs.for_each(|(s, f)| *s -= rate * f.gradient_square),
                Method::Forgetting => {
                    for ((score, f), learned) in pairs.zip(&mut self.learned[rows.clone()]) {
                        let now = f.margin > 0.0;
                        if *learned & LEARNED != 0 && !now {
                            *score -= 1.0;
                        }
                        *learned = if now { LEARNED | EVER } else { *learned & EVER };
                    }
                }
                _ => {}
            }
        }
        findings
            .iter()
            .all(|f| f.loss.is_finite() && f.margin.is_finite() && f.gradient_square.is_finite() && f.along.is_finite())
    }

    /// The scores [methods, rows].
    pub fn finish(mut self) -> Vec<Vec<f32>> {
        for (method, scores) in self.methods.iter().zip(&mut self.scores) {
            if *method == Method::Forgetting {
                // A row that is never learned counts as forgotten after every epoch.
                let never = -(self.epochs.all as f32);
                scores.iter_mut().zip(&self.learned).filter(|&(_, &l)| l & EVER == 0).for_each(|(s, _)| *s = never);
            }
        }
        self.scores
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgetting_counts_the_times_and_what_is_never_learned_is_worst() {
        let epochs = Epochs { all: 5, el2n: 1, grad_norm: 1 };
        let mut tally = Tally::new(&[Method::Forgetting], epochs, false, 3).unwrap();
        let margins = [[1.0, -1.0, -1.0], [1.0, 1.0, -1.0], [1.0, -1.0, 0.0], [1.0, 1.0, -1.0], [1.0, -1.0, -1.0]];
        for (margins, epoch) in margins.iter().zip(1..) {
            let findings = margins.map(|margin| Finding { margin, ..Finding::default() });
            assert!(tally.add(epoch, 0.1, 0, &findings));
        }
        assert_eq!(tally.finish(), [[0.0, -2.0, -5.0]]);
    }

    #[test]
    fn an_epoch_of_its_own_is_enough_for_el2n_and_grad_norm() {
        let epochs = Epochs { all: 20, el2n: 5, grad_norm: 10 };
        assert_eq!(epochs.last(&[Method::El2n]), 5);
        assert_eq!(epochs.last(&[Method::El2n, Method::GradNorm]), 10);
        assert_eq!(epochs.last(&[Method::El2n, Method::Aum]), 20);
        assert!(
            epochs.want_gradient(&[Method::GradNorm], 10, true) && !epochs.want_gradient(&[Method::GradNorm], 9, false)
        );
        assert!(epochs.want_gradient(&[Method::Tracin], 9, false) && !epochs.want_gradient(&[Method::Tracin], 9, true));
    }
}
