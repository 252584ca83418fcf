//! Drawing rows: column by column, for some hundreds of rows at a time, by codes.
//!
//! Each value takes one uniform number u. Of a leaf with c donors, ascending, number ⌊u·c⌋ is drawn. If numbers are
//! smoothed, the fraction f of u·c moves it towards the next donor by (f − ½) of the way, or for f < ½ towards the
//! previous one by (½ − f).

use ndarray::{Array2, s};

use super::stored::{Opened, read};
use super::tree::{arrive, neighbour};
use crate::{Draw, Field, Frame, Generator, RunGraph, Values};
use onnx::stored::Files;
use runtime::draw::mix;
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::parallel::for_each_chunk;
use tabular::NONE;

/// Rows drawn at a time: their codes fit in the L1 cache.
const ROWS: usize = 1024;

struct Trees {
    model: String,
    /// In drawing order.
    columns: Vec<Opened>,
}

/// A column's part of a frame.
enum Out<'a> {
    Codes(&'a mut [u32]),
    Numbers(&'a mut [f64]),
}

/// Rows drawn together.
struct Part<'a> {
    first: usize,
    rows: usize,
    /// [fields]
    columns: Vec<Out<'a>>,
}

pub fn open(files: &Files, fields: &[Field]) -> Result<Box<dyn Generator>> {
    Ok(Box::new(Trees { model: files.model.into(), columns: read(files, fields)? }))
}

/// The uniform numbers of the column drawn at `place`: from [0, 1), with 53 bits, for each row.
pub(super) fn uniforms(seed: u64, place: usize, rows: std::ops::Range<usize>) -> impl Iterator<Item = f64> {
    let key = mix(seed ^ mix(place as u64));
    (rows.start as u64..rows.end as u64)
        .map(move |row| (mix(key.wrapping_add(row)) >> 11) as f64 * (1.0 / (1u64 << 53) as f64))
}

impl Generator for Trees {
    fn sample(&self, draw: &Draw, _graph: &mut RunGraph) -> Result<Frame> {
        let mut columns = Vec::with_capacity(self.columns.len());
        columns.resize_with(self.columns.len(), || Values::Codes(Vec::new()));
        for column in &self.columns {
            columns[column.field] = if column.category {
                Values::Codes(memory::filled(0, draw.rows)?)
            } else {
                Values::Numbers(memory::filled(0.0, draw.rows)?)
            };
        }
        let mut parts = Vec::new();
        let part = |n: usize| Part { first: n * ROWS, rows: ROWS.min(draw.rows - n * ROWS), columns: Vec::new() };
        parts.extend((0..draw.rows.div_ceil(ROWS)).map(part));
        for column in &mut columns {
            match column {
                Values::Codes(codes) => {
                    parts.iter_mut().zip(codes.chunks_mut(ROWS)).for_each(|(p, c)| p.columns.push(Out::Codes(c)));
                }
                Values::Numbers(numbers) => {
                    parts.iter_mut().zip(numbers.chunks_mut(ROWS)).for_each(|(p, c)| p.columns.push(Out::Numbers(c)));
                }
            }
        }
        let seed = draw.seed;
        let given: Vec<Option<&Values>> = self
            .columns
            .iter()
            .map(|column| draw.given.iter().find(|(field, _)| *field == column.field).map(|(_, values)| values))
            .collect();
        for_each_chunk(
            &mut parts,
            1,
            draw.threads,
            draw.progress,
            || (Array2::zeros((ROWS, self.columns.len())), vec![0u32; ROWS]),
            |(codes, leaves), _, part| {
                part.iter_mut().try_for_each(|part| self.fill(part, seed, &given, (codes, leaves)))
            },
        )?;
        drop(parts);
        Ok(Frame { rows: draw.rows, columns })
    }

    fn takes(&self, fields: &[usize]) -> bool {
        let first = self.columns.get(..fields.len());
        first.is_some_and(|first| first.iter().all(|column| fields.contains(&column.field)))
    }
}

