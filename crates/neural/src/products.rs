//! Matrix products of training, on one thread: batches of a few hundred rows times layers of a few hundred, which fit the caches. An element
//! is always summed in the order of `k`, so that a product computed in parts gives the same bits.

use ndarray::{Array2, ArrayView2, ArrayViewMut2, CowArray, Ix2};

use super::dense::PAD;
use kernels::matrix::{flat, flat_mut, rows_mut};
use kernels::vector::{Vector, dispatch};
use runtime::error::Result;
use runtime::memory;

/// Terms per part of a sum: a strip of 64 columns then fills 32 kB.
const DEPTH: usize = 128;

/// The memory layout of a matrix: element (i, j) is at `i · row + j · column`.
#[derive(Clone, Copy)]
struct View {
    row: usize,
    column: usize,
}

/// `ROWS` rows of `a` times a strip of `b`, `W` registers wide.
///
/// # Safety
/// As for [`strips`]; `rows` rows of `a` and of `out` are valid.
#[inline(always)]
unsafe fn strip<V: Vector, const ROWS: usize, const W: usize>(
    (a, view): (*const f32, View),
    (b, ldb): (*const f32, usize),
    (rows, k): (usize, usize),
    (out, ldc): (*mut f32, usize),
    add: bool,
) {
    // SAFETY: as the caller promises.
    unsafe {
        for first in (0..rows).step_by(ROWS) {
            let count = (rows - first).min(ROWS);
            // A short last group repeats its last row.
            let from: [*const f32; ROWS] = std::array::from_fn(|r| a.add((first + r.min(count - 1)) * view.row));
            let mut acc = [[V::splat(0.0); W]; ROWS];
            for i in 0..k {
                let column: [V; W] = std::array::from_fn(|w| V::load(b.add(i * ldb + w * V::LANES)));
                for r in 0..ROWS {
                    let x = V::splat(*from[r].add(i * view.column));
                    for w in 0..W {
                        acc[r][w] = x.mul_add(column[w], acc[r][w]);
                    }
                }
            }
            for (r, row) in acc.iter().enumerate().take(count) {
                for (w, &v) in row.iter().enumerate() {
                    let to = out.add((first + r) * ldc + w * V::LANES);
                    let v = if add { V::splat(1.0).mul_add(v, V::load(to)) } else { v };
                    v.store(to);
                }
            }
        }
    }
}

/// `out ← a · b`, or `out ← out + a · b`, for a [rows, k], b [k, n] and out [rows, n].
///
/// # Safety
/// The processor must have `V`'s instructions; all elements must lie within what the pointers are valid for, and `n`
/// must be a multiple of `V::LANES`.
#[inline(always)]
unsafe fn strips<V: Vector, const TILE: usize>(
    a: (*const f32, View),
    b: *const f32,
    (rows, k, n): (usize, usize, usize),
    out: *mut f32,
    add: bool,
) {
    let (x, view) = a;
    // A sum of nothing is 0.
    for start in (0..k.max(1)).step_by(DEPTH) {
        let (size, add) = ((rows, (k - start).min(DEPTH)), add || start > 0);
        let mut j = 0;
        // SAFETY: as the caller promises.
        unsafe {
            let a = (x.add(start * view.column), view);
            // A strip of `b` stays in the first-level cache while all rows pass.
            while j < n {
                let (from, to) = ((b.add(start * n + j), n), (out.add(j), n));
                let wide = ((n - j) / V::LANES).min(TILE);
                match wide {
                    4 => strip::<V, 4, 4>(a, from, size, to, add),
                    3 => strip::<V, 4, 3>(a, from, size, to, add),
                    2 => strip::<V, 6, 2>(a, from, size, to, add),
                    _ => strip::<V, 8, 1>(a, from, size, to, add),
                }
                j += wide.max(1) * V::LANES;
            }
        }
    }
}

