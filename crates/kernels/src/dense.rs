//! Tall, narrow matrices [n, d]: their Gram matrix, and their product with a small square one.

use super::dot::tile_product;
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
    /// `rows ← rows · small` for rows [n, d] and small [d, d]; `d` is a multiple of 16.
    pub fn multiply_in_place(rows: &mut [f32], small: &[f32], d: usize) = multiply_in_place_body
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
    /// `gram ← gram + rowsᵀ rows` for rows [n, d], upper triangle only; `d` is a multiple of 16.
    pub fn add_gram(rows: &[f32], d: usize, gram: &mut [f32]) = add_gram_body
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
    /// `out ← out + Σ_r coefficients[r] rows[r]` for rows [n, d]; `d` is a multiple of 16.
    pub fn combine(coefficients: &[f32], rows: &[f32], out: &mut [f32]) = combine_body
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
    /// `out ← out + leftᵀ right` for the columns of `left` [n, width] from `first` on, as many as `out` [columns, d] has rows;
    /// right is [n, d], `d` a multiple of 16.
    pub fn add_columns(
        left: &[f32],
        width: usize,
        first: usize,
        right: &[f32],
        d: usize,
        out: &mut [f32],
    ) = add_columns_body
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(n: usize, d: usize) -> Vec<f32> {
        (0..n * d).map(|i| ((i * 71 % 113) as f32 - 56.0) / 64.0).collect()
    }

    #[test]
    fn gram_is_the_sum_of_outer_products() {
        for (n, d) in [(0, 16), (1, 16), (130, 48), (65, 64), (9, 80)] {
            let y = matrix(n, d);
            let mut g = vec![0.0; d * d];
            add_gram(&y, d, &mut g);
            for i in 0..d {
                for j in i..d {
                    let exact: f32 = y.chunks(d).map(|r| r[i] * r[j]).sum();
                    assert!((g[i * d + j] - exact).abs() < 1e-3);
                }
            }
        }
    }

    #[test]
    fn multiply_in_place_is_a_matrix_product() {
        for (n, d) in [(1, 16), (7, 48), (8, 64), (5, 80)] {
            let (x, q) = (matrix(n, d), matrix(d, d));
            let mut out = x.clone();
            multiply_in_place(&mut out, &q, d);
            for i in 0..n {
                for j in 0..d {
                    let exact: f32 = (0..d).map(|k| x[i * d + k] * q[k * d + j]).sum();
                    assert!((out[i * d + j] - exact).abs() < 1e-3);
                }
            }
        }
    }

    #[test]
    fn products_of_tall_matrices_are_sums_over_their_rows() {
        let (n, width, d) = (13, 7, 32);
        let (left, right) = (matrix(n, width), matrix(n, d));
        let mut out = vec![1.0; 5 * d];
        add_columns(&left, width, 2, &right, d, &mut out);
        let mut sum = vec![1.0; d];
        combine(&left[..n], &right, &mut sum);
        for j in 0..d {
            for i in 0..5 {
                let exact: f32 = (0..n).map(|r| left[r * width + 2 + i] * right[r * d + j]).sum();
                assert!((out[i * d + j] - 1.0 - exact).abs() < 1e-4);
            }
            let exact: f32 = (0..n).map(|r| left[r] * right[r * d + j]).sum();
            assert!((sum[j] - 1.0 - exact).abs() < 1e-4);
        }
    }

    #[test]
    fn the_portable_kernels_agree_with_those_of_this_processor() {
        use crate::vector::Portable;
        let (x, q) = (matrix(11, 48), matrix(48, 48));
        let (mut a, mut b) = (x.clone(), x.clone());
        multiply_in_place(&mut a, &q, 48);
        // SAFETY: `Portable` needs no particular instructions.
        unsafe { multiply_in_place_body::<Portable, 2>(&mut b, &q, 48) };
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-4));
        let (mut a, mut b) = (vec![0.0; 48 * 48], vec![0.0; 48 * 48]);
        add_gram(&x, 48, &mut a);
        // SAFETY: as above.
        unsafe { add_gram_body::<Portable, 2>(&x, 48, &mut b) };
        let upper = (0..48).flat_map(|i| (i..48).map(move |j| i * 48 + j));
        assert!(upper.into_iter().all(|i| (a[i] - b[i]).abs() < 1e-4));
    }
}
