//! Elementary functions and random numbers in single precision, written without branches so that the compiler turns
//! loops over them into instructions on whole registers, instead of one call into the C library for each.

// The processor's instructions are all that these functions want of `dispatch!`: the compiler finds the registers.
#![expect(clippy::extra_unused_type_parameters)]

use std::f32::consts::{LN_2, LOG2_E, SQRT_2};

use kernels::vector::dispatch;

/// Adding it to a small number rounds that to a whole one, which the lowest bits then hold.
const ROUND: f32 = 12_582_912.0;

/// `eˣ` within 2 units of the last place, for x cut to ±87.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Comparisons, not `clamp`: they become two instructions.
    let x = if x > 87.0 { 87.0 } else { x };
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = x * LOG2_E + ROUND;
    let n = shifted - ROUND;
    // ln 2 in two parts: the first has few bits, so that its product with n is exact.
    let r = (x - n * 0.693_359_4) - n * -2.121_944_4e-4;
    // Taylor's series; |r| ≤ ln 2 / 2 leaves r⁷ / 7! = 1.2e-7 of the last term.
    let tail = 1.0 / 120.0 + r * (1.0 / 720.0 + r * (1.0 / 5040.0));
    let p = 1.0 + r * (1.0 + r * (0.5 + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * tail))));
    let scale = f32::from_bits(shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23);
    p * scale
}

/// `ln x` for normal x above 0.
#[inline(always)]
pub fn ln(x: f32) -> f32 {
    // x = m 2ᵉ, √½ ≤ m < √2
    let bits = x.to_bits().wrapping_sub(0x3f35_04f3);
    let e = ((bits as i32) >> 23) as f32;
    let m = f32::from_bits((bits & 0x007f_ffff).wrapping_add(0x3f35_04f3));
    // ln m = 2 artanh s, s = (m − 1) / (m + 1), |s| < 0.172: s⁹ / 9 is below 2e-8.
    let s = (m - 1.0) / (m + 1.0);
    let q = s * s;
    2.0 * s * (1.0 + q * (1.0 / 3.0 + q * (0.2 + q * (1.0 / 7.0 + q * (1.0 / 9.0))))) + e * LN_2
}

#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let e = exp(2.0 * x);
    (e - 1.0) / (e + 1.0)
}

/// 32 mixed bits of a seed and a place: two rounds of xors, shifts and products.
#[inline(always)]
fn bits(seed: u64, place: u32) -> u32 {
    #[inline(always)]
    fn round(mut x: u32) -> u32 {
        x ^= x >> 16;
        x = x.wrapping_mul(0x7feb_352d);
        x ^= x >> 15;
        x = x.wrapping_mul(0x846c_a68b);
        x ^ (x >> 16)
    }
    round(round(place.wrapping_mul(0x9e37_79b9).wrapping_add(seed as u32)) ^ (seed >> 32) as u32)
}

/// From 0 to 1, both left out.
#[inline(always)]
fn fraction(seed: u64, place: u32) -> f32 {
    ((bits(seed, place) >> 9) as i32 as f32 + 0.5) * (1.0 / (1 << 23) as f32)
}

/// The number that a standard normal one is below with probability `(1 + x) / 2`: √2 erf⁻¹ x (Giles, "Approximating the
/// erfinv function", GPU Computing Gems 2, 2011, single precision).
#[inline(always)]
fn normal_quantile(x: f32) -> f32 {
    const CENTRE: [f32; 9] = [
        2.810_226_4e-8,
        3.432_739_4e-7,
        -3.523_387_7e-6,
        -4.391_506_5e-6,
        2.185_808_7e-4,
        -1.253_725e-3,
        -4.177_681_6e-3,
        0.246_640_73,
        1.501_409_4,
    ];
    const TAILS: [f32; 9] = [
        -2.002_142_6e-4,
        1.009_505_6e-4,
        1.349_343_2e-3,
        -3.673_428_4e-3,
        5.739_507_7e-3,
        -7.622_461_3e-3,
        9.438_870_5e-3,
        1.001_674,
        2.832_976_8,
    ];
    let w = -ln((1.0 - x) * (1.0 + x));
    let tail = w >= 5.0;
    let w = if tail { w.sqrt() - 3.0 } else { w - 2.5 };
    let mut p = if tail { TAILS[0] } else { CENTRE[0] };
    for i in 1..9 {
        p = p * w + if tail { TAILS[i] } else { CENTRE[i] };
    }
    SQRT_2 * p * x
}

#[inline(always)]
unsafe fn fill_uniform_body<V, const TILE: usize>(seed: u64, out: &mut [f32]) {
    out.iter_mut().zip(0u32..).for_each(|(x, place)| *x = fraction(seed, place));
}
dispatch! {
    /// Numbers between 0 and 1, both excluded, from the seed and their index only; at most 2³² of them.
    pub fn fill_uniform(seed: u64, out: &mut [f32]) = fill_uniform_body
}

