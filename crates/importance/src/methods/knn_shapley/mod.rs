//! `knn_shapley`: exact Shapley values of rows for a nearest-neighbour model.
//!
//! Jia, Dao, Wang, Hubis, Gurel, Li, Zhang, Spanos, Song, "Efficient task-specific data valuation for nearest neighbor
//! algorithms" (VLDB 2019). Each validation row (x, t) defines a game. With α₁, α₂, … the rows of a
//! set S by increasing distance from x, S is worth
//!
//! - classes (Theorem 1): ν(S) = 1/K · Σ 1[y(αₖ) = t] over k ≤ min(K, |S|);
//! - numbers (Theorem 6): ν(S) = −(1/K · Σ y(αₖ) − t)² over k ≤ min(K, |S|), and ν(∅) = 0.
//!
//! The Shapley value of a row is what it adds to ν, averaged over all orders of the rows. With the N rows sorted by distance
//! and m for 1[y = t], it is for classes, from the farthest row inwards,
//!
//! s(N) = m(N) · min(K, N) / (K·N),  s(i) = s(i + 1) + (m(i) − m(i + 1)) / K · min(K, i) / i,
//!
//! and for numbers a recursion of the same kind (`Recursion::numbers`). A row's score is the mean over the validation rows.
//! Low: predictions near it are worse with it, as with a wrong label. Near 0: it is near no validation row. With fewer rows
//! than K, all of them are neighbours and the sums are still divided by K.
//!
//! Distances are Euclidean over the encoded features, in double precision; on ties the earlier row is nearer. Numeric labels
//! are centred: an incomplete neighbourhood predicts towards the mean, not towards 0, and shifting all labels changes nothing.
//! Scores of numbers are in the squared unit of the label.
//!
//! Values are summed as integers, in units of 2⁻⁵² for 1,000 validation rows: the result does not depend on threads, and the
//! error stays below 10⁻⁹ of the greatest value at a million rows.
//!
//! Time: O(validation rows · (non-zero features + rows)). Memory: 100 bytes per row and thread.

mod order;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicUsize, Ordering};

use ndarray::{Array2, s};

use crate::method::{Computation, ImportanceMethod};
use crate::task::Task;
use kernels::Csr;
use kernels::matrix::{flat, flat_mut};
use kernels::vector::{Vector, dispatch};
use runtime::error::{Error, Result};
use runtime::jobs::{Relay, Signal};
use runtime::memory;
use runtime::options::Options;
use runtime::parallel::for_each_chunk;
use runtime::progress::Progress;
use tabular::{Labels, Samples};

use order::{LANES, MAX_ROWS, Order, PIECE, Spread};

/// Entries of the features handled between two checks of the stop flag.
const PIECE_ENTRIES: u64 = 1 << 20;

pub struct KnnShapley;

impl ImportanceMethod for KnnShapley {
    fn name(&self) -> &'static str {
        "knn_shapley"
    }

    fn needs_validation(&self) -> bool {
        true
    }

    fn computation(&self) -> Computation {
        Computation::Alone(score)
    }
}

fn score(task: &Task, options: &mut Options) -> Result<Vec<f64>> {
    let k = options.integer("k", 5, 1, 10_000)? as usize;
    let validation = task.validation_for(KnnShapley.name())?;
    values(task.samples, validation, k, task.threads, task.progress)
}

