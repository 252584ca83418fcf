//! Tall, narrow matrices [n, d]: their Gram matrix, and their product with a small square one.
//!
//! What is called checks the shapes and hands slices on: the compiler knows of a function's slices, though not of those made within it,
//! that they do not overlap.

use ndarray::{ArrayView2, ArrayViewMut2};

use super::dot::tile_product;
use super::matrix::{flat, flat_mut};
use super::vector::{Vector, dispatch};

#[inline(always)]
unsafe fn multiply_in_place_body<V: Vector, const TILE: usize>(rows: &mut [f32], small: &[f32], d: usize) {
    assert_eq!(small.len(), d * d);
    assert_eq!(rows.len() % d, 0);
    assert_eq!(d % 16, 0);
    let mut out = vec![0.0f32; 4 * d];
    for group in rows.chunks_mut(4 * d) {
        let n = group.len() / d;
        // A short last group repeats its last row; the copy is thrown away.
        // SAFETY: a row of the group.
        let a: [*const f32; 4] = std::array::from_fn(|r| unsafe { group.as_ptr().add(r.min(n - 1) * d) });
        let mut j = 0;
        // SAFETY: rows and strips lie within the group, `small` and `out`, by the assertions: `d` is a multiple of LANES.
        unsafe {
            while j + TILE * V::LANES <= d {
                let acc = tile_product::<V, 4, TILE>(a, small.as_ptr().add(j), d, d);
                for (r, row) in acc.iter().enumerate() {
                    for (w, v) in row.iter().enumerate() {
                        v.store(out.as_mut_ptr().add(r * d + j + w * V::LANES));
                    }
                }
                j += TILE * V::LANES;
            }
            while j < d {
                let acc = tile_product::<V, 4, 1>(a, small.as_ptr().add(j), d, d);
                for (r, row) in acc.iter().enumerate() {
                    row[0].store(out.as_mut_ptr().add(r * d + j));
                }
                j += V::LANES;
            }
        }
        group.copy_from_slice(&out[..n * d]);
    }
}
dispatch! {
    fn multiply_slices(rows: &mut [f32], small: &[f32], d: usize) = multiply_in_place_body
}

/// `rows ← rows · small` for rows [n, d] and small [d, d]; `d` is a multiple of 16.
pub fn multiply_in_place(rows: ArrayViewMut2<f32>, small: ArrayView2<f32>) {
    let d = small.ncols();
    assert_eq!(rows.ncols(), d);
    multiply_slices(flat_mut(rows), flat(small), d);
}

/// Adds into `gram[i.., j..]` for four columns `i` and a strip of `W` registers from column `j`.
///
/// # Safety
/// The processor must have `V`'s instructions; the columns must lie within `d`.
#[inline(always)]
unsafe fn gram_strip<V: Vector, const W: usize>(rows: &[f32], d: usize, i: usize, j: usize, gram: &mut [f32]) {
    // SAFETY: as the caller promises.
    unsafe {
        let mut acc = [[V::splat(0.0); W]; 4];
        for row in rows.chunks_exact(d) {
            let mut strip = [V::splat(0.0); W];
            for (w, s) in strip.iter_mut().enumerate() {
                *s = V::load(row.as_ptr().add(j + w * V::LANES));
            }
            for (r, acc) in acc.iter_mut().enumerate() {
                let x = V::splat(*row.get_unchecked(i + r));
                for w in 0..W {
                    acc[w] = x.mul_add(strip[w], acc[w]);
                }
            }
        }
        let one = V::splat(1.0);
        for (r, acc) in acc.iter().enumerate() {
            for (w, v) in acc.iter().enumerate() {
                let to = gram.as_mut_ptr().add((i + r) * d + j + w * V::LANES);
                one.mul_add(*v, V::load(to)).store(to);
            }
        }
    }
}

