//! Encoding rows as class indices and numbers within modes.

use ahash::AHashMap;
use ndarray::Array2;

use super::{Class, Encoding};
use crate::{Task, Values};
use kernels::matrix::flat;
use runtime::draw::{mix, uniform};
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::parallel::for_each_chunk;
use tabular::NONE;

/// Rows encoded between two checks for a cancel request.
const CHUNK: usize = 2048;

/// Encoded rows.
pub struct Encoded {
    /// [rows, heads]: column of the class.
    pub classes: Array2<u32>,
    /// [rows, numbers]: number within the mode; 0 if the class is no mode.
    pub numbers: Array2<f32>,
}

/// The lookup of a field's classes.
struct Lookup {
    /// The class of each code.
    codes: Vec<u32>,
    /// The class of each value, by its bits.
    values: AHashMap<u64, u32>,
    null: u32,
    /// Column, log(weight / deviation), mean and deviation of each mode.
    modes: Vec<(u32, f64, f64, f64)>,
}

impl Lookup {
    fn new(encoding: &Encoding, head: usize, values: &Values) -> Result<Self> {
        let head = &encoding.heads[head];
        let mut lookup = Self { codes: Vec::new(), values: AHashMap::new(), null: NONE, modes: Vec::new() };
        if let Values::Codes(codes) = values {
            let most = codes.iter().filter(|&&code| code != NONE).max();
            let others = head.classes.iter().position(|class| *class == Class::Others);
            let others = others.map_or(NONE, |at| (head.first + at) as u32);
            lookup.codes = memory::filled(others, most.map_or(0, |&most| most as usize + 1))?;
        }
        for ((class, column), &count) in head.classes.iter().zip(head.first as u32..).zip(&head.counts) {
            match *class {
                Class::Null => lookup.null = column,
                Class::Code(code) => lookup.codes[code as usize] = column,
                Class::Others => {}
                Class::Value(value) => drop(lookup.values.insert(value.to_bits(), column)),
                Class::Mode { mean, deviation } => {
                    lookup.modes.push((column, (count as f64 / deviation).ln(), mean, deviation));
                }
            }
        }
        Ok(lookup)
    }

    /// The class of a number and its position within it. `u` from 0 to 1 draws the mode.
    fn number(&self, x: f64, u: f64) -> (u32, f32) {
        let x = x + 0.0;
        if let Some(&column) = self.values.get(&x.to_bits()) {
            return (column, 0.0);
        }
        let density = |&(_, weight, mean, deviation): &(u32, f64, f64, f64)| {
            let far = x / deviation - mean / deviation;
            weight - far * far / 2.0
        };
        let most = self.modes.iter().map(density).fold(f64::NEG_INFINITY, f64::max);
        let share = |mode: &(u32, f64, f64, f64)| (density(mode) - most).exp();
        let mut left = u * self.modes.iter().map(share).sum::<f64>();
        let mut chosen = self.modes.last();
        for mode in &self.modes {
            left -= share(mode);
            if left < 0.0 {
                chosen = Some(mode);
                break;
            }
        }
        chosen.map_or((NONE, 0.0), |&(column, _, mean, deviation)| {
            (column, (x / (4.0 * deviation) - mean / (4.0 * deviation)).clamp(-1.0, 1.0) as f32)
        })
    }
}

impl Encoded {
    /// Encodes the rows of a task.
    pub fn new(encoding: &Encoding, task: &Task) -> Result<Self> {
        let (rows, heads, numbers) = (task.rows.rows, encoding.heads.len(), encoding.numbers);
        let (columns, seed) = (&task.rows.columns, task.seed);
        let lookups = columns.iter().enumerate();
        let lookups = lookups.map(|(head, values)| Lookup::new(encoding, head, values)).collect::<Result<Vec<_>>>()?;
        let mut parts: Vec<(Vec<u32>, Vec<f32>)> = vec![Default::default(); rows.div_ceil(CHUNK)];
        for_each_chunk(
            &mut parts,
            1,
            task.threads,
            task.progress,
            || (),
            |(), number, part| {
                let (classes, within) = &mut part[0];
                let range = number * CHUNK..((number + 1) * CHUNK).min(rows);
                memory::reserve(classes, range.len() * heads)?;
                *within = memory::filled(0f32, range.len() * numbers)?;
                for (r, row) in range.enumerate() {
                    for (h, (lookup, values)) in lookups.iter().zip(columns).enumerate() {
                        let column = match values {
                            _ if values.is_null(row) => lookup.null,
                            Values::Codes(codes) => lookup.codes[codes[row] as usize],
                            Values::Numbers(all) => {
                                let u = uniform(mix(seed ^ h as u64), row as u64) / 2.0 + 0.5;
                                let (column, at) = lookup.number(all[row], f64::from(u));
                                if let Some(n) = encoding.heads[h].number {
                                    within[r * numbers + n] = at;
                                }
                                column
                            }
                        };
                        if column == NONE {
                            return Err(Error::Internal("a value has no class".into()));
                        }
                        classes.push(column);
                    }
                }
                Ok(())
            },
        )?;
        let (mut classes, mut within) = (Vec::new(), Vec::new());
        memory::reserve(&mut classes, rows * heads)?;
        memory::reserve(&mut within, rows * numbers)?;
        for (a, b) in parts {
            classes.extend_from_slice(&a);
            within.extend_from_slice(&b);
        }
        Ok(Self { classes: memory::shaped(rows, heads, classes)?, numbers: memory::shaped(rows, numbers, within)? })
    }

    pub fn rows(&self) -> usize {
        self.classes.nrows()
    }

    /// The classes and numbers of a row.
    pub fn row(&self, row: usize) -> (&[u32], &[f32]) {
        let (heads, numbers) = (self.classes.ncols(), self.numbers.ncols());
        (&flat(self.classes.view())[row * heads..][..heads], &flat(self.numbers.view())[row * numbers..][..numbers])
    }
}