/// The value of each row, averaged over the validation rows.
fn values(
    samples: &Samples,
    validation: &Samples,
    k: usize,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Vec<f64>> {
    let (n, tests) = (samples.features.rows(), validation.features.rows());
    let labels = samples.labels.len() == n && validation.labels.len() == tests;
    if samples.features.columns() != validation.features.columns() || !labels {
        return Err(Error::Internal("rows to value and validation rows do not fit together".into()));
    }
    if n > MAX_ROWS {
        return Err(Error::TooLarge {
            what: "knn_shapley".into(),
            needed: format!("{n} rows"),
            limit: MAX_ROWS.to_string(),
            hint: "Take a sample of the source.".into(),
        });
    }
    progress.check()?;
    let game = Game::new(samples, validation, k, progress)?;
    let relay = Relay::counting(progress, PHASE, tests);
    let next = AtomicUsize::new(0);
    let threads = threads.clamp(1, tests.div_ceil(LANES).max(1));
    let mut sums: Vec<Vec<i64>> = memory::filled(Vec::new(), threads)?;
    for_each_chunk(
        &mut sums,
        1,
        threads,
        &relay,
        || (),
        |(), _, sums| {
            let mut player = Player::new(&game)?;
            loop {
                let first = next.fetch_add(LANES, Ordering::Relaxed);
                if first >= tests {
                    break;
                }
                player.play(first, (tests - first).min(LANES), &relay.signal)?;
            }
            sums[0] = player.sums;
            Ok(())
        },
    )?;
    progress.report(PHASE, tests, tests);

    let mut values = memory::filled(0f64, n)?;
    for (piece, values) in values.chunks_mut(PIECE).enumerate() {
        progress.check()?;
        for (row, value) in (piece * PIECE..).zip(values) {
            let sum: i64 = sums.iter().map(|sums| sums[row]).sum();
            *value = sum as f64 / game.unit * game.factor / tests as f64;
        }
    }
    Ok(values)
}

const PHASE: &str = "validation rows";

/// Shared by all threads.
struct Game<'a> {
    matrix: &'a Csr,
    validation: &'a Csr,
    /// [rows]: ‖x‖².
    norms: Vec<f64>,
    recursion: Recursion<'a>,
    k: usize,
    /// The integer that stands for 1 in the sums.
    unit: f64,
    /// What 1 in the sums is in the unit of the scores.
    factor: f64,
}

enum Recursion<'a> {
    Classes {
        codes: &'a [u32],
        targets: &'a [u32],
        /// [rows + 1]: min(K, i) / (K·i), in units.
        shares: Vec<i64>,
    },
    /// Centred, and scaled so that the greatest magnitude is 1.
    Numbers {
        values: Vec<f64>,
        targets: Vec<f64>,
        /// [rows + 1]: 1 / i.
        inverse: Vec<f64>,
    },
}

impl<'a> Game<'a> {
    fn new(samples: &'a Samples, validation: &'a Samples, k: usize, progress: &dyn Progress) -> Result<Self> {
        let (n, tests) = (samples.features.rows(), validation.features.rows());
        let matrix = &samples.features.matrix;
        let mut norms = memory::filled(0f64, n)?;
        let mut entries = 0;
        for (row, norm) in norms.iter_mut().enumerate() {
            let values = matrix.row(row).1;
            entries += values.len() as u64 + 1;
            if entries > PIECE_ENTRIES {
                progress.check()?;
                entries = 0;
            }
            *norm = values.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        }
        // A value is at most 1 for classes, 8 for numbers; the sum over the validation rows stays below 2⁶³.
        let spare = usize::BITS - tests.leading_zeros();
        let place = (1..=n).map(|i| i as f64);
        let (recursion, unit, factor) = match (&samples.labels, &validation.labels) {
            (Labels::Classes { codes, .. }, Labels::Classes { codes: targets, .. }) => {
                let unit = 2f64.powi(62 - spare as i32);
                let mut shares = memory::filled(0i64, n + 1)?;
                let share = |i: f64| (unit * (k as f64).min(i) / (k as f64 * i)).round() as i64;
                shares[1..].iter_mut().zip(place).for_each(|(s, i)| *s = share(i));
                (Recursion::Classes { codes, targets, shares }, unit, 1.0)
            }
            (Labels::Numbers(labels), Labels::Numbers(others)) => {
                let mean = labels.iter().map(|&y| f64::from(y) / n as f64).sum::<f64>();
                let from_mean = |y: &f32| f64::from(*y) - mean;
                let greatest = labels.iter().chain(others).map(from_mean).fold(0f64, |most, y| most.max(y.abs()));
                let scale = if greatest > 0.0 { greatest } else { 1.0 };
                let copy = |from: &[f32]| {
                    let mut to = memory::filled(0f64, from.len())?;
                    to.iter_mut().zip(from).for_each(|(to, y)| *to = from_mean(y) / scale);
                    Ok::<_, Error>(to)
                };
                let mut inverse = memory::filled(0f64, n + 1)?;
                inverse[1..].iter_mut().zip(place).for_each(|(r, i)| *r = 1.0 / i);
                let recursion = Recursion::Numbers { values: copy(labels)?, targets: copy(others)?, inverse };
                (recursion, 2f64.powi(59 - spare as i32), scale * scale)
            }
            _ => return Err(Error::Internal("classes are to be valued for numbers".into())),
        };
        Ok(Self { matrix, validation: &validation.features.matrix, norms, recursion, k, unit, factor })
    }
}

