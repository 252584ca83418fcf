//! The graphical model that fits noised marginals: Private-PGM (McKenna, Sheldon, Miklau 2019) by its dual.
//!
//! Of all distributions p over the joint cells, that is wanted which makes
//! Σ over measured sets r and cells i of (n p_r(i) − y_r(i))² / 2σ_r(i)² + τ KL(p ‖ uniform)
//! least. Its optimum is p ∝ exp(Σ_r θ_r), and θ is the minimum of the convex dual
//! D(θ) = n ln Z(θ) − Σ θ_r(i) y_r(i) + τ / 2n Σ σ_r(i)² θ_r(i)²,
//! whose gradient is n p_r(i) − y_r(i) + (τ / n) σ_r(i)² θ_r(i). Without τ that is the objective of the paper, whose mirror
//! descent begins at the uniform distribution too; with it the dual is smooth and strongly convex, so that L-BFGS (Nocedal
//! 1980), scaled by the diagonal of the Hessian, needs some tens of passes where mirror descent needs hundreds.
//! The θ of one fit begin the next, also when the tree has become another.

use std::collections::VecDeque;

use super::model::Model;
use crate::error::Result;
use crate::progress::Progress;

/// Steps that L-BFGS remembers.
const MEMORY: usize = 8;
/// θ below the largest of its set by more than this is as good as none: exp(−60) of the cells' weight.
const DEPTH: f64 = 60.0;

/// Noised counts of a set of variables.
pub struct Measured {
    pub vars: Vec<usize>,
    pub counts: Vec<f64>,
    /// Of the noise, cell by cell.
    pub variance: Vec<f64>,
    pub theta: Vec<f64>,
}

impl Measured {
    /// Another measurement of the same set: the mean of both, weighted by the inverse of their variances.
    pub fn combine(&mut self, counts: &[f64], variance: f64) {
        for ((old, old_variance), new) in self.counts.iter_mut().zip(&mut self.variance).zip(counts) {
            let sum = *old_variance + variance;
            *old = (*old * variance + new * *old_variance) / sum;
            *old_variance *= variance / sum;
        }
    }

    /// Counts that sum to `rows`: what is missing is shared out by variance.
    fn balanced(&self, rows: f64) -> Vec<f64> {
        let missing = rows - self.counts.iter().sum::<f64>();
        let sum: f64 = self.variance.iter().sum();
        self.counts.iter().zip(&self.variance).map(|(count, variance)| count + missing * variance / sum).collect()
    }
}

/// What a fit is made with.
pub struct Fit {
    /// The number of rows, as it is known.
    pub rows: f64,
    /// The weight of the uniform distribution.
    pub tau: f64,
}

struct Point {
    theta: Vec<f64>,
    value: f64,
    gradient: Vec<f64>,
    /// The diagonal of the Hessian.
    curvature: Vec<f64>,
}

