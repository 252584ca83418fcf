//! What the neural recommenders share: dense layers with their gradients (on candle), tables of embeddings of which a step
//! touches few rows, Adam for both, the threads they train on, and forward passes for serving.
//!
//! A training gives the same bytes on any number of threads: work is cut into chunks of a fixed size, each chunk's result
//! depends on its number alone, and results are summed in the order of the chunks.

pub mod adam;
pub mod dense;
pub mod network;
pub mod table;
pub mod team;

use crate::linalg::mix;

/// A number from −1 to 1, from the seed and its place alone.
pub fn uniform(seed: u64, place: u64) -> f32 {
    (mix(seed ^ mix(place)) >> 40) as f32 / (1 << 23) as f32 - 1.0
}

/// A number below `n`, from the seed and its place alone.
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
}
