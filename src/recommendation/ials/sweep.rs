//! The two factor matrices, and half a sweep over one of them on all threads.

use std::ops::Range;

use super::solve::{Problem, Rows, solve_rows};
use crate::error::{Error, Result};
use crate::interactions::Csr;
use crate::linalg::decompose::symmetric_eigen;
use crate::linalg::dense::{add_gram, multiply_in_place};
use crate::linalg::mix;
use crate::memory;
use crate::parallel::for_each_chunk;
use crate::progress::Progress;

/// Floats to which factors are padded: the widest register.
pub const PAD: usize = 16;
/// Memory that the blocks' own Gram matrices may take.
const GRAM_BYTES: usize = 16 << 20;

/// Users or items: their interactions by rows, and their factors.
pub struct Side {
    /// Values are confidences.
    pub matrix: Csr,
    /// [rows]: λ of each row.
    pub lambda: Vec<f32>,
    /// [rows, stride]
    pub factors: Vec<f32>,
    /// Columns of `factors` in use; those up to `stride` stay 0.
    pub width: usize,
    pub stride: usize,
    /// Nothing was written to `factors` yet.
    untouched: bool,
    /// Rows in runs of about equal work.
    blocks: Vec<Range<usize>>,
    /// [blocks, stride, stride]: each block's own Gram matrix, upper triangle.
    grams: Vec<f32>,
}

/// An orthogonal change of basis to where a Gram matrix is diagonal.
pub struct Basis {
    /// [stride, stride]: multiplies from the right.
    pub rotation: Vec<f32>,
    /// [stride]: the diagonal, descending.
    pub eigenvalues: Vec<f32>,
}

struct Block<'a> {
    rows: Range<usize>,
    factors: &'a mut [f32],
    gram: &'a mut [f32],
}

impl Side {
    pub fn new(matrix: Csr, lambda: Vec<f32>, width: usize) -> Result<Self> {
        let stride = width.next_multiple_of(PAD);
        let blocks = balanced_blocks(&matrix.indptr, (GRAM_BYTES / (4 * stride * stride)).clamp(32, 256));
        let grams = memory::filled(0.0, blocks.len() * stride * stride)?;
        let factors = memory::filled(0.0, matrix.rows() * stride)?;
        Ok(Self { matrix, lambda, factors, width, stride, untouched: true, blocks, grams })
    }

    /// Runs `work` on every block, on all threads.
    fn each_block(
        &mut self,
        threads: usize,
        progress: &dyn Progress,
        work: impl Fn(&Csr, &[f32], &mut Block) + Sync,
    ) -> Result<()> {
        let (stride, matrix, lambda) = (self.stride, &self.matrix, &self.lambda);
        let (mut factors, mut grams) = (&mut self.factors[..], self.grams.chunks_mut(stride * stride));
        let mut tasks = Vec::with_capacity(self.blocks.len());
        for rows in &self.blocks {
            let (block, rest) = std::mem::take(&mut factors).split_at_mut(rows.len() * stride);
            factors = rest;
            tasks.extend(grams.next().map(|gram| Block { rows: rows.clone(), factors: block, gram }));
        }
        for_each_chunk(
            &mut tasks,
            1,
            threads,
            progress,
            || (),
            |(), _, blocks| {
                blocks.iter_mut().for_each(|block| work(matrix, lambda, block));
                Ok(())
            },
        )
    }

    /// Factors uniform in ± `scale`, from the seed and each one's place alone.
    pub fn randomize(&mut self, scale: f32, seed: u64, threads: usize, progress: &dyn Progress) -> Result<()> {
        let (width, stride) = (self.width, self.stride);
        self.untouched = false;
        self.each_block(threads, progress, |matrix, _, block| {
            for (row, x) in block.rows.clone().zip(block.factors.chunks_exact_mut(stride)) {
                if matrix.indptr[row] == matrix.indptr[row + 1] {
                    continue;
                }
                for (k, x) in x[..width].iter_mut().enumerate() {
                    let bits = mix(seed ^ mix((row * width + k) as u64)) >> 40;
                    *x = scale * (bits as f32 / (1 << 23) as f32 - 1.0);
                }
            }
            block.add_gram(stride);
        })
    }

