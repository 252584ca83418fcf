//! A compressed copy of item factors, and exact search with it: a bound from bytes first, the factors only of what it lets pass.
//!
//! Each item `y` is stored as `ŷ = s p`: a scale `s = max|y_j| / 127` and bytes `p`. A user `x` becomes `x̂ = t q` likewise. Then
//! `x·y = x̂·ŷ + x·(y − ŷ) + (x − x̂)·ŷ`, and with `ŷ = y − (y − ŷ)` and Cauchy and Schwarz
//! `x·y ≤ s t (q·p) + ‖x‖ ‖y − ŷ‖ + ‖x − x̂‖ (‖y‖ + ‖y − ŷ‖)`.
//! For each block of 16 items the greatest `ρ = ‖y − ŷ‖ / s` and `ν = (‖y‖ + ‖y − ŷ‖) / s` are stored, so that the bound is
//! `s (t (q·p) + ‖x‖ ρ + ‖x − x̂‖ ν)`, one comparison an item. Rounding: the score itself, a sum of `d` products in `f32`, is off by
//! less than `(d + 8) 2⁻²⁴ ‖x‖ ‖y‖` in any order of adding, the bound by less than `14 · 2⁻²⁴ ‖x‖ s ν` while `d ≤ 4096`; `ν` takes both
//! twice over ([`Bounds::spread`]). An item whose bound is not below the k-th best score so far is scored by [`dot`], as the plain scan
//! does: the list is the same to the last bit.
//!
//! Items lie in order of descending norm: the search ends where `‖x‖ ‖y‖` is below the k-th best score, for this item and all
//! after it (the length pruning of Teflioudi, Gemulla, Mykytiuk, "LEMP", SIGMOD 2015). Vectors of length one lie in clusters instead
//! ([`crate::neighbours`]), with places between them that hold no item. Rounding the rows per item with exact
//! rescoring is in the way of Guo and others, "Quantization based fast inner product search" (AISTATS 2016).
//!
//! The copy takes `d + 8.75` bytes an item where the factors take `4 d`. A search reads at most the copy, and the factors of some hundred items.

mod search;
#[cfg(test)]
mod tests;

use ndarray::ArrayView2;

pub(crate) use search::Reading;

use kernels::bytes::{OFFSET, ROWS, block_bytes};
use kernels::matrix::flat;
use onnx::stored::{DataWriter, Files};
use runtime::error::Result;
use runtime::mapped::Mapped;
use runtime::memory;
use runtime::parallel::for_each_chunk;
use runtime::progress::Progress;

/// Fewer items are scanned as fast without.
pub const MIN_ITEMS: usize = 2048;
/// The proof above ends here.
const MOST_FACTORS: usize = 4096;
/// Norms outside this are left to the plain scan: squares and products of what is inside stay far from the ends of `f32`.
const NORMS: std::ops::RangeInclusive<f64> = 1e-15..=1e15;
/// More than any rounding of a constant.
const UP: f64 = 1.0 + 1e-6;
/// Stands at a place without an item.
pub(crate) const NOTHING: u32 = u32::MAX;
/// Blocks for a thread at a time when the copy is made.
const BLOCKS_PER_TASK: usize = 1024;

/// The greatest of a vector's absolute values, made its scale; and the vector in those units.
fn quantize(values: &[f32], bytes: &mut [i8]) -> f32 {
    let greatest = values.iter().fold(0f32, |greatest, v| greatest.max(v.abs()));
    let scale = (greatest / 127.0).max(f32::MIN_POSITIVE);
    // Adding leaves no room for a fraction: to the nearest whole number, several times as fast as `round`.
    const WHOLE: f32 = 1.5 * (1u32 << 23) as f32;
    for (byte, &value) in bytes.iter_mut().zip(values) {
        *byte = ((value / scale).clamp(-127.0, 127.0) + WHOLE - WHOLE) as i8;
    }
    scale
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|v| v * v).sum::<f64>().sqrt()
}

/// `‖v‖` and `‖v − scale · bytes‖`.
fn norms(values: &[f32], bytes: &[i8], scale: f32) -> (f64, f64) {
    let errors = values.iter().zip(bytes).map(|(&v, &b)| f64::from(v) - f64::from(scale) * f64::from(b));
    (norm(values.iter().map(|&v| v.into())), norm(errors))
}

