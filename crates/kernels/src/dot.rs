//! The inner loops: dot products, row-times-vector, and the 4-row tile of a matrix product.

use ndarray::ArrayView2;

use super::matrix::flat;
use super::vector::{Vector, dispatch};

/// `a · b` over the first `n` floats of both: one accumulator register, then the rest one by one.
///
/// [`score_rows`] adds in the same order, so that a score does not depend on which of the two computed it.
///
/// # Safety
/// Both pointers must be valid for `n` floats, and the processor must have `V`'s instructions.
#[inline(always)]
pub unsafe fn dot_of<V: Vector>(a: *const f32, b: *const f32, n: usize) -> f32 {
    // SAFETY: all that is read is below `n`, as the caller promises.
    unsafe {
        let mut acc = V::splat(0.0);
        let mut i = 0;
        while i + V::LANES <= n {
            acc = V::load(a.add(i)).mul_add(V::load(b.add(i)), acc);
            i += V::LANES;
        }
        let mut total = acc.sum();
        while i < n {
            total += *a.add(i) * *b.add(i);
            i += 1;
        }
        total
    }
}

/// `y ← y + a x` over the first `n` floats.
///
/// # Safety
/// Both pointers must be valid for `n` floats, and the processor must have `V`'s instructions.
#[inline(always)]
pub unsafe fn axpy_of<V: Vector>(a: f32, x: *const f32, y: *mut f32, n: usize) {
    // SAFETY: all that is read and written is below `n`, as the caller promises.
    unsafe {
        let va = V::splat(a);
        let mut i = 0;
        while i + V::LANES <= n {
            va.mul_add(V::load(x.add(i)), V::load(y.add(i))).store(y.add(i));
            i += V::LANES;
        }
        while i < n {
            *y.add(i) += a * *x.add(i);
            i += 1;
        }
    }
}

#[inline(always)]
unsafe fn dot_body<V: Vector, const TILE: usize>(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    // SAFETY: both are as long as is said.
    unsafe { dot_of::<V>(a.as_ptr(), b.as_ptr(), a.len()) }
}
dispatch! {
    /// `a · b`; both of the same length.
    pub fn dot(a: &[f32], b: &[f32]) -> f32 = dot_body
}

#[inline(always)]
unsafe fn axpy_body<V: Vector, const TILE: usize>(a: f32, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len());
    // SAFETY: both are as long as is said.
    unsafe { axpy_of::<V>(a, x.as_ptr(), y.as_mut_ptr(), x.len()) }
}
dispatch! {
    /// `y ← y + a x`; both of the same length.
    pub fn axpy(a: f32, x: &[f32], y: &mut [f32]) = axpy_body
}

#[inline(always)]
unsafe fn score_rows_body<V: Vector, const TILE: usize>(rows: &[f32], query: &[f32], scores: &mut [f32]) {
    let d = query.len();
    assert_eq!(rows.len(), d * scores.len());
    let whole = d - d % V::LANES;
    let q = query.as_ptr();
    let n = scores.len();
    // SAFETY: `n` rows of `d` floats lie within `rows`, by the assertion, and `r` stays below `n`.
    unsafe {
        let mut r = 0;
        while r + 4 <= n {
            let row: [*const f32; 4] = std::array::from_fn(|j| rows.as_ptr().add((r + j) * d));
            let mut acc = [V::splat(0.0); 4];
            let mut i = 0;
            while i < whole {
                let v = V::load(q.add(i));
                for j in 0..4 {
                    acc[j] = V::load(row[j].add(i)).mul_add(v, acc[j]);
                }
                i += V::LANES;
            }
            for j in 0..4 {
                let mut total = acc[j].sum();
                for i in whole..d {
                    total += *row[j].add(i) * *q.add(i);
                }
                *scores.get_unchecked_mut(r + j) = total;
            }
            r += 4;
        }
        while r < n {
            *scores.get_unchecked_mut(r) = dot_of::<V>(rows.as_ptr().add(r * d), q, d);
            r += 1;
        }
    }
}
dispatch! {
    fn score_slices(rows: &[f32], query: &[f32], scores: &mut [f32]) = score_rows_body
}

/// `scores[r] = rows[r] · query` for rows [r, d] and a query [d].
pub fn score_rows(rows: ArrayView2<f32>, query: &[f32], scores: &mut [f32]) {
    assert_eq!(rows.ncols(), query.len());
    score_slices(flat(rows), query, scores);
}

/// `out[r] = a[r] · b` for `ROWS` rows of `a` (each `k` long), a column strip of `b` [k, ldb] `W` registers wide.
///
/// # Safety
/// `a[r]` must be valid for `k` floats, `b` for `(k − 1) · ldb + W · LANES`, and the processor must have `V`'s instructions.
#[inline(always)]
pub unsafe fn tile_product<V: Vector, const ROWS: usize, const W: usize>(
    a: [*const f32; ROWS],
    b: *const f32,
    k: usize,
    ldb: usize,
) -> [[V; W]; ROWS] {
    // SAFETY: as the caller promises.
    unsafe {
        let mut acc = [[V::splat(0.0); W]; ROWS];
        for i in 0..k {
            let mut column = [V::splat(0.0); W];
            for (w, c) in column.iter_mut().enumerate() {
                *c = V::load(b.add(i * ldb + w * V::LANES));
            }
            for r in 0..ROWS {
                let x = V::splat(*a[r].add(i));
                for w in 0..W {
                    acc[r][w] = x.mul_add(column[w], acc[r][w]);
                }
            }
        }
        acc
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;

    #[test]
    fn dot_and_score_rows_agree_to_the_last_bit_for_every_length() {
        for d in [1, 3, 4, 8, 15, 16, 17, 50, 64, 192] {
            let rows = Array2::from_shape_fn((7, d), |(r, i)| (((r * d + i) * 37 % 101) as f32 - 50.0) / 17.0);
            let query: Vec<f32> = (0..d).map(|i| ((i * 53 % 97) as f32 - 48.0) / 13.0).collect();
            let mut scores = vec![0.0; 7];
            score_rows(rows.view(), &query, &mut scores);
            for (r, &score) in scores.iter().enumerate() {
                let row = rows.row(r).to_vec();
                assert_eq!(score.to_bits(), dot(&row, &query).to_bits());
                let exact: f64 = row.iter().zip(&query).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
                assert!((f64::from(score) - exact).abs() < 1e-3, "{d}: {score} {exact}");
            }
        }
    }
}
