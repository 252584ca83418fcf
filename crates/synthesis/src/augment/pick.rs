//! The rows that a new row is made of, and how they are drawn.

use runtime::draw;
use runtime::error::Result;
use runtime::memory;

/// The rows that a new row is made of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pick {
    pub base: u32,
    /// [`NONE`](tabular::NONE) if there is none.
    pub other: u32,
    /// Weight of the other row.
    pub weight: f64,
    pub class: u32,
    /// Index of the base among the rows of its class.
    pub place: u32,
    pub seed: u64,
}

/// A uniform number from [0, 1).
pub fn unit(seed: u64, place: u64) -> f64 {
    (draw::mix(seed ^ draw::mix(place)) >> 11) as f64 / (1u64 << 53) as f64
}

/// 0 to n − 1; if that is more than `most`, one drawn from each of `most` equal parts.
pub fn spread_evenly(n: usize, most: usize) -> Result<Vec<u32>> {
    let taken = n.min(most);
    let mut places = Vec::new();
    memory::reserve(&mut places, taken)?;
    places.extend((0..taken).map(|i| {
        let (from, to) = (i * n / taken, (i + 1) * n / taken);
        (from + draw::below(0, i as u64, to - from)) as u32
    }));
    Ok(places)
}