/// Whether the bounds are proven for as many factors, and there are any.
pub(crate) fn fits(factors: ArrayView2<f32>) -> bool {
    (1..=MOST_FACTORS).contains(&factors.ncols())
}

/// Adds the compressed copy of `factors` [items, d] to a data file, under `name`. Adds nothing where there are fewer than `min_items`, or more
/// factors than the bounds allow.
pub fn write(
    data: &mut DataWriter,
    name: &str,
    factors: ArrayView2<f32>,
    min_items: usize,
    threads: usize,
    progress: &dyn Progress,
) -> Result<()> {
    if factors.nrows() < min_items || !fits(factors) {
        return Ok(());
    }
    if let Some(copy) = Quantized::of(factors, threads, progress)? {
        copy.write(data, name);
    }
    Ok(())
}

/// The compressed copy. Places without an item are zeros.
pub struct Quantized {
    /// [blocks, groups, ROWS, 4]: see [`kernels::bytes`].
    bytes: Mapped<u8>,
    /// [blocks, ROWS]: `s`
    scales: Mapped<f32>,
    /// [blocks]: `ρ`
    errors: Mapped<f32>,
    /// [blocks]: `ν`
    ratios: Mapped<f32>,
    /// [blocks]: the greatest `‖y‖` of this block and all after it.
    norms: Mapped<f32>,
    /// [places]: which item stands at each place, or [`NOTHING`].
    order: Mapped<u32>,
    /// Groups of four factors.
    groups: usize,
}

impl Quantized {
    /// `None` where a factor is no number or a norm is too great for the bounds.
    pub fn of(factors: ArrayView2<f32>, threads: usize, progress: &dyn Progress) -> Result<Option<Self>> {
        let (items, d) = factors.dim();
        let row = |item: u32| &flat(factors)[item as usize * d..][..d];

        // Descending norms as ascending keys, ties by item: the bits of numbers from 0 on are in their order.
        let mut keys = memory::filled(0u64, items)?;
        for_each_chunk(
            &mut keys,
            BLOCKS_PER_TASK * ROWS,
            threads,
            progress,
            || (),
            |(), number, keys| {
                for (item, key) in (number * BLOCKS_PER_TASK * ROWS..).zip(keys) {
                    let norm = norm(row(item as u32).iter().map(|&v| v.into()));
                    *key = u64::from(!((norm * UP) as f32).to_bits()) << 32 | item as u64;
                }
                Ok(())
            },
        )?;
        keys.sort_unstable();
        progress.check()?;
        let mut order = Vec::new();
        memory::reserve(&mut order, items)?;
        order.extend(keys.into_iter().map(|key| key as u32));
        Self::in_order(factors, order, threads, progress)
    }

