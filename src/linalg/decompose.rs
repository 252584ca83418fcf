//! Small symmetric decompositions in `f64`: of Gram matrices and of one row's normal equations.

use nalgebra::{DMatrix, SymmetricEigen};

/// Eigenvectors and eigenvalues of a symmetric matrix [d, d].
pub struct Eigen {
    /// [d, d]; column `j` is the vector of `values[j]`.
    pub vectors: Vec<f64>,
    /// Descending.
    pub values: Vec<f64>,
}

/// `A = Q Λ Qᵀ` of a symmetric `A` [d, d], eigenvalues descending; `None` when `A` is not finite.
pub fn symmetric_eigen(a: &[f64], d: usize) -> Option<Eigen> {
    if a.iter().any(|x| !x.is_finite()) {
        return None;
    }
    let eigen = SymmetricEigen::try_new(DMatrix::from_row_slice(d, d, a), f64::EPSILON, 0)?;
    let mut order: Vec<usize> = (0..d).collect();
    order.sort_by(|&i, &j| eigen.eigenvalues[j].total_cmp(&eigen.eigenvalues[i]));
    let mut vectors = vec![0.0; d * d];
    for (to, &from) in order.iter().enumerate() {
        // A vector's sign is arbitrary: fixed, so that the model does not depend on the library's choice.
        let column = eigen.eigenvectors.column(from);
        let sign = if column.sum() < 0.0 { -1.0 } else { 1.0 };
        for row in 0..d {
            vectors[row * d + to] = sign * column[row];
        }
    }
    Some(Eigen { vectors, values: order.iter().map(|&i| eigen.eigenvalues[i]).collect() })
}

/// Solves `A x = b` for a symmetric positive definite `A` [d, d] by Cholesky; both are overwritten, `b` by `x`.
/// Returns false when `A` is not positive definite.
pub fn cholesky_solve(a: &mut [f64], b: &mut [f64]) -> bool {
    let d = b.len();
    debug_assert_eq!(a.len(), d * d);
    for j in 0..d {
        for i in j..d {
            let (upper, lower) = a.split_at(i * d);
            let left = if i == j { &lower[..j] } else { &upper[j * d..j * d + j] };
            let dot: f64 = lower[..j].iter().zip(left).map(|(x, y)| x * y).sum();
            let value = lower[j] - dot;
            if i == j {
                if !(value > 0.0 && value.is_finite()) {
                    return false;
                }
                a[i * d + j] = value.sqrt();
            } else {
                a[i * d + j] = value / a[j * d + j];
            }
        }
    }
    for i in 0..d {
        let dot: f64 = a[i * d..i * d + i].iter().zip(&b[..i]).map(|(x, y)| x * y).sum();
        b[i] = (b[i] - dot) / a[i * d + i];
    }
    for i in (0..d).rev() {
        let dot: f64 = (i + 1..d).map(|j| a[j * d + i] * b[j]).sum();
        b[i] = (b[i] - dot) / a[i * d + i];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gram(d: usize) -> Vec<f64> {
        let y: Vec<f64> = (0..3 * d * d).map(|i| ((i * 71 % 113) as f64 - 56.0) / 31.0).collect();
        let mut g = vec![0.0; d * d];
        for row in y.chunks(d) {
            for i in 0..d {
                for j in 0..d {
                    g[i * d + j] += row[i] * row[j];
                }
            }
        }
        (0..d).for_each(|i| g[i * d + i] += 0.1);
        g
    }

    #[test]
    fn eigenvectors_rebuild_the_matrix() {
        for d in [1, 2, 7, 33] {
            let g = gram(d);
            let e = symmetric_eigen(&g, d).unwrap();
            assert!(e.values.windows(2).all(|w| w[0] >= w[1]));
            for i in 0..d {
                for j in 0..d {
                    let x: f64 = (0..d).map(|k| e.vectors[i * d + k] * e.values[k] * e.vectors[j * d + k]).sum();
                    assert!((x - g[i * d + j]).abs() < 1e-8 * e.values[0]);
                }
            }
        }
        assert!(symmetric_eigen(&[f64::NAN], 1).is_none());
    }

    #[test]
    fn cholesky_solves_and_refuses_what_is_not_positive_definite() {
        for d in [1, 2, 7, 33] {
            let g = gram(d);
            let mut x: Vec<f64> = (0..d).map(|i| i as f64 - 3.0).collect();
            let b = x.clone();
            assert!(cholesky_solve(&mut g.clone(), &mut x));
            for i in 0..d {
                let ax: f64 = (0..d).map(|j| g[i * d + j] * x[j]).sum();
                assert!((ax - b[i]).abs() < 1e-6);
            }
        }
        assert!(!cholesky_solve(&mut [-1.0], &mut [1.0]));
        assert!(!cholesky_solve(&mut [f64::NAN], &mut [1.0]));
    }
}
