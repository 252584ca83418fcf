//! The normal equations that a half-sweep solves: what its rows share, and what each has.

use std::sync::atomic::AtomicBool;

use ndarray::{ArrayView2, s};

use kernels::matrix::flat;

/// Floats to which factors are padded: the widest register.
pub const PAD: usize = 16;
/// How many rows ahead factors are asked for from memory.
pub const PREFETCH: usize = 24;

/// How a row's normal equations are solved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Solver {
    /// Steps of conjugate gradients.
    Cg,
    /// Exactly, by Cholesky's decomposition.
    Cholesky,
    /// One subspace of some dimensions after the other, exactly.
    Block,
}

/// What all rows of a half-sweep share.
pub struct Problem<'a> {
    pub solver: Solver,
    /// [columns, stride], in the eigenbasis of its own Gram matrix.
    pub factors: ArrayView2<'a, f32>,
    /// [stride]: α₀ Λ.
    pub dense: &'a [f32],
    /// [stride]: `y²` of a column drawn with the confidence it has in all rows together.
    pub typical: &'a [f32],
    /// Steps of conjugate gradients at most.
    pub steps: usize,
    /// Stop once the energy of the preconditioned residual is below this share of the solution's; 0 runs all steps.
    pub tolerance: f32,
    /// Dimensions solved for at a time by [`Solver::Block`].
    pub block_size: usize,
    /// Rows are left as they are once this is set.
    pub stop: &'a AtomicBool,
}

/// Some consecutive rows of the sparse matrix, with their regularisation.
pub struct Rows<'a> {
    /// [rows + 1], positions in `indices` and `confidences`.
    pub indptr: &'a [u64],
    pub indices: &'a [u32],
    /// Below 0 for what was turned down, with that confidence.
    pub confidences: &'a [f32],
    /// [rows]
    pub lambda: &'a [f32],
    /// [rows, stride]: what the rows' features lead to expect.
    pub expected: Option<ArrayView2<'a, f32>>,
}

/// One row's normal equations.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    pub indices: &'a [u32],
    pub confidences: &'a [f32],
    /// What the rows after this one will read first.
    pub upcoming: &'a [u32],
    pub lambda: f32,
    /// [stride]
    pub expected: Option<&'a [f32]>,
}

impl<'a> Rows<'a> {
    pub fn row(&self, row: usize) -> Row<'a> {
        let (start, end) = (self.indptr[row] as usize, self.indptr[row + 1] as usize);
        let ahead = self.indptr.last().map_or(end, |&last| last as usize).min(end + PREFETCH + 8);
        Row {
            indices: &self.indices[start..end],
            confidences: &self.confidences[start..end],
            upcoming: &self.indices[end..ahead],
            lambda: self.lambda[row],
            expected: self.expected.map(|expected| flat(expected.slice_move(s![row..=row, ..]))),
        }
    }
}