#[inline(always)]
unsafe fn fill_normal_body<V, const TILE: usize>(seed: u64, out: &mut [f32]) {
    out.iter_mut().zip(0u32..).for_each(|(x, place)| *x = normal_quantile(2.0 * fraction(seed, place) - 1.0));
}
dispatch! {
    /// Standard normal numbers from the seed and their index only; at most 2³² of them.
    pub fn fill_normal(seed: u64, out: &mut [f32]) = fill_normal_body
}

#[inline(always)]
unsafe fn fill_gumbel_body<V, const TILE: usize>(seed: u64, out: &mut [f32]) {
    out.iter_mut().zip(0u32..).for_each(|(x, place)| *x = -ln(-ln(fraction(seed, place))));
}
dispatch! {
    /// Numbers of the standard Gumbel distribution, `−ln(−ln u)`, from the seed and their index only.
    pub fn fill_gumbel(seed: u64, out: &mut [f32]) = fill_gumbel_body
}

#[inline(always)]
unsafe fn exp_all_body<V, const TILE: usize>(x: &mut [f32]) {
    x.iter_mut().for_each(|x| *x = exp(*x));
}
dispatch! {
    /// `x ← eˣ`
    pub fn exp_all(x: &mut [f32]) = exp_all_body
}

#[inline(always)]
unsafe fn softmax_body<V, const TILE: usize>(x: &mut [f32]) -> f32 {
    let most = x.iter().copied().fold(f32::NEG_INFINITY, |a, b| if a > b { a } else { b });
    x.iter_mut().for_each(|x| *x = exp(*x - most));
    let mut sums = [0f32; 8];
    x.chunks(8).for_each(|part| part.iter().zip(&mut sums).for_each(|(x, sum)| *sum += x));
    let sum: f32 = sums.iter().sum();
    x.iter_mut().for_each(|x| *x *= 1.0 / sum);
    most + ln(sum)
}
dispatch! {
    /// `x ← eˣ / Σ eˣ` by the [`exp`] of this file; returns `ln Σ eˣ`. `x` is not empty. Exact: `kernels::statistics::softmax`.
    pub fn fast_softmax(x: &mut [f32]) -> f32 = softmax_body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_those_of_the_library() {
        for i in -8600..8600 {
            let x = i as f32 / 100.0;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) - exact).abs() < 4e-7 * exact, "{x}");
            assert!((tanh(x) - x.tanh()).abs() < 2e-6, "{x}");
        }
        for i in 1..20_000 {
            let x = (i as f32).powi(3) * 1e-9;
            assert!((ln(x) - x.ln()).abs() < 3e-6 * x.ln().abs().max(0.1), "{x}");
        }
        assert!(exp(-1e30) > 0.0 && exp(1e30).is_finite());
    }

    #[test]
    fn a_softmax_sums_to_one_and_gives_the_logarithm_of_the_sum() {
        let given: Vec<f32> = (0..21).map(|i| (i * 7 % 11) as f32 - 30.0).collect();
        let sum: f32 = given.iter().map(|x| x.exp()).sum();
        let mut x = given.clone();
        assert!((fast_softmax(&mut x) - sum.ln()).abs() < 1e-5);
        assert!(x.iter().zip(&given).all(|(p, x)| (p - x.exp() / sum).abs() < 1e-6));
    }

    #[test]
    fn drawn_numbers_have_their_distributions() {
        let n = 200_000;
        let mut x = vec![0f32; n];
        let moments = |x: &[f32]| {
            let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / n as f64;
            let central = |p| x.iter().map(|&x| (f64::from(x) - mean).powi(p)).sum::<f64>() / n as f64;
            (mean, central(2), central(4))
        };
        fill_uniform(1, &mut x);
        let (mean, variance, _) = moments(&x);
        assert!((mean - 0.5).abs() < 3e-3 && (variance - 1.0 / 12.0).abs() < 1e-3);
        assert!(x.iter().all(|&x| x > 0.0 && x < 1.0));
        let again = x.clone();
        fill_uniform(2, &mut x);
        let same = again.iter().zip(&x).map(|(a, b)| f64::from((a - 0.5) * (b - 0.5))).sum::<f64>() / n as f64;
        assert!(same.abs() < 1e-3, "seeds are not alike: {same}");
        fill_normal(1, &mut x);
        let (mean, variance, fourth) = moments(&x);
        assert!(mean.abs() < 0.01 && (variance - 1.0).abs() < 0.02 && (fourth - 3.0).abs() < 0.1, "{mean} {variance}");
        let neighbours = x.windows(2).map(|p| f64::from(p[0] * p[1])).sum::<f64>() / n as f64;
        assert!(neighbours.abs() < 0.01);
        fill_gumbel(3, &mut x);
        let (mean, variance, _) = moments(&x);
        assert!((mean - 0.577).abs() < 0.02 && (variance - 1.645).abs() < 0.05, "{mean} {variance}");
    }
}
