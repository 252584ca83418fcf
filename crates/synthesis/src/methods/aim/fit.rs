//! The graphical model that fits noisy marginals: Private-PGM (McKenna, Sheldon, Miklau 2019) by its dual.
//!
//! The model is the distribution p over the joint cells that minimizes
//! Σ over measured sets r and cells i of (n p_r(i) − y_r(i))² / 2σ_r(i)² + τ KL(p ‖ uniform).
//! Its optimum is p ∝ exp(Σ_r θ_r), where θ minimizes the convex dual
//! D(θ) = n ln Z(θ) − Σ θ_r(i) y_r(i) + τ / 2n Σ σ_r(i)² θ_r(i)²,
//! with gradient n p_r(i) − y_r(i) + (τ / n) σ_r(i)² θ_r(i). Without τ this is the objective of the paper, whose mirror
//! descent also starts at the uniform distribution. With τ the dual is smooth and strongly convex, so that L-BFGS
//! (Nocedal 1980), scaled by the diagonal of the Hessian, needs some tens of passes instead of hundreds. Each fit
//! starts from the θ of the previous one, also after the tree has changed.

use std::collections::VecDeque;

use super::model::Model;
use runtime::error::Result;
use runtime::progress::Progress;

/// History of L-BFGS, in steps.
const MEMORY: usize = 8;
/// Differences of θ from the maximum of its set are clipped to this.
const DEPTH: f64 = 300.0;
/// Minimum of τσ² / n as a share of σ: a count z deviations below 0 then leads to θ = −10 z instead of −∞.
const FLOOR: f64 = 0.1;

/// Noisy counts of a set of variables.
pub struct Measured {
    pub vars: Vec<usize>,
    pub counts: Vec<f64>,
    /// Variance of the noise of each cell.
    pub variance: Vec<f64>,
    pub theta: Vec<f64>,
}

impl Measured {
    /// Merges another measurement of the same set by inverse-variance weighting.
    pub fn combine(&mut self, counts: &[f64], variance: f64) {
        for ((old, old_variance), new) in self.counts.iter_mut().zip(&mut self.variance).zip(counts) {
            let sum = *old_variance + variance;
            *old = (*old * variance + new * *old_variance) / sum;
            *old_variance *= variance / sum;
        }
    }

    /// Counts adjusted to sum to `rows`, with the difference distributed by variance.
    fn balanced(&self, rows: f64) -> Vec<f64> {
        let missing = rows - self.counts.iter().sum::<f64>();
        let sum: f64 = self.variance.iter().sum();
        self.counts.iter().zip(&self.variance).map(|(count, variance)| count + missing * variance / sum).collect()
    }
}

