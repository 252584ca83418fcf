//! A row's normal equations by preconditioned conjugate gradients.
//!
//! The preconditioner is the diagonal that a row of this one's confidence would have if its columns were drawn as those of all
//! rows together: it costs nothing, and a row's own diagonal served no better. Takács, Pilászy, Tikk: "Applications of the
//! conjugate gradient method for implicit feedback collaborative filtering" (RecSys 2011), there without the change of basis.

use ndarray::ArrayView2;

use super::problem::{PREFETCH, Problem, Row};
use kernels::dot::{axpy_of, dot_of};
use kernels::matrix::flat;
use kernels::vector::{Vector, dispatch};

/// Vectors of scratch that [`solve_row`] needs.
pub const VECTORS: usize = 4;
/// An energy that no sum of f32 factors of any use has.
const NOTHING: f32 = 1e-30;

/// What a pass over a row's columns does with `t_j = y_j · p`, `c_j` being the confidence and `p_j` 1 or 0.
mod pass {
    /// `out += Σ_j c_j (p_j − t_j) y_j`.
    pub const RESIDUAL: u8 = 0;
    /// `out += Σ_j c_j t_j y_j`.
    pub const PRODUCT: u8 = 1;
    /// `Σ_j c_j t_j²` alone.
    pub const CURVATURE: u8 = 2;
    /// `Σ_j c_j (p_j − t_j)²` alone.
    pub const LOSS: u8 = 3;
}

/// The terms of `G` columns; returns their sum in the passes that have one.
///
/// # Safety
/// Every index must be a row of `factors`; `p` and `out` must be valid for `d` floats, `d` a multiple of 16; there must be `G`
/// indices and confidences; the processor must have `V`'s instructions.
#[inline(always)]
unsafe fn add_group<V: Vector, const PASS: u8, const G: usize>(
    row: [*const f32; G],
    confidence: [f32; G],
    d: usize,
    p: *const f32,
    out: *mut f32,
) -> f32 {
    // SAFETY: as the caller promises.
    unsafe {
        let mut acc = [V::splat(0.0); G];
        let mut k = 0;
        while k < d {
            let v = V::load(p.add(k));
            for i in 0..G {
                acc[i] = V::load(row[i].add(k)).mul_add(v, acc[i]);
            }
            k += V::LANES;
        }
        let mut t = [0.0f32; G];
        for i in (0..G).step_by(4) {
            t[i..i + 4].copy_from_slice(&V::sums([acc[i], acc[i + 1], acc[i + 2], acc[i + 3]]));
        }
        match PASS {
            pass::CURVATURE => (0..G).map(|i| confidence[i].abs() * t[i] * t[i]).sum(),
            pass::LOSS => {
                let miss = |i: usize| f32::from(confidence[i] > 0.0) - t[i];
                (0..G).map(|i| confidence[i].abs() * miss(i) * miss(i)).sum()
            }
            _ => {
                let coefficient: [V; G] = std::array::from_fn(|i| {
                    let (c, weight) = (confidence[i], confidence[i].abs());
                    V::splat(if PASS == pass::RESIDUAL { c.max(0.0) - weight * t[i] } else { weight * t[i] })
                });
                let mut k = 0;
                while k < d {
                    // Summed apart, so that only one addition waits for the group before.
                    let mut even = V::splat(0.0);
                    let mut odd = V::splat(0.0);
                    for i in (0..G).step_by(2) {
                        even = coefficient[i].mul_add(V::load(row[i].add(k)), even);
                        odd = coefficient[i + 1].mul_add(V::load(row[i + 1].add(k)), odd);
                    }
                    let one = V::splat(1.0);
                    one.mul_add(one.mul_add(even, odd), V::load(out.add(k))).store(out.add(k));
                    k += V::LANES;
                }
                0.0
            }
        }
    }
}

/// A pass over a row's columns.
///
/// # Safety
/// As for [`add_group`]: every index of the row is one of `factors`, and it has as many confidences.
#[inline(always)]
unsafe fn add_terms<V: Vector, const PASS: u8>(
    factors: *const f32,
    d: usize,
    row: &Row,
    p: *const f32,
    out: *mut f32,
) -> f32 {
    let (indices, confidences) = (row.indices, row.confidences);
    let n = indices.len();
    let mut total = 0.0;
    // SAFETY: as the caller promises; `j` and what is read behind it stay below `n`, and a prefetch may be of any address.
    unsafe {
        let at = |j: usize| factors.add(*indices.get_unchecked(j) as usize * d);
        let mut j = 0;
        while j < n {
            // The first pass over a row brings its factors into the cache.
            if PASS == pass::RESIDUAL || PASS == pass::LOSS {
                for ahead in j + PREFETCH..j + PREFETCH + 8 {
                    let index = if ahead < n { indices.get(ahead) } else { row.upcoming.get(ahead - n) };
                    let Some(&index) = index else { break };
                    let next = factors.wrapping_add(index as usize * d);
                    for line in (0..d).step_by(16) {
                        V::prefetch(next.wrapping_add(line));
                    }
                }
            }
            if j + 8 <= n {
                let c: [f32; 8] = std::array::from_fn(|i| *confidences.get_unchecked(j + i));
                total += add_group::<V, PASS, 8>(std::array::from_fn(|i| at(j + i)), c, d, p, out);
                j += 8;
            } else {
                // A short last group repeats its last column with confidence 0.
                let c = std::array::from_fn(|i| if j + i < n { *confidences.get_unchecked(j + i) } else { 0.0 });
                total += add_group::<V, PASS, 4>(std::array::from_fn(|i| at((j + i).min(n - 1))), c, d, p, out);
                j += 4;
            }
        }
    }
    total
}

