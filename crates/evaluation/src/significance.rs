//! The paired two-sided t-test: the probability of a mean difference this far from 0 if there is none.
//!
//! For comparing rankings on the same queries it agrees with the randomisation test and the bootstrap
//! (Smucker, Allan, Carterette, "A comparison of statistical significance tests for information retrieval evaluation", CIKM
//! 2007), and it is deterministic.

/// The p-value of `differences`, one per user; `None` for fewer than two. 1 if all are 0.
pub fn paired_t_test(differences: &[f64]) -> Option<f64> {
    let n = differences.len() as f64;
    if differences.len() < 2 {
        return None;
    }
    let mean = differences.iter().sum::<f64>() / n;
    let variance = differences.iter().map(|d| (d - mean) * (d - mean)).sum::<f64>() / (n - 1.0);
    if variance == 0.0 {
        return Some(if mean == 0.0 { 1.0 } else { 0.0 });
    }
    let t_squared = mean * mean * n / variance;
    let freedom = n - 1.0;
    // Abramowitz, Stegun 26.5.27: both tails of Student's distribution.
    Some(incomplete_beta(freedom / (freedom + t_squared), freedom / 2.0, 0.5))
}

/// The confidence interval of the mean of `differences`: mean ± t · deviation / √n (Student 1908).
/// `None` for fewer than two.
pub fn mean_interval(differences: &[f64], confidence: f64) -> Option<(f64, f64)> {
    let n = differences.len() as f64;
    if differences.len() < 2 {
        return None;
    }
    let mean = differences.iter().sum::<f64>() / n;
    let variance = differences.iter().map(|d| (d - mean) * (d - mean)).sum::<f64>() / (n - 1.0);
    let freedom = n - 1.0;
    let tails = |t: f64| incomplete_beta(freedom / (freedom + t * t), freedom / 2.0, 0.5);
    // Both tails shrink as t grows: halved until no digit changes.
    let (mut low, mut high) = (0.0, 1.0);
    while tails(high) > 1.0 - confidence && high < 1e9 {
        high *= 2.0;
    }
    for _ in 0..100 {
        let middle = (low + high) / 2.0;
        if tails(middle) > 1.0 - confidence { low = middle } else { high = middle }
    }
    let half = high * (variance / n).sqrt();
    Some((mean - half, mean + half))
}

/// The regularised incomplete beta function `I_x(a, b)` by its continued fraction (DLMF 8.17.22), evaluated by Lentz's method.
fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    // The fraction converges fast below this; above it the complement's does (DLMF 8.17.4).
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(1.0 - x, b, a);
    }
    const TINY: f64 = 1e-300;
    let away_from_zero = |v: f64| if v.abs() < TINY { TINY } else { v };
    let (mut c, mut d) = (1.0, 1.0 / away_from_zero(1.0 - (a + b) * x / (a + 1.0)));
    let mut fraction = d;
    for m in 1..10_000 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let mut step = 1.0;
        for coefficient in [even, odd] {
            d = 1.0 / away_from_zero(1.0 + coefficient * d);
            c = away_from_zero(1.0 + coefficient / c);
            step = c * d;
            fraction *= step;
        }
        if (step - 1.0).abs() < 1e-15 {
            break;
        }
    }
    let log = a * x.ln() + b * (-x).ln_1p() + ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b);
    log.exp() * fraction / a
}

/// `ln Γ(x)` for `x > 0`: Stirling's series (DLMF 5.11.1) from 12 on, where five terms leave 1e-15.
fn ln_gamma(x: f64) -> f64 {
    let (mut x, mut shift) = (x, 0.0);
    while x < 12.0 {
        shift += x.ln();
        x += 1.0;
    }
    let square = 1.0 / (x * x);
    let series =
        1.0 / 12.0 - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square * (1.0 / 1680.0 - square / 1188.0)));
    (x - 0.5) * x.ln() - x + 0.5 * (2.0 * std::f64::consts::PI).ln() + series / x - shift
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        // The logarithms of the gamma function are some thousands, and their difference is not.
        assert!((a - b).abs() <= 1e-11 * b.abs().max(1e-3), "{a} {b}");
    }

    #[test]
    fn ln_gamma_is_that_of_factorials_and_of_one_half() {
        close(ln_gamma(5.0), 24f64.ln());
        close(ln_gamma(0.5), std::f64::consts::PI.sqrt().ln());
        close(ln_gamma(101.0), (1..=100).map(|n| f64::from(n).ln()).sum());
    }

    #[test]
    fn the_incomplete_beta_function_has_its_closed_forms() {
        for x in [0.0, 0.01, 0.3, 0.5, 0.9, 1.0] {
            close(incomplete_beta(x, 1.0, 1.0), x);
            close(incomplete_beta(x, 3.0, 1.0), x.powi(3));
            close(incomplete_beta(x, 1.0, 0.5), 1.0 - (1.0 - x).sqrt());
        }
    }

    #[test]
    fn p_values_are_those_of_scipy() {
        // scipy.stats.ttest_1samp(differences, 0).pvalue, scipy 1.17
        close(paired_t_test(&[0.1, 0.3, -0.2, 0.5, 0.0, 0.25]).unwrap(), 0.175_425_995_287_222_8);
        let many: Vec<f64> = (0..1000).map(|n| f64::from(n % 7) - 2.9).collect();
        close(paired_t_test(&many).unwrap(), 0.125_371_281_885_929_41);
        // One degree of freedom: 1 − 2/π · atan(|t|), t = 3.
        close(paired_t_test(&[1.0, 2.0]).unwrap(), 1.0 - 2.0 / std::f64::consts::PI * 3f64.atan());
    }

    #[test]
    fn intervals_are_those_of_the_tables() {
        // t of 4 degrees of freedom for 95 % is 2.776, of 1 for 90 % is 6.314.
        let (low, high) = mean_interval(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.95).unwrap();
        assert!((high - low - 2.0 * 2.776_445 * (0.5f64).sqrt()).abs() < 1e-5 && (low + high - 6.0).abs() < 1e-12);
        let (low, high) = mean_interval(&[0.0, 2.0], 0.9).unwrap();
        assert!((high - low - 2.0 * 6.313_752).abs() < 1e-5);
        assert_eq!(mean_interval(&[1.0], 0.95), None);
        assert_eq!(mean_interval(&[2.0, 2.0], 0.95), Some((2.0, 2.0)));
    }

    #[test]
    fn without_any_difference_nothing_is_shown() {
        assert_eq!(paired_t_test(&[0.0; 5]), Some(1.0));
        assert_eq!(paired_t_test(&[0.5; 4]), Some(0.0));
        assert_eq!((paired_t_test(&[1.0]), paired_t_test(&[])), (None, None));
    }
}