/// The parameters of a fit.
pub struct Fit {
    /// The estimated number of rows.
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
    /// Optimizes the θ of the measurements in at most `steps` passes. The model then holds its marginals.
    pub fn run(
        &self,
        model: &mut Model,
        measured: &mut [Measured],
        steps: usize,
        progress: &dyn Progress,
    ) -> Result<()> {
        let counts: Vec<f64> = measured.iter().flat_map(|m| m.balanced(self.rows)).collect();
        let ridge = |variance: &f64| (variance * self.tau / self.rows).max(FLOOR * variance.sqrt());
        let ridge: Vec<f64> = measured.iter().flat_map(|m| m.variance.iter().map(ridge)).collect();
        let start: Vec<f64> = measured.iter().flat_map(|m| m.theta.iter().copied()).collect();
        let mut at = self.point(model, start, &counts, &ridge, progress)?;
        let mut past: VecDeque<(Vec<f64>, Vec<f64>, f64)> = VecDeque::new();
        for _ in 1..steps {
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
        let mut rest = &at.theta[..];
        for m in measured.iter_mut() {
            let (own, others) = rest.split_at(m.theta.len());
            m.theta.copy_from_slice(own);
            rest = others;
        }
        // The last pass may have been one that was not taken.
        self.pass(model, &at.theta, progress).map(drop)
    }

    /// A pass at θ. Returns the log of the sum over all cells.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::aim::tree::{Projection, size_of_set};
    use runtime::progress::Unwatched;

    #[test]
    fn counts_without_noise_are_met_and_what_no_count_tells_is_left_even() {
        // Of three variables, pairs (0, 1) and (1, 2) of a joint distribution; 0 and 2 are then independent given 1.
        let cells = [2, 3, 4];
        let joint: Vec<f64> = (0..24).map(|i| f64::from(i * 37 % 11 + 1)).collect();
        let rows: f64 = joint.iter().sum();
        let of = |set: &[usize]| {
            let projection = Projection::new(&cells, &[0, 1, 2], set).unwrap();
            projection.sum(&joint, size_of_set(&cells, set)).unwrap()
        };
        let sets = [vec![0], vec![0, 1], vec![1, 2]];
        let mut measured: Vec<Measured> = sets
            .iter()
            .map(|set| {
                let n = size_of_set(&cells, set);
                Measured { vars: set.clone(), counts: of(set), variance: vec![1e-4; n], theta: vec![0.0; n] }
            })
            .collect();
        let mut model = Model::new(&cells, &sets, None).unwrap();
        Fit { rows, tau: 1e-6 }.run(&mut model, &mut measured, 200, &Unwatched).unwrap();
        for (set, found) in sets.iter().zip(&model.marginals) {
            assert!(found.iter().zip(of(set)).all(|(p, y)| (p * rows - y).abs() < 0.05), "{set:?} {found:?}");
        }
        let (left, right, middle) = (of(&[0, 1]), of(&[1, 2]), of(&[1]));
        model
            .pairs_of(0, &|| Ok(()), |other, pair| {
                if other == 2 {
                    for (place, p) in pair.iter().enumerate() {
                        let (a, c) = (place / 4, place % 4);
                        let by_hand: f64 = (0..3).map(|b| left[a * 3 + b] * right[b * 4 + c] / middle[b]).sum();
                        assert!((p * rows - by_hand).abs() < 0.1, "{a} {c}");
                    }
                }
            })
            .unwrap();
    }

    #[test]
    fn counts_that_contradict_each_other_or_are_below_zero_give_a_distribution_between_them() {
        let sets = [vec![0], vec![0, 1]];
        let mut measured = vec![
            Measured { vars: vec![0], counts: vec![900.0, 100.0], variance: vec![100.0; 2], theta: vec![0.0; 2] },
            Measured {
                vars: vec![0, 1],
                counts: vec![400.0, 300.0, 350.0, -50.0],
                variance: vec![100.0; 4],
                theta: vec![0.0; 4],
            },
        ];
        let mut model = Model::new(&[2, 2], &sets, None).unwrap();
        let fit = Fit { rows: 1000.0, tau: 0.01 };
        fit.run(&mut model, &mut measured, 300, &Unwatched).unwrap();
        let p = &model.marginals[1];
        assert!(p.iter().all(|&x| x >= 0.0) && (p.iter().sum::<f64>() - 1.0).abs() < 1e-9 && p[3] < 1e-3, "{p:?}");
        // By hand, with the last cell empty: of a in the first row, 2 (a − 900)² + (a − 700)² / 2 + (a − 650)² is least at 800.
        assert!((p[0] + p[1] - 0.8).abs() < 0.002, "{p:?}");
        // At the optimum a measurement of twice the weight pulls twice as hard.
        measured[0].combine(&[900.0, 100.0], 100.0);
        assert_eq!(measured[0].variance, [50.0; 2]);
        let before = p[0] + p[1];
        fit.run(&mut model, &mut measured, 300, &Unwatched).unwrap();
        assert!(model.marginals[1][0] + model.marginals[1][1] > before);
    }
}
