//! The largest singular values of a large sparse matrix, and its right singular vectors, by randomised subspace iteration.
//!
//! A random block `Q` of more columns than are wanted is multiplied by `AᵀA` and orthonormalised, a few times; in the space it then
//! spans, the decomposition is a small one (Rayleigh–Ritz). Halko, Martinsson, Tropp, "Finding structure with randomness"
//! (SIAM Review 2011), algorithms 4.4 and 5.1, on the side of the columns. Blocks are orthonormalised through the Cholesky factor of
//! their Gram matrix, twice: Yamamoto and others, "Roundoff error analysis of the CholeskyQR2 algorithm" (ETNA 2015).
//!
//! O((entries + (rows + columns) · l) · l) time an iteration and O((rows + columns) · l) memory for a block of `l` columns.

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, s};

use super::cholesky::{factor_above, inverse_of_factor};
use super::decompose::symmetric_eigen;
use super::dense::{add_gram, multiply_in_place};
use super::dot::axpy_of;
use super::matrix::{flat, flat_mut, for_each_rows};
use super::vector::{Vector, dispatch};
use crate::Csr;
use runtime::draw::mix;
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::progress::Progress;

/// Rows of a sparse matrix in a unit of work.
const ROWS: usize = 64;
/// Rows whose Gram matrix is summed in `f32` before it is added up in `f64`.
const GRAM_ROWS: usize = 1024;
/// Maximum number of partial Gram matrices, which must not depend on the number of threads.
const GRAM_PARTS: usize = 32;
/// A column that keeps a smaller share of its square than this beside those before is rounding.
const DEPENDENT: f64 = 1e-5;

/// What to compute, and how well.
#[derive(Clone, Copy, Debug)]
pub struct Svd {
    /// Singular values wanted.
    pub rank: usize,
    /// More columns of the block than are wanted: the last values converge by them.
    pub oversampling: usize,
    /// Multiplications by `AᵀA`.
    pub iterations: usize,
    pub seed: u64,
}

/// `A ≈ U Σ Vᵀ`, without `U`.
pub struct RightSvd {
    /// [rank], descending; 0 past the rank of the matrix.
    pub values: Vec<f32>,
    /// [columns, rank]: `V`; zeros in the columns of values that are 0.
    pub vectors: Array2<f32>,
}

impl Svd {
    /// Decomposes `a`, given with its transpose. The result does not depend on the number of threads.
    pub fn decompose(&self, a: &Csr, transposed: &Csr, threads: usize, progress: &dyn Progress) -> Result<RightSvd> {
        let (users, items) = (a.rows(), a.columns);
        let width = (self.rank + self.oversampling).next_multiple_of(16);
        memory::require((users + items).saturating_mul(width * size_of::<f32>()))?;
        let mut q = memory::matrix(items, width, 0f32)?;
        let mut product = memory::matrix(users, width, 0f32)?;
        let on = Threads { threads, progress };
        on.fill_at_random(q.view_mut(), self.seed)?;
        for iteration in 0..self.iterations {
            progress.report("power iterations", iteration, self.iterations);
            on.multiply(a, q.view(), product.view_mut())?;
            on.multiply(transposed, product.view(), q.view_mut())?;
            on.orthonormalize(q.view_mut())?;
        }
        progress.report("power iterations", self.iterations, self.iterations);
        on.multiply(a, q.view(), product.view_mut())?;
        let gram = on.gram(product.view())?;
        drop(product);
        let eigen = symmetric_eigen(gram.view());
        let eigen = eigen.ok_or_else(|| Error::Internal("a projected matrix has no eigenvectors".into()))?;
        on.rotate(q.view_mut(), eigen.vectors.mapv(|x| x as f32).view())?;

        // Below, an eigenvalue is rounding.
        let least = eigen.values.first().copied().unwrap_or(0.0).max(0.0) * 1e-6;
        let real = |n: usize| eigen.values.get(n).copied().filter(|&value| value > least);
        let mut vectors = memory::matrix(items, self.rank, 0f32)?;
        for (mut to, from) in vectors.rows_mut().into_iter().zip(q.rows()) {
            for (n, to) in to.iter_mut().enumerate().take_while(|&(n, _)| real(n).is_some()) {
                *to = from[n];
            }
        }
        let values = (0..self.rank).map(|n| real(n).unwrap_or(0.0).sqrt() as f32).collect();
        Ok(RightSvd { values, vectors })
    }
}

