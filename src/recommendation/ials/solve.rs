//! One side of iALS: every row's normal equations by preconditioned conjugate gradients.
//!
//! With the factors `Y` of the other side in the eigenbasis of their Gram matrix `YᵀY = Λ`, row `u` solves
//! `(Σ_i c_ui y_i y_iᵀ + D_u) x_u = Σ_i c_ui y_i`, `D_u = α₀ Λ + λ_u I` diagonal. A product with that matrix costs
//! O(n_u d) however many columns were not interacted with, and the diagonal of the whole matrix is at hand as a
//! preconditioner. Takács, Pilászy, Tikk: "Applications of the conjugate gradient method for implicit feedback
//! collaborative filtering" (RecSys 2011), there without the change of basis.

use crate::linalg::kernels::{axpy_of, dot_of};
use crate::linalg::vector::{Vector, dispatch};

/// What all rows of a half-sweep share.
pub struct Problem<'a> {
    /// [columns, stride], in the eigenbasis of its own Gram matrix.
    pub factors: &'a [f32],
    /// [stride]: α₀ Λ.
    pub dense: &'a [f32],
    /// Steps of conjugate gradients at most.
    pub steps: usize,
    /// Stop once the energy of the preconditioned residual is below this share of the solution's; 0 runs all steps.
    pub tolerance: f32,
}

/// Some consecutive rows of the sparse matrix, with their regularisation.
pub struct Rows<'a> {
    /// [rows + 1], positions in `indices` and `confidences`.
    pub indptr: &'a [u64],
    pub indices: &'a [u32],
    pub confidences: &'a [f32],
    /// [rows]
    pub lambda: &'a [f32],
}

/// An energy that no sum of f32 factors of any use has.
const NOTHING: f32 = 1e-30;
/// How many rows ahead the factors are asked for from memory.
const PREFETCH: usize = 12;

/// The terms `out += Σ_j coefficient_j y_j`, with `coefficient_j = c_j t_j`, or `c_j (1 − t_j)` for the residual, where `t_j = y_j · p`.
/// For the residual `diagonal += Σ_j c_j y_j²` too.
///
/// # Safety
/// Every index must be a row of `factors`; `p`, `out` and `diagonal` must be valid for `d` floats, `d` a multiple of 16;
/// the processor must have `V`'s instructions.
#[inline(always)]
unsafe fn add_terms<V: Vector, const RESIDUAL: bool>(
    factors: *const f32,
    d: usize,
    indices: &[u32],
    confidences: &[f32],
    p: *const f32,
    out: *mut f32,
    diagonal: *mut f32,
) {
    let n = indices.len();
    unsafe {
        let mut j = 0;
        while j < n {
            if RESIDUAL {
                for ahead in j + PREFETCH..(j + PREFETCH + 4).min(n) {
                    let row = factors.add(*indices.get_unchecked(ahead) as usize * d);
                    for line in (0..d).step_by(16) {
                        V::prefetch(row.wrapping_add(line));
                    }
                }
            }
            // A short last group repeats its last row with confidence 0.
            let row: [*const f32; 4] =
                std::array::from_fn(|i| factors.add(*indices.get_unchecked((j + i).min(n - 1)) as usize * d));
            let c: [f32; 4] = std::array::from_fn(|i| if j + i < n { *confidences.get_unchecked(j + i) } else { 0.0 });
            let mut acc = [V::splat(0.0); 4];
            let mut k = 0;
            while k < d {
                let v = V::load(p.add(k));
                for i in 0..4 {
                    acc[i] = V::load(row[i].add(k)).mul_add(v, acc[i]);
                }
                k += V::LANES;
            }
            let coefficient: [V; 4] = std::array::from_fn(|i| {
                let t = acc[i].sum();
                V::splat(if RESIDUAL { c[i] * (1.0 - t) } else { c[i] * t })
            });
            let weight: [V; 4] = std::array::from_fn(|i| V::splat(c[i]));
            let mut k = 0;
            while k < d {
                let mut o = V::load(out.add(k));
                if RESIDUAL {
                    let mut g = V::load(diagonal.add(k));
                    for i in 0..4 {
                        let y = V::load(row[i].add(k));
                        o = coefficient[i].mul_add(y, o);
                        g = weight[i].mul_add(y, V::splat(0.0)).mul_add(y, g);
                    }
                    g.store(diagonal.add(k));
                } else {
                    for i in 0..4 {
                        o = coefficient[i].mul_add(V::load(row[i].add(k)), o);
                    }
                }
                o.store(out.add(k));
                k += V::LANES;
            }
            j += 4;
        }
    }
}