    /// [`of`](Self::of) with the items in `order`, which may hold [`NOTHING`].
    pub(crate) fn in_order(
        factors: ArrayView2<f32>,
        order: Vec<u32>,
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<Option<Self>> {
        let (d, factors) = (factors.ncols(), flat(factors));
        let groups = d.div_ceil(4);
        let blocks = order.len().div_ceil(ROWS);
        let mut scales = memory::filled([0f32; ROWS], blocks)?;
        let mut errors = memory::filled(0f32, blocks)?;
        let mut ratios = memory::filled(0f32, blocks)?;
        let mut norms = memory::filled(0f32, blocks)?;
        let mut bytes = memory::filled(OFFSET, blocks * block_bytes(groups))?;
        let mut parts: Vec<_> = bytes
            .chunks_mut(BLOCKS_PER_TASK * block_bytes(groups))
            .zip(scales.chunks_mut(BLOCKS_PER_TASK))
            .zip(errors.chunks_mut(BLOCKS_PER_TASK).zip(ratios.chunks_mut(BLOCKS_PER_TASK)))
            .zip(norms.chunks_mut(BLOCKS_PER_TASK).zip(order.chunks(BLOCKS_PER_TASK * ROWS)))
            .collect();
        for_each_chunk(
            &mut parts,
            1,
            threads,
            progress,
            || vec![0i8; d],
            |row_bytes, _, parts| {
                for (((bytes, scales), (errors, ratios)), (norms, order)) in parts {
                    let blocks = bytes.chunks_exact_mut(block_bytes(groups)).zip(order.chunks(ROWS)).zip(&mut **scales);
                    let measures = errors.iter_mut().zip(&mut **ratios).zip(&mut **norms);
                    for (((bytes, items), scales), ((error, ratio), greatest)) in blocks.zip(measures) {
                        let items = items.iter().zip(scales).enumerate().filter(|(_, (item, _))| **item != NOTHING);
                        for (r, (&item, scale)) in items {
                            let row = &factors[item as usize * d..][..d];
                            *scale = quantize(row, row_bytes);
                            let (norm, off) = self::norms(row, row_bytes, *scale);
                            let unit = UP / f64::from(*scale);
                            *error = error.max((unit * off) as f32);
                            *ratio = ratio.max((unit * (norm + off)) as f32);
                            // The greatest of NaN and a number would be the number.
                            let norm = if norm.is_nan() { f64::INFINITY } else { norm };
                            *greatest = greatest.max((norm * UP) as f32);
                            for (j, &byte) in row_bytes.iter().enumerate() {
                                bytes[(j / 4 * ROWS + r) * 4 + j % 4] = (i16::from(byte) + i16::from(OFFSET)) as u8;
                            }
                        }
                    }
                }
                Ok(())
            },
        )?;
        drop(parts);
        let mut greatest = 0f32;
        for norm in norms.iter_mut().rev() {
            greatest = greatest.max(*norm);
            *norm = greatest;
        }
        if f64::from(greatest) > *NORMS.end() {
            return Ok(None);
        }
        Ok(Some(Self {
            bytes: bytes.into(),
            scales: scales.into_flattened().into(),
            errors: errors.into(),
            ratios: ratios.into(),
            norms: norms.into(),
            order: order.into(),
            groups,
        }))
    }

    /// Adds it to a data file, as the copy of the factors called `name`.
    pub(crate) fn write(&self, data: &mut DataWriter, name: &str) {
        let blocks = self.errors.len();
        data.tensor(&format!("{name}.quantized"), &[blocks, self.groups, ROWS, 4], &*self.bytes);
        data.tensor(&format!("{name}.quantized.scales"), &[blocks, ROWS], &*self.scales);
        data.tensor(&format!("{name}.quantized.errors"), &[blocks], &*self.errors);
        data.tensor(&format!("{name}.quantized.ratios"), &[blocks], &*self.ratios);
        data.tensor(&format!("{name}.quantized.norms"), &[blocks], &*self.norms);
        data.tensor(&format!("{name}.quantized.order"), &[self.order.len()], &*self.order);
    }

    /// The copy of factors called `name`, of `d` each, in `places`: as many as there are items where it was made by [`of`](Self::of). `None`
    /// where the data file has none.
    pub fn open(files: &Files, name: &str, places: usize, d: usize) -> Result<Option<Self>> {
        let copy = format!("{name}.quantized");
        if !files.has_tensor(&copy) {
            return Ok(None);
        }
        let (blocks, groups) = (places.div_ceil(ROWS), d.div_ceil(4));
        let (shape, bytes) = files.tensor::<u8, 4>(&copy)?;
        let (scales_shape, scales) = files.tensor::<f32, 2>(&format!("{copy}.scales"))?;
        let (errors_shape, errors) = files.tensor::<f32, 1>(&format!("{copy}.errors"))?;
        let (ratios_shape, ratios) = files.tensor::<f32, 1>(&format!("{copy}.ratios"))?;
        let (norms_shape, norms) = files.tensor::<f32, 1>(&format!("{copy}.norms"))?;
        let (order_shape, order) = files.tensor::<u32, 1>(&format!("{copy}.order"))?;
        let fits = shape == [blocks, groups, ROWS, 4]
            && scales_shape == [blocks, ROWS]
            && [errors_shape, ratios_shape, norms_shape] == [[blocks]; 3]
            && order_shape == [places]
            && d <= MOST_FACTORS;
        if !fits {
            return Err(files.damaged(format!("the compressed copy of {name} does not fit it")));
        }
        Ok(Some(Self { bytes, scales, errors, ratios, norms, order, groups }))
    }

    /// Which item stands at each place, or [`NOTHING`].
    pub(crate) fn order(&self) -> &[u32] {
        &self.order
    }
}
