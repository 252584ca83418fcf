//! Random numbers that depend on a seed and an index only, not on threads.

/// SplitMix64's finaliser (Steele, Lea, Flood 2014): 64 well mixed bits.
pub fn mix(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number from −1 to 1, from the seed and the index only.
pub fn uniform(seed: u64, place: u64) -> f32 {
    (mix(seed ^ mix(place)) >> 40) as f32 / (1 << 23) as f32 - 1.0
}

/// A standard normal number, from the seed and the index only (Box and Muller 1958).
pub fn normal(seed: u64, place: u64) -> f32 {
    let bits = mix(seed ^ mix(place));
    // Both above 0, of 32 bits each.
    let radius = (((bits >> 32) + 1) as f64 / (1u64 << 32) as f64).ln();
    let angle = (bits & 0xffff_ffff) as f64 / (1u64 << 32) as f64 * std::f64::consts::TAU;
    ((-2.0 * radius).sqrt() * angle.cos()) as f32
}

/// A number below `n`, from the seed and the index only.
pub fn below(seed: u64, place: u64, n: usize) -> usize {
    ((u128::from(mix(seed ^ mix(place))) * n as u128) >> 64) as usize
}

/// 0 to n − 1 in an order drawn from the seed (Fisher and Yates).
pub fn shuffled(order: &mut [u32], seed: u64) {
    order.iter_mut().zip(0..).for_each(|(x, i)| *x = i);
    for i in (1..order.len()).rev() {
        order.swap(i, below(seed, i as u64, i + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffled_order_holds_every_number_once_and_depends_on_the_seed() {
        let (mut a, mut b) = (vec![0; 1000], vec![0; 1000]);
        shuffled(&mut a, 1);
        shuffled(&mut b, 2);
        assert_ne!(a, b);
        assert!(a.iter().zip(0..).filter(|&(&x, i)| x == i).count() < 10);
        a.sort_unstable();
        assert!(a.iter().zip(0..).all(|(&x, i)| x == i));
        assert!((0..1000).all(|i| below(3, i, 7) < 7 && uniform(3, i).abs() <= 1.0));
    }

    #[test]
    fn normal_numbers_have_mean_zero_and_variance_one() {
        let all: Vec<f64> = (0..100_000).map(|i| f64::from(normal(5, i))).collect();
        let mean = all.iter().sum::<f64>() / 1e5;
        let variance = all.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 1e5;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
        assert!(all.iter().all(|x| x.is_finite()));
    }
}
