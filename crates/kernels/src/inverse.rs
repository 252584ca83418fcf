//! The inverse of a large symmetric positive definite matrix, in place, on all threads.
//!
//! Blocks of [`BLOCK`] pivots are swept one after the other (the sweep operator: Beaton 1964; Goodnight, "A tutorial on the SWEEP
//! operator", The American Statistician 1979): with `D = A_kk⁻¹`,
//! `A_ij ← A_ij − A_ik D A_kj`, `A_ik ← A_ik D`, `A_kk ← −D`, and after the last block `A` holds `−A⁻¹`. It is Gauss–Jordan elimination
//! that stays symmetric: only the lower triangle is touched, `n³` multiplications and additions in all, which is what Cholesky's
//! factorisation, the inverse of the factor and their product take together, but all of it in one kernel, a matrix product.
//! Without pivoting it is stable where `A` is positive definite; each pivot block is inverted through Cholesky in `f64`. Like Cholesky's its error
//! does not grow when rows and columns are scaled: it is the condition of the matrix scaled to a diagonal of ones that counts.

use ndarray::{Array2, ArrayView2, ArrayViewMut2, s};

use super::cholesky::{factor, inverse_of_factor};
use super::dot::tile_product;
use super::matrix::{flat, flat_mut, for_each_rows};
use super::vector::{Vector, dispatch};
use runtime::error::Result;
use runtime::memory;
use runtime::parallel::for_each_chunk;
use runtime::progress::Progress;

/// Pivots swept at once. Deep enough that a product outweighs reading and writing its result.
const BLOCK: usize = 128;
/// Columns of a strip of the right factor: [`BLOCK`] rows of it fit the first-level cache.
const STRIP: usize = 64;
/// Rows in a unit of work.
const ROWS: usize = 64;

/// The lower triangle of a symmetric matrix [n, n] in `f32`, padded by ones on the diagonal to whole blocks.
pub struct LowerTriangle {
    n: usize,
    /// [stride, stride], `stride` being `n` rounded up to whole blocks; what is above the diagonal is of no use.
    values: Array2<f32>,
}

impl LowerTriangle {
    /// The size of a matrix of `n` rows in bytes.
    pub fn bytes(n: usize) -> usize {
        let stride = n.next_multiple_of(BLOCK);
        stride.saturating_mul(stride).saturating_mul(size_of::<f32>())
    }

    /// Fills the matrix, `rows` rows at a time. `fill` gets the thread's state, the number of the row and its lower part [row + 1].
    pub fn build<S>(
        n: usize,
        threads: usize,
        progress: &dyn Progress,
        init: impl Fn() -> S + Sync,
        fill: impl Fn(&mut S, usize, &mut [f32]) -> Result<()> + Sync,
    ) -> Result<Self> {
        const AT_ONCE: usize = 8;
        let stride = n.next_multiple_of(BLOCK);
        memory::require(Self::bytes(n))?;
        let mut values = memory::shaped(stride, stride, memory::zeros(stride * stride)?)?;
        for_each_rows(values.view_mut(), AT_ONCE, threads, progress, init, |state, chunk, rows| {
            for (r, row) in flat_mut(rows).chunks_exact_mut(stride).enumerate() {
                match chunk * AT_ONCE + r {
                    i if i < n => fill(state, i, &mut row[..=i])?,
                    padding => row[padding] = 1.0,
                }
            }
            Ok(())
        })?;
        Ok(Self { n, values })
    }

    pub fn rows(&self) -> usize {
        self.n
    }

    pub fn diagonal(&self) -> Vec<f32> {
        self.values.diag().iter().take(self.n).copied().collect()
    }

