//! Arithmetic on vectors.

use crate::error::{Error, Result};

/// Number of partial sums: wide enough for the widest SIMD registers, and a fixed order of addition on every machine.
const LANES: usize = 16;

/// Σ aᵢ bᵢ of two vectors of one length.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    sum_products(a, b).0
}

/// cos(a, b) = a·b / (|a| |b|); 0 where one of them is all zeros.
pub fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let (ab, aa, bb) = sum_products(a, b);
    let length = (f64::from(aa) * f64::from(bb)).sqrt();
    if length > 0.0 { (f64::from(ab) / length).clamp(-1.0, 1.0) as f32 } else { 0.0 }
}

/// (a·b, a·a, b·b) in one pass.
fn sum_products(a: &[f32], b: &[f32]) -> (f32, f32, f32) {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has AVX-512F.
            return unsafe { sum_products_avx512(a, b) };
        }
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
            // SAFETY: the processor has AVX2 and FMA.
            return unsafe { sum_products_avx2(a, b) };
        }
    }
    sum_products_portable(a, b)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn sum_products_avx512(a: &[f32], b: &[f32]) -> (f32, f32, f32) {
    sum_products_portable(a, b)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn sum_products_avx2(a: &[f32], b: &[f32]) -> (f32, f32, f32) {
    sum_products_portable(a, b)
}

/// Compiled once for each instruction set above: the compiler turns the lanes into registers.
#[inline(always)]
fn sum_products_portable(a: &[f32], b: &[f32]) -> (f32, f32, f32) {
    let (mut ab, mut aa, mut bb) = ([0.0f32; LANES], [0.0f32; LANES], [0.0f32; LANES]);
    let (chunks_a, tail_a) = a.as_chunks::<LANES>();
    let (chunks_b, tail_b) = b.as_chunks::<LANES>();
    for (x, y) in chunks_a.iter().zip(chunks_b) {
        for i in 0..LANES {
            ab[i] += x[i] * y[i];
            aa[i] += x[i] * x[i];
            bb[i] += y[i] * y[i];
        }
    }
    for (i, (x, y)) in tail_a.iter().zip(tail_b).enumerate() {
        ab[i] += x * y;
        aa[i] += x * x;
        bb[i] += y * y;
    }
    (ab.iter().sum(), aa.iter().sum(), bb.iter().sum())
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
    fn every_instruction_set_gives_the_plain_sums() {
        for n in [0, 1, 15, 16, 17, 384, 1000] {
            let (a, b) = (ramp(n, 0.3), ramp(n, 0.7));
            let plain: f64 = a.iter().zip(&b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
            for got in [sum_products(&a, &b).0, sum_products_portable(&a, &b).0] {
                assert!((f64::from(got) - plain).abs() < 1e-3, "{n}");
            }
        }
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
