//! Sampling rows without replacement.

use runtime::draw;
use runtime::error::Result;
use runtime::memory;

/// Draws `most` of 0 to n − 1, ascending; all if there are no more.
///
/// Selection sampling (Knuth, The Art of Computer Programming 2, 3.4.2, algorithm S): O(n), no memory but the result.
pub fn sample(n: usize, most: usize, seed: u64) -> Result<Vec<u32>> {
    let mut rows = Vec::new();
    memory::reserve(&mut rows, n.min(most))?;
    for row in 0..n {
        if n <= most || draw::below(seed, row as u64, n - row) < most - rows.len() {
            rows.push(row as u32);
        }
    }
    Ok(rows)
}
