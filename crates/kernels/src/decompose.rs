//! Eigenvectors of small symmetric matrices, such as Gram matrices, in `f64`.

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
    let mut vectors = vec![0.0; d * d];
    for (to, &from) in order.iter().enumerate() {
        // A vector's sign is arbitrary: fixed, so that the model does not depend on the method's choice.
        let vector = &rows[from * d..][..d];
        let sign = if vector.iter().sum::<f64>() < 0.0 { -1.0 } else { 1.0 };
        for row in 0..d {
            vectors[row * d + to] = sign * vector[row];
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
    fn rotations_find_what_reflections_find_and_more() {
        let d = 20;
        let g = gram(d);
        let (vectors, values) = jacobi(&g, d);
        assert!(is_orthonormal(&vectors, d));
        let (a, b) = (sorted(&vectors, &values, d), symmetric_eigen(&g, d).unwrap());
        assert!(a.values.iter().zip(&b.values).all(|(x, y)| (x - y).abs() < 1e-9 * b.values[0]));
        assert!(a.vectors.iter().zip(&b.vectors).all(|(x, y)| (x - y).abs() < 1e-6));
        // Of rank one, with entries that fade out.
        let x: Vec<f64> = (0..d).map(|i| 10f64.powi(-9 * i as i32)).collect();
        let low: Vec<f64> = (0..d * d).map(|i| x[i / d] * x[i % d]).collect();
        let e = symmetric_eigen(&low, d).unwrap();
        assert!((e.values[0] - 1.0).abs() < 1e-12 && e.values[1].abs() < 1e-12);
        assert!(symmetric_eigen(&vec![0.0; d * d], d).is_some());
    }
}
