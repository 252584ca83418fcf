//! Drawing rows: column by column over a few hundred rows at a time, by codes.
//!
//! One uniform number u a value. Of a leaf with c donors, ascending, the one at ⌊u·c⌋ is drawn; where numbers are smoothed, the
//! fraction f of u·c moves it towards the next donor by (f − ½) of the way, or for f < ½ towards the one before by (½ − f).

use super::stored::{Opened, read};
use super::tree::leaf;
use crate::draw::mix;
use crate::error::{Error, Result};
use crate::memory;
use crate::parallel::for_each_chunk;
use crate::stored::Files;
use crate::synthesis::{Draw, Field, Frame, Generator, RunGraph, Values};
use crate::tabular::NONE;

/// Rows whose codes stay in the first cache.
const ROWS: usize = 1024;

struct Cart {
    model: String,
    /// In the order in which they are drawn.
    columns: Vec<Opened>,
}

/// A column's part of a frame.
enum Out<'a> {
    Codes(&'a mut [u32]),
    Numbers(&'a mut [f64]),
}

/// Rows that are made together.
struct Part<'a> {
    first: usize,
    rows: usize,
    /// [fields]
    columns: Vec<Out<'a>>,
}

pub fn open(files: &Files, fields: &[Field]) -> Result<Box<dyn Generator>> {
    Ok(Box::new(Cart { model: files.model.into(), columns: read(files, fields)? }))
}

/// From 0 up to but not 1, of 53 bits.
#[inline(always)]
pub(super) fn uniform(seed: u64, place: u64) -> f64 {
    (mix(seed ^ mix(place)) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

impl Generator for Cart {
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
            || vec![0u8; ROWS * self.columns.len()],
            |codes, _, part| part.iter_mut().try_for_each(|part| self.fill(part, seed, &given, codes)),
        )?;
        drop(parts);
        Ok(Frame { rows: draw.rows, columns })
    }

    fn takes(&self, fields: &[usize]) -> bool {
        let first = self.columns.get(..fields.len());
        first.is_some_and(|first| first.iter().all(|column| fields.contains(&column.field)))
    }
}

impl Cart {
    /// `codes` [rows, columns] is scratch.
    fn fill(&self, part: &mut Part, seed: u64, given: &[Option<&Values>], codes: &mut [u8]) -> Result<()> {
        let width = self.columns.len();
        for (place, (column, given)) in self.columns.iter().zip(given).enumerate() {
            let rows = codes.chunks_exact_mut(width).take(part.rows);
            let out = &mut part.columns[column.field];
            if let Some(given) = given {
                column.copy(given, part.first, out, rows.map(|codes| &mut codes[place]))?;
                continue;
            }
            let uniforms = (part.first as u64..).map(|row| uniform(seed, row * width as u64 + place as u64));
            let drawn = match out {
                Out::Codes(out) => column.categories(rows, uniforms, place, out),
                Out::Numbers(out) if column.kept.is_empty() => column.plain(rows, uniforms, place, out),
                Out::Numbers(out) => column.smooth(rows, uniforms, place, out),
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
    /// Takes given values over, and writes their codes.
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

    /// A row's leaf: where its donors begin, and u·c.
    #[inline(always)]
    fn donors(&self, codes: &[u8], uniform: f64) -> (&[i32], f64) {
        let leaf = leaf(&self.nodes, codes) as usize;
        let donors = &self.donors[self.starts[leaf] as usize..self.starts[leaf + 1] as usize];
        (donors, uniform * donors.len() as f64)
    }

    /// `None` where a donor has no value.
    fn categories<'a>(
        &self,
        rows: impl Iterator<Item = &'a mut [u8]>,
        uniforms: impl Iterator<Item = f64>,
        place: usize,
        out: &mut [u32],
    ) -> Option<()> {
        for ((codes, u), out) in rows.zip(uniforms).zip(out) {
            let (donors, at) = self.donors(codes, u);
            let donor = *donors.get(at as usize)? as usize;
            let value = *self.values.get(donor)?;
            *out = if value < 0.0 { NONE } else { value as u32 };
            codes[place] = self.coding.of_place[donor];
        }
        Some(())
    }

    fn plain<'a>(
        &self,
        rows: impl Iterator<Item = &'a mut [u8]>,
        uniforms: impl Iterator<Item = f64>,
        place: usize,
        out: &mut [f64],
    ) -> Option<()> {
        for ((codes, u), out) in rows.zip(uniforms).zip(out) {
            let (donors, at) = self.donors(codes, u);
            let donor = *donors.get(at as usize)? as usize;
            *out = *self.values.get(donor)?;
            codes[place] = self.coding.of_place[donor];
        }
        Some(())
    }

    fn smooth<'a>(
        &self,
        rows: impl Iterator<Item = &'a mut [u8]>,
        uniforms: impl Iterator<Item = f64>,
        place: usize,
        out: &mut [f64],
    ) -> Option<()> {
        for ((codes, u), out) in rows.zip(uniforms).zip(out) {
            let (donors, at) = self.donors(codes, u);
            let j = at as usize;
            let donor = *donors.get(j)? as usize;
            let value = *self.values.get(donor)?;
            *out = value;
            codes[place] = self.coding.of_place[donor];
            if self.kept[donor] != 0 || donors.len() < 2 {
                continue;
            }
            let toward = at - j as f64 - 0.5;
            // At the ends of a leaf towards the only neighbour.
            let back = (toward < 0.0 && j > 0) || j + 1 == donors.len();
            let other = donors[if back { j - 1 } else { j + 1 }] as usize;
            if *self.kept.get(other)? == 0 {
                let share = toward.abs();
                *out = value * (1.0 - share) + *self.values.get(other)? * share;
                codes[place] = self.coding.number(*out);
            }
        }
        Some(())
    }
}
