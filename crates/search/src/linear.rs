//! A linear score that ranks rows with higher grades first: pairwise logistic regression.
//!
//! RankNet's loss (Burges and others, ICML 2005) for a linear score: the mean over queries of Σ w·ln(1 + e^(−s·(a − b))) over the pairs of a row
//! `a` with a higher grade than `b`, where w is the difference of their gains 2^grade − 1 as a part of the query's, plus λ·‖s − s₀‖². It is convex
//! and has a handful of weights: some hundred queries determine it, where trees alone would learn their noise.
//!
//! Newton's method. With the pairs of a query as a weighted graph on its rows, the second derivative is XᵀLX for the graph's Laplacian L. Time of a
//! step: O(rows² · columns) per query.

use kernels::cholesky;
use ndarray::Array2;
use runtime::error::Result;
use runtime::progress::Progress;

/// λ: pulls the weights to where they start from.
const L2: f64 = 0.01;
const MAX_STEPS: usize = 30;
const TOLERANCE: f64 = 1e-7;

/// The graded rows of one query.
pub struct Group {
    /// [rows, columns]
    rows: Array2<f64>,
    gains: Vec<f64>,
    /// The differences of the gains of all pairs together.
    differences: f64,
}

impl Group {
    /// `grades` [rows]
    pub fn new(rows: Array2<f64>, grades: &[f32]) -> Self {
        let gains: Vec<f64> = grades.iter().map(|&grade| f64::from(grade).exp2() - 1.0).collect();
        let above = |&gain: &f64| gains.iter().map(|other| (gain - other).max(0.0)).sum::<f64>();
        let differences = gains.iter().map(above).sum();
        Self { rows, gains, differences }
    }

    /// (better, worse, weight) of the pairs; the weights' sum is 1.
    fn pairs(&self) -> impl Iterator<Item = (usize, usize, f64)> {
        let of_row = move |(better, &gain): (usize, &f64)| {
            let worse = self.gains.iter().enumerate().filter(move |(_, other)| **other < gain);
            worse.map(move |(worse, other)| (better, worse, (gain - other) / self.differences))
        };
        self.gains.iter().enumerate().flat_map(of_row)
    }
}

/// The weights [columns], from `start`.
pub fn fit(groups: &[Group], start: &[f64], progress: &dyn Progress) -> Result<Vec<f64>> {
    let mut weights = start.to_vec();
    let mut at = Derivatives::of(groups, &weights, start, progress)?;
    for _ in 0..MAX_STEPS {
        let mut step = at.gradient.clone();
        if cholesky::solve(at.curvature.view_mut(), &mut step).is_none() {
            break;
        }
        // What the step would gain if the loss were a parabola.
        let gain: f64 = step.iter().zip(&at.gradient).map(|(step, gradient)| 0.5 * step * gradient).sum();
        if gain <= TOLERANCE {
            break;
        }
        let mut length = 1.0;
        let next = loop {
            let next: Vec<f64> = weights.iter().zip(&step).map(|(weight, step)| weight - length * step).collect();
            let there = Derivatives::of(groups, &next, start, progress)?;
            if there.loss <= at.loss {
                break Some((next, there));
            }
            length *= 0.5;
            if length < 1e-3 {
                break None;
            }
        };
        let Some((next, there)) = next else { break };
        (weights, at) = (next, there);
    }
    Ok(weights)
}

/// The loss and its derivatives by the weights.
struct Derivatives {
    loss: f64,
    gradient: Vec<f64>,
    curvature: Array2<f64>,
}