/// Buffers of a thread.
struct Player<'a> {
    game: &'a Game<'a>,
    /// [columns]: the validation rows at hand.
    tile: Vec<[f64; LANES]>,
    /// [LANES, rows]: ‖x‖² − 2 x·v, the squared distance to each but for ‖v‖².
    distances: Array2<f64>,
    order: Order,
    /// [rows]
    sums: Vec<i64>,
}

impl<'a> Player<'a> {
    fn new(game: &'a Game<'a>) -> Result<Self> {
        let n = game.norms.len();
        Ok(Self {
            game,
            tile: memory::zeroed(game.matrix.columns)?,
            distances: memory::shaped(LANES, n, memory::zeroed(n * LANES)?)?,
            order: Order::new(n)?,
            sums: memory::zeroed(n)?,
        })
    }

    /// Adds the values for `count` validation rows from `first` on.
    fn play(&mut self, first: usize, count: usize, signal: &Signal) -> Result<()> {
        let game = self.game;
        let n = game.norms.len();
        let entries = |row| {
            let (columns, values) = game.validation.row(row);
            columns.iter().map(|&column| column as usize).zip(values)
        };
        for lane in 0..count {
            entries(first + lane).for_each(|(column, &x)| self.tile[column][lane] = f64::from(x));
        }
        let mut spread = Spread::default();
        let mut row = 0;
        while row < n {
            signal.check()?;
            let limit = game.matrix.indptr[row] + PIECE_ENTRIES;
            let mut end = (row + PIECE).min(n);
            while game.matrix.indptr[end] > limit && end - row > 8 {
                end = row + (end - row) / 2;
            }
            let distances = flat_mut(self.distances.view_mut());
            write_distances(game.matrix, &game.norms, &self.tile, row, end, distances, &mut spread);
            row = end;
        }
        for lane in 0..count {
            entries(first + lane).for_each(|(column, _)| self.tile[column][lane] = 0.0);
            let distances = flat(self.distances.slice(s![lane..=lane, ..]));
            let range = spread.range(lane, n);
            match &game.recursion {
                Recursion::Classes { codes, targets, shares } => {
                    let target = targets[first + lane];
                    self.order.sort(distances, range, codes, target, &|| signal.check())?;
                    self.classes(shares, signal)?;
                }
                Recursion::Numbers { values, targets, inverse } => {
                    self.order.sort(distances, range, &[], 0, &|| signal.check())?;
                    self.numbers(values, targets[first + lane], inverse, signal)?;
                }
            }
            signal.finished(1);
        }
        Ok(())
    }

    fn classes(&mut self, shares: &[i64], signal: &Signal) -> Result<()> {
        let (mut value, mut farther) = (0i64, 0i64);
        let keys = self.order.keys();
        for (keys, shares) in keys.rchunks(PIECE).zip(shares[1..].rchunks(PIECE)) {
            signal.check()?;
            for (key, share) in keys.iter().zip(shares).rev() {
                let alike = i64::from(key.is_alike());
                value += (alike - farther) * share;
                farther = alike;
                self.sums[key.row()] += value;
            }
        }
        Ok(())
    }