#[inline(always)]
unsafe fn add_gram_body<V: Vector, const TILE: usize>(rows: &[f32], d: usize, gram: &mut [f32]) {
    assert_eq!(gram.len(), d * d);
    assert_eq!(rows.len() % d, 0);
    assert_eq!(d % 16, 0);
    // Rows that fit the first-level cache are read once for every strip.
    for part in rows.chunks(64 * d) {
        for i in (0..d).step_by(4) {
            // Only the upper triangle, rounded down to whole registers; the lower one is its mirror.
            let mut j = i - i % V::LANES;
            // SAFETY: strips end within `d`, a multiple of LANES.
            unsafe {
                while j + TILE * V::LANES <= d {
                    gram_strip::<V, TILE>(part, d, i, j, gram);
                    j += TILE * V::LANES;
                }
                // Fewer registers would wait for each other's sums.
                if TILE > 3 && j + 3 * V::LANES <= d {
                    gram_strip::<V, 3>(part, d, i, j, gram);
                    j += 3 * V::LANES;
                }
                if TILE > 2 && j + 2 * V::LANES <= d {
                    gram_strip::<V, 2>(part, d, i, j, gram);
                    j += 2 * V::LANES;
                }
                while j < d {
                    gram_strip::<V, 1>(part, d, i, j, gram);
                    j += V::LANES;
                }
            }
        }
    }
}
dispatch! {
    fn add_gram_of_slices(rows: &[f32], d: usize, gram: &mut [f32]) = add_gram_body
}

/// `gram ← gram + rowsᵀ rows` for rows [n, d], upper triangle only; `d` is a multiple of 16.
pub fn add_gram(rows: ArrayView2<f32>, gram: ArrayViewMut2<f32>) {
    let d = rows.ncols();
    assert_eq!(gram.ncols(), d);
    add_gram_of_slices(flat(rows), d, flat_mut(gram));
}

#[inline(always)]
unsafe fn combine_body<V: Vector, const TILE: usize>(coefficients: &[f32], rows: &[f32], out: &mut [f32]) {
    let d = out.len();
    assert!(rows.len() == d * coefficients.len() && d.is_multiple_of(16));
    let n = coefficients.len();
    for first in (0..n).step_by(4) {
        // SAFETY: the rows lie within `rows`; a short last group repeats its last one, with coefficient 0.
        unsafe {
            let row: [*const f32; 4] = std::array::from_fn(|r| rows.as_ptr().add((first + r).min(n - 1) * d));
            let c: [V; 4] = std::array::from_fn(|r| V::splat(coefficients.get(first + r).copied().unwrap_or(0.0)));
            for j in (0..d).step_by(V::LANES) {
                let mut v = V::load(out.as_ptr().add(j));
                for r in 0..4 {
                    v = c[r].mul_add(V::load(row[r].add(j)), v);
                }
                v.store(out.as_mut_ptr().add(j));
            }
        }
    }
}
dispatch! {
    fn combine_slices(coefficients: &[f32], rows: &[f32], out: &mut [f32]) = combine_body
}

/// `out ← out + Σ_r coefficients[r] rows[r]` for rows [n, d]; `d` is a multiple of 16.
pub fn combine(coefficients: &[f32], rows: ArrayView2<f32>, out: &mut [f32]) {
    assert_eq!(rows.ncols(), out.len());
    combine_slices(coefficients, flat(rows), out);
}

#[inline(always)]
unsafe fn add_columns_body<V: Vector, const TILE: usize>(
    left: &[f32],
    width: usize,
    first: usize,
    right: &[f32],
    d: usize,
    out: &mut [f32],
) {
    let (n, columns) = (right.len() / d, out.len() / d);
    assert!(d.is_multiple_of(16) && right.len() == n * d && out.len() == columns * d);
    assert!(left.len() == n * width && first + columns <= width);
    for i in (0..columns).step_by(4) {
        let rows = (columns - i).min(4);
        for j in (0..d).step_by(V::LANES) {
            // SAFETY: rows, columns and the register at `j` lie within the slices, by the assertions above.
            unsafe {
                let mut acc = [V::splat(0.0); 4];
                for row in 0..n {
                    let strip = V::load(right.as_ptr().add(row * d + j));
                    let x = left.as_ptr().add(row * width + first + i);
                    for (r, acc) in acc.iter_mut().enumerate() {
                        *acc = V::splat(*x.add(r.min(rows - 1))).mul_add(strip, *acc);
                    }
                }
                for (r, acc) in acc.iter().enumerate().take(rows) {
                    let to = out.as_mut_ptr().add((i + r) * d + j);
                    V::splat(1.0).mul_add(*acc, V::load(to)).store(to);
                }
            }
        }
    }
}
dispatch! {
    fn add_columns_of_slices(
        left: &[f32],
        width: usize,
        first: usize,
        right: &[f32],
        d: usize,
        out: &mut [f32],
    ) = add_columns_body
}

