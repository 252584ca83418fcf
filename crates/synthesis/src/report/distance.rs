//! Distances between rows of mixed columns (Gower 1971): the mean over columns of |x − y| / range for numbers and
//! times, and of inequality for categories. The range is that of the real rows, 1 if they are constant. NULL equals
//! NULL and has distance 1 from everything else.
//!
//! Queries are compared with blocks of the reference that stay in the cache, column by column, with SIMD. Time: queries
//! × reference × columns / lanes. Memory: 4 bytes a value of the reference.

use ndarray::Array3;

use super::columns::{Compared, REAL, Tables, Values};
use kernels::matrix::{flat, rows_mut};
use kernels::vector::{Vector, dispatch};
use runtime::error::Result;
use runtime::jobs::jobs;
use runtime::memory;
use runtime::progress::Progress;

/// Rows of a block.
const BLOCK: usize = 1024;
/// Queries of a job.
const QUERIES: usize = 16;
/// Numbers are clipped to this many ranges.
const MAX_COORDINATE: f64 = 1e6;

/// Scales values to coordinates.
pub struct Space<'a> {
    tables: &'a Tables<'a>,
    /// [columns]: minimum and range.
    scales: Vec<(f64, f64)>,
}

/// Rows as coordinates: x / range for numbers, NaN for NULL; the code's bits for categories.
pub struct Points {
    rows: usize,
    /// [blocks, columns, BLOCK]
    values: Array3<f32>,
}

/// Distances of a row to the nearest and the second nearest other row; infinite if there is none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Nearest {
    pub first: f32,
    pub second: f32,
}

const NOWHERE: Nearest = Nearest { first: f32::INFINITY, second: f32::INFINITY };

/// How the kernel compares a column.
#[derive(Clone, Copy)]
enum Step {
    Number(f32),
    /// A query whose number is NULL.
    Null,
    Code(u32),
}

impl<'a> Space<'a> {
    pub fn new(tables: &'a Tables, progress: &dyn Progress) -> Result<Self> {
        let mut scales = Vec::new();
        for column in &tables.columns {
            let Values::Numbers(of) = &column.values else {
                scales.push((0.0, 1.0));
                continue;
            };
            let mut bounds = (f64::INFINITY, f64::NEG_INFINITY);
            for block in of[REAL].chunks(1 << 16) {
                progress.check()?;
                bounds = block.iter().fold(bounds, |(low, high), &x| (low.min(x), high.max(x)));
            }
            let (low, high) = if bounds.0 <= bounds.1 { bounds } else { (0.0, 0.0) };
            let range = high - low;
            scales.push((low, if range > 0.0 && range.is_finite() { range } else { 1.0 }));
        }
        Ok(Self { tables, scales })
    }

    fn coordinate(&self, column: usize, table: usize, row: u32) -> f32 {
        let (low, range) = self.scales[column];
        match &self.tables.columns[column].values {
            Values::Numbers(of) => {
                (((of[table][row as usize] - low) / range).clamp(-MAX_COORDINATE, MAX_COORDINATE)) as f32
            }
            Values::Codes { of, .. } => f32::from_bits(of[table][row as usize]),
        }
    }

    pub fn points(&self, table: usize, rows: &[u32], progress: &dyn Progress) -> Result<Points> {
        let width = self.scales.len();
        let blocks = rows.len().div_ceil(BLOCK);
        let values = memory::filled(0f32, blocks * width * BLOCK)?;
        let mut values = Array3::from_shape_vec((blocks, width, BLOCK), values)?;
        for (block, rows) in values.outer_iter_mut().zip(rows.chunks(BLOCK)) {
            progress.check()?;
            for (c, out) in rows_mut(block).enumerate() {
                out.iter_mut().zip(rows).for_each(|(out, &row)| *out = self.coordinate(c, table, row));
            }
        }
        Ok(Points { rows: rows.len(), values })
    }

