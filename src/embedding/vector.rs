//! Arithmetic on vectors.

use crate::error::{Error, Result};
use crate::linalg::kernels::dot;

/// cos(a, b) = a·b / (|a| |b|) of two vectors of one length; 0 where one of them is all zeros.
pub fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let length = (f64::from(dot(a, a)) * f64::from(dot(b, b))).sqrt();
    if length > 0.0 { (f64::from(dot(a, b)) / length).clamp(-1.0, 1.0) as f32 } else { 0.0 }
}

/// Divides by the length; a vector of zeros stays one.
pub fn normalize(vector: &mut [f32]) {
    let length = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
    if length > 0.0 && length.is_finite() {
        vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
    }
}

/// How [`fuse`] joins vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fusion {
    /// End to end: lengths may differ, and add up.
    Concatenate,
    /// Element by element: all lengths must be equal.
    Add,
}

/// One vector for several modalities: each normalised and weighed, joined, and the whole normalised.
///
/// With `Concatenate` the inner product of two fused vectors is the mean of the modalities' cosines, weighed by the
/// squares of the weights.
pub fn fuse(vectors: &[&[f32]], weights: &[f32], how: Fusion) -> Result<Vec<f32>> {
    let weighed = vectors.iter().zip(weights).map(|(vector, weight)| {
        let mut part = vector.to_vec();
        normalize(&mut part);
        part.iter_mut().for_each(|x| *x *= weight);
        part
    });
    let mut fused: Vec<f32> = Vec::new();
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
    normalize(&mut fused);
    Ok(fused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(n: usize, step: f32) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * step).sin()).collect()
    }

    #[test]
    fn cosine_is_one_for_a_multiple_and_zero_for_zeros() {
        let a = ramp(384, 0.3);
        let b: Vec<f32> = a.iter().map(|x| x * 7.0).collect();
        assert!((cosine(&a, &b) - 1.0).abs() < 1e-6);
        assert_eq!(cosine(&a, &vec![0.0; 384]), 0.0);
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
