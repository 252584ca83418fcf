//! The two factor matrices, and half a sweep over one of them on all threads.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use ndarray::{Array2, ArrayView2, ArrayViewMut2, s};

use super::conjugate::row_loss;
use super::features::FeatureMap;
use super::problem::{PAD, Problem, Row, Rows};
use super::solve::solve_rows;
use crate::training::diverged;
use kernels::CsrView;
use kernels::decompose::symmetric_eigen;
use kernels::dense::{add_gram, multiply_in_place};
use kernels::matrix::{flat, flat_mut, split_rows};
use runtime::draw::mix;
use runtime::error::Result;
use runtime::memory;
use runtime::parallel::for_each_chunk;
use runtime::progress::Progress;

/// Memory that the blocks' own Gram matrices may take.
const GRAM_BYTES: usize = 16 << 20;

/// A sparse matrix of confidences by rows, below 0 for what was turned down.
pub struct Confidences<'a> {
    pub indptr: Cow<'a, [u64]>,
    pub indices: Cow<'a, [u32]>,
    pub values: Vec<f32>,
    pub columns: usize,
}

impl Confidences<'_> {
    pub fn rows(&self) -> usize {
        self.indptr.len() - 1
    }

    pub fn view(&self) -> CsrView<'_> {
        CsrView { indptr: &self.indptr, indices: &self.indices, values: &self.values, columns: self.columns }
    }

    fn range(&self, row: usize) -> Range<usize> {
        self.indptr[row] as usize..self.indptr[row + 1] as usize
    }
}

/// Users or items: their interactions by rows, and their factors.
pub struct Side<'a> {
    fixed: Fixed<'a>,
    /// [rows, stride]
    pub factors: Array2<f32>,
    /// Columns of `factors` in use; those up to `stride` stay 0.
    pub width: usize,
    /// Nothing was written to `factors` yet.
    untouched: bool,
    /// Rows in runs of about equal work.
    blocks: Vec<Range<usize>>,
    /// Each block's own Gram matrix [stride, stride], upper triangle.
    grams: Vec<Array2<f32>>,
}

/// What training does not change.
struct Fixed<'a> {
    matrix: Confidences<'a>,
    /// [rows]: λ of each row.
    lambda: Vec<f32>,
    /// [rows]: the sum of each row's confidences.
    weight: Vec<f32>,
}

/// An orthogonal change of basis to where a Gram matrix is diagonal.
pub struct Basis {
    /// [stride, stride]: multiplies from the right.
    pub rotation: Array2<f32>,
    /// [stride]: the diagonal, descending.
    pub eigenvalues: Vec<f32>,
    /// [stride]: see [`Problem::typical`].
    pub typical: Vec<f32>,
}

struct Block<'a> {
    rows: Range<usize>,
    /// [rows, stride]
    factors: ArrayViewMut2<'a, f32>,
    /// [stride, stride]
    gram: ArrayViewMut2<'a, f32>,
}

/// Tells the rows under way that the work is to stop.
struct Stopping<'a> {
    whole: &'a dyn Progress,
    stop: &'a AtomicBool,
}

impl Progress for Stopping<'_> {
    fn check(&self) -> Result<()> {
        /// A `check` that unwinds stops the rows too: its scope waits for them.
        struct Unless<'a>(&'a AtomicBool, bool);
        impl Drop for Unless<'_> {
            fn drop(&mut self) {
                self.0.fetch_or(!self.1, Ordering::Relaxed);
            }
        }
        let mut go_on = Unless(self.stop, false);
        let result = self.whole.check();
        go_on.1 = result.is_ok();
        result
    }
}

impl<'a> Side<'a> {
    pub fn new(matrix: Confidences<'a>, lambda: Vec<f32>, width: usize) -> Result<Self> {
        let stride = width.next_multiple_of(PAD);
        let blocks = balanced_blocks(&matrix.indptr, (GRAM_BYTES / (4 * stride * stride)).clamp(32, 256));
        let grams = blocks.iter().map(|_| memory::matrix(stride, stride, 0.0)).collect::<Result<_>>()?;
        let factors = memory::matrix(matrix.rows(), stride, 0.0)?;
        let sums = |row| matrix.values[matrix.range(row)].iter().map(|c| c.abs()).sum();
        let weight = (0..matrix.rows()).map(sums).collect();
        Ok(Self { fixed: Fixed { matrix, lambda, weight }, factors, width, untouched: true, blocks, grams })
    }

