//! A row's normal equations, exactly: in all dimensions at once, or in one subspace after the other.
//!
//! Rendle, Krichene, Zhang, Koren: "iALS++: Speeding up matrix factorization with subspace optimization" (2021, arXiv
//! 2110.14044), alg. 1: for the dimensions `B` of a block, `x_B ← x_B + H⁻¹ g` with the block `H` of the normal equations'
//! matrix and their residual `g`. Here in the eigenbasis of the Gram matrix, where the dense part of `H` is diagonal. A block of
//! all dimensions is the exact solution. O(n d b + d b²) for a row, `b` dimensions a block.

use super::problem::{Problem, Row};
use kernels::cholesky_f32::{cholesky_apply, cholesky_factor};
use kernels::dense::add_gram;
use kernels::dot::{axpy, dot};

/// Columns gathered at a time.
const GATHERED: usize = 64;

pub struct Scratch {
    /// Dimensions of a block, padded; 0 where no block is ever solved.
    width: usize,
    /// [width, width]
    matrix: Vec<f32>,
    /// [width]
    step: Vec<f32>,
    /// [GATHERED, width]
    gathered: Vec<f32>,
    /// A row's `y_j · x`.
    scores: Vec<f32>,
}

impl Scratch {
    pub fn new(width: usize) -> Self {
        Self {
            width,
            matrix: vec![0.0; width * width],
            step: vec![0.0; width],
            gathered: vec![0.0; GATHERED * width],
            scores: Vec::new(),
        }
    }
}

/// Improves `x` [stride]. False, with `x` as it was or improved in part, where the matrix is not positive definite in f32.
pub fn solve_row(problem: &Problem, row: &Row, x: &mut [f32], scratch: &mut Scratch) -> bool {
    let d = x.len();
    let column = |j: usize| &problem.factors[row.indices[j] as usize * d..][..d];
    let n = row.indices.len();
    scratch.scores.clear();
    scratch.scores.extend((0..n).map(|j| dot(column(j), x)));
    for first in (0..d).step_by(scratch.width) {
        let b = scratch.width.min(d - first);
        let range = first..first + b;
        let matrix = &mut scratch.matrix[..b * b];
        let step = &mut scratch.step[..b];
        matrix.fill(0.0);
        for (k, step) in range.clone().zip(step.iter_mut()) {
            let expected = row.expected.get(k).copied().unwrap_or(0.0);
            *step = row.lambda * expected - (problem.dense[k] + row.lambda) * x[k];
        }
        for start in (0..n).step_by(GATHERED) {
            let part = start..(start + GATHERED).min(n);
            for (j, to) in part.clone().zip(scratch.gathered.chunks_exact_mut(b)) {
                let y = &column(j)[range.clone()];
                let (c, weight) = (row.confidences[j], row.confidences[j].abs());
                axpy(c.max(0.0) - weight * scratch.scores[j], y, step);
                let root = weight.sqrt();
                to.iter_mut().zip(y).for_each(|(to, &y)| *to = root * y);
            }
            add_gram(&scratch.gathered[..part.len() * b], b, matrix);
        }
        for (k, at) in range.clone().zip((0..b).map(|k| k * b + k)) {
            matrix[at] += problem.dense[k] + row.lambda;
        }
        if !cholesky_factor(matrix, b) {
            return false;
        }
        cholesky_apply(matrix, step);
        x[range.clone()].iter_mut().zip(step.iter()).for_each(|(x, &s)| *x += s);
        if range.end < d {
            (0..n).for_each(|j| scratch.scores[j] += dot(&column(j)[range.clone()], step));
        }
    }
    true
}
