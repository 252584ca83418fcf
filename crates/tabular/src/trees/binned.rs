//! Features as bytes: columns of numbers in at most 255 quantile bins, columns of categories as codes.
//!
//! Bins end half-way between adjacent values. Where a column has more than 255 values, bins have about equally many rows. The
//! code of a category is its place plus 1, and 0 for none; categories from place 254 on share a code. Columns of a single bin
//! are left out.
//!
//! Time: O(rows · columns · log rows), on all threads; bins are learned from at most 200,000 sampled rows. Memory: rows ×
//! columns bytes.

use ahash::AHashMap;
use serde::{Deserialize, Serialize};

use crate::samples::Features;
use runtime::draw;
use runtime::error::Result;
use runtime::memory;
use runtime::parallel::for_each_chunk;
use runtime::progress::Progress;

const MAX_BINS: usize = 255;
/// Most rows sampled to estimate the quantiles.
const SAMPLE: usize = 200_000;
const CHUNK_ROWS: usize = 4096;

/// The bins, learned from some rows and applied to any.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Binning {
    /// [features]
    places: Vec<Place>,
    columns: Vec<Column>,
    /// [columns]: the code of a feature that is not stored.
    empty: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Place {
    Nowhere,
    Number(u32),
    Category { column: u32, code: u8 },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Column {
    /// For numbers: the upper edge of each bin but the last, ascending.
    edges: Vec<f32>,
    /// Number of codes, from 0.
    pub bins: usize,
    pub categories: bool,
}

/// Binned rows.
#[derive(Clone, Debug)]
pub struct Binned {
    rows: usize,
    pub(super) columns: Vec<Column>,
    /// [rows, columns]
    codes: Vec<u8>,
}

impl Binning {
    /// Learns the bins from `rows`, or from all rows.
    pub fn learn(features: &Features, rows: Option<&[u32]>, threads: usize, progress: &dyn Progress) -> Result<Self> {
        let total = rows.map_or(features.rows(), <[u32]>::len);
        let taken = total.min(SAMPLE);
        let mut values: Vec<Vec<f32>> = vec![Vec::new(); features.columns()];
        for i in 0..taken {
            if i % CHUNK_ROWS == 0 {
                progress.check()?;
            }
            // One of each of as many equal parts.
            let (from, to) = (i * total / taken, (i + 1) * total / taken);
            let at = from + draw::below(0, i as u64, to - from);
            let row = rows.map_or(at, |rows| rows[at] as usize);
            let (columns, numbers) = features.matrix.row(row);
            for (&column, &value) in columns.iter().zip(numbers) {
                memory::push(&mut values[column as usize], value)?;
            }
        }
        let mut edges: Vec<(Vec<f32>, Vec<f32>)> = values.into_iter().map(|values| (values, Vec::new())).collect();
        for_each_chunk(
            &mut edges,
            1,
            threads,
            progress,
            || (),
            |(), _, of_column| {
                for (values, edges) in of_column {
                    *edges = quantiles(std::mem::take(values), taken);
                }
                Ok(())
            },
        )?;
        let mut binning =
            Self { places: vec![Place::Nowhere; features.columns()], columns: Vec::new(), empty: Vec::new() };
        let mut groups = features.categories.iter().peekable();
        let mut feature = 0;
        while feature < features.columns() {
            let column = binning.columns.len() as u32;
            if let Some((_, count)) = groups.next_if(|(first, _)| *first as usize == feature) {
                let count = *count as usize;
                for place in 0..count {
                    let code = (place + 1).min(MAX_BINS) as u8;
                    binning.places[feature + place] = Place::Category { column, code };
                }
                let bins = (count + 1).min(MAX_BINS + 1);
                binning.columns.push(Column { edges: Vec::new(), bins, categories: true });
                binning.empty.push(0);
                feature += count.max(1);
                continue;
            }
            let edges = std::mem::take(&mut edges[feature].1);
            if !edges.is_empty() {
                binning.places[feature] = Place::Number(column);
                binning.empty.push(code(&edges, 0.0));
                binning.columns.push(Column { bins: edges.len() + 1, edges, categories: false });
            }
            feature += 1;
        }
        Ok(binning)
    }

    /// Number of columns of codes.
    pub fn columns(&self) -> usize {
        self.columns.len()
    }

    /// Whether it fits a table of so many features: one from a file may say anything.
    pub fn is_sound(&self, features: usize) -> bool {
        let fits = |place: &Place| match *place {
            Place::Nowhere => true,
            Place::Number(column) => self.columns.get(column as usize).is_some_and(|column| !column.categories),
            Place::Category { column, code } => {
                self.columns.get(column as usize).is_some_and(|c| c.categories && usize::from(code) < c.bins)
            }
        };
        self.places.len() == features
            && self.places.iter().all(fits)
            && self.empty.len() == self.columns.len()
            && self.columns.iter().all(|column| column.edges.len() <= MAX_BINS && column.bins <= MAX_BINS + 1)
    }

    /// Where the codes of each column come from.
    pub(super) fn sources(&self) -> Sources<'_> {
        let mut sources =
            Sources { binning: self, numbers: vec![None; self.columns.len()], categories: AHashMap::new() };
        for (place, feature) in self.places.iter().zip(0..) {
            match *place {
                Place::Nowhere => {}
                Place::Number(column) => sources.numbers[column as usize] = Some(feature),
                Place::Category { column, code } => {
                    let known = sources.categories.entry((column, code)).or_insert(Some(feature));
                    *known = known.filter(|known| *known == feature);
                }
            }
        }
        sources
    }

    /// The feature of a column of numbers, and the upper edge of the bin `code`.
    pub(super) fn threshold(&self, column: usize, code: u8) -> Option<(u32, f32)> {
        let is_here = |place: &Place| matches!(place, Place::Number(here) if *here as usize == column);
        let feature = self.places.iter().position(is_here)?;
        Some((feature as u32, *self.columns[column].edges.get(usize::from(code))?))
    }

    pub fn apply(&self, features: &Features, threads: usize, progress: &dyn Progress) -> Result<Binned> {
        let width = self.columns.len();
        let rows = features.rows();
        let mut codes = memory::filled(0u8, rows * width)?;
        for_each_chunk(
            &mut codes,
            CHUNK_ROWS * width.max(1),
            threads,
            progress,
            || (),
            |(), number, part| {
                for (row, out) in (number * CHUNK_ROWS..).zip(part.chunks_exact_mut(width)) {
                    out.copy_from_slice(&self.empty);
                    let (columns, values) = features.matrix.row(row);
                    for (&feature, &value) in columns.iter().zip(values) {
                        match self.places[feature as usize] {
                            Place::Nowhere => {}
                            Place::Number(column) => {
                                out[column as usize] = code(&self.columns[column as usize].edges, value);
                            }
                            Place::Category { column, code } => {
                                if value != 0.0 {
                                    out[column as usize] = code;
                                }
                            }
                        }
                    }
                }
                Ok(())
            },
        )?;
        Ok(Binned { rows, columns: self.columns.clone(), codes })
    }
}