    /// Copies whole rows from `first` on into `rows` [count, n].
    pub fn copy_rows(&self, first: usize, rows: ArrayViewMut2<f32>) {
        let (n, stride, count) = (self.n, self.values.ncols(), rows.nrows());
        assert!(rows.ncols() == n && first + count <= n);
        let (rows, values) = (flat_mut(rows), flat(self.values.view()));
        for (r, row) in rows.chunks_exact_mut(n.max(1)).enumerate() {
            let i = first + r;
            row[..=i].copy_from_slice(&values[i * stride..][..=i]);
        }
        // What lies right of the diagonal is found in the columns of the rows below, a cache line of them at a time.
        for j in first + 1..n {
            let column = &values[j * stride + first..];
            for r in 0..count.min(j - first) {
                rows[r * n + j] = column[r];
            }
        }
    }

    /// Overwrites the matrix with the negative of its inverse. False if it is not positive definite to
    /// `f32`'s precision.
    pub fn negative_inverse(&mut self, threads: usize, progress: &dyn Progress) -> Result<bool> {
        let stride = self.values.ncols();
        // `A_{·k}` by rows, and `D A_{k·}` by strips [stride / STRIP, BLOCK, STRIP].
        let mut panel = memory::shaped(stride, BLOCK, memory::zeros(stride * BLOCK)?)?;
        let mut right = memory::zeros(stride * BLOCK)?;
        for first in (0..stride).step_by(BLOCK) {
            progress.report("rows inverted", first.min(self.n), self.n);
            let values = flat(self.values.view());
            for_each_rows(
                panel.view_mut(),
                ROWS,
                threads,
                progress,
                || (),
                |(), chunk, rows| {
                    copy_panel(values, stride, first, chunk * ROWS, flat_mut(rows));
                    Ok(())
                },
            )?;
            let pivot = invert_block(panel.slice(s![first..first + BLOCK, ..]));
            let Some(pivot) = pivot else { return Ok(false) };
            let (panel, pivot) = (flat(panel.view()), flat(pivot.view()));
            for_each_chunk(&mut right, BLOCK * STRIP, threads, progress, transposed_strip, |scratch, strip, out| {
                let rows = &panel[strip * STRIP * BLOCK..][..STRIP * BLOCK];
                for (j, row) in rows.chunks_exact(BLOCK).enumerate() {
                    row.iter().enumerate().for_each(|(k, &x)| scratch[k * STRIP + j] = x);
                }
                multiply(pivot, scratch, out);
                Ok(())
            })?;
            let right = &right;
            for_each_rows(
                self.values.view_mut(),
                ROWS,
                threads,
                progress,
                || (),
                |(), chunk, rows| {
                    sweep_rows(&Sweep { first, stride, panel, right, pivot }, chunk * ROWS, flat_mut(rows));
                    Ok(())
                },
            )?;
        }
        progress.report("rows inverted", self.n, self.n);
        Ok(true)
    }
}

fn transposed_strip() -> Vec<f32> {
    vec![0.0; BLOCK * STRIP]
}

/// Rows `i..` of the columns `first..first + BLOCK` [rows, BLOCK], from the lower triangle.
fn copy_panel(values: &[f32], stride: usize, first: usize, i: usize, out: &mut [f32]) {
    let rows = out.len() / BLOCK;
    if i >= first + BLOCK {
        for (r, out) in out.chunks_exact_mut(BLOCK).enumerate() {
            out.copy_from_slice(&values[(i + r) * stride + first..][..BLOCK]);
        }
        return;
    }
    for k in 0..BLOCK {
        for r in 0..rows {
            let (row, column) = (first + k, i + r);
            let (row, column) = if row >= column { (row, column) } else { (column, row) };
            out[r * BLOCK + k] = values[row * stride + column];
        }
    }
}