    /// Moves `self` into `basis`, then improves every row given the other side's factors, which are in that basis.
    pub fn solve(&mut self, problem: &Problem, basis: &Basis, threads: usize, progress: &dyn Progress) -> Result<()> {
        let stride = self.stride;
        let untouched = std::mem::replace(&mut self.untouched, false);
        self.each_block(threads, progress, |matrix, lambda, block| {
            if untouched {
                // Zeros stay zeros. Writing them first gives each page to this process at once; reading first would map
                // the shared zero page, and every later write would copy it while the other threads are interrupted.
                block.factors.fill(0.0);
            } else {
                multiply_in_place(block.factors, &basis.rotation, stride);
            }
            let rows = Rows {
                indptr: &matrix.indptr[block.rows.start..=block.rows.end],
                indices: &matrix.indices,
                confidences: &matrix.values,
                lambda: &lambda[block.rows.clone()],
            };
            solve_rows(problem, &rows, block.factors);
            block.add_gram(stride);
        })
    }

    /// Moves `self` into the eigenbasis of its own Gram matrix, which is returned.
    pub fn diagonalize(&mut self, threads: usize, progress: &dyn Progress) -> Result<Basis> {
        let (width, stride) = (self.width, self.stride);
        // In the order of the blocks and in f64: the same on any number of threads.
        let mut gram = vec![0.0f64; width * width];
        for part in self.grams.chunks(stride * stride) {
            for i in 0..width {
                for j in i..width {
                    gram[i * width + j] += f64::from(part[i * stride + j]);
                }
            }
        }
        for i in 0..width {
            for j in 0..i {
                gram[i * width + j] = gram[j * width + i];
            }
        }
        let eigen = symmetric_eigen(&gram, width).ok_or_else(|| {
            let hint = "Raise regularization or unobserved_weight, or use smaller weights.";
            Error::argument("the trained factors", "not finite", hint)
        })?;
        let mut basis = Basis { rotation: vec![0.0; stride * stride], eigenvalues: vec![0.0; stride] };
        for i in 0..width {
            for j in 0..width {
                basis.rotation[i * stride + j] = eigen.vectors[i * width + j] as f32;
            }
            // Rounding can leave a zero eigenvalue a little below zero.
            basis.eigenvalues[i] = eigen.values[i].max(0.0) as f32;
        }
        self.each_block(threads, progress, |_, _, block| multiply_in_place(block.factors, &basis.rotation, stride))?;
        Ok(basis)
    }
}

impl Block<'_> {
    fn add_gram(&mut self, stride: usize) {
        self.gram.fill(0.0);
        add_gram(self.factors, stride, self.gram);
    }
}

/// Splits rows into at most about `most` runs of about equal work.
fn balanced_blocks(indptr: &[u64], most: usize) -> Vec<Range<usize>> {
    // A row costs about as much as some interactions even when it has none.
    const ROW: u64 = 12;
    const LEAST: u64 = 4096;
    let rows = indptr.len() - 1;
    let work = |row: usize| indptr[row] - indptr[0] + ROW * row as u64;
    let target = work(rows).div_ceil(most as u64).max(LEAST);
    let mut blocks = Vec::new();
    let mut start = 0;
    while start < rows {
        let limit = work(start) + target;
        let end = (start + 1..=rows).take_while(|&row| work(row) <= limit).last().unwrap_or(start + 1);
        blocks.push(start..end);
        start = end;
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_every_row_once_and_share_the_work() {
        let mut indptr = vec![0u64];
        for row in 0..50_000u64 {
            indptr.push(indptr[row as usize] + if row == 7 { 1_000_000 } else { row % 40 });
        }
        let blocks = balanced_blocks(&indptr, 64);
        assert_eq!(blocks.first().map(|b| b.start), Some(0));
        assert_eq!(blocks.last().map(|b| b.end), Some(50_000));
        assert!(blocks.windows(2).all(|w| w[0].end == w[1].start));
        assert!(blocks.len() <= 80, "{}", blocks.len());
        assert!(balanced_blocks(&[0], 64).is_empty());
    }
}