/// The features behind the codes of a [`Binning`].
pub(super) struct Sources<'a> {
    binning: &'a Binning,
    /// [columns]
    numbers: Vec<Option<u32>>,
    /// By column and code; `None` where several categories share the code.
    categories: AHashMap<(u32, u8), Option<u32>>,
}

impl Sources<'_> {
    /// The feature of a category; `None` where several share the code, or for no category.
    pub fn category(&self, column: usize, code: u8) -> Option<u32> {
        self.categories.get(&(column as u32, code)).copied().flatten()
    }

    /// The feature of a column of numbers, and the upper edge of the bin `code`.
    pub fn threshold(&self, column: usize, code: u8) -> Option<(u32, f32)> {
        Some((*self.numbers.get(column)?.as_ref()?, *self.binning.columns[column].edges.get(usize::from(code))?))
    }
}

impl Binned {
    /// Learns the bins from all rows and applies them.
    pub fn of(features: &Features, threads: usize, progress: &dyn Progress) -> Result<Self> {
        Binning::learn(features, None, threads, progress)?.apply(features, threads, progress)
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn columns(&self) -> usize {
        self.columns.len()
    }

    /// All codes [rows, columns].
    pub fn codes(&self) -> &[u8] {
        &self.codes
    }

    /// The codes [columns] of a row.
    #[inline(always)]
    pub fn row(&self, row: usize) -> &[u8] {
        &self.codes[row * self.columns.len()..][..self.columns.len()]
    }

    /// The codes [columns, rows].
    pub(super) fn by_columns(&self, threads: usize, progress: &dyn Progress) -> Result<Vec<u8>> {
        let (rows, width) = (self.rows, self.columns.len());
        let mut out = memory::filled(0u8, self.codes.len())?;
        for_each_chunk(
            &mut out,
            rows.max(1),
            threads,
            progress,
            || (),
            |(), column, out| {
                out.iter_mut().enumerate().for_each(|(row, out)| *out = self.codes[row * width + column]);
                Ok(())
            },
        )?;
        Ok(out)
    }
}

#[inline(always)]
fn code(edges: &[f32], x: f32) -> u8 {
    edges.partition_point(|&edge| edge < x) as u8
}

/// The edges of the bins of `values`; there are `total` values including zeros that are not stored.
fn quantiles(mut values: Vec<f32>, total: usize) -> Vec<f32> {
    values.sort_unstable_by(f32::total_cmp);
    let mut runs: Vec<(f32, usize)> = Vec::new();
    let mut add = |x: f32, count: usize| match runs.last_mut() {
        Some((last, so_far)) if *last == x => *so_far += count,
        _ => runs.push((x, count)),
    };
    let zeros = total - values.len();
    let split = values.partition_point(|&x| x < 0.0);
    values[..split].iter().for_each(|&x| add(x, 1));
    if zeros > 0 {
        add(0.0, zeros);
    }
    values[split..].iter().for_each(|&x| add(x, 1));
    let few = runs.len() <= MAX_BINS;
    let (mut edges, mut so_far, mut bins) = (Vec::new(), 0, 1);
    for pair in runs.windows(2) {
        let ((x, count), (next, _)) = (pair[0], pair[1]);
        so_far += count;
        if few || so_far * MAX_BINS >= bins * total {
            let half = x / 2.0 + next / 2.0;
            edges.push(if half < next { half.max(x) } else { x });
            bins = so_far * MAX_BINS / total + 1;
        }
    }
    edges
}