#[inline(always)]
unsafe fn multiply_body<V: Vector, const TILE: usize>(
    x: ArrayView2<f32>,
    weight: ArrayView2<f32>,
    out: ArrayViewMut2<f32>,
    add: bool,
) {
    let ((rows, k), n) = (x.dim(), weight.ncols());
    assert!(n.is_multiple_of(PAD));
    assert_eq!((weight.nrows(), out.dim()), (k, (rows, n)));
    if rows == 0 || n == 0 {
        return;
    }
    let [row, column] = [0, 1].map(|axis| usize::try_from(x.strides()[axis]).unwrap_or(usize::MAX));
    assert!(row < usize::MAX && column < usize::MAX);
    let (x, weight, out) = (x.as_ptr(), flat(weight).as_ptr(), flat_mut(out).as_mut_ptr());
    let size = (rows, k, n);
    // SAFETY: by the assertions; a view's elements lie at its strides.
    unsafe {
        // The compiler makes loads of neighbours from a stride that it knows.
        if column == 1 {
            strips::<V, TILE>((x, View { row, column: 1 }), weight, size, out, add);
        } else {
            strips::<V, TILE>((x, View { row, column }), weight, size, out, add);
        }
    }
}
dispatch! {
    fn multiply(x: ArrayView2<f32>, weight: ArrayView2<f32>, out: ArrayViewMut2<f32>, add: bool) = multiply_body
}

/// `out ← x · weight` for x [rows, k], weight [k, n] and out [rows, n]; `n` is a multiple of [`PAD`]. The columns of `x` may be some of
/// those of a wider matrix.
pub fn product(x: ArrayView2<f32>, weight: ArrayView2<f32>, out: ArrayViewMut2<f32>) {
    multiply(x, weight, out, false);
}

/// `out ← out + x · weight`.
pub fn product_add(x: ArrayView2<f32>, weight: ArrayView2<f32>, out: ArrayViewMut2<f32>) {
    multiply(x, weight, out, true);
}

/// `out ← out + xᵀ · by`, the gradient of a layer's weights, for x [rows, k], by [rows, n] and out [k, n]; `n` is a multiple of [`PAD`].
pub fn gradient(x: ArrayView2<f32>, by: ArrayView2<f32>, out: ArrayViewMut2<f32>) {
    multiply(x.reversed_axes(), by, out, true);
}

/// `a · b` for a [m, k] and b [k, n], however they lie in memory: views of transposed matrices too.
pub fn matmul(a: ArrayView2<f32>, b: ArrayView2<f32>) -> Result<Array2<f32>> {
    let ((m, k), n) = (a.dim(), b.ncols());
    assert_eq!(k, b.nrows());
    let stride = n.next_multiple_of(PAD);
    let mut out = memory::matrix(m, stride, 0f32)?;
    if m * k * n > 0 {
        product(packed(&a, k)?.view(), packed(&b, stride)?.view(), out.view_mut());
    }
    if n == stride {
        return Ok(out);
    }
    let mut out = out.into_raw_vec_and_offset().0;
    (1..m).for_each(|row| out.copy_within(row * stride..row * stride + n, row * n));
    out.truncate(m * n);
    memory::shaped(m, n, out)
}

/// The rows of `x` one after the other, padded with zeros to `stride`: in place where they lie so already.
fn packed<'a>(x: &'a ArrayView2<f32>, stride: usize) -> Result<CowArray<'a, f32, Ix2>> {
    let (rows, columns) = x.dim();
    if columns == stride && x.is_standard_layout() {
        return Ok(x.view().into());
    }
    let mut packed = memory::matrix(rows, stride, 0f32)?;
    if x.t().is_standard_layout() {
        // Columns lie one after the other.
        transpose(x.t(), packed.view_mut());
    } else {
        rows_mut(packed.view_mut())
            .zip(x.rows())
            .for_each(|(to, row)| to.iter_mut().zip(row).for_each(|(to, &x)| *to = x));
    }
    Ok(packed.into())
}