    pub fn rows(&self) -> usize {
        self.fixed.matrix.rows()
    }

    pub fn stride(&self) -> usize {
        self.factors.ncols()
    }

    pub fn lambda(&self) -> &[f32] {
        &self.fixed.lambda
    }

    /// Whether a row has no interactions.
    pub fn is_empty(&self, row: usize) -> bool {
        self.fixed.matrix.range(row).is_empty()
    }

    pub fn is_untouched(&self) -> bool {
        self.untouched
    }

    /// The factors without padding [rows, width].
    pub fn unpadded(&self) -> Result<Array2<f32>> {
        let mut out = memory::matrix(self.rows(), self.width, 0.0)?;
        out.assign(&self.factors.slice(s![.., ..self.width]));
        Ok(out)
    }

    /// Runs `work` on every block, on all threads.
    fn each_block(
        &mut self,
        threads: usize,
        progress: &dyn Progress,
        work: impl Fn(&Fixed, &mut Block) -> Result<()> + Sync,
    ) -> Result<()> {
        let fixed = &self.fixed;
        let parts = split_rows(self.factors.view_mut(), &self.blocks).into_iter().zip(&mut self.grams);
        let mut tasks: Vec<Block> = self
            .blocks
            .iter()
            .zip(parts)
            .map(|(rows, (factors, gram))| Block { rows: rows.clone(), factors, gram: gram.view_mut() })
            .collect();
        let each = |(): &mut (), _: usize, blocks: &mut [Block]| blocks.iter_mut().try_for_each(|b| work(fixed, b));
        for_each_chunk(&mut tasks, 1, threads, progress, || (), each)
    }

    /// Factors uniform in ± `scale`, from the seed and each one's place alone.
    pub fn randomize(&mut self, scale: f32, seed: u64, threads: usize, progress: &dyn Progress) -> Result<()> {
        self.start(scale, seed, None, threads, progress)
    }

