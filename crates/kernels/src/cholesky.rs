//! Cholesky's decomposition of small matrices in `f64`; [`super::cholesky_f32`] is the one in `f32`.

use ndarray::{Array2, ArrayView2, ArrayViewMut2};

use super::matrix::{flat, flat_mut};

/// `A = L Lᵀ` of a symmetric positive definite `A` [d, d], of which the lower triangle is read; overwritten by `L`, with zeros
/// above. `None` when `A` is not positive definite.
pub fn factor(a: ArrayViewMut2<f64>) -> Option<()> {
    factor_above(a, 0.0).then_some(())
}

/// [`factor`] for matrices that may be singular: a pivot that is at most the share `least` of its diagonal gives a row and a column of zeros,
/// since its column depends on those before. Returns whether there was no such pivot.
pub fn factor_above(a: ArrayViewMut2<f64>, least: f64) -> bool {
    let d = a.nrows();
    assert!(a.is_square());
    let a = flat_mut(a);
    let mut independent = true;
    // By columns: the sums of a column's entries do not wait for each other.
    for j in 0..d {
        let (own, below) = a[j * d..].split_at_mut(d);
        let diagonal = own[j];
        let pivot = diagonal - own[..j].iter().map(|x| x * x).sum::<f64>();
        if pivot > least * diagonal && pivot.is_finite() {
            own[j] = pivot.sqrt();
        } else {
            independent = false;
            own[..=j].fill(0.0);
        }
        own[j + 1..].fill(0.0);
        let (own, pivot) = (&own[..j], own[j]);
        for row in below.chunks_exact_mut(d) {
            let dot: f64 = row[..j].iter().zip(own).map(|(x, y)| x * y).sum();
            row[j] = if pivot > 0.0 { (row[j] - dot) / pivot } else { 0.0 };
        }
    }
    independent
}

/// Solves `A x = b` for a symmetric positive definite `A` [d, d]; both are overwritten, `a` by its [`factor`], `b` by `x`. `None`, with
/// `b` as it was, when `A` is not positive definite.
pub fn solve(mut a: ArrayViewMut2<f64>, b: &mut [f64]) -> Option<()> {
    factor(a.view_mut())?;
    substitute(a.view(), b);
    Some(())
}

/// Solves `L Lᵀ x = b` given the [`factor`] `L`; `b` is overwritten by `x`.
pub fn substitute(l: ArrayView2<f64>, b: &mut [f64]) {
    let d = b.len();
    assert_eq!(l.dim(), (d, d));
    let l = flat(l);
    for i in 0..d {
        let dot: f64 = l[i * d..i * d + i].iter().zip(&b[..i]).map(|(x, y)| x * y).sum();
        b[i] = (b[i] - dot) / l[i * d + i];
    }
    for i in (0..d).rev() {
        let dot: f64 = (i + 1..d).map(|j| l[j * d + i] * b[j]).sum();
        b[i] = (b[i] - dot) / l[i * d + i];
    }
}

/// `L⁻¹` of a lower triangular `L` [d, d]; a row and column of zeros stays one.
pub fn inverse_of_factor(l: ArrayView2<f64>) -> Array2<f64> {
    let d = l.nrows();
    let l = flat(l);
    let mut result = Array2::zeros((d, d));
    let inverse = flat_mut(result.view_mut());
    for i in 0..d {
        let (above, rest) = inverse.split_at_mut(i * d);
        let row = &mut rest[..d];
        let pivot = l[i * d + i];
        if pivot <= 0.0 {
            continue;
        }
        for (k, other) in above.chunks_exact(d).enumerate() {
            let x = l[i * d + k];
            if x != 0.0 {
                row[..=k].iter_mut().zip(other).for_each(|(out, &y)| *out -= x * y);
            }
        }
        row[i] = 1.0;
        row[..=i].iter_mut().for_each(|x| *x /= pivot);
    }
    result
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    /// `X Xᵀ + e I` of a matrix [d, k].
    fn gram(d: usize, k: usize, e: f64) -> Array2<f64> {
        let x = Array2::from_shape_fn((d, k), |(i, c)| (((i * k + c) * 71 % 113) as f64 - 56.0) / 31.0);
        x.dot(&x.t()) + Array2::<f64>::eye(d) * e
    }

    #[test]
    fn the_factor_rebuilds_the_matrix_and_its_inverse_is_one() {
        for d in [1, 2, 7, 40] {
            let a = gram(d, d, 0.5);
            let mut l = a.clone();
            factor(l.view_mut()).unwrap();
            let inverse = inverse_of_factor(l.view());
            assert!((l.dot(&l.t()) - &a).iter().all(|x| x.abs() < 1e-9));
            assert!((inverse.dot(&l) - Array2::<f64>::eye(d)).iter().all(|x| x.abs() < 1e-9));
        }
    }

    #[test]
    fn what_is_solved_gives_the_right_side_back() {
        for d in [1, 2, 7, 33] {
            let a = gram(d, 3 * d, 0.1);
            let mut x: Vec<f64> = (0..d).map(|i| i as f64 - 3.0).collect();
            let b = x.clone();
            solve(a.clone().view_mut(), &mut x).unwrap();
            for (row, b) in a.rows().into_iter().zip(b) {
                let ax: f64 = row.iter().zip(&x).map(|(a, x)| a * x).sum();
                assert!((ax - b).abs() < 1e-6);
            }
        }
        assert!(solve(array![[-1.0]].view_mut(), &mut [1.0]).is_none());
        assert!(solve(array![[f64::NAN]].view_mut(), &mut [1.0]).is_none());
    }

    #[test]
    fn what_is_not_definite_is_refused_and_dependent_columns_are_left_out() {
        assert!(factor(array![[-1.0]].view_mut()).is_none() && factor(array![[f64::NAN]].view_mut()).is_none());
        let mut l = gram(6, 2, 0.0);
        assert!(!factor_above(l.view_mut(), 1e-9));
        assert_eq!((0..6).filter(|&i| l[[i, i]] > 0.0).count(), 2);
        assert!(inverse_of_factor(l.view()).iter().all(|x| x.is_finite()));
    }
}
