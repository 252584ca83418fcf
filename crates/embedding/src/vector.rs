//! Arithmetic on vectors.

use kernels::cosine::wide_dot;
use kernels::dot::dot;
use kernels::statistics::normalize_f64;
use runtime::error::{Error, Result};

pub use kernels::cosine::cosine;

/// a·b of two vectors of equal length; an error if it is not a finite `f32`.
pub fn dot_product(a: &[f32], b: &[f32]) -> Result<f32> {
    // A sum that was infinite on its way stays so, or is NaN.
    let product = match dot(a, b) {
        product if product.is_finite() => product,
        _ => wide_dot(a, b) as f32,
    };
    if product.is_finite() { Ok(product) } else { Err(Error::OutOfRange("inner product of the vectors")) }
}

/// How [`fuse`] joins vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fusion {
    /// Concatenation; lengths may differ.
    Concatenate,
    /// Elementwise sum; lengths must be equal.
    Add,
}

/// One vector for several modalities: each vector is normalised and multiplied by its weight, they are joined, and the result is normalised.
///
/// With `Concatenate` the inner product of two fused vectors is the mean of the modalities' cosines, weighted by the squares of the weights.
pub fn fuse(vectors: &[&[f32]], weights: &[f32], how: Fusion) -> Result<Vec<f32>> {
    let weighed = vectors.iter().zip(weights).map(|(vector, weight)| {
        let mut part: Vec<f64> = vector.iter().copied().map(f64::from).collect();
        normalize_f64(&mut part);
        part.iter_mut().for_each(|x| *x *= f64::from(*weight));
        part
    });
    let mut fused: Vec<f64> = Vec::new();
    for part in weighed {
        match how {
            Fusion::Add if !fused.is_empty() => {
                if fused.len() != part.len() {
                    return Err(Error::Dimensions { left: fused.len(), right: part.len() });
                }
                fused.iter_mut().zip(part).for_each(|(f, p)| *f += p);
            }
            _ => fused.extend(part),
        }
    }
    normalize_f64(&mut fused);
    Ok(fused.into_iter().map(|x| x as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inner_product_is_right_or_an_error() {
        assert_eq!(dot_product(&[3e38, 3e38, 1.0], &[3e38, -3e38, 2.0]).unwrap(), 2.0);
        assert_eq!(dot_product(&[3e38, 0.0], &[1.0, 3e38]).unwrap(), 3e38);
        assert_eq!(dot_product(&[3e38, 3e38], &[1.0, 1.0]).unwrap_err().sqlstate(), "22003");
    }

    #[test]
    fn weights_of_any_size_fuse() {
        for weight in [1e-45, 3e38] {
            let fused = fuse(&[&[1.0, 0.0], &[1.0, 0.0]], &[weight, weight], Fusion::Add).unwrap();
            assert_eq!(fused, [1.0, 0.0], "{weight}");
        }
    }

    #[test]
    fn fused_vectors_have_unit_length_and_weigh_their_parts() {
        let fused = fuse(&[&[3.0, 0.0], &[0.0, 5.0, 0.0]], &[1.0, 1.0], Fusion::Concatenate).unwrap();
        let half = 0.5f32.sqrt();
        assert!(fused.iter().zip([half, 0.0, 0.0, half, 0.0]).all(|(f, w)| (f - w).abs() < 1e-6));
        let added = fuse(&[&[2.0, 0.0], &[0.0, 2.0]], &[1.0, 0.0], Fusion::Add).unwrap();
        assert_eq!(added, [1.0, 0.0]);
        assert!(matches!(fuse(&[&[1.0], &[1.0, 2.0]], &[1.0, 1.0], Fusion::Add), Err(Error::Dimensions { .. })));
    }
}
