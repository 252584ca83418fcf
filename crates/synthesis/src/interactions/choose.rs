//! Drawing pairs from candidates.

use runtime::draw::mix;

/// Draws up to `count` of `list` (z, id) without replacement, by `P ∝ exp(z / temperature)`. Returns each with its
/// probability relative to the best one's. Randomness comes from `seed` and each candidate's `place` (user, item).
pub fn drawn(
    list: &[(f32, u32)],
    count: usize,
    temperature: f64,
    seed: u64,
    place: impl Fn(u32) -> (u32, u32),
) -> Vec<(f64, u32)> {
    let best = list.iter().map(|&(z, _)| z).fold(f32::NEG_INFINITY, f32::max);
    let mut keys: Vec<(f64, f64, u32)> = list
        .iter()
        .filter(|(z, _)| z.is_finite())
        .map(|&(z, name)| {
            let (user, item) = place(name);
            let log = (f64::from(z) - f64::from(best)) / temperature;
            (log + gumbel(mix(mix(seed) ^ (u64::from(user) << 32 | u64::from(item)))), log.exp(), name)
        })
        .collect();
    keys.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.2.cmp(&b.2)));
    keys.into_iter().take(count).map(|(_, share, name)| (share, name)).collect()
}

/// Gumbel noise `−ln(−ln U)`, with U of 53 bits, never 0 or 1.
fn gumbel(bits: u64) -> f64 {
    let uniform = ((bits >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -(-uniform.ln()).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_drawn_as_often_as_they_are_probable() {
        let list = [(2f32.ln(), 0), (1f32.ln(), 1), (5f32.ln(), 2), (f32::NAN, 3), (f32::NEG_INFINITY, 4)];
        for (temperature, expected) in [(1.0, [0.25, 0.125, 0.625]), (0.5, [4.0 / 30.0, 1.0 / 30.0, 25.0 / 30.0])] {
            let mut counts = [0f64; 5];
            for seed in 0..20_000 {
                let chosen = drawn(&list, 1, temperature, seed, |item| (7, item));
                counts[chosen[0].1 as usize] += 1.0 / 20_000.0;
            }
            assert!(counts.iter().zip(expected).all(|(a, b)| (a - b).abs() < 0.015), "{counts:?}");
            assert_eq!(counts[3..], [0.0, 0.0]);
        }
        let mut all = drawn(&list, 10, 1.0, 1, |item| (7, item));
        all.sort_unstable_by_key(|pair| pair.1);
        assert_eq!(all.iter().map(|pair| pair.1).collect::<Vec<_>>(), [0, 1, 2]);
        assert!((all[0].0 - 0.4).abs() < 1e-6 && all[2].0 == 1.0, "{all:?}");
        assert!(drawn(&[], 3, 1.0, 1, |item| (7, item)).is_empty());
    }
}