/// The inverse of a symmetric positive definite matrix [BLOCK, BLOCK].
fn invert_block(block: ArrayView2<f32>) -> Option<Array2<f32>> {
    let mut lower = block.mapv(f64::from);
    factor(lower.view_mut())?;
    let inverse = inverse_of_factor(lower.view());
    // A⁻¹ = L⁻ᵀ L⁻¹: entries (i, j) of it need the rows from max(i, j) on.
    let mut result = Array2::<f64>::zeros((BLOCK, BLOCK));
    let out = flat_mut(result.view_mut());
    for row in flat(inverse.view()).chunks_exact(BLOCK) {
        for i in 0..BLOCK {
            if row[i] != 0.0 {
                out[i * BLOCK..][..BLOCK].iter_mut().zip(row).for_each(|(out, &x)| *out += row[i] * x);
            }
        }
    }
    let inverse = result.mapv(|x| x as f32);
    inverse.iter().all(|x| x.is_finite()).then_some(inverse)
}

#[inline(always)]
unsafe fn multiply_body<V: Vector, const TILE: usize>(left: &[f32], strip: &[f32], out: &mut [f32]) {
    assert!(left.len().is_multiple_of(4 * BLOCK));
    assert!(strip.len() == BLOCK * STRIP && out.len() == left.len() / BLOCK * STRIP);
    for i in (0..left.len() / BLOCK).step_by(4) {
        for j in (0..STRIP).step_by(TILE * V::LANES) {
            // SAFETY: four rows of `left` and TILE · LANES columns of the strip lie within them, by the lengths above.
            unsafe {
                let rows: [*const f32; 4] = std::array::from_fn(|r| left.as_ptr().add((i + r) * BLOCK));
                let acc = tile_product::<V, 4, TILE>(rows, strip.as_ptr().add(j), BLOCK, STRIP);
                for (r, row) in acc.iter().enumerate() {
                    for (w, v) in row.iter().enumerate() {
                        v.store(out.as_mut_ptr().add((i + r) * STRIP + j + w * V::LANES));
                    }
                }
            }
        }
    }
}
dispatch! {
    /// `out = left · strip` for left [rows, BLOCK], strip [BLOCK, STRIP], out [rows, STRIP]; rows in fours.
    fn multiply(left: &[f32], strip: &[f32], out: &mut [f32]) = multiply_body
}

/// One block of pivots.
struct Sweep<'a> {
    first: usize,
    stride: usize,
    /// [stride, BLOCK]
    panel: &'a [f32],
    /// [stride / STRIP, BLOCK, STRIP]
    right: &'a [f32],
    /// [BLOCK, BLOCK]
    pivot: &'a [f32],
}