    /// The distances of each of `rows` of `table` to the nearest `points`. `skip` gives the index there of the row
    /// itself.
    pub fn nearest(
        &self,
        (table, rows): (usize, &[u32]),
        points: &Points,
        skip: impl Fn(u32) -> Option<usize> + Sync,
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<Vec<Nearest>> {
        let width = self.scales.len();
        let work = rows.len().div_ceil(QUERIES);
        let found = jobs(work, threads, progress, ("distances", rows.len()), |signal, job| {
            let rows = &rows[job * QUERIES..rows.len().min((job + 1) * QUERIES)];
            let mut steps = Vec::with_capacity(rows.len() * width);
            for &row in rows {
                steps.extend((0..width).map(|c| {
                    let value = self.coordinate(c, table, row);
                    match self.tables.columns[c] {
                        Compared { values: Values::Codes { .. }, .. } => Step::Code(value.to_bits()),
                        _ if value.is_nan() => Step::Null,
                        _ => Step::Number(value),
                    }
                }));
            }
            let mut nearest = vec![NOWHERE; rows.len()];
            let mut distances = [0f32; BLOCK];
            for (number, block) in points.values.outer_iter().enumerate() {
                signal.check()?;
                let (first, count) = (number * BLOCK, (points.rows - number * BLOCK).min(BLOCK));
                for ((&row, steps), nearest) in rows.iter().zip(steps.chunks_exact(width)).zip(&mut nearest) {
                    add_up(steps, flat(block), &mut distances);
                    if let Some(own) = skip(row).and_then(|place| place.checked_sub(first)).filter(|&own| own < count) {
                        distances[own] = f32::INFINITY;
                    }
                    nearest.take(&distances[..count]);
                }
            }
            signal.finished(rows.len());
            let scale = 1.0 / width as f32;
            nearest.iter_mut().for_each(|n| *n = Nearest { first: n.first * scale, second: n.second * scale });
            Ok(nearest)
        })?;
        Ok(found.concat())
    }
}

impl Nearest {
    fn take(&mut self, distances: &[f32]) {
        // Most blocks hold none that is nearer: their least is found many at a time.
        let mut least = [f32::INFINITY; 16];
        let chunks = distances.chunks_exact(16);
        let mut rest = chunks.remainder().iter().fold(f32::INFINITY, |a, &b| if b < a { b } else { a });
        for chunk in chunks {
            least.iter_mut().zip(chunk).for_each(|(least, &d)| *least = if d < *least { d } else { *least });
        }
        rest = least.iter().fold(rest, |a, &b| if b < a { b } else { a });
        if rest >= self.second {
            return;
        }
        for &d in distances {
            if d < self.first {
                (self.first, self.second) = (d, self.first);
            } else if d < self.second {
                self.second = d;
            }
        }
    }
}

/// Adds up a block's distances to a query over the columns.
///
/// # Safety
/// The processor must support the instructions of `V`: plain loops are compiled to them.
// `dispatch` names a register's type; plain loops need only the instructions that come with it.
#[allow(clippy::extra_unused_type_parameters)]
#[inline(always)]
unsafe fn add_up_body<V: Vector, const TILE: usize>(steps: &[Step], block: &[f32], out: &mut [f32; BLOCK]) {
    out.fill(0.0);
    for (step, values) in steps.iter().zip(block.chunks_exact(BLOCK)) {
        match *step {
            Step::Number(x) => out.iter_mut().zip(values).for_each(|(out, &y)| {
                let d = (x - y).abs();
                // False for NaN: NULL.
                *out += if d < f32::INFINITY { d } else { 1.0 };
            }),
            Step::Null => {
                out.iter_mut().zip(values).for_each(|(out, &y)| *out += if y.is_nan() { 0.0 } else { 1.0 });
            }
            Step::Code(code) => out.iter_mut().zip(values).for_each(|(out, &y)| {
                *out += if y.to_bits() == code { 0.0 } else { 1.0 };
            }),
        }
    }
}

dispatch! {
    fn add_up(steps: &[Step], block: &[f32], out: &mut [f32; BLOCK]) = add_up_body
}