impl Trees {
    /// `codes` [rows, columns] and `leaves` [rows] are scratch.
    fn fill(
        &self,
        part: &mut Part,
        seed: u64,
        given: &[Option<&Values>],
        (codes, leaves): (&mut Array2<u8>, &mut [u32]),
    ) -> Result<()> {
        let (mut codes, leaves) = (codes.slice_mut(s![..part.rows, ..]), &mut leaves[..part.rows]);
        let last = self.columns.len() - 1;
        for (place, (column, given)) in self.columns.iter().zip(given).enumerate() {
            let out = &mut part.columns[column.field];
            if let Some(given) = given {
                column.copy(given, part.first, out, codes.column_mut(place).iter_mut())?;
                continue;
            }
            arrive(&column.nodes, codes.view(), leaves);
            let uniforms = uniforms(seed, place, part.first..part.first + part.rows);
            let donors = leaves.iter().zip(uniforms).map(|(&node, u)| {
                let (first, count) = column.leaves[node as usize];
                (first as usize, count as usize, u * f64::from(count))
            });
            let mut codes = codes.column_mut(place);
            let codes = codes.iter_mut();
            let drawn = match out {
                Out::Codes(out) => column.plain(donors, codes, out, |x| if x < 0.0 { NONE } else { x as u32 }),
                Out::Numbers(out) if column.kept.is_empty() => column.plain(donors, codes, out, |x| x),
                Out::Numbers(out) => column.smooth(donors, codes, out, place < last),
            };
            drawn.ok_or_else(|| Error::DamagedModel {
                model: self.model.clone(),
                reason: "a leaf has a donor without a value".into(),
            })?;
        }
        Ok(())
    }
}

impl Opened {
    /// Copies given values and writes their codes.
    fn copy<'a>(
        &self,
        given: &Values,
        first: usize,
        out: &mut Out,
        codes: impl Iterator<Item = &'a mut u8>,
    ) -> Result<()> {
        match (given, out) {
            (Values::Codes(given), Out::Codes(out)) => {
                out.copy_from_slice(&given[first..first + out.len()]);
                codes.zip(out.iter()).for_each(|(code, &category)| *code = self.coding.category(category));
            }
            (Values::Numbers(given), Out::Numbers(out)) => {
                out.copy_from_slice(&given[first..first + out.len()]);
                codes.zip(out.iter()).for_each(|(code, &x)| *code = self.coding.number(x));
            }
            _ => return Err(Error::Internal("given values are of another kind than their field".into())),
        }
        Ok(())
    }

    /// Draws donors without smoothing. `donors` are the first donor of each row's leaf, their number, and u·c. `None`
    /// if a donor has no value.
    fn plain<'a, T>(
        &self,
        donors: impl Iterator<Item = (usize, usize, f64)>,
        codes: impl Iterator<Item = &'a mut u8>,
        out: &mut [T],
        told: impl Fn(f64) -> T,
    ) -> Option<()> {
        let (all, values, of_place) = (&*self.donors, &*self.values, &self.coding.of_place[..]);
        for (((first, _, at), code), out) in donors.zip(codes).zip(out) {
            let donor = *all.get(first + at as usize)? as usize;
            *out = told(*values.get(donor)?);
            *code = *of_place.get(donor)?;
        }
        Some(())
    }

    /// Draws numbers between donors. `coded` if a later column uses their codes.
    fn smooth<'a>(
        &self,
        donors: impl Iterator<Item = (usize, usize, f64)>,
        codes: impl Iterator<Item = &'a mut u8>,
        out: &mut [f64],
        coded: bool,
    ) -> Option<()> {
        let (all, values, kept) = (&*self.donors, &*self.values, &*self.kept);
        for (((first, count, at), code), out) in donors.zip(codes).zip(out) {
            let (of_leaf, j) = (all.get(first..first + count)?, at as usize);
            let donor = *of_leaf.get(j)? as usize;
            *out = *values.get(donor)?;
            *code = self.coding.of_place[donor];
            if kept[donor] != 0 {
                continue;
            }
            let toward = at - at.floor() - 0.5;
            if let Some(other) = neighbour(of_leaf, j, toward < 0.0)
                && *kept.get(other as usize)? == 0
            {
                *out = between(*out, values[other as usize], toward.abs());
                if coded {
                    *code = self.coding.number(*out);
                }
            }
        }
        Some(())
    }
}

/// Interpolates between x and y. Halves avoid overflow.
fn between(x: f64, y: f64, share: f64) -> f64 {
    (x * 0.5 + (y * 0.5 - x * 0.5) * share) * 2.0
}
