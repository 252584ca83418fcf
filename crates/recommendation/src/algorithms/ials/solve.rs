//! One side of iALS: every row's normal equations, given the factors of the other side.
//!
//! With the factors `Y` of the other side in the eigenbasis of their Gram matrix `YᵀY = Λ`, row `u` solves
//! `(Σ_i c_ui y_i y_iᵀ + D_u) x_u = Σ_i c_ui p_ui y_i + λ_u m_u`, `D_u = α₀ Λ + λ_u I` diagonal, `p_ui` 1 for what was chosen
//! and 0 for what was turned down, `m_u` what the row's features lead to expect. A product with that matrix costs
//! O(n_u d) however many columns were not interacted with.

use std::sync::atomic::Ordering;

use ndarray::ArrayViewMut2;

use super::problem::{Problem, Rows, Solver};
use super::{block, conjugate};
use kernels::matrix::flat_mut;

/// Improves `x` [rows, stride], which holds the rows' last solutions, towards the solution of their normal equations. Rows
/// without interactions become what is expected of them, or 0.
pub fn solve_rows(problem: &Problem, rows: &Rows, x: ArrayViewMut2<f32>) {
    let d = problem.dense.len();
    let columns = problem.factors.nrows();
    assert_eq!(d % 16, 0);
    assert_eq!(problem.factors.ncols(), d);
    assert_eq!(x.dim(), (rows.lambda.len(), d));
    assert_eq!(rows.indptr.len(), rows.lambda.len() + 1);
    assert!(rows.expected.is_none_or(|expected| expected.dim() == x.dim()));
    let mut scratch = Scratch::new(d, problem);
    for (u, x) in flat_mut(x).chunks_exact_mut(d).enumerate() {
        if problem.stop.load(Ordering::Relaxed) {
            return;
        }
        let row = rows.row(u);
        if row.indices.is_empty() {
            match row.expected {
                None => x.fill(0.0),
                Some(expected) => x.copy_from_slice(expected),
            }
            continue;
        }
        // The kernels read rows of factors unchecked.
        assert!(row.indices.iter().all(|&i| (i as usize) < columns));
        // A matrix that is not positive definite in f32 is left to the steps, which need no decomposition.
        let solved = problem.solver != Solver::Cg && block::solve_row(problem, &row, x, &mut scratch.block);
        if !solved {
            // SAFETY: the indices were checked.
            unsafe { conjugate::solve_row(problem, &row, x, &mut scratch.vectors) };
        }
    }
}

struct Scratch {
    vectors: Vec<f32>,
    block: block::Scratch,
}

impl Scratch {
    fn new(d: usize, problem: &Problem) -> Self {
        let width = match problem.solver {
            Solver::Cg => 0,
            Solver::Cholesky => d,
            Solver::Block => problem.block_size.next_multiple_of(16).min(d),
        };
        Self { vectors: vec![0.0; conjugate::VECTORS * d], block: block::Scratch::new(d, width) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use kernels::cholesky;
    use ndarray::{Array2, aview2};

    /// Rows 0 to 3 of some interactions, solved; and the exact solutions.
    fn solved(solver: Solver, block_size: usize, steps: usize, passes: usize) -> Vec<(f32, f64)> {
        let (d, columns) = (48, 90);
        let factors =
            Array2::from_shape_fn((columns, d), |(i, k)| (((i * d + k) * 7919 % 1009) as f32 - 504.0) / 1500.0);
        let dense: Vec<f32> = (0..d).map(|k| 3.0 / (k + 1) as f32).collect();
        let indptr = [0u64, 1, 1, 4, 81];
        let indices: Vec<u32> = [3].into_iter().chain([1, 2, 49]).chain(5..82).collect();
        // Some were turned down.
        let confidences: Vec<f32> =
            (0..81).map(|i| (1.0 + (i % 3) as f32) * if i % 7 == 5 { -1.0 } else { 1.0 }).collect();
        let lambda = [0.1, 0.1, 0.2, 0.5];
        let expected = Array2::from_shape_fn((4, d), |(u, k)| ((u * d + k) % 5) as f32 / 10.0);
        let mut x = Array2::from_elem((4, d), 0.01);
        let typical = vec![0.04; d];
        let stop = AtomicBool::new(false);
        let problem = Problem {
            solver,
            factors: factors.view(),
            dense: &dense,
            typical: &typical,
            steps,
            tolerance: 1e-12,
            block_size,
            stop: &stop,
        };
        let rows = Rows {
            indptr: &indptr,
            indices: &indices,
            confidences: &confidences,
            lambda: &lambda,
            expected: Some(expected.view()),
        };
        (0..passes).for_each(|_| solve_rows(&problem, &rows, x.view_mut()));
        let mut pairs = Vec::new();
        for u in 0..4 {
            let mut a = Array2::zeros((d, d));
            let mut b = vec![0.0; d];
            let prior = |k: usize| f64::from(expected[[u, k]]);
            let dense = |k: usize| if u == 1 { 0.0 } else { f64::from(dense[k]) };
            for k in 0..d {
                a[[k, k]] = dense(k) + f64::from(lambda[u]);
                b[k] = f64::from(lambda[u]) * prior(k);
            }
            for j in indptr[u] as usize..indptr[u + 1] as usize {
                let y = factors.row(indices[j] as usize);
                for k in 0..d {
                    b[k] += f64::from(confidences[j].max(0.0) * y[k]);
                    let c = f64::from(confidences[j].abs());
                    (0..d).for_each(|l| a[[k, l]] += c * f64::from(y[k]) * f64::from(y[l]));
                }
            }
            cholesky::solve(a.view_mut(), &mut b).unwrap();
            pairs.extend((0..d).map(|k| (x[[u, k]], b[k])));
        }
        pairs
    }

    #[test]
    fn every_solver_finds_the_solution() {
        for (solver, block_size, steps, passes) in [
            (Solver::Cg, 1, 150, 1),
            (Solver::Cg, 1, 2, 1000),
            (Solver::Cholesky, 1, 0, 1),
            (Solver::Block, 32, 0, 1000),
            (Solver::Block, 48, 0, 1),
        ] {
            for (k, (x, exact)) in solved(solver, block_size, steps, passes).into_iter().enumerate() {
                assert!((f64::from(x) - exact).abs() < 2e-4, "{solver:?} {block_size} at {k}: {x} {exact}");
            }
        }
    }

    #[test]
    fn rows_stay_as_they_are_once_told_to_stop() {
        let stop = AtomicBool::new(true);
        let mut x = Array2::from_elem((1, 16), 7.0);
        let problem = Problem {
            solver: Solver::Cg,
            factors: aview2(&[[0.5; 16]]),
            dense: &[1.0; 16],
            typical: &[1.0; 16],
            steps: 3,
            tolerance: 0.0,
            block_size: 16,
            stop: &stop,
        };
        let rows = Rows { indptr: &[0, 1], indices: &[0], confidences: &[1.0], lambda: &[0.1], expected: None };
        solve_rows(&problem, &rows, x.view_mut());
        assert!(x.iter().all(|&x| x == 7.0));
    }
}
