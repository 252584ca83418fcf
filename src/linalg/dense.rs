//! Tall, narrow matrices [n, d]: their Gram matrix, and their product with a small square one.

use super::kernels::tile_product;
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
        let a: [*const f32; 4] = std::array::from_fn(|r| unsafe { group.as_ptr().add(r.min(n - 1) * d) });
        let mut j = 0;
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
            unsafe {
                while j + TILE * V::LANES <= d {
                    gram_strip::<V, TILE>(part, d, i, j, gram);
                    j += TILE * V::LANES;
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
    fn the_portable_kernels_agree_with_those_of_this_processor() {
        use crate::linalg::vector::Portable;
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