/// `out ← out + leftᵀ right` for the columns of `left` [n, width] from `first` on, as many as `out` [columns, d] has rows;
/// right is [n, d], `d` a multiple of 16.
pub fn add_columns(left: ArrayView2<f32>, first: usize, right: ArrayView2<f32>, out: ArrayViewMut2<f32>) {
    let (width, d) = (left.ncols(), right.ncols());
    assert!(left.nrows() == right.nrows() && out.ncols() == d);
    add_columns_of_slices(flat(left), width, first, flat(right), d, flat_mut(out));
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, s};

    use super::*;

    fn matrix(n: usize, d: usize) -> Array2<f32> {
        Array2::from_shape_fn((n, d), |(r, i)| (((r * d + i) * 71 % 113) as f32 - 56.0) / 64.0)
    }

    #[test]
    fn gram_is_the_sum_of_outer_products() {
        for (n, d) in [(0, 16), (1, 16), (130, 48), (65, 64), (9, 80)] {
            let y = matrix(n, d);
            let mut g = Array2::zeros((d, d));
            add_gram(y.view(), g.view_mut());
            for i in 0..d {
                for j in i..d {
                    let exact: f32 = y.rows().into_iter().map(|r| r[i] * r[j]).sum();
                    assert!((g[[i, j]] - exact).abs() < 1e-3);
                }
            }
        }
    }

    #[test]
    fn multiply_in_place_is_a_matrix_product() {
        for (n, d) in [(1, 16), (7, 48), (8, 64), (5, 80)] {
            let (x, q) = (matrix(n, d), matrix(d, d));
            let mut out = x.clone();
            multiply_in_place(out.view_mut(), q.view());
            assert!((out - x.dot(&q)).iter().all(|x| x.abs() < 1e-3));
        }
    }

    #[test]
    fn products_of_tall_matrices_are_sums_over_their_rows() {
        let (n, width, d) = (13, 7, 32);
        let (left, right) = (matrix(n, width), matrix(n, d));
        let mut out = Array2::ones((5, d));
        add_columns(left.view(), 2, right.view(), out.view_mut());
        let exact = left.slice(s![.., 2..]).t().dot(&right);
        assert!((out - exact - 1.0).iter().all(|x| x.abs() < 1e-4));
        let mut sum = vec![1.0; d];
        let coefficients = left.column(0).to_vec();
        combine(&coefficients, right.view(), &mut sum);
        let exact = left.column(0).dot(&right);
        assert!(sum.iter().zip(&exact).all(|(x, exact)| (x - 1.0 - exact).abs() < 1e-4));
    }

    #[test]
    fn the_portable_kernels_agree_with_those_of_this_processor() {
        use crate::vector::Portable;
        let (x, q) = (matrix(11, 48), matrix(48, 48));
        let (mut a, mut b) = (x.clone(), x.clone());
        multiply_in_place(a.view_mut(), q.view());
        // SAFETY: `Portable` needs no particular instructions.
        unsafe { multiply_in_place_body::<Portable, 2>(flat_mut(b.view_mut()), flat(q.view()), 48) };
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-4));
        let (mut a, mut b) = (Array2::zeros((48, 48)), Array2::zeros((48, 48)));
        add_gram(x.view(), a.view_mut());
        // SAFETY: as above.
        unsafe { add_gram_body::<Portable, 2>(flat(x.view()), 48, flat_mut(b.view_mut())) };
        assert!((0..48).all(|i| (i..48).all(|j| (a[[i, j]] - b[[i, j]]).abs() < 1e-4)));
    }
}