#[inline(always)]
unsafe fn multiply_row_body<V: Vector, const TILE: usize>(
    columns: &[u32],
    values: &[f32],
    dense: &[f32],
    out: &mut [f32],
) {
    let width = out.len();
    out.fill(0.0);
    for (n, (&column, &value)) in columns.iter().zip(values).enumerate() {
        let row = &dense[column as usize * width..][..width];
        if let Some(&next) = columns.get(n + 1) {
            V::prefetch(dense.as_ptr().wrapping_add(next as usize * width));
        }
        // SAFETY: both are `width` long.
        unsafe { axpy_of::<V>(value, row.as_ptr(), out.as_mut_ptr(), width) };
    }
}
dispatch! {
    /// One row of a sparse matrix times `dense` [columns, out.len()].
    fn multiply_row(columns: &[u32], values: &[f32], dense: &[f32], out: &mut [f32]) = multiply_row_body
}

/// Where the work is done.
struct Threads<'a> {
    threads: usize,
    progress: &'a dyn Progress,
}

impl Threads<'_> {
    fn rows<T: Send>(
        &self,
        output: ArrayViewMut2<T>,
        rows: usize,
        work: impl Fn(usize, ArrayViewMut2<T>) -> Result<()> + Sync,
    ) -> Result<()> {
        for_each_rows(output, rows, self.threads, self.progress, || (), |(), number, part| work(number, part))
    }

    /// Uniform from −1 to 1, each value from the seed and its place.
    fn fill_at_random(&self, out: ArrayViewMut2<f32>, seed: u64) -> Result<()> {
        const AT_ONCE: usize = 1024;
        let first = AT_ONCE * out.ncols();
        self.rows(out, AT_ONCE, |number, part| {
            for (i, x) in flat_mut(part).iter_mut().enumerate() {
                let bits = mix(mix(seed) ^ (number * first + i) as u64) >> 40;
                *x = bits as f32 / (1u64 << 23) as f32 - 1.0;
            }
            Ok(())
        })
    }

    /// `out = a · dense` for dense [a.columns, width].
    fn multiply(&self, a: &Csr, dense: ArrayView2<f32>, out: ArrayViewMut2<f32>) -> Result<()> {
        let (dense, width) = (flat(dense), dense.ncols());
        self.rows(out, ROWS, |number, rows| {
            for (r, out) in flat_mut(rows).chunks_exact_mut(width).enumerate() {
                let (columns, values) = a.row(number * ROWS + r);
                multiply_row(columns, values, dense, out);
            }
            Ok(())
        })
    }

    /// `rowsᵀ rows` of rows [n, width], both triangles.
    fn gram(&self, rows: ArrayView2<f32>) -> Result<Array2<f64>> {
        let (n, width) = rows.dim();
        let per_part = n.div_ceil(GRAM_PARTS).next_multiple_of(GRAM_ROWS);
        // A row for each part: its matrix.
        let mut parts = memory::matrix(n.div_ceil(per_part), width * width, 0f64)?;
        self.rows(parts.view_mut(), 1, |number, total| {
            let (mut gram, total) = (memory::matrix(width, width, 0f32)?, flat_mut(total));
            let own = rows.slice(s![number * per_part..n.min((number + 1) * per_part), ..]);
            for block in own.axis_chunks_iter(Axis(0), GRAM_ROWS) {
                gram.fill(0.0);
                add_gram(block, gram.view_mut());
                total.iter_mut().zip(&gram).for_each(|(total, &x)| *total += f64::from(x));
            }
            Ok(())
        })?;
        // In the order of the parts, whatever the number of threads.
        let mut gram = memory::matrix(width, width, 0f64)?;
        let sums = flat_mut(gram.view_mut());
        for part in flat(parts.view()).chunks_exact(width * width) {
            sums.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
        }
        for i in 0..width {
            for j in 0..i {
                gram[[i, j]] = gram[[j, i]];
            }
        }
        Ok(gram)
    }

    /// `rows ← rows · square` for rows [n, width].
    fn rotate(&self, rows: ArrayViewMut2<f32>, square: ArrayView2<f32>) -> Result<()> {
        self.rows(rows, 256, |_, rows| {
            multiply_in_place(rows, square);
            Ok(())
        })
    }

    /// Makes the columns of rows [n, width] orthonormal; those that depend on others become zeros.
    fn orthonormalize(&self, mut rows: ArrayViewMut2<f32>) -> Result<()> {
        for _ in 0..2 {
            let mut factor = self.gram(rows.view())?;
            self.progress.check()?;
            factor_above(factor.view_mut(), DEPENDENT);
            let inverse = inverse_of_factor(factor.view());
            // Q = Y L⁻ᵀ
            let transposed = Array2::from_shape_fn(inverse.dim(), |(i, j)| inverse[[j, i]] as f32);
            self.rotate(rows.view_mut(), transposed.view())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use nalgebra::DMatrix;

    use super::*;
    use runtime::progress::Unwatched;

    /// About a fifth of the entries, uneven.
    fn sparse(rows: usize, columns: usize) -> Csr {
        let mut a = Csr { indptr: vec![0], columns, ..Csr::default() };
        for row in 0..rows {
            for column in 0..columns {
                let x = mix((row * columns + column) as u64);
                if x.is_multiple_of(5) || column == row % 3 {
                    a.indices.push(column as u32);
                    a.values.push((1.0 + (x >> 60) as f32) / (1.0 + column as f32 / 5.0));
                }
            }
            a.indptr.push(a.indices.len() as u64);
        }
        a
    }

    fn dense(a: &Csr) -> DMatrix<f64> {
        let mut dense = DMatrix::zeros(a.rows(), a.columns);
        for row in 0..a.rows() {
            let (columns, values) = a.row(row);
            columns.iter().zip(values).for_each(|(&j, &x)| dense[(row, j as usize)] = f64::from(x));
        }
        dense
    }

    fn decompose(a: &Csr, rank: usize, threads: usize) -> RightSvd {
        let svd = Svd { rank, oversampling: 16, iterations: 12, seed: 3 };
        svd.decompose(a, &a.transpose(&Unwatched).unwrap(), threads, &Unwatched).unwrap()
    }

    #[test]
    fn values_and_vectors_are_those_of_an_exact_decomposition() {
        for (rows, columns, rank) in [(200, 90, 12), (40, 130, 20), (30, 8, 8), (9, 50, 20), (1, 1, 3)] {
            let a = sparse(rows, columns);
            let found = decompose(&a, rank, 2);
            let exact = dense(&a);
            let mut values: Vec<f64> = exact.clone().svd(false, false).singular_values.iter().copied().collect();
            values.resize(values.len().max(rank), 0.0);
            for (n, (&value, &exact)) in found.values.iter().zip(&values).enumerate() {
                assert!((f64::from(value) - exact).abs() < 2e-3 * values[0], "{rows} {columns} {n}: {value} {exact}");
            }
            // AᵀA v = σ² v
            for n in 0..rank {
                let v = DMatrix::from_fn(columns, 1, |i, _| f64::from(found.vectors[[i, n]]));
                let square = f64::from(found.values[n]).powi(2);
                let miss = exact.transpose() * (&exact * &v) - &v * square;
                assert!(miss.norm() < 0.02 * values[0].powi(2), "{rows} {columns} {n}: {}", miss.norm());
                let length = if found.values[n] > 0.0 { 1.0 } else { 0.0 };
                assert!((v.norm() - length).abs() < 1e-4);
            }
        }
    }

    #[test]
    fn threads_change_no_bit_and_an_empty_matrix_has_no_vectors() {
        let a = sparse(3000, 70);
        let (one, many) = (decompose(&a, 5, 1), decompose(&a, 5, 4));
        assert!(one.values == many.values && one.vectors == many.vectors);
        let empty = Csr { indptr: vec![0; 5], columns: 3, ..Csr::default() };
        let nothing = decompose(&empty, 2, 2);
        assert!(nothing.values.iter().chain(&nothing.vectors).all(|&x| x == 0.0));
    }
}
