//! Matrix products of training, on one thread: batches of a few hundred rows times layers of a few hundred, which fit the caches. An element
//! is always summed in the order of `k`, so that a product computed in parts gives the same bits.

use std::borrow::Cow;

use ndarray::{Array2, ArrayView2};

use super::dense::PAD;
use kernels::vector::{Vector, dispatch};
use runtime::error::{Error, Result};
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
unsafe fn product_body<V: Vector, const TILE: usize>(x: &[f32], weight: &[f32], k: usize, n: usize, out: &mut [f32]) {
    assert!(n.is_multiple_of(PAD) && n > 0 && weight.len() == k * n);
    let rows = out.len() / n;
    assert_eq!((x.len(), out.len()), (rows * k, rows * n));
    let view = View { row: k, column: 1 };
    // SAFETY: by the assertions.
    unsafe { strips::<V, TILE>((x.as_ptr(), view), weight.as_ptr(), (rows, k, n), out.as_mut_ptr(), false) }
}
dispatch! {
    /// `out ← x · weight` for x [rows, k] and weight [k, n]; `n` is a multiple of [`PAD`].
    pub fn product(x: &[f32], weight: &[f32], k: usize, n: usize, out: &mut [f32]) = product_body
}

#[inline(always)]
unsafe fn product_add_body<V: Vector, const TILE: usize>(
    x: &[f32],
    width: usize,
    first: usize,
    weight: &[f32],
    n: usize,
    out: &mut [f32],
) {
    assert!(n.is_multiple_of(PAD) && n > 0 && width > 0);
    let (rows, k) = (out.len() / n, weight.len() / n);
    assert_eq!((x.len(), weight.len(), out.len()), (rows * width, k * n, rows * n));
    assert!(first + k <= width);
    if rows == 0 {
        return;
    }
    let view = View { row: width, column: 1 };
    // SAFETY: by the assertions.
    unsafe { strips::<V, TILE>((x.as_ptr().add(first), view), weight.as_ptr(), (rows, k, n), out.as_mut_ptr(), true) }
}
dispatch! {
    /// `out ← out + x · weight` for the columns of x [rows, width] from `first` on, as many as weight [k, n] has rows;
    /// out is [rows, n], and `n` a multiple of [`PAD`].
    pub fn product_add(
        x: &[f32],
        width: usize,
        first: usize,
        weight: &[f32],
        n: usize,
        out: &mut [f32],
    ) = product_add_body
}

#[inline(always)]
unsafe fn gradient_body<V: Vector, const TILE: usize>(
    x: &[f32],
    width: usize,
    first: usize,
    by: &[f32],
    n: usize,
    out: &mut [f32],
) {
    assert!(n.is_multiple_of(PAD) && n > 0);
    let (rows, columns) = (by.len() / n, out.len() / n);
    assert_eq!((by.len(), out.len(), x.len()), (rows * n, columns * n, rows * width));
    assert!(first + columns <= width);
    if rows == 0 || columns == 0 {
        return;
    }
    let view = View { row: 1, column: width };
    // SAFETY: by the assertions.
    unsafe { strips::<V, TILE>((x.as_ptr().add(first), view), by.as_ptr(), (columns, rows, n), out.as_mut_ptr(), true) }
}
dispatch! {
    /// `out ← out + xᵀ · by`, the gradient of a layer's weights, for the columns of x [rows, width] from `first` on, as
    /// many as `out` [columns, n] has rows; by is [rows, n], and `n` a multiple of [`PAD`].
    pub fn gradient(x: &[f32], width: usize, first: usize, by: &[f32], n: usize, out: &mut [f32]) = gradient_body
}

/// `a · b` for a [m, k] and b [k, n], however they lie in memory: views of transposed matrices too.
pub fn matmul(a: ArrayView2<f32>, b: ArrayView2<f32>) -> Result<Array2<f32>> {
    let ((m, k), n) = (a.dim(), b.ncols());
    assert_eq!(k, b.nrows());
    let stride = n.next_multiple_of(PAD);
    let mut out = memory::filled(0f32, m * stride)?;
    if m * k * n > 0 {
        let (a, b) = (packed(&a, k)?, packed(&b, stride)?);
        product(&a, &b, k, stride, &mut out);
        for row in 1..if n < stride { m } else { 0 } {
            out.copy_within(row * stride..row * stride + n, row * n);
        }
    }
    out.truncate(m * n);
    Array2::from_shape_vec((m, n), out).map_err(|e| Error::Internal(format!("a matrix product: {e}")))
}