    /// For i from N − 1 on, of Theorem 6: both coalitions that i and i + 1 complete hold the same other rows, T their sum, and
    /// differ in worth by (y(i + 1) − y(i)) / K · ((2T + y(i) + y(i + 1)) / K − 2t). Where S is of every size and kind with equal
    /// chance, the number of it among the first j rows is uniform on 0 … j; so they are among the neighbours at all with chance
    /// P(i) = min(K, i) / i, and a nearer row is in T with B(i) = min(K, i)·(min(K, i) − 1) / (2i·(i − 1)), a farther row l with B(l − 1).
    fn numbers(&mut self, values: &[f64], target: f64, inverse: &[f64], signal: &Signal) -> Result<()> {
        let n = values.len();
        let (k, unit) = (self.game.k as f64, self.game.unit);
        let least = self.game.k.min(n) as f64;
        let chance = |i: usize| if i <= self.game.k { 1.0 } else { k * inverse[i] };
        let pairs = |i: usize| match i {
            0 | 1 => 0.0,
            _ if i <= self.game.k => 0.5,
            _ => 0.5 * k * (k - 1.0) * inverse[i] * inverse[i - 1],
        };
        let keys = self.order.keys();
        let Some(last) = keys.last() else { return Ok(()) };
        let y = values[last.row()];
        // Σ y(l) over the nearer ones, Σ B(l − 1)·y(l) over the farther ones.
        let mut nearer = values.iter().sum::<f64>() - y;
        let mut farther = 0.0;
        // Of the coalitions without N, ∅ is worth 0, not −t².
        let base = (2.0 / k * pairs(n) * nearer + least * inverse[n] * (y / k - 2.0 * target)) * -y / k;
        let mut value = base - target * target * inverse[n];
        let mut next = y;
        self.sums[last.row()] += (value * unit) as i64;
        for (place, key) in keys[..n - 1].iter().enumerate().rev() {
            if place % PIECE == 0 {
                signal.check()?;
            }
            let i = place + 1;
            let y = values[key.row()];
            nearer -= y;
            let rest = 2.0 / k * (pairs(i) * nearer + farther) + chance(i) * ((y + next) / k - 2.0 * target);
            value += (next - y) / k * rest;
            farther += pairs(i) * next;
            next = y;
            self.sums[key.row()] += (value * unit) as i64;
        }
        Ok(())
    }
}

#[inline(always)]
unsafe fn write_distances_body<V: Vector, const TILE: usize>(
    matrix: &Csr,
    norms: &[f64],
    tile: &[[f64; LANES]],
    first: usize,
    end: usize,
    distances: &mut [f64],
    spread: &mut Spread,
) {
    let n = norms.len();
    let mut group = [[0f64; LANES]; 8];
    for start in (first..end).step_by(8) {
        let rows = (end - start).min(8);
        for (row, out) in (start..start + rows).zip(&mut group) {
            let mut sums = [0f64; LANES];
            let (columns, values) = matrix.row(row);
            for (&column, &x) in columns.iter().zip(values) {
                let (x, others) = (f64::from(x), &tile[column as usize]);
                for (sum, &other) in sums.iter_mut().zip(others) {
                    // Without the instruction, f64::mul_add is a slow call into libm.
                    *sum = if V::LANES >= 8 { x.mul_add(other, *sum) } else { *sum + x * other };
                }
            }
            *out = sums.map(|sum| norms[row] - 2.0 * sum);
            spread.add(out);
        }
        for lane in 0..LANES {
            let out = &mut distances[lane * n + start..][..rows];
            out.iter_mut().zip(&group).for_each(|(out, row)| *out = row[lane]);
        }
    }
}
dispatch! {
    /// Squared distances of the rows `first` to `end` − 1, each sum in the order of the row's entries: equal rows are equally far. `spread` takes
    /// them in.
    fn write_distances(matrix: &Csr, norms: &[f64], tile: &[[f64; LANES]], first: usize, end: usize, distances: &mut [f64], spread: &mut Spread) = write_distances_body
}
