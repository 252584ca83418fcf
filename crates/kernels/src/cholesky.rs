//! Cholesky factors of small matrices in `f64`, by rows.

/// `A = L Lᵀ` of a symmetric positive definite `A` [d, d], of which the lower triangle is read; overwritten by `L`, with zeros
/// above. `None` when `A` is not positive definite.
pub fn factor(a: &mut [f64], d: usize) -> Option<()> {
    factor_above(a, d, 0.0).then_some(())
}

/// [`factor`] for matrices that may be singular: a pivot that is at most the share `least` of its diagonal gives a row and a column of zeros,
/// since its column depends on those before. Returns whether there was no such pivot.
pub fn factor_above(a: &mut [f64], d: usize, least: f64) -> bool {
    let mut independent = true;
    for i in 0..d {
        let (above, rest) = a.split_at_mut(i * d);
        let row = &mut rest[..d];
        let diagonal = row[i];
        for (j, other) in above.chunks_exact(d).enumerate() {
            let dot: f64 = row[..j].iter().zip(&other[..j]).map(|(x, y)| x * y).sum();
            row[j] = if other[j] > 0.0 { (row[j] - dot) / other[j] } else { 0.0 };
        }
        let pivot = diagonal - row[..i].iter().map(|x| x * x).sum::<f64>();
        if pivot > least * diagonal && pivot.is_finite() {
            row[i] = pivot.sqrt();
        } else {
            independent = false;
            row[..=i].fill(0.0);
        }
        row[i + 1..].fill(0.0);
    }
    independent
}

/// `L⁻¹` of a lower triangular `L` [d, d]; a row and column of zeros stays one.
pub fn inverse_of_factor(l: &[f64], d: usize) -> Vec<f64> {
    let mut inverse = vec![0f64; d * d];
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
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `X Xᵀ + e I` of a matrix [d, k].
    fn gram(d: usize, k: usize, e: f64) -> Vec<f64> {
        let x: Vec<f64> = (0..d * k).map(|i| ((i * 71 % 113) as f64 - 56.0) / 31.0).collect();
        let dot = |i: usize, j: usize| (0..k).map(|c| x[i * k + c] * x[j * k + c]).sum::<f64>();
        (0..d * d).map(|at| dot(at / d, at % d) + if at / d == at % d { e } else { 0.0 }).collect()
    }

    #[test]
    fn the_factor_rebuilds_the_matrix_and_its_inverse_is_one() {
        for d in [1, 2, 7, 40] {
            let a = gram(d, d, 0.5);
            let mut l = a.clone();
            factor(&mut l, d).unwrap();
            let inverse = inverse_of_factor(&l, d);
            for i in 0..d {
                for j in 0..d {
                    let rebuilt: f64 = (0..d).map(|k| l[i * d + k] * l[j * d + k]).sum();
                    assert!((rebuilt - a[i * d + j]).abs() < 1e-9);
                    let one: f64 = (0..d).map(|k| inverse[i * d + k] * l[k * d + j]).sum();
                    assert!((one - f64::from(u8::from(i == j))).abs() < 1e-9);
                }
            }
        }
    }

    #[test]
    fn what_is_not_definite_is_refused_and_dependent_columns_are_left_out() {
        assert!(factor(&mut [-1.0], 1).is_none() && factor(&mut [f64::NAN], 1).is_none());
        let mut l = gram(6, 2, 0.0);
        assert!(!factor_above(&mut l, 6, 1e-9));
        assert_eq!((0..6).filter(|&i| l[i * 6 + i] > 0.0).count(), 2);
        assert!(inverse_of_factor(&l, 6).iter().all(|x| x.is_finite()));
    }
}
