//! A row's normal equations, exactly: in all dimensions at once, or in one subspace after the other.
//!
//! Rendle, Krichene, Zhang, Koren: "iALS++: Speeding up matrix factorization with subspace optimization" (2021, arXiv
//! 2110.14044), alg. 1: for the dimensions `B` of a block, `x_B ← x_B + H⁻¹ g` with the block `H` of the normal equations'
//! matrix and their residual `g`. Here in the eigenbasis of the Gram matrix, where the dense part of `H` is diagonal. A block of
//! all dimensions is the exact solution. O(n d b + d b²) for a row, `b` dimensions a block.

use ndarray::{Array2, s};

use super::problem::{Problem, Row};
use kernels::cholesky_f32::{cholesky_apply, cholesky_factor};
use kernels::dense::add_gram;
use kernels::dot::{axpy, dot};
use kernels::matrix::{flat, flat_mut};

/// Columns gathered at a time.
const GATHERED: usize = 64;

pub struct Scratch {
    /// Dimensions of a block, padded; 0 where no block is ever solved.
    width: usize,
    whole: Room,
    /// For the last block, where it has fewer dimensions.
    rest: Room,
    /// A row's `y_j · x`.
    scores: Vec<f32>,
}

/// For one block of `b` dimensions.
struct Room {
    /// [b, b]
    matrix: Array2<f32>,
    /// [b]
    step: Vec<f32>,
    /// [GATHERED, b]
    gathered: Array2<f32>,
}

impl Room {
    fn new(b: usize) -> Self {
        Self { matrix: Array2::zeros((b, b)), step: vec![0.0; b], gathered: Array2::zeros((GATHERED, b)) }
    }
}

impl Scratch {
    /// For rows of `d` factors, in blocks of `width`.
    pub fn new(d: usize, width: usize) -> Self {
        let rest = d.checked_rem(width).unwrap_or(0);
        Self { width, whole: Room::new(width), rest: Room::new(rest), scores: Vec::new() }
    }
}

/// Improves `x` [stride]. False, with `x` as it was or improved in part, where the matrix is not positive definite in f32.
pub fn solve_row(problem: &Problem, row: &Row, x: &mut [f32], scratch: &mut Scratch) -> bool {
    let d = x.len();
    let factors = flat(problem.factors);
    let column = |j: usize| &factors[row.indices[j] as usize * d..][..d];
    let n = row.indices.len();
    let Scratch { width, whole, rest, scores } = scratch;
    scores.clear();
    scores.extend((0..n).map(|j| dot(column(j), x)));
    for first in (0..d).step_by(*width) {
        let b = (*width).min(d - first);
        let range = first..first + b;
        let Room { matrix, step, gathered } = if b == *width { &mut *whole } else { &mut *rest };
        matrix.fill(0.0);
        for (k, step) in range.clone().zip(step.iter_mut()) {
            let expected = row.expected.map_or(0.0, |expected| expected[k]);
            *step = row.lambda * expected - (problem.dense[k] + row.lambda) * x[k];
        }
        for start in (0..n).step_by(GATHERED) {
            let part = start..(start + GATHERED).min(n);
            let mut gathered = gathered.slice_mut(s![..part.len(), ..]);
            for (j, to) in part.zip(flat_mut(gathered.view_mut()).chunks_exact_mut(b)) {
                let y = &column(j)[range.clone()];
                let (c, weight) = (row.confidences[j], row.confidences[j].abs());
                axpy(c.max(0.0) - weight * scores[j], y, step);
                let root = weight.sqrt();
                to.iter_mut().zip(y).for_each(|(to, &y)| *to = root * y);
            }
            add_gram(gathered.view(), matrix.view_mut());
        }
        for (k, own) in range.clone().zip(matrix.diag_mut()) {
            *own += problem.dense[k] + row.lambda;
        }
        if !cholesky_factor(matrix.view_mut()) {
            return false;
        }
        cholesky_apply(matrix.view(), step);
        x[range.clone()].iter_mut().zip(step.iter()).for_each(|(x, &s)| *x += s);
        if range.end < d {
            (0..n).for_each(|j| scores[j] += dot(&column(j)[range.clone()], step));
        }
    }
    true
}