/// `out ← xᵀ`, in as many of its columns as `x` has rows: `out` may be padded.
pub fn transpose(x: ArrayView2<f32>, out: ArrayViewMut2<f32>) {
    const SIDE: usize = 16;
    let ((rows, columns), stride) = (x.dim(), out.ncols());
    assert!(out.nrows() == columns && rows <= stride);
    let (x, out) = (flat(x), flat_mut(out));
    for i in (0..rows).step_by(SIDE) {
        for j in (0..columns).step_by(SIDE) {
            for r in i..(i + SIDE).min(rows) {
                for c in j..(j + SIDE).min(columns) {
                    out[c * stride + r] = x[r * columns + c];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::s;
    use runtime::draw::uniform;

    fn drawn(rows: usize, columns: usize, seed: u64) -> Array2<f32> {
        Array2::from_shape_fn((rows, columns), |(i, j)| uniform(seed, (i * columns + j) as u64))
    }

    #[test]
    fn products_are_sums_of_products() {
        for (rows, k, n) in [(1, 3, 16), (7, 20, 48), (9, 5, 208), (13, 1, 16), (3, 300, 80)] {
            let (x, w) = (drawn(rows, k, 1), drawn(k, n, 2));
            let mut out = Array2::from_elem((rows, n), f32::NAN);
            product(x.view(), w.view(), out.view_mut());
            let mut twice = out.clone();
            product_add(x.view(), w.view(), twice.view_mut());
            for ((r, c), &one) in out.indexed_iter() {
                let exact: f32 = (0..k).map(|i| x[[r, i]] * w[[i, c]]).sum();
                assert!((one - exact).abs() < 1e-4 && (twice[[r, c]] - 2.0 * exact).abs() < 1e-4);
            }
            // Some columns of a wider matrix give what they give alone.
            let mut wide = Array2::from_elem((rows, k + 5), f32::NAN);
            wide.slice_mut(s![.., 3..3 + k]).assign(&x);
            let mut cut = Array2::zeros((rows, n));
            product(wide.slice(s![.., 3..3 + k]), w.view(), cut.view_mut());
            assert_eq!(cut, out);
        }
    }

    #[test]
    fn gradients_are_sums_over_rows_and_parts_of_one_give_the_same_bits() {
        for (rows, width, n) in [(5, 6, 16), (30, 17, 48), (1, 1, 64)] {
            let (x, by) = (drawn(rows, width, 1), drawn(rows, n, 2));
            let mut out = Array2::from_elem((width, n), 0.5);
            gradient(x.view(), by.view(), out.view_mut());
            for ((i, j), &sum) in out.indexed_iter() {
                let exact: f32 = (0..rows).map(|r| x[[r, i]] * by[[r, j]]).sum();
                assert!((sum - 0.5 - exact).abs() < 1e-5);
            }
            let mut part = Array2::from_elem((1, n), 0.5);
            gradient(x.slice(s![.., width - 1..]), by.view(), part.view_mut());
            assert_eq!(part.row(0), out.row(width - 1));
        }
    }

    #[test]
    fn a_product_of_views_is_that_of_the_matrices() {
        for (m, k, n) in [(1, 3, 1), (7, 20, 33), (9, 130, 16), (0, 3, 4), (3, 0, 4), (5, 4, 0)] {
            let (a, b) = (drawn(m, k, 1), drawn(k, n, 2));
            let exact = |i: usize, j: usize| (0..k).map(|l| a[[i, l]] * b[[l, j]]).sum::<f32>();
            let (mut at, mut bt) = (Array2::zeros((k, m)), Array2::zeros((n, k)));
            transpose(a.view(), at.view_mut());
            transpose(b.view(), bt.view_mut());
            for a in [a.view(), at.t()] {
                for b in [b.view(), bt.t()] {
                    let product = matmul(a, b).unwrap();
                    assert_eq!(product.dim(), (m, n));
                    assert!(product.indexed_iter().all(|((i, j), x)| (x - exact(i, j)).abs() < 1e-4));
                }
            }
        }
    }

    #[test]
    fn transposing_twice_changes_nothing() {
        let x = drawn(35, 18, 3);
        let (mut once, mut twice) = (Array2::zeros((18, 35)), Array2::zeros((35, 18)));
        transpose(x.view(), once.view_mut());
        assert_eq!(once, x.t());
        transpose(once.view(), twice.view_mut());
        assert_eq!(x, twice);
    }
}