    /// The same, but the first columns of each row are those of `previous` [rows, _] where any of them is not 0.
    pub fn start(
        &mut self,
        scale: f32,
        seed: u64,
        previous: Option<ArrayView2<f32>>,
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<()> {
        let (width, stride) = (self.width, self.stride());
        let (previous, columns) = previous.map_or((&[][..], 0), |previous| (flat(previous), previous.ncols()));
        self.untouched = false;
        self.each_block(threads, progress, |fixed, block| {
            for (row, x) in block.rows.clone().zip(flat_mut(block.factors.view_mut()).chunks_exact_mut(stride)) {
                if fixed.matrix.range(row).is_empty() {
                    continue;
                }
                for (k, x) in x[..width].iter_mut().enumerate() {
                    let bits = mix(seed ^ mix((row * width + k) as u64)) >> 40;
                    *x = scale * (bits as f32 / (1 << 23) as f32 - 1.0);
                }
                let known = previous.get(row * columns..(row + 1) * columns).unwrap_or(&[]);
                if known.iter().any(|&x| x != 0.0) {
                    x.iter_mut().zip(known).for_each(|(x, &known)| *x = known);
                    x[width..].fill(0.0);
                }
            }
            block.add_gram();
            Ok(())
        })
    }

    /// Moves `self` into `basis`, then improves every row given the other side's factors, which are in that basis, and what
    /// the rows' features lead to expect.
    pub fn solve(
        &mut self,
        problem: &Problem,
        basis: &Basis,
        features: Option<&FeatureMap>,
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<()> {
        let untouched = std::mem::replace(&mut self.untouched, false);
        let progress = Stopping { whole: progress, stop: problem.stop };
        self.each_block(threads, &progress, |Fixed { matrix, lambda, .. }, block| {
            if untouched {
                // Zeros stay zeros. Writing them first gives each page to this process at once; reading first would map
                // the shared zero page, and every later write would copy it while the other threads are interrupted.
                block.factors.fill(0.0);
            } else {
                multiply_in_place(block.factors.view_mut(), basis.rotation.view());
            }
            let expected = features.map(|map| map.expected(block.rows.clone())).transpose()?;
            let rows = Rows {
                indptr: &matrix.indptr[block.rows.start..=block.rows.end],
                indices: &matrix.indices,
                confidences: &matrix.values,
                lambda: &lambda[block.rows.clone()],
                expected: expected.as_ref().map(|expected| expected.view()),
            };
            solve_rows(problem, &rows, block.factors.view_mut());
            block.add_gram();
            Ok(())
        })
    }

    /// Moves `self` into the eigenbasis of its own Gram matrix, which is returned.
    pub fn diagonalize(&mut self, threads: usize, progress: &dyn Progress) -> Result<Basis> {
        let (width, stride) = (self.width, self.stride());
        // In the order of the blocks and in f64: the same on any number of threads.
        let mut gram = Array2::<f64>::zeros((width, width));
        let sums = flat_mut(gram.view_mut());
        for part in &self.grams {
            for i in 0..width {
                let part = &flat(part.view())[i * stride + i..];
                let sums = &mut sums[i * width + i..(i + 1) * width];
                sums.iter_mut().zip(part).for_each(|(sum, &x)| *sum += f64::from(x));
            }
        }
        for i in 0..width {
            for j in 0..i {
                gram[[i, j]] = gram[[j, i]];
            }
        }
        let eigen = symmetric_eigen(gram.view())
            .ok_or_else(|| diverged("Raise regularization or unobserved_weight, or use smaller weights."))?;
        let mut rotation = Array2::zeros((stride, stride));
        let mut eigenvalues = vec![0.0; stride];
        for i in 0..width {
            for j in 0..width {
                rotation[[i, j]] = eigen.vectors[[i, j]] as f32;
            }
            // Rounding can leave a zero eigenvalue a little below zero.
            eigenvalues[i] = eigen.values[i].max(0.0) as f32;
        }
        self.each_block(threads, progress, |fixed, block| {
            multiply_in_place(block.factors.view_mut(), rotation.view());
            // The block's Gram matrix was used above: its place serves for the block's part of `typical`.
            let sums = &mut flat_mut(block.gram.view_mut())[..stride];
            sums.fill(0.0);
            for (row, y) in block.rows.clone().zip(flat(block.factors.view()).chunks_exact(stride)) {
                let weight = fixed.weight[row];
                sums.iter_mut().zip(y).for_each(|(sum, &y)| *sum += weight * y * y);
            }
            Ok(())
        })?;
        let total: f64 = self.fixed.weight.iter().map(|&w| f64::from(w)).sum();
        let typical = |k: usize| {
            let sum: f64 = self.grams.iter().map(|part| f64::from(part[[0, k]])).sum();
            (sum / total.max(f64::MIN_POSITIVE)) as f32
        };
        Ok(Basis { typical: (0..stride).map(typical).collect(), rotation, eigenvalues })
    }

    /// `Σ_u (Σ_i c_ui (p_ui − x_u · y_i)² + Σ_k (α₀ Λ_k + λ_u) x_uk²)` given the other side's `factors` and `dense`, α₀ Λ.
    pub fn loss(
        &self,
        factors: ArrayView2<f32>,
        dense: &[f32],
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<f64> {
        let (own_factors, stride) = (flat(self.factors.view()), self.stride());
        let Fixed { matrix, lambda, .. } = &self.fixed;
        let mut sums = vec![0.0f64; self.blocks.len()];
        for_each_chunk(
            &mut sums,
            1,
            threads,
            progress,
            || (),
            |(), number, sums| {
                for (rows, sum) in self.blocks[number..].iter().zip(sums) {
                    for u in rows.clone() {
                        let (range, x) = (matrix.range(u), &own_factors[u * stride..][..stride]);
                        let row = Row {
                            indices: &matrix.indices[range.clone()],
                            confidences: &matrix.values[range],
                            upcoming: &[],
                            lambda: lambda[u],
                            expected: None,
                        };
                        let own: f32 = x.iter().zip(dense).map(|(&x, &dense)| x * x * (dense + lambda[u])).sum();
                        *sum += f64::from(row_loss(factors, &row, x)) + f64::from(own);
                    }
                }
                Ok(())
            },
        )?;
        Ok(sums.into_iter().sum())
    }
}

impl Block<'_> {
    fn add_gram(&mut self) {
        self.gram.fill(0.0);
        add_gram(self.factors.view(), self.gram.view_mut());
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