impl Fit {
    /// Moves the θ of what was measured towards the optimum by at most `steps` passes; the model then holds its marginals.
    pub fn run(&self, model: &mut Model, measured: &mut [Measured], steps: usize, progress: &dyn Progress) -> Result<()> {
        let counts: Vec<f64> = measured.iter().flat_map(|m| m.balanced(self.rows)).collect();
        let ridge: Vec<f64> = measured.iter().flat_map(|m| m.variance.iter().map(|v| v * self.tau / self.rows)).collect();
        let start: Vec<f64> = measured.iter().flat_map(|m| m.theta.iter().copied()).collect();
        let mut at = self.point(model, start, &counts, &ridge, progress)?;
        let mut past: VecDeque<(Vec<f64>, Vec<f64>, f64)> = VecDeque::new();
        let mut taken = 0;
        for _ in 1..steps {
            taken += 1;
            let direction = direction(&at, &past);
            let slope = dot(&direction, &at.gradient);
            // In units of the logarithm of the likelihood: less than this is far below the noise.
            if slope > -1e-3 {
                break;
            }
            let mut length = 1.0;
            let next = loop {
                let theta = at.theta.iter().zip(&direction).map(|(x, d)| x + length * d).collect();
                let next = self.point(model, theta, &counts, &ridge, progress)?;
                if next.value <= at.value + 1e-4 * length * slope {
                    break Some(next);
                }
                length *= 0.4;
                if length < 1e-4 {
                    break None;
                }
            };
            let Some(next) = next else {
                if past.is_empty() {
                    break;
                }
                // What was remembered leads nowhere: once more from the diagonal alone.
                past.clear();
                continue;
            };
            let step: Vec<f64> = next.theta.iter().zip(&at.theta).map(|(a, b)| a - b).collect();
            let change: Vec<f64> = next.gradient.iter().zip(&at.gradient).map(|(a, b)| a - b).collect();
            let product = dot(&step, &change);
            if product > 0.0 {
                if past.len() == MEMORY {
                    past.pop_front();
                }
                past.push_back((step, change, 1.0 / product));
            }
            at = next;
        }
        if std::env::var("DEBUG_FIT").is_ok() { eprintln!("steps {taken} of {steps} value {} |g| {} slope {}", at.value, dot(&at.gradient,&at.gradient).sqrt(), dot(&direction(&at,&past), &at.gradient)); }
        let mut rest = &at.theta[..];
        for m in measured.iter_mut() {
            let (own, others) = rest.split_at(m.theta.len());
            m.theta.copy_from_slice(own);
            rest = others;
        }
        // The last pass may have been one that was not taken.
        self.pass(model, &at.theta, progress).map(drop)
    }

    /// A pass at θ: the logarithm of the sum over all cells.
    fn pass(&self, model: &mut Model, theta: &[f64], progress: &dyn Progress) -> Result<f64> {
        let (mut factors, mut rest, mut taken_off) = (Vec::new(), theta, 0.0);
        for &size in model.sizes() {
            let (own, others) = rest.split_at(size);
            rest = others;
            let largest = own.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            taken_off += largest;
            factors.push(own.iter().map(|x| (x - largest).max(-DEPTH).exp()).collect::<Vec<f64>>());
        }
        Ok(model.infer(&factors, progress)? + taken_off)
    }

    fn point(
        &self,
        model: &mut Model,
        theta: Vec<f64>,
        counts: &[f64],
        ridge: &[f64],
        progress: &dyn Progress,
    ) -> Result<Point> {
        let log = self.pass(model, &theta, progress)?;
        let mut value = self.rows * log;
        let mut gradient = Vec::with_capacity(theta.len());
        let mut curvature = Vec::with_capacity(theta.len());
        let marginals = model.marginals.iter().flatten();
        for (((x, y), r), p) in theta.iter().zip(counts).zip(ridge).zip(marginals) {
            value += 0.5 * r * x * x - x * y;
            gradient.push(self.rows * p - y + r * x);
            // Where the model has almost nothing yet, what it shall have: a step then adds at most about 1 to θ.
            curvature.push((self.rows * p).max(*y) + r);
        }
        Ok(Point { theta, value, gradient, curvature })
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The two loops of L-BFGS.
fn direction(at: &Point, past: &VecDeque<(Vec<f64>, Vec<f64>, f64)>) -> Vec<f64> {
    let mut direction: Vec<f64> = at.gradient.iter().map(|g| -g).collect();
    let mut weights = Vec::new();
    for (step, change, inverse) in past.iter().rev() {
        let weight = inverse * dot(step, &direction);
        direction.iter_mut().zip(change).for_each(|(d, c)| *d -= weight * c);
        weights.push(weight);
    }
    // The diagonal, scaled to the last step seen.
    let scale = past.back().map_or(1.0, |(_, change, inverse)| {
        let scaled: f64 = change.iter().zip(&at.curvature).map(|(c, h)| c * c / h).sum();
        1.0 / (inverse * scaled)
    });
    direction.iter_mut().zip(&at.curvature).for_each(|(d, h)| *d *= scale / h);
    for ((step, change, inverse), weight) in past.iter().zip(weights.iter().rev()) {
        let back = inverse * dot(change, &direction);
        direction.iter_mut().zip(step).for_each(|(d, s)| *d += (weight - back) * s);
    }
    direction
}