#[inline(always)]
unsafe fn solve_rows_body<V: Vector, const TILE: usize>(problem: &Problem, rows: &Rows, x: &mut [f32]) {
    let d = problem.dense.len();
    let columns = problem.factors.len() / d;
    assert_eq!(d % 16, 0);
    assert_eq!(x.len(), d * rows.lambda.len());
    assert_eq!(rows.indptr.len(), rows.lambda.len() + 1);
    let mut scratch = vec![0.0f32; 5 * d];
    let (r, rest) = scratch.split_at_mut(d);
    let (p, rest) = rest.split_at_mut(d);
    let (q, rest) = rest.split_at_mut(d);
    let (z, preconditioner) = rest.split_at_mut(d);

    for (u, x) in x.chunks_exact_mut(d).enumerate() {
        let range = rows.indptr[u] as usize..rows.indptr[u + 1] as usize;
        let (indices, confidences) = (&rows.indices[range.clone()], &rows.confidences[range]);
        if indices.is_empty() {
            x.fill(0.0);
            continue;
        }
        assert!(indices.iter().all(|&i| (i as usize) < columns));
        let lambda = rows.lambda[u];
        let y = problem.factors.as_ptr();

        // Residual at the last sweep's solution, and the diagonal, in one pass over the row.
        r.fill(0.0);
        preconditioner.fill(0.0);
        // SAFETY: the indices were checked above; all vectors are `d` long.
        unsafe {
            let (r, diagonal) = (r.as_mut_ptr(), preconditioner.as_mut_ptr());
            add_terms::<V, true>(y, d, indices, confidences, x.as_ptr(), r, diagonal);
        }
        for k in 0..d {
            let dense = problem.dense[k] + lambda;
            r[k] -= dense * x[k];
            let diagonal = preconditioner[k] + dense;
            preconditioner[k] = if diagonal > f32::MIN_POSITIVE { 1.0 / diagonal } else { 0.0 };
            z[k] = r[k] * preconditioner[k];
            p[k] = z[k];
        }
        // SAFETY: as above.
        let mut rz = unsafe { dot_of::<V>(r.as_ptr(), z.as_ptr(), d) };
        for step in 0..problem.steps {
            for k in 0..d {
                q[k] = (problem.dense[k] + lambda) * p[k];
            }
            // SAFETY: as above.
            let curvature = unsafe {
                add_terms::<V, false>(y, d, indices, confidences, p.as_ptr(), q.as_mut_ptr(), std::ptr::null_mut());
                dot_of::<V>(p.as_ptr(), q.as_ptr(), d)
            };
            // Solved as well as f32 can, or not a number: another step would divide rounding errors by each other.
            if !(rz > NOTHING && curvature > NOTHING) {
                break;
            }
            let length = rz / curvature;
            // SAFETY: as above.
            unsafe {
                axpy_of::<V>(length, p.as_ptr(), x.as_mut_ptr(), d);
                if step + 1 == problem.steps {
                    break;
                }
                axpy_of::<V>(-length, q.as_ptr(), r.as_mut_ptr(), d);
            }
            for k in 0..d {
                z[k] = r[k] * preconditioner[k];
            }
            // SAFETY: as above.
            let next = unsafe { dot_of::<V>(r.as_ptr(), z.as_ptr(), d) };
            if problem.tolerance > 0.0 {
                let energy: f32 =
                    (0..d).filter(|&k| preconditioner[k] > 0.0).map(|k| x[k] * x[k] / preconditioner[k]).sum();
                if next <= problem.tolerance * energy {
                    break;
                }
            }
            let beta = next / rz;
            for k in 0..d {
                p[k] = z[k] + beta * p[k];
            }
            rz = next;
        }
    }
}
dispatch! {
    /// Improves `x` [rows, stride], which holds the rows' last solutions, towards the solution of their normal equations.
    /// Rows without interactions become 0.
    pub fn solve_rows(problem: &Problem, rows: &Rows, x: &mut [f32]) = solve_rows_body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::decompose::cholesky_solve;

    #[test]
    fn conjugate_gradients_converge_to_the_solution_of_cholesky() {
        let (d, columns) = (32, 50);
        let factors: Vec<f32> = (0..columns * d).map(|i| ((i * 7919 % 1009) as f32 - 504.0) / 1500.0).collect();
        let dense: Vec<f32> = (0..d).map(|k| 3.0 / (k + 1) as f32).collect();
        let indptr = [0u64, 1, 1, 4, 41];
        let indices: Vec<u32> = [3].into_iter().chain([1, 2, 49]).chain(5..42).collect();
        let confidences: Vec<f32> = (0..41).map(|i| 1.0 + (i % 3) as f32).collect();
        let lambda = [0.1, 0.1, 0.2, 0.5];
        let mut x = vec![0.01; 4 * d];
        let problem = Problem { factors: &factors, dense: &dense, steps: 100, tolerance: 1e-12 };
        let rows = Rows { indptr: &indptr, indices: &indices, confidences: &confidences, lambda: &lambda };
        solve_rows(&problem, &rows, &mut x);
        for u in 0..4 {
            let mut a = vec![0.0; d * d];
            let mut b = vec![0.0; d];
            (0..d).for_each(|k| a[k * d + k] = f64::from(dense[k] + lambda[u]));
            for j in indptr[u] as usize..indptr[u + 1] as usize {
                let y = &factors[indices[j] as usize * d..][..d];
                for k in 0..d {
                    b[k] += f64::from(confidences[j] * y[k]);
                    (0..d).for_each(|l| a[k * d + l] += f64::from(confidences[j]) * f64::from(y[k]) * f64::from(y[l]));
                }
            }
            assert!(cholesky_solve(&mut a, &mut b));
            for k in 0..d {
                assert!((f64::from(x[u * d + k]) - b[k]).abs() < 1e-4, "row {u}: {} {}", x[u * d + k], b[k]);
            }
        }
    }
}