#[inline(always)]
unsafe fn solve_row_body<V: Vector, const TILE: usize>(
    problem: &Problem,
    row: &Row,
    x: &mut [f32],
    scratch: &mut [f32],
) {
    let d = problem.dense.len();
    assert!(
        problem.factors.ncols() == d
            && x.len() == d
            && problem.typical.len() == d
            && scratch.len() == VECTORS * d
            && d.is_multiple_of(16)
    );
    assert_eq!(row.indices.len(), row.confidences.len());
    let (r, rest) = scratch.split_at_mut(d);
    let (p, rest) = rest.split_at_mut(d);
    let (q, preconditioner) = rest.split_at_mut(d);
    let (y, lambda) = (flat(problem.factors).as_ptr(), row.lambda);
    let confidence: f32 = row.confidences.iter().map(|c| c.abs()).sum();

    // Residual at the last sweep's solution.
    match row.expected {
        None => r.fill(0.0),
        Some(expected) => {
            assert_eq!(expected.len(), d);
            r.iter_mut().zip(expected).for_each(|(r, &m)| *r = lambda * m);
        }
    }
    // SAFETY: the caller checked the indices; all vectors are `d` long, a multiple of 16.
    unsafe { add_terms::<V, { pass::RESIDUAL }>(y, d, row, x.as_ptr(), r.as_mut_ptr()) };
    for k in 0..d {
        let dense = problem.dense[k] + lambda;
        let diagonal = confidence * problem.typical[k] + dense;
        r[k] -= dense * x[k];
        preconditioner[k] = if diagonal > f32::MIN_POSITIVE { 1.0 / diagonal } else { 0.0 };
        p[k] = r[k] * preconditioner[k];
    }
    // SAFETY: as above.
    let mut rz = unsafe { dot_of::<V>(r.as_ptr(), p.as_ptr(), d) };
    for step in 0..problem.steps {
        let last = step + 1 == problem.steps;
        for k in 0..d {
            q[k] = (problem.dense[k] + lambda) * p[k];
        }
        // SAFETY: as above.
        let curvature = unsafe {
            if last {
                // No step follows that would need the product itself.
                dot_of::<V>(p.as_ptr(), q.as_ptr(), d)
                    + add_terms::<V, { pass::CURVATURE }>(y, d, row, p.as_ptr(), q.as_mut_ptr())
            } else {
                add_terms::<V, { pass::PRODUCT }>(y, d, row, p.as_ptr(), q.as_mut_ptr());
                dot_of::<V>(p.as_ptr(), q.as_ptr(), d)
            }
        };
        // Solved as well as f32 can, or not a number: another step would divide rounding errors by each other.
        if !(rz > NOTHING && curvature > NOTHING) {
            break;
        }
        let length = rz / curvature;
        // SAFETY: as above.
        unsafe {
            axpy_of::<V>(length, p.as_ptr(), x.as_mut_ptr(), d);
            if last {
                break;
            }
            axpy_of::<V>(-length, q.as_ptr(), r.as_mut_ptr(), d);
        }
        for k in 0..d {
            q[k] = r[k] * preconditioner[k];
        }
        // SAFETY: as above.
        let next = unsafe { dot_of::<V>(r.as_ptr(), q.as_ptr(), d) };
        if problem.tolerance > 0.0 {
            let energy: f32 =
                (0..d).filter(|&k| preconditioner[k] > 0.0).map(|k| x[k] * x[k] / preconditioner[k]).sum();
            if next <= problem.tolerance * energy {
                break;
            }
        }
        let beta = next / rz;
        for k in 0..d {
            p[k] = q[k] + beta * p[k];
        }
        rz = next;
    }
}
dispatch! {
    /// Improves `x` [stride] by steps of conjugate gradients; `scratch` is [`VECTORS`] times as long.
    ///
    /// # Safety
    /// Every index of the row is a row of `problem.factors` [_, stride].
    pub unsafe fn solve_row(problem: &Problem, row: &Row, x: &mut [f32], scratch: &mut [f32]) = solve_row_body
}

#[inline(always)]
unsafe fn row_loss_body<V: Vector, const TILE: usize>(factors: &[f32], row: &Row, x: &[f32]) -> f32 {
    let columns = factors.len() / x.len();
    assert!(x.len().is_multiple_of(16) && row.indices.iter().all(|&i| (i as usize) < columns));
    assert_eq!(row.indices.len(), row.confidences.len());
    // SAFETY: the indices were checked, and there are as many confidences; nothing is written in this pass.
    unsafe { add_terms::<V, { pass::LOSS }>(factors.as_ptr(), x.len(), row, x.as_ptr(), std::ptr::null_mut()) }
}
dispatch! {
    fn row_loss_of_slice(factors: &[f32], row: &Row, x: &[f32]) -> f32 = row_loss_body
}

/// `Σ_i c_i (p_i − x · y_i)²` over a row's columns.
pub fn row_loss(factors: ArrayView2<f32>, row: &Row, x: &[f32]) -> f32 {
    assert_eq!(factors.ncols(), x.len());
    row_loss_of_slice(flat(factors), row, x)
}
