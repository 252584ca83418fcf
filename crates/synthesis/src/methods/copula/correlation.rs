//! Correlations of the normal variables behind the fields, from those of their scores.
//!
//! Scores of fields with few values attenuate correlations: those of two binary halves that always coincide correlate
//! by only 2/π. With aₖ, bₖ the coefficients of two fields' scores in the normalized Hermite polynomials, a correlation
//! ρ gives scores of covariance Σₖ ρᵏ aₖ bₖ (Mehler's formula), which increases with ρ. It is solved for the measured
//! covariance, as polychoric correlations (Olsson 1979) are for the table of counts.

use ndarray::{Array2, ArrayView2};

use kernels::cholesky;
use kernels::decompose::symmetric_eigen;
use kernels::matrix::flat;
use runtime::error::{Error, Result};
use runtime::progress::Progress;

/// Maximum absolute correlation of two fields.
const MAX_CORRELATION: f64 = 0.999;
/// Minimum eigenvalue, as a share of the mean.
const MIN_EIGENVALUE: f64 = 1e-4;
/// Maximum number of fields for an eigendecomposition, whose time is cubic.
const DECOMPOSED: usize = 256;

/// Solves for the correlation at which scores with these coefficients have this covariance.
pub fn solve(a: &[f64], b: &[f64], covariance: f64) -> f64 {
    if a[0] * b[0] <= 0.0 {
        return 0.0;
    }
    let at = |rho: f64| a.iter().zip(b).rev().fold(0.0, |sum, (a, b)| (sum + a * b) * rho);
    let (mut low, mut high) = (-MAX_CORRELATION, MAX_CORRELATION);
    for _ in 0..40 {
        let middle = 0.5 * (low + high);
        if at(middle) < covariance { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// `L` [d, d] with `L Lᵀ` a correlation matrix near `r` [d, d], whose pairs were estimated separately. If it is not
/// positive definite, its low eigenvalues are raised and the diagonal is rescaled to 1 (Rousseeuw, Molenberghs 1993);
/// with more than 256 fields all correlations are shrunk as far as necessary.
pub fn factor(r: ArrayView2<f64>, progress: &dyn Progress) -> Result<Array2<f64>> {
    let d = r.nrows();
    let mut near = r.to_owned();
    if d <= DECOMPOSED && !is_definite(r) {
        let eigen = symmetric_eigen(r).ok_or_else(|| Error::Internal("correlations are not finite".into()))?;
        let vectors = flat(eigen.vectors.view());
        let values: Vec<f64> = eigen.values.iter().map(|x| x.max(MIN_EIGENVALUE)).collect();
        for ((i, j), near) in near.indexed_iter_mut() {
            let (a, b) = (&vectors[i * d..][..d], &vectors[j * d..][..d]);
            *near = a.iter().zip(b).zip(&values).map(|((a, b), x)| a * b * x).sum();
        }
        let scale: Vec<f64> = near.diag().iter().map(|x| 1.0 / x.sqrt()).collect();
        near.indexed_iter_mut().for_each(|((i, j), near)| *near *= scale[i] * scale[j]);
    }
    let mut kept = 1.0;
    loop {
        progress.check()?;
        let mut l = near.mapv(|x| kept * x);
        l.diag_mut().fill(1.0);
        if cholesky::factor_above(l.view_mut(), 1e-9) {
            return Ok(l);
        }
        kept *= 0.93;
    }
}

fn is_definite(r: ArrayView2<f64>) -> bool {
    cholesky::factor_above(r.to_owned().view_mut(), MIN_EIGENVALUE)
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::super::margin::Margin;
    use super::*;
    use runtime::draw;
    use runtime::progress::Unwatched;

    #[test]
    fn the_correlation_behind_two_fields_of_few_values_is_found() {
        // Halves: sin(π/2 · covariance / (2/π)) is the correlation (Sheppard).
        let half = Margin::of_categories(&[50, 50], 0, &[0, 1]);
        for rho in [-0.8f64, -0.3, 0.0, 0.5, 0.9] {
            let covariance = rho.asin() * (2.0 / std::f64::consts::PI).powi(2);
            let found = solve(&half.coefficients, &half.coefficients, covariance);
            assert!((found - rho).abs() < 2e-3, "{rho} {found}");
        }
        let (few, n) = (Margin::of_categories(&[10, 70, 20], 0, &[2, 0, 1]), 200_000);
        let (mut sum, rho) = (0.0, 0.6f64);
        let score = |margin: &Margin, z: f64| margin.scores[margin.starts.partition_point(|&s| s <= z) - 1];
        for i in 0..n {
            let (x, e) = (f64::from(draw::normal(1, i)), f64::from(draw::normal(2, i)));
            sum += score(&half, x) * score(&few, rho * x + (1.0 - rho * rho).sqrt() * e);
        }
        let found = solve(&half.coefficients, &few.coefficients, sum / n as f64);
        assert!((found - rho).abs() < 0.01, "{found}");
        let constant = Margin::of_categories(&[5], 0, &[0]);
        assert_eq!(solve(&constant.coefficients, &half.coefficients, 0.0), 0.0);
    }

    #[test]
    fn what_is_definite_is_kept_and_what_is_not_comes_near() {
        let product = |l: Array2<f64>| l.dot(&l.t());
        let r = array![[1.0, 0.5, 0.2], [0.5, 1.0, -0.3], [0.2, -0.3, 1.0]];
        let same = product(factor(r.view(), &Unwatched).unwrap());
        assert!(same.iter().zip(&r).all(|(a, b)| (a - b).abs() < 1e-12));
        // Two that go with the third, and against each other.
        let r = array![[1.0, -0.9, 0.9], [-0.9, 1.0, 0.9], [0.9, 0.9, 1.0]];
        let near = product(factor(r.view(), &Unwatched).unwrap());
        assert!(near.diag().iter().all(|x| (x - 1.0).abs() < 1e-12));
        assert!(near.iter().zip(&r).all(|(a, b)| (a - b).abs() < 0.45 && a * b > 0.0), "{near:?}");
    }
}