impl Derivatives {
    fn of(groups: &[Group], weights: &[f64], start: &[f64], progress: &dyn Progress) -> Result<Self> {
        let ranked = groups.iter().filter(|group| group.differences > 0.0).count().max(1) as f64;
        let away: Vec<f64> = weights.iter().zip(start).map(|(weight, start)| weight - start).collect();
        let mut all = Self {
            loss: L2 * away.iter().map(|x| x * x).sum::<f64>(),
            gradient: away.iter().map(|x| 2.0 * L2 * x).collect(),
            curvature: Array2::from_diag_elem(weights.len(), 2.0 * L2),
        };
        for group in groups.iter().filter(|group| group.differences > 0.0) {
            progress.check()?;
            all.add(group, ranked, weights);
        }
        Ok(all)
    }

    fn add(&mut self, group: &Group, ranked: f64, weights: &[f64]) {
        let rows = &group.rows;
        let dot = |row: usize| rows.row(row).iter().zip(weights).map(|(x, weight)| x * weight).sum::<f64>();
        let scores: Vec<f64> = (0..rows.nrows()).map(dot).collect();
        let mut of_rows = vec![0.0; rows.nrows()];
        let mut laplacian = Array2::<f64>::zeros((rows.nrows(), rows.nrows()));
        for (better, worse, weight) in group.pairs() {
            let (margin, weight) = (scores[better] - scores[worse], weight / ranked);
            let wrong = 1.0 / (1.0 + margin.exp());
            // ln(1 + e^−m), also where e^−m is too large for a number.
            self.loss += weight * ((-margin.abs()).exp().ln_1p() + (-margin).max(0.0));
            of_rows[better] -= weight * wrong;
            of_rows[worse] += weight * wrong;
            let curvature = weight * wrong * (1.0 - wrong);
            laplacian[[better, better]] += curvature;
            laplacian[[worse, worse]] += curvature;
            laplacian[[better, worse]] -= curvature;
            laplacian[[worse, better]] -= curvature;
        }
        for (row, of_row) in rows.rows().into_iter().zip(&of_rows) {
            self.gradient.iter_mut().zip(row).for_each(|(sum, x)| *sum += of_row * x);
        }
        self.curvature += &rows.t().dot(&laplacian.dot(rows));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::draw;
    use runtime::progress::Unwatched;

    fn groups() -> Vec<Group> {
        let group = |query: u64| {
            let rows = Array2::from_shape_fn((12, 3), |(row, column)| {
                f64::from(draw::normal(query * 3 + column as u64, row as u64))
            });
            let grade = |row: ndarray::ArrayView1<f64>| (row[0] - row[1] + 1.0).clamp(0.0, 3.0).round() as f32;
            let grades: Vec<f32> = rows.rows().into_iter().map(grade).collect();
            Group::new(rows, &grades)
        };
        (0..30).map(group).collect()
    }

    #[test]
    fn weights_have_the_signs_of_what_made_the_grades() {
        let groups = groups();
        let weights = fit(&groups, &[0.0; 3], &Unwatched).unwrap();
        assert!(weights[0] > 1.0 && weights[1] < -1.0 && weights[2].abs() < 0.3, "{weights:?}");
    }

    #[test]
    fn no_step_in_any_direction_lowers_the_loss_that_was_found() {
        let groups = groups();
        let start = [0.3, 0.0, 0.1];
        let weights = fit(&groups, &start, &Unwatched).unwrap();
        let loss = |weights: &[f64]| Derivatives::of(&groups, weights, &start, &Unwatched).unwrap().loss;
        for column in 0..3 {
            for step in [-0.02, 0.02] {
                let mut other = weights.clone();
                other[column] += step;
                assert!(loss(&other) > loss(&weights), "{column} {step}");
            }
        }
    }

    #[test]
    fn equal_grades_leave_the_weights_where_they_start() {
        let alike = Group::new(Array2::ones((4, 2)), &[1.0; 4]);
        let none = Group::new(Array2::zeros((0, 2)), &[]);
        assert_eq!(fit(&[alike, none], &[0.5, -1.0], &Unwatched).unwrap(), [0.5, -1.0]);
        assert_eq!(fit(&[], &[0.5], &Unwatched).unwrap(), [0.5]);
    }
}
