//! Sorting rows by distance.
//!
//! Distances are quantised to 32 bits, linearly over the range of most of them. A radix sort by the upper bits leaves short runs, which are
//! sorted by comparison: by the remaining bits and, where those are equal too, by the distance itself.

use runtime::error::Result;
use runtime::memory;

/// Rows handled between two checks of the stop flag: a few milliseconds of work.
pub const PIECE: usize = 1 << 15;
/// Validation rows whose distances are computed together.
pub const LANES: usize = 8;
/// A key has 31 bits for the row.
pub const MAX_ROWS: usize = 1 << 31;
/// Standard deviations around the mean that are quantised; distances beyond are clamped.
const WIDTH: f64 = 6.0;

/// From the upper bits down: the quantised distance, the row, and whether its label is the target.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(u64);

// SAFETY: a number, of which 0 is one.
unsafe impl bytemuck::Zeroable for Key {}

impl Key {
    pub fn row(self) -> usize {
        (self.0 as u32 >> 1) as usize
    }

    /// Whether its label is the target.
    pub fn is_alike(self) -> bool {
        self.0 & 1 == 1
    }

    fn number(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// Range, mean and variance of the distances, for each lane.
pub struct Spread {
    least: [f64; LANES],
    most: [f64; LANES],
    sum: [f64; LANES],
    squares: [f64; LANES],
}

impl Default for Spread {
    fn default() -> Self {
        let zero = [0.0; LANES];
        Self { least: [f64::INFINITY; LANES], most: [f64::NEG_INFINITY; LANES], sum: zero, squares: zero }
    }
}

impl Spread {
    #[inline(always)]
    pub fn add(&mut self, distances: &[f64; LANES]) {
        for (lane, &d) in distances.iter().enumerate() {
            self.least[lane] = self.least[lane].min(d);
            self.most[lane] = self.most[lane].max(d);
            self.sum[lane] += d;
            self.squares[lane] += d * d;
        }
    }

    /// The range over which the `n` distances of a lane are quantised.
    pub fn range(&self, lane: usize, n: usize) -> (f64, f64) {
        let mean = self.sum[lane] / n as f64;
        let deviation = (self.squares[lane] / n as f64 - mean * mean).max(0.0).sqrt();
        let (low, high) = (mean - WIDTH * deviation, mean + WIDTH * deviation);
        let (least, most) = (self.least[lane], self.most[lane]);
        // Rounding may leave no deviation.
        if deviation > 0.0 && low < most && high > least { (least.max(low), most.min(high)) } else { (least, most) }
    }
}

/// Buffers for sorting.
pub struct Order {
    keys: Vec<Key>,
    other: Vec<Key>,
    /// Bits of a digit; the radix sort uses two.
    bits: u32,
    /// Of the lower digit, then of the upper one.
    counts: Vec<u32>,
}

impl Order {
    pub fn new(n: usize) -> Result<Self> {
        let bits = (n.max(2).ilog2() - 1).clamp(4, 11);
        Ok(Self { keys: memory::zeroed(n)?, other: memory::zeroed(n)?, bits, counts: memory::filled(0, 2 << bits)? })
    }

    /// The rows as last sorted, the nearest first.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Sorts all rows by distance, ties by row. [`Key::is_alike`] is set for rows whose code is `target`, and for none where `codes` is empty.
    pub fn sort(
        &mut self,
        distances: &[f64],
        range: (f64, f64),
        codes: &[u32],
        target: u32,
        go_on: &dyn Fn() -> Result<()>,
    ) -> Result<()> {
        let (bits, shift) = (self.bits, 64 - self.bits);
        let (low_counts, high_counts) = self.counts.split_at_mut(1 << bits);
        low_counts.fill(0);
        high_counts.fill(0);
        let low = |key: Key| (key.0 << bits >> shift) as usize;
        let high = |key: Key| (key.0 >> shift) as usize;

        for (piece, (keys, distances)) in self.keys.chunks_mut(PIECE).zip(distances.chunks(PIECE)).enumerate() {
            go_on()?;
            let first = piece * PIECE;
            write_numbers(distances, range, first as u64, keys);
            if let Some(codes) = codes.get(first..first + keys.len()) {
                keys.iter_mut().zip(codes).for_each(|(key, &code)| key.0 |= u64::from(code == target));
            }
            for &key in keys.iter() {
                low_counts[low(key)] += 1;
                high_counts[high(key)] += 1;
            }
        }
        scatter(&self.keys, &mut self.other, low_counts, low, go_on)?;
        scatter(&self.other, &mut self.keys, high_counts, high, go_on)?;

        let run_of = |key: Key| key.0 >> (64 - 2 * bits);
        let mut first = 0;
        for i in 1..=self.keys.len() {
            if i % PIECE == 0 {
                go_on()?;
            }
            if i < self.keys.len() && run_of(self.keys[i]) == run_of(self.keys[first]) {
                continue;
            }
            if i - first > 1 {
                sort_run(&mut self.keys[first..i], distances);
            }
            first = i;
        }
        Ok(())
    }
}

/// Keys of the rows from `first` on: `distances` quantised over the range.
fn write_numbers(distances: &[f64], (low, high): (f64, f64), first: u64, keys: &mut [Key]) {
    const MAX_NUMBER: f64 = u32::MAX as f64;
    // A number added to 2⁵² is in the lower bits of the sum.
    const WHOLE: f64 = (1u64 << 52) as f64;
    let scale = if high > low { MAX_NUMBER / (high - low) } else { 0.0 };
    for ((key, &d), row) in keys.iter_mut().zip(distances).zip(first..) {
        let number = ((d - low) * scale).clamp(0.0, MAX_NUMBER) + WHOLE;
        *key = Key(number.to_bits() << 32 | row << 1);
    }
}

/// A stable counting sort by one digit. `counts` becomes the place after the last key of each digit.
fn scatter(
    from: &[Key],
    to: &mut [Key],
    counts: &mut [u32],
    digit: impl Fn(Key) -> usize,
    go_on: &dyn Fn() -> Result<()>,
) -> Result<()> {
    let mut place = 0;
    for count in counts.iter_mut() {
        place += std::mem::replace(count, place);
    }
    for piece in from.chunks(PIECE) {
        go_on()?;
        for &key in piece {
            let place = &mut counts[digit(key)];
            to[*place as usize] = key;
            *place += 1;
        }
    }
    Ok(())
}

/// Sorts a run of keys whose upper bits are equal.
fn sort_run(keys: &mut [Key], distances: &[f64]) {
    if !keys.is_sorted() {
        keys.sort_unstable();
    }
    let distance = |key: &Key| distances[key.row()];
    for equal in keys.chunk_by_mut(|a, b| a.number() == b.number()) {
        if !equal.is_sorted_by(|a, b| distance(a) <= distance(b)) {
            equal.sort_unstable_by(|a, b| distance(a).total_cmp(&distance(b)).then_with(|| a.cmp(b)));
        }
    }
}
