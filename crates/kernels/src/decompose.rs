//! Eigenvectors of small symmetric matrices, such as Gram matrices, in `f64`.

use ndarray::{Array2, ArrayView2};

use super::matrix::flat;
use nalgebra::{DMatrix, SymmetricEigen};

/// Eigenvectors and eigenvalues of a symmetric matrix [d, d].
pub struct Eigen {
    /// [d, d]; column `j` is the vector of `values[j]`.
    pub vectors: Array2<f64>,
    /// Descending.
    pub values: Vec<f64>,
}

/// `A = Q Λ Qᵀ` of a symmetric `A` [d, d], eigenvalues descending; `None` when `A` is not finite.
pub fn symmetric_eigen(a: ArrayView2<f64>) -> Option<Eigen> {
    let d = a.nrows();
    assert!(a.is_square());
    let a = flat(a);
    if a.iter().any(|x| !x.is_finite()) {
        return None;
    }
    let eigen = SymmetricEigen::try_new(DMatrix::from_row_slice(d, d, a), f64::EPSILON, 0)?;
    // Stored by columns: as a flat slice, the vectors one after the other.
    let (vectors, values) = (eigen.eigenvectors.as_slice(), eigen.eigenvalues.as_slice());
    if is_orthonormal(vectors, d) {
        return Some(sorted(vectors, values, d));
    }
    // Householder's reflections square what is left of a matrix of low rank until it underflows; rotations do not.
    let (vectors, values) = jacobi(a, d);
    is_orthonormal(&vectors, d).then(|| sorted(&vectors, &values, d))
}

/// Whether the rows of `vectors` are orthonormal; false when they are not finite.
fn is_orthonormal(vectors: &[f64], d: usize) -> bool {
    vectors.chunks_exact(d).enumerate().all(|(i, a)| {
        vectors.chunks_exact(d).enumerate().skip(i).all(|(j, b)| {
            let dot: f64 = a.iter().zip(b).map(|(x, y)| x * y).sum();
            (dot - f64::from(u8::from(i == j))).abs() < 1e-9
        })
    })
}

/// From eigenvectors as rows, in any order, to [`Eigen`].
fn sorted(rows: &[f64], values: &[f64], d: usize) -> Eigen {
    let mut order: Vec<usize> = (0..d).collect();
    order.sort_by(|&i, &j| values[j].total_cmp(&values[i]));
    let mut vectors = Array2::zeros((d, d));
    for (to, &from) in order.iter().enumerate() {
        // A vector's sign is arbitrary: fixed, so that the model does not depend on the method's choice.
        let vector = &rows[from * d..][..d];
        let sign = if vector.iter().sum::<f64>() < 0.0 { -1.0 } else { 1.0 };
        for row in 0..d {
            vectors[[row, to]] = sign * vector[row];
        }
    }
    Eigen { vectors, values: order.iter().map(|&i| values[i]).collect() }
}

/// Cyclic Jacobi rotations (Golub, Van Loan, §8.5): slower, and sound for every symmetric matrix. Eigenvectors as rows.
fn jacobi(a: &[f64], d: usize) -> (Vec<f64>, Vec<f64>) {
    let mut a = a.to_vec();
    let mut vectors = vec![0.0; d * d];
    (0..d).for_each(|i| vectors[i * d + i] = 1.0);
    let negligible = a.iter().fold(0.0f64, |most, x| most.max(x.abs())) * 1e-17;
    for _sweep in 0..64 {
        let mut rotated = false;
        for p in 0..d {
            for q in p + 1..d {
                let off = a[p * d + q];
                if off.abs() <= negligible {
                    continue;
                }
                rotated = true;
                let theta = (a[q * d + q] - a[p * d + p]) / (2.0 * off);
                let t = theta.signum() / (theta.abs() + theta.hypot(1.0));
                let c = 1.0 / t.hypot(1.0);
                let s = t * c;
                for k in 0..d {
                    let (x, y) = (a[k * d + p], a[k * d + q]);
                    (a[k * d + p], a[k * d + q]) = (c * x - s * y, s * x + c * y);
                }
                for m in [&mut a, &mut vectors] {
                    for k in 0..d {
                        let (x, y) = (m[p * d + k], m[q * d + k]);
                        (m[p * d + k], m[q * d + k]) = (c * x - s * y, s * x + c * y);
                    }
                }
            }
        }
        if !rotated {
            break;
        }
    }
    let values = (0..d).map(|i| a[i * d + i]).collect();
    (vectors, values)
}

#[cfg(test)]
mod tests {
    use ndarray::{ArrayView1, array};

    use super::*;

    fn gram(d: usize) -> Array2<f64> {
        let y = Array2::from_shape_fn((3 * d, d), |(r, i)| (((r * d + i) * 71 % 113) as f64 - 56.0) / 31.0);
        y.t().dot(&y) + Array2::<f64>::eye(d) * 0.1
    }

    #[test]
    fn eigenvectors_rebuild_the_matrix() {
        for d in [1, 2, 7, 33] {
            let g = gram(d);
            let e = symmetric_eigen(g.view()).unwrap();
            assert!(e.values.windows(2).all(|w| w[0] >= w[1]));
            let rebuilt = (&e.vectors * &ArrayView1::from(&e.values)).dot(&e.vectors.t());
            assert!((rebuilt - g).iter().all(|x| x.abs() < 1e-8 * e.values[0]));
        }
        assert!(symmetric_eigen(array![[f64::NAN]].view()).is_none());
    }

    #[test]
    fn rotations_find_what_reflections_find_and_more() {
        let d = 20;
        let g = gram(d);
        let (vectors, values) = jacobi(flat(g.view()), d);
        assert!(is_orthonormal(&vectors, d));
        let (a, b) = (sorted(&vectors, &values, d), symmetric_eigen(g.view()).unwrap());
        assert!(a.values.iter().zip(&b.values).all(|(x, y)| (x - y).abs() < 1e-9 * b.values[0]));
        assert!(a.vectors.iter().zip(&b.vectors).all(|(x, y)| (x - y).abs() < 1e-6));
        // Of rank one, with entries that fade out.
        let x: Vec<f64> = (0..d).map(|i| 10f64.powi(-9 * i as i32)).collect();
        let low = Array2::from_shape_fn((d, d), |(i, j)| x[i] * x[j]);
        let e = symmetric_eigen(low.view()).unwrap();
        assert!((e.values[0] - 1.0).abs() < 1e-12 && e.values[1].abs() < 1e-12);
        assert!(symmetric_eigen(Array2::zeros((d, d)).view()).is_some());
    }
}
