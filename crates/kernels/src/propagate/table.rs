//! Rows of nodes as they are propagated: as bfloat16 or as `f32`.

use std::ops::Range;

use ndarray::{Array2, ArrayView2, ArrayViewMut2, s};

use crate::matrix::{flat, flat_mut, split_rows};
use crate::vector::{Vector, dispatch};
use runtime::error::Result;
use runtime::memory;

/// Floats to which a row is padded: a pair of the widest registers, whose halves share words.
pub const PAD: usize = 32;

/// A row for each node, multiplied by the node's scale.
#[derive(Default)]
pub struct Table(pub(super) Cells);

pub(super) enum Cells {
    /// [rows, width / 2]: of each 32 floats, word `k` holds float `k` in its lower half and float `16 + k` in its upper one.
    Half(Array2<u32>),
    /// [rows, width]
    Full(Array2<f32>),
}

impl Default for Cells {
    fn default() -> Self {
        Self::Full(Array2::default((0, 0)))
    }
}

/// Some consecutive rows of a [`Table`].
pub enum Rows<'a> {
    Half(ArrayViewMut2<'a, u32>),
    Full(ArrayViewMut2<'a, f32>),
}

impl Table {
    /// bfloat16; `width` is a multiple of [`PAD`].
    pub fn half(rows: usize, width: usize) -> Result<Self> {
        assert_eq!(width % PAD, 0);
        Ok(Self(Cells::Half(memory::matrix(rows, width / 2, 0)?)))
    }

    pub fn full(rows: usize, width: usize) -> Result<Self> {
        assert_eq!(width % PAD, 0);
        Ok(Self(Cells::Full(memory::matrix(rows, width, 0.0)?)))
    }

    pub(super) fn rows(&self) -> usize {
        match &self.0 {
            Cells::Half(words) => words.nrows(),
            Cells::Full(floats) => floats.nrows(),
        }
    }

    /// Floats of a row.
    pub fn width(&self) -> usize {
        match &self.0 {
            Cells::Half(words) => 2 * words.ncols(),
            Cells::Full(floats) => floats.ncols(),
        }
    }

    /// See [`split_rows`].
    pub fn split<'a>(&'a mut self, runs: &[Range<usize>]) -> Vec<Rows<'a>> {
        match &mut self.0 {
            Cells::Half(words) => split_rows(words.view_mut(), runs).into_iter().map(Rows::Half).collect(),
            Cells::Full(floats) => split_rows(floats.view_mut(), runs).into_iter().map(Rows::Full).collect(),
        }
    }

    pub fn all(&mut self) -> Rows<'_> {
        match &mut self.0 {
            Cells::Half(words) => Rows::Half(words.view_mut()),
            Cells::Full(floats) => Rows::Full(floats.view_mut()),
        }
    }

    /// `to += factor · row`
    pub fn add_row(&self, row: usize, factor: f32, to: &mut [f32]) {
        match &self.0 {
            Cells::Half(words) => add_half(flat(words.slice(s![row..=row, ..])), factor, to),
            Cells::Full(floats) => floats.row(row).iter().zip(to).for_each(|(&x, to)| *to += factor * x),
        }
    }
}

impl Rows<'_> {
    /// Writes `factors[r] · values[r]` to row `first + r`.
    pub fn write(&mut self, first: usize, values: ArrayView2<f32>, factors: &[f32]) {
        assert_eq!(values.nrows(), factors.len());
        let to = s![first..first + values.nrows(), ..];
        match self {
            Self::Half(words) => {
                write_half(flat(values), factors, values.ncols(), flat_mut(words.slice_mut(to)));
            }
            Self::Full(floats) => {
                for ((mut to, from), &factor) in
                    floats.slice_mut(to).rows_mut().into_iter().zip(values.rows()).zip(factors)
                {
                    to.iter_mut().zip(from).for_each(|(to, &x)| *to = factor * x);
                }
            }
        }
    }

    /// Writes zeros to a row.
    pub fn clear(&mut self, row: usize) {
        match self {
            Self::Half(words) => words.row_mut(row).fill(0),
            Self::Full(floats) => floats.row_mut(row).fill(0.0),
        }
    }
}

/// The nearest bfloat16, ties to even, as the upper 16 bits; finite values only.
#[inline(always)]
fn rounded(x: f32) -> u32 {
    let bits = x.to_bits();
    bits.wrapping_add(0x7fff + (bits >> 16 & 1))
}

#[expect(clippy::extra_unused_type_parameters, reason = "the compiler chooses the registers")]
#[inline(always)]
unsafe fn write_half_body<V: Vector, const TILE: usize>(
    values: &[f32],
    factors: &[f32],
    width: usize,
    words: &mut [u32],
) {
    assert!(values.len() == factors.len() * width && 2 * words.len() == values.len());
    for ((row, words), &factor) in values.chunks_exact(width).zip(words.chunks_exact_mut(width / 2)).zip(factors) {
        for (group, words) in row.chunks_exact(PAD).zip(words.chunks_exact_mut(PAD / 2)) {
            let (lower, upper) = group.split_at(PAD / 2);
            for k in 0..PAD / 2 {
                words[k] = rounded(factor * lower[k]) >> 16 | rounded(factor * upper[k]) & 0xffff_0000;
            }
        }
    }
}
dispatch! {
    fn write_half(values: &[f32], factors: &[f32], width: usize, words: &mut [u32]) = write_half_body
}

fn add_half(words: &[u32], factor: f32, to: &mut [f32]) {
    for (words, to) in words.chunks_exact(PAD / 2).zip(to.chunks_exact_mut(PAD)) {
        let (lower, upper) = to.split_at_mut(PAD / 2);
        for k in 0..PAD / 2 {
            lower[k] += factor * f32::from_bits(words[k] << 16);
            upper[k] += factor * f32::from_bits(words[k] & 0xffff_0000);
        }
    }
}