#[inline(always)]
unsafe fn sweep_rows_body<V: Vector, const TILE: usize>(sweep: &Sweep, from: usize, rows: &mut [f32]) {
    let Sweep { first, stride, panel, right, pivot } = *sweep;
    let count = rows.len() / stride;
    assert!(count.is_multiple_of(4) && stride.is_multiple_of(STRIP));
    assert!(panel.len() == stride * BLOCK && right.len() == panel.len() && from + count <= stride);
    let own = first..first + BLOCK;
    // Strips up to the one with the last row's diagonal.
    for (s, strip) in right.chunks_exact(BLOCK * STRIP).take((from + count).div_ceil(STRIP)).enumerate() {
        let column = s * STRIP;
        if own.contains(&from) {
            // Pivot rows: D A_kj, and −D on the diagonal.
            for r in 0..count {
                let k = from + r - first;
                let out = &mut rows[r * stride + column..][..STRIP];
                match own.contains(&column) {
                    true => out.iter_mut().zip(&pivot[k * BLOCK + column - first..]).for_each(|(out, &x)| *out = -x),
                    false => out.copy_from_slice(&strip[k * STRIP..][..STRIP]),
                }
            }
            continue;
        }
        if own.contains(&column) {
            // Pivot columns: the transposed of D A_ki, whose strip is that of the row's own number.
            for r in 0..count {
                let i = from + r;
                let transposed = &right[i / STRIP * BLOCK * STRIP + i % STRIP..];
                for c in 0..STRIP {
                    rows[r * stride + column + c] = transposed[(column - first + c) * STRIP];
                }
            }
            continue;
        }
        // SAFETY: the caller vouches for the instructions.
        let minus = unsafe { V::splat(-1.0) };
        for r in (0..count).step_by(4) {
            for j in (0..STRIP).step_by(TILE * V::LANES) {
                // SAFETY: four rows of the panel, the strip's columns and those of the output lie within them, by the lengths above.
                unsafe {
                    let left: [*const f32; 4] = std::array::from_fn(|k| panel.as_ptr().add((from + r + k) * BLOCK));
                    let acc = tile_product::<V, 4, TILE>(left, strip.as_ptr().add(j), BLOCK, STRIP);
                    for (k, row) in acc.iter().enumerate() {
                        for (w, v) in row.iter().enumerate() {
                            let to = rows.as_mut_ptr().add((r + k) * stride + column + j + w * V::LANES);
                            v.mul_add(minus, V::load(to)).store(to);
                        }
                    }
                }
            }
        }
    }
}
dispatch! {
    fn sweep_rows(sweep: &Sweep, from: usize, rows: &mut [f32]) = sweep_rows_body
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::error::Error;
    use runtime::progress::Unwatched;

    fn build(n: usize, threads: usize, entry: impl Fn(usize, usize) -> f32 + Sync) -> LowerTriangle {
        let fill = |(): &mut (), i: usize, row: &mut [f32]| {
            row.iter_mut().enumerate().for_each(|(j, x)| *x = entry(i, j));
            Ok(())
        };
        LowerTriangle::build(n, threads, &Unwatched, || (), fill).unwrap()
    }

    /// Diagonally dominant, of uneven scale.
    fn entry(i: usize, j: usize) -> f32 {
        let scale = |i: usize| 1.0 + (i % 7) as f32;
        let x = ((i * j + 3 * (i + j)) % 17) as f32 / 100.0;
        scale(i) * scale(j) * if i == j { 20.0 } else { x }
    }

    #[test]
    fn the_product_with_the_inverse_is_one() {
        for n in [1, 5, 128, 129, 300] {
            let mut a = build(n, 2, entry);
            assert!(a.negative_inverse(2, &Unwatched).unwrap());
            let mut inverse = Array2::zeros((n, n));
            a.copy_rows(0, inverse.view_mut());
            for i in 0..n {
                for j in 0..n {
                    let one: f64 = (0..n).map(|k| -f64::from(inverse[[i, k]]) * f64::from(entry(k, j))).sum();
                    assert!((one - f64::from(u8::from(i == j))).abs() < 2e-4, "{n}: {i} {j} {one}");
                }
            }
        }
    }

    #[test]
    fn threads_change_no_bit_and_whole_rows_can_be_read_from_anywhere() {
        let n = 270;
        let (mut one, mut many) = (build(n, 1, entry), build(n, 5, entry));
        assert!(one.negative_inverse(1, &Unwatched).unwrap() && many.negative_inverse(5, &Unwatched).unwrap());
        let mut all = Array2::zeros((n, n));
        one.copy_rows(0, all.view_mut());
        for (first, count) in [(0, 1), (17, 16), (250, 20)] {
            let mut rows = Array2::zeros((count, n));
            many.copy_rows(first, rows.view_mut());
            assert_eq!(rows, all.slice(s![first..first + count, ..]));
        }
        assert!((0..n).all(|i| (0..n).all(|j| all[[i, j]] == all[[j, i]])));
        assert!((0..n).all(|i| one.diagonal()[i] == all[[i, i]]));
    }

    #[test]
    fn what_is_not_positive_definite_or_has_no_room_is_no_inverse() {
        let mut a = build(200, 2, |i, j| if i == j { -1.0 } else { 0.0 });
        assert!(!a.negative_inverse(2, &Unwatched).unwrap());
        let mut a = build(200, 2, |i, _| if i == 150 { f32::NAN } else { 1.0 });
        assert!(!a.negative_inverse(2, &Unwatched).unwrap());
        let too_large = LowerTriangle::build(1 << 30, 1, &Unwatched, || (), |(), _, _| Ok(()));
        assert!(matches!(too_large, Err(Error::Resources(_))));
    }
}
