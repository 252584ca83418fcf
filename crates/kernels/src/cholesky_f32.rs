//! Cholesky's decomposition in `f32`, for many small systems; [`super::cholesky`] is the one in `f64`.

use ndarray::{ArrayView2, ArrayViewMut2};

use super::dot::{axpy_of, dot_of};
use super::matrix::{flat, flat_mut};
use super::vector::{Vector, dispatch};

/// Rows that are factored before the rest is updated by all of them at once.
const PANEL: usize = 4;

#[inline(always)]
unsafe fn factor_body<V: Vector, const TILE: usize>(a: &mut [f32], d: usize) -> bool {
    assert!(a.len() == d * d && d.is_multiple_of(16));
    let a = a.as_mut_ptr();
    for panel in (0..d).step_by(PANEL) {
        // SAFETY: every row and column named is below `d`, of which `PANEL` and `LANES` are divisors.
        unsafe {
            for i in panel..panel + PANEL {
                let row = a.add(i * d);
                for above in panel..i {
                    axpy_of::<V>(-*a.add(above * d + i), a.add(above * d + i), row.add(i), d - i);
                }
                let pivot = *row.add(i);
                if !(pivot > f32::MIN_POSITIVE && pivot.is_finite()) {
                    return false;
                }
                let scale = 1.0 / pivot.sqrt();
                for j in i..d {
                    *row.add(j) *= scale;
                }
            }
            let source: [*const f32; PANEL] = std::array::from_fn(|r| a.add((panel + r) * d).cast_const());
            for i in panel + PANEL..d {
                let factor: [V; PANEL] = std::array::from_fn(|r| V::splat(-*source[r].add(i)));
                // From a whole register on: what is left of the diagonal is never read.
                let mut j = i - i % V::LANES;
                while j < d {
                    let to = a.add(i * d + j);
                    let mut v = V::load(to);
                    for r in 0..PANEL {
                        v = factor[r].mul_add(V::load(source[r].add(j)), v);
                    }
                    v.store(to);
                    j += V::LANES;
                }
            }
        }
    }
    true
}
dispatch! {
    fn factor_slice(a: &mut [f32], d: usize) -> bool = factor_body
}

/// The upper triangle of a symmetric positive definite `A` [d, d] becomes `U` with `A = UᵀU`; the lower one is neither read
/// nor of use. `d` is a multiple of 16. False when `A` is not positive definite.
pub fn cholesky_factor(a: ArrayViewMut2<f32>) -> bool {
    let d = a.ncols();
    factor_slice(flat_mut(a), d)
}

#[inline(always)]
unsafe fn apply_body<V: Vector, const TILE: usize>(u: &[f32], b: &mut [f32]) {
    let d = b.len();
    assert_eq!(u.len(), d * d);
    let (u, b) = (u.as_ptr(), b.as_mut_ptr());
    // SAFETY: every row and column named is below `d`.
    unsafe {
        for k in 0..d {
            *b.add(k) /= *u.add(k * d + k);
            axpy_of::<V>(-*b.add(k), u.add(k * d + k + 1), b.add(k + 1), d - k - 1);
        }
        for k in (0..d).rev() {
            let known = dot_of::<V>(u.add(k * d + k + 1), b.add(k + 1), d - k - 1);
            *b.add(k) = (*b.add(k) - known) / *u.add(k * d + k);
        }
    }
}
dispatch! {
    fn apply_slice(u: &[f32], b: &mut [f32]) = apply_body
}

/// `b ← A⁻¹ b` for the `A = UᵀU` that [`cholesky_factor`] left in `u`.
pub fn cholesky_apply(u: ArrayView2<f32>, b: &mut [f32]) {
    apply_slice(flat(u), b);
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Array2};

    use super::*;
    use crate::vector::Portable;

    #[test]
    fn what_is_factored_is_solved() {
        for d in [16, 48, 64, 80] {
            let y = Array2::from_shape_fn((3 * d, d), |(r, i)| (((r * d + i) * 71 % 113) as f32 - 56.0) / 64.0);
            let mut a = y.t().dot(&y) + Array2::<f32>::eye(d);
            let x = Array1::from_shape_fn(d, |i| i as f32 / d as f32 - 0.3);
            let mut solution = a.dot(&x).to_vec();
            let mut u = a.clone();
            assert!(cholesky_factor(u.view_mut()));
            cholesky_apply(u.view(), &mut solution);
            // SAFETY: `Portable` needs no particular instructions.
            assert!(unsafe { factor_body::<Portable, 2>(flat_mut(a.view_mut()), d) });
            for i in 0..d {
                assert!((solution[i] - x[i]).abs() < 1e-3, "{d}: {} {}", solution[i], x[i]);
                assert!((i..d).all(|j| (u[[i, j]] - a[[i, j]]).abs() < 1e-3));
            }
        }
    }

    #[test]
    fn what_is_not_positive_definite_is_refused() {
        for bad in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            let mut a = Array2::eye(16);
            a[[9, 9]] = bad;
            assert!(!cholesky_factor(a.view_mut()), "{bad}");
        }
    }
}