/// The rows of `x` one after the other, padded with zeros to `stride`: in place where they lie so already.
fn packed<'a>(x: &'a ArrayView2<f32>, stride: usize) -> Result<Cow<'a, [f32]>> {
    let (rows, columns) = x.dim();
    if let Some(x) = x.as_slice().filter(|_| columns == stride) {
        return Ok(x.into());
    }
    let mut packed = memory::filled(0f32, rows * stride)?;
    match x.t().as_slice() {
        // Columns lie one after the other.
        Some(x) => transpose_into(x, columns, rows, stride, &mut packed),
        None => packed.chunks_exact_mut(stride).zip(x.rows()).for_each(|(to, row)| {
            to.iter_mut().zip(row).for_each(|(to, &x)| *to = x);
        }),
    }
    Ok(packed.into())
}

/// `out ← xᵀ` for x [rows, columns].
pub fn transpose(x: &[f32], rows: usize, columns: usize, out: &mut [f32]) {
    transpose_into(x, rows, columns, rows, out);
}

/// The same into rows of `stride`.
fn transpose_into(x: &[f32], rows: usize, columns: usize, stride: usize, out: &mut [f32]) {
    const SIDE: usize = 16;
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
    use runtime::draw::uniform;

    fn values(n: usize, seed: u64) -> Vec<f32> {
        (0..n).map(|i| uniform(seed, i as u64)).collect()
    }

    #[test]
    fn products_are_sums_of_products() {
        for (rows, k, n) in [(1, 3, 16), (7, 20, 48), (9, 5, 208), (13, 1, 16), (3, 300, 80)] {
            let (x, w) = (values(rows * k, 1), values(k * n, 2));
            let mut out = vec![f32::NAN; rows * n];
            product(&x, &w, k, n, &mut out);
            let mut twice = out.clone();
            product_add(&x, k.max(1), 0, &w, n, &mut twice);
            for (at, (&one, &two)) in out.iter().zip(&twice).enumerate() {
                let exact: f32 = (0..k).map(|i| x[at / n * k + i] * w[i * n + at % n]).sum();
                assert!((one - exact).abs() < 1e-4 && (two - 2.0 * exact).abs() < 1e-4);
            }
        }
    }

    #[test]
    fn gradients_are_sums_over_rows_and_parts_of_one_give_the_same_bits() {
        for (rows, width, n) in [(5, 6, 16), (30, 17, 48), (1, 1, 64)] {
            let (x, by) = (values(rows * width, 1), values(rows * n, 2));
            let mut out = vec![0.5; width * n];
            gradient(&x, width, 0, &by, n, &mut out);
            for (at, &sum) in out.iter().enumerate() {
                let exact: f32 = (0..rows).map(|r| x[r * width + at / n] * by[r * n + at % n]).sum();
                assert!((sum - 0.5 - exact).abs() < 1e-5);
            }
            let mut part = vec![0.5; n];
            gradient(&x, width, width - 1, &by, n, &mut part);
            assert_eq!(part, out[(width - 1) * n..]);
        }
    }

    #[test]
    fn a_product_of_views_is_that_of_the_matrices() {
        for (m, k, n) in [(1, 3, 1), (7, 20, 33), (9, 130, 16), (0, 3, 4), (3, 0, 4), (5, 4, 0)] {
            let (a, b) = (values(m * k, 1), values(k * n, 2));
            let exact = |i: usize, j: usize| (0..k).map(|l| a[i * k + l] * b[l * n + j]).sum::<f32>();
            let (mut at, mut bt) = (vec![0.0; m * k], vec![0.0; k * n]);
            transpose(&a, m, k, &mut at);
            transpose(&b, k, n, &mut bt);
            let view = |x, shape| ArrayView2::from_shape(shape, x).unwrap();
            let both_a = [view(&a[..], (m, k)), view(&at, (k, m)).reversed_axes()];
            let both_b = [view(&b[..], (k, n)), view(&bt, (n, k)).reversed_axes()];
            for (a, b) in both_a.iter().flat_map(|a| both_b.iter().map(move |b| (a, b))) {
                let product = matmul(*a, *b).unwrap();
                assert_eq!(product.dim(), (m, n));
                assert!(product.indexed_iter().all(|((i, j), x)| (x - exact(i, j)).abs() < 1e-4));
            }
        }
    }

    #[test]
    fn transposing_twice_changes_nothing() {
        let x = values(35 * 18, 3);
        let (mut once, mut twice) = (vec![0.0; x.len()], vec![0.0; x.len()]);
        transpose(&x, 35, 18, &mut once);
        assert_eq!(once[3], x[3 * 18]);
        transpose(&once, 18, 35, &mut twice);
        assert_eq!(x, twice);
    }
}
