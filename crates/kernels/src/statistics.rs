//! Means, quantiles, softmaxes and lengths, each with the precision and the ends that its users need.

/// The mean; `None` without values.
pub fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (sum, n) = values.into_iter().fold((0.0, 0.0), |(sum, n), x| (sum + x, n + 1.0));
    (n > 0.0).then_some(sum / n)
}

/// The quantile at `share` (0 to 1) of ascending values: linear interpolation `a + (b − a) t` between the nearest two, as in numpy. Where the
/// upper one is infinite, the lower one. `None` without values.
pub fn quantile(ascending: &[f64], share: f64) -> Option<f64> {
    let place = share * ascending.len().checked_sub(1)? as f64;
    let (a, b) = (ascending[place.floor() as usize], ascending[place.ceil() as usize]);
    Some(if a < b && b.is_finite() { a + (b - a) * place.fract() } else { a })
}

/// The same of `n` values by their place, as `a (1 − t) + b t`: of values whose difference is beyond `f64`, and of infinite ones.
pub fn quantile_by_shares(n: usize, at: impl Fn(usize) -> f64, share: f64) -> Option<f64> {
    let place = share * n.checked_sub(1)? as f64;
    let (a, b, t) = (at(place.floor() as usize), at(place.ceil() as usize), place.fract());
    Some(if a == b { a } else { a * (1.0 - t) + b * t })
}

macro_rules! softmaxes {
    ($float:ident, $exponentials:ident, $softmax:ident) => {
        /// `x ← e^(x − max x)`, of which none overflows. Returns the greatest `x` and the sum of what they became.
        pub fn $exponentials(x: &mut [$float]) -> ($float, $float) {
            let most = x.iter().copied().fold($float::NEG_INFINITY, $float::max);
            let mut sum = 0.0;
            for x in x {
                *x = (*x - most).exp();
                sum += *x;
            }
            (most, sum)
        }

        /// `x ← eˣ / Σ eˣ`, exact to the library's `exp`: neural's has an approximation for training.
        pub fn $softmax(x: &mut [$float]) {
            let (_, sum) = $exponentials(x);
            x.iter_mut().for_each(|x| *x /= sum);
        }
    };
}
softmaxes!(f32, exponentials, softmax);
softmaxes!(f64, exponentials_f64, softmax_f64);

/// Divides a vector by its length, summed in `f64`; a vector of zeros or beyond `f64` is unchanged.
pub fn normalize(vector: &mut [f32]) {
    let length = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
    if length > 0.0 && length.is_finite() {
        vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
    }
}

/// The same of `f64`, which squares of `f32` numbers fit.
pub fn normalize_f64(vector: &mut [f64]) {
    let length = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x /= length);
    }
}

/// Divides a vector by its length, summed in `f32`, or by `least` where it is shorter: gradients pass through it. Returns what it was divided by.
pub fn normalize_at_least(vector: &mut [f32], least: f32) -> f32 {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(least);
    vector.iter_mut().for_each(|x| *x /= length);
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_of_what_there_is() {
        assert_eq!((mean([1.0, 2.0, 6.0]), mean([])), (Some(3.0), None));
    }

    #[test]
    fn quantiles_lie_between_neighbours() {
        let x = [1.0, 2.0, 4.0];
        for of in
            [|x: &[f64], share| quantile(x, share), |x: &[f64], share| quantile_by_shares(x.len(), |i| x[i], share)]
        {
            assert_eq!((of(&x, 0.0), of(&x, 0.75), of(&x, 1.0)), (Some(1.0), Some(3.0), Some(4.0)));
            assert_eq!(of(&[], 0.5), None);
        }
        assert_eq!(quantile(&[1.0, f64::INFINITY], 0.5), Some(1.0));
        assert_eq!(quantile(&[f64::INFINITY; 2], 0.5), Some(f64::INFINITY));
        let far = [f64::MIN, f64::MAX];
        assert_eq!(quantile_by_shares(2, |i| far[i], 0.5), Some(0.0));
        assert_eq!(quantile_by_shares(2, |_| f64::INFINITY, 0.5), Some(f64::INFINITY));
    }

    #[test]
    fn a_softmax_has_the_ratios_of_the_exponentials() {
        let mut x = [1000.0f32, 1000.0 + 2f32.ln(), f32::NEG_INFINITY];
        softmax(&mut x);
        assert!(x.iter().zip([1.0 / 3.0, 2.0 / 3.0, 0.0]).all(|(p, q)| (p - q).abs() < 1e-4), "{x:?}");
        let mut x = [-1000.0f64, -1000.0];
        assert_eq!((exponentials_f64(&mut x), x), ((-1000.0, 2.0), [1.0; 2]));
    }

    #[test]
    fn vectors_get_the_length_one_unless_they_have_none() {
        let is_unit = |x: [f32; 2]| (x[0] - 0.6).abs() < 1e-6 && (x[1] - 0.8).abs() < 1e-6;
        let mut x = [3.0f32, 4.0];
        assert!(normalize_at_least(&mut x, 1e-6) == 5.0 && is_unit(x));
        // Squares of these are beyond f32.
        let mut x = [3e30f32, 4e30];
        normalize(&mut x);
        assert!(is_unit(x), "{x:?}");
        let (mut none, mut wide) = ([0.0f32; 2], [0.0f64, 2.0]);
        normalize(&mut none);
        assert_eq!((none, normalize_at_least(&mut none, 0.5)), ([0.0; 2], 0.5));
        normalize_f64(&mut wide);
        assert_eq!(wide, [0.0, 1.0]);
    }
}
