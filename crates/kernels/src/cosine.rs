//! The cosine of two vectors.

use super::dot::dot;

/// cos(a, b) = a·b / (|a| |b|) of two vectors of equal length, from −1 to 1; 0 if one of them is all zeros.
///
/// The products are summed in `f32` by [`dot`], and divided in `f64`: the product of two squared lengths leaves the range of `f32` long
/// before the vectors do.
pub fn cosine(a: &[f32], b: &[f32]) -> f32 {
    // Squares between these keep their sum in an f32, and what is lost of smaller products cannot be seen.
    const EXACT: std::ops::RangeInclusive<f32> = 1e-30..=f32::MAX;
    let (aa, bb) = (dot(a, a), dot(b, b));
    let (aa, bb, ab) = if EXACT.contains(&aa) && EXACT.contains(&bb) {
        (f64::from(aa), f64::from(bb), f64::from(dot(a, b)))
    } else {
        (wide_dot(a, a), wide_dot(b, b), wide_dot(a, b))
    };
    let length = (aa * bb).sqrt();
    if length > 0.0 { (ab / length).clamp(-1.0, 1.0) as f32 } else { 0.0 }
}

/// a·b in `f64`, so that products of `f32` neither overflow nor underflow.
pub fn wide_dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosine_is_one_for_a_multiple_and_zero_for_zeros() {
        let a: Vec<f32> = (0..384).map(|i| (i as f32 * 0.3).sin()).collect();
        let b: Vec<f32> = a.iter().map(|x| x * 7.0).collect();
        assert!((cosine(&a, &b) - 1.0).abs() < 1e-6);
        assert_eq!(cosine(&a, &vec![0.0; 384]), 0.0);
    }

    #[test]
    fn cosine_holds_at_the_ends_of_the_range() {
        let ends = [1e-45, 1e-38, 1e-20, 1e-10, 1.0, 1e10, 1e19, 1e25, 3e38];
        for left in ends {
            for right in ends {
                assert!((cosine(&[left; 40], &[right; 40]) - 1.0).abs() < 1e-6, "{left} {right}");
                assert!((cosine(&[left; 40], &[-right; 40]) + 1.0).abs() < 1e-6, "{left} {right}");
                assert!((cosine(&[left, left], &[right, 0.0]) - 0.5f32.sqrt()).abs() < 1e-6, "{left} {right}");
            }
        }
    }
}
