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
//! after it (the length pruning of Teflioudi, Gemulla, Mykytiuk, "LEMP", SIGMOD 2015). Rounding the rows per item with exact
//! rescoring is in the way of Guo and others, "Quantization based fast inner product search" (AISTATS 2016).
//!
//! The copy takes `d + 8.75` bytes an item where the factors take `4 d`. A search reads at most the copy, and the factors of some hundred items.

use ndarray::ArrayView2;

use super::listed::Listed;
use super::top_k::TopK;
use kernels::bytes::{Blocks, ByteLevel, ByteQuery, OFFSET, ROWS, block_bytes, passes};
use kernels::dot::dot;
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
/// Absolute room for results below the normal numbers of `f32`.
const UNDERFLOW: f32 = 2.0 * f32::MIN_POSITIVE;

/// Bytes looked at between two updates of the scores to beat; they stay in the first-level cache.
const CHUNK_BYTES: usize = 32 << 10;
/// Chunks between two looks at `progress`: well below a millisecond for one user.
const CHUNKS_PER_CHECK: usize = 64;
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
    let (items, d) = factors.dim();
    if items < min_items || d == 0 || d > MOST_FACTORS {
        return Ok(());
    }
    if let Some(copy) = Quantized::of(factors, threads, progress)? {
        let (blocks, groups) = (copy.errors.len(), copy.groups);
        data.tensor(&format!("{name}.quantized"), &[blocks, groups, ROWS, 4], &*copy.bytes);
        data.tensor(&format!("{name}.quantized.scales"), &[blocks, ROWS], &*copy.scales);
        data.tensor(&format!("{name}.quantized.errors"), &[blocks], &*copy.errors);
        data.tensor(&format!("{name}.quantized.ratios"), &[blocks], &*copy.ratios);
        data.tensor(&format!("{name}.quantized.norms"), &[blocks], &*copy.norms);
        data.tensor(&format!("{name}.quantized.order"), &[copy.order.len()], &*copy.order);
    }
    Ok(())
}

/// The compressed copy. Places past the last item, in the last block, are zeros.
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
    /// [items]: which item stands at each place.
    order: Mapped<u32>,
    /// Groups of four factors.
    groups: usize,
}

impl Quantized {
    /// `None` where a factor is no number or a norm is too great for the bounds.
    pub fn of(factors: ArrayView2<f32>, threads: usize, progress: &dyn Progress) -> Result<Option<Self>> {
        let ((items, d), factors) = (factors.dim(), flat(factors));
        let groups = d.div_ceil(4);
        let blocks = items.div_ceil(ROWS);
        let row = |item: u32| &factors[item as usize * d..][..d];

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
        let norm_of = |key: u64| f32::from_bits(!((key >> 32) as u32));
        let greatest = keys.first().map_or(0.0, |&key| norm_of(key));
        // NaN comes before all others.
        if greatest.is_nan() || f64::from(greatest) > *NORMS.end() {
            return Ok(None);
        }
        let norms: Vec<f32> = keys.iter().step_by(ROWS).map(|&key| norm_of(key)).collect();
        let mut order = Vec::new();
        memory::reserve(&mut order, items)?;
        order.extend(keys.into_iter().map(|key| key as u32));

        let mut scales = memory::filled([0f32; ROWS], blocks)?;
        let mut errors = memory::filled(0f32, blocks)?;
        let mut ratios = memory::filled(0f32, blocks)?;
        let mut bytes = memory::filled(OFFSET, blocks * block_bytes(groups))?;
        let mut parts: Vec<_> = bytes
            .chunks_mut(BLOCKS_PER_TASK * block_bytes(groups))
            .zip(scales.chunks_mut(BLOCKS_PER_TASK))
            .zip(errors.chunks_mut(BLOCKS_PER_TASK).zip(ratios.chunks_mut(BLOCKS_PER_TASK)))
            .zip(order.chunks(BLOCKS_PER_TASK * ROWS))
            .collect();
        for_each_chunk(
            &mut parts,
            1,
            threads,
            progress,
            || vec![0i8; d],
            |row_bytes, _, parts| {
                for (((bytes, scales), (errors, ratios)), order) in parts {
                    let blocks = bytes.chunks_exact_mut(block_bytes(groups)).zip(order.chunks(ROWS)).zip(&mut **scales);
                    for (((bytes, items), scales), (error, ratio)) in blocks.zip(errors.iter_mut().zip(&mut **ratios)) {
                        for (r, (&item, scale)) in items.iter().zip(scales).enumerate() {
                            *scale = quantize(row(item), row_bytes);
                            let (norm, off) = self::norms(row(item), row_bytes, *scale);
                            let unit = UP / f64::from(*scale);
                            (*error, *ratio) =
                                (error.max((unit * off) as f32), ratio.max((unit * (norm + off)) as f32));
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

    /// The copy of the `items` by `d` factors called `name`; `None` where the data file has none.
    pub fn open(files: &Files, name: &str, items: usize, d: usize) -> Result<Option<Self>> {
        let copy = format!("{name}.quantized");
        if !files.has_tensor(&copy) {
            return Ok(None);
        }
        let (blocks, groups) = (items.div_ceil(ROWS), d.div_ceil(4));
        let (shape, bytes) = files.tensor::<u8, 4>(&copy)?;
        let (scales_shape, scales) = files.tensor::<f32, 2>(&format!("{copy}.scales"))?;
        let (errors_shape, errors) = files.tensor::<f32, 1>(&format!("{copy}.errors"))?;
        let (ratios_shape, ratios) = files.tensor::<f32, 1>(&format!("{copy}.ratios"))?;
        let (norms_shape, norms) = files.tensor::<f32, 1>(&format!("{copy}.norms"))?;
        let (order_shape, order) = files.tensor::<u32, 1>(&format!("{copy}.order"))?;
        let fits = shape == [blocks, groups, ROWS, 4]
            && scales_shape == [blocks, ROWS]
            && [errors_shape, ratios_shape, norms_shape] == [[blocks]; 3]
            && order_shape == [items]
            && d <= MOST_FACTORS;
        if !fits {
            return Err(files.damaged(format!("the compressed copy of {name} does not fit it")));
        }
        Ok(Some(Self { bytes, scales, errors, ratios, norms, order, groups }))
    }

    /// The best `k` of `factors` for each user, without what their queries exclude; `None` for whom the plain scan is faster or
    /// has no bound.
    pub fn best(
        &self,
        factors: ArrayView2<f32>,
        users: &[&[f32]],
        listed: &[Listed],
        k: usize,
        progress: &dyn Progress,
    ) -> Result<Vec<Option<Vec<(f32, u32)>>>> {
        self.best_at(ByteLevel::best(), factors, users, listed, k, progress)
    }

    fn best_at(
        &self,
        level: ByteLevel,
        factors: ArrayView2<f32>,
        users: &[&[f32]],
        listed: &[Listed],
        k: usize,
        progress: &dyn Progress,
    ) -> Result<Vec<Option<Vec<(f32, u32)>>>> {
        let factors = flat(factors);
        let mut lists = vec![None; users.len()];
        // Those still searching, and their bytes: what they have in common lies side by side.
        let (mut searches, mut bytes) = (Vec::new(), Vec::new());
        for (place, (&user, listed)) in users.iter().zip(listed).enumerate() {
            if let Some((bounds, byte_query)) = Bounds::of(user, self.groups) {
                let left = self.order.len() / 8;
                searches.push(Search { place, user, listed, bounds, top: TopK::new(k), left });
                bytes.push(byte_query);
            }
        }
        let blocks = self.errors.len();
        let most = (CHUNK_BYTES / block_bytes(self.groups)).clamp(4, 64);
        let mut slacks = vec![0f32; most * searches.len()];
        let mut masks = vec![0u16; most * searches.len()];
        // The first chunks are small: the sooner there is a score to beat, the fewer items pass.
        let (mut start, mut length) = (0, 1);
        for chunk in 0.. {
            if chunk % CHUNKS_PER_CHECK == 0 {
                progress.check()?;
            }
            let norm = self.norms.get(start).copied().unwrap_or(0.0);
            let mut a = 0;
            while a < searches.len() {
                let search: &Search = &searches[a];
                bytes[a].least = search.top.threshold() - UNDERFLOW;
                if start >= blocks || search.left == 0 || search.bounds.reach * norm < bytes[a].least {
                    let done = searches.swap_remove(a);
                    bytes.swap_remove(a);
                    lists[done.place] = (done.left > 0).then(|| done.top.into_sorted());
                } else {
                    a += 1;
                }
            }
            if searches.is_empty() {
                break;
            }
            let end = blocks.min(start + length);
            let n = end - start;
            let (slacks, masks) = (&mut slacks[..n * searches.len()], &mut masks[..n * searches.len()]);
            for (search, slacks) in searches.iter().zip(slacks.chunks_exact_mut(n)) {
                search.bounds.slacks(&self.errors[start..end], &self.ratios[start..end], slacks);
            }
            let stride = block_bytes(self.groups);
            let chunk = Blocks {
                bytes: &self.bytes[start * stride..end * stride],
                scales: &self.scales[start * ROWS..end * ROWS],
                groups: self.groups,
            };
            passes(level, &chunk, &bytes, slacks, masks);
            for (search, masks) in searches.iter_mut().zip(masks.chunks_exact(n)) {
                for (block, &mask) in (start..).zip(masks).filter(|&(_, &mask)| mask != 0) {
                    search.take(factors, &self.order, block, mask);
                }
            }
            (start, length) = (end, most.min(2 * length));
        }
        Ok(lists)
    }
}

/// What bounds the scores of one user.
struct Bounds {
    /// `‖x‖`
    norm: f32,
    /// `‖x − x̂‖`, and all rounding.
    spread: f32,
    /// No item has a greater score than this times its norm.
    reach: f32,
}

impl Bounds {
    /// `None` for a user without direction, or one too short or too long.
    fn of(user: &[f32], groups: usize) -> Option<(Self, ByteQuery)> {
        let mut bytes = vec![0i8; user.len()];
        let scale = quantize(user, &mut bytes);
        let (norm, error) = norms(user, &bytes, scale);
        if !NORMS.contains(&norm) {
            return None;
        }
        let rounding = (user.len() + 32) as f64 * f64::from(f32::EPSILON);
        let bounds = Self {
            norm: (UP * norm) as f32,
            spread: (UP * (error + rounding * norm)) as f32,
            reach: (UP * (1.0 + rounding) * norm) as f32,
        };
        Some((bounds, ByteQuery::new(&bytes, groups, scale)))
    }

    fn slacks(&self, errors: &[f32], ratios: &[f32], slacks: &mut [f32]) {
        for ((slack, &error), &ratio) in slacks.iter_mut().zip(errors).zip(ratios) {
            *slack = self.norm * error + self.spread * ratio;
        }
    }
}

/// One user's search under way.
struct Search<'a> {
    /// Of the user among those asked for.
    place: usize,
    user: &'a [f32],
    listed: &'a Listed<'a>,
    bounds: Bounds,
    top: TopK,
    /// Items that may still be scored; where the bounds let so many pass, the plain scan is faster.
    left: usize,
}

impl Search<'_> {
    /// Scores the items of a block whose bits are set.
    #[inline(never)]
    fn take(&mut self, factors: &[f32], order: &[u32], block: usize, mut mask: u16) {
        let d = self.user.len();
        while mask != 0 {
            let place = block * ROWS + mask.trailing_zeros() as usize;
            mask &= mask - 1;
            // Neither is missing but at the places past the last item, or in a damaged file.
            let Some(&item) = order.get(place) else { break };
            let Some(row) = factors.get(item as usize * d..(item as usize + 1) * d) else { continue };
            self.left = self.left.saturating_sub(1);
            let score = dot(row, self.user);
            if score >= self.top.threshold() && score > f32::NEG_INFINITY && !self.listed.excludes(item) {
                self.top.push(score, item);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, aview2};

    use super::super::listed::ItemSet;
    use super::super::scan::best_items;
    use super::*;
    use runtime::draw::mix;
    use runtime::progress::Unwatched;

    /// About normally distributed numbers of standard deviation 1, from a fixed recipe.
    fn numbers(seed: u64, n: usize) -> Vec<f32> {
        let uniform = |x: u64| (mix(x) >> 40) as f32 / (1 << 24) as f32 - 0.5;
        let from = |i: usize| (0..12).map(|t| uniform(seed << 40 | (i as u64) << 4 | t)).sum();
        (0..n).map(from).collect()
    }

    fn matrix(seed: u64, rows: usize, columns: usize) -> Array2<f32> {
        memory::shaped(rows, columns, numbers(seed, rows * columns)).unwrap()
    }

    /// The lists by every kind of processor's instructions, and by the plain scan.
    fn check(name: &str, factors: ArrayView2<f32>, users: &[&[f32]], k: usize, listed: &Listed) -> usize {
        let d = factors.ncols();
        let Some(copy) = Quantized::of(factors, 2, &Unwatched).unwrap() else { return 0 };
        let mut answered = 0;
        for level in ByteLevel::ALL.into_iter().filter(|level| level.is_here()) {
            let all = vec![*listed; users.len()];
            let together = copy.best_at(level, factors, users, &all, k, &Unwatched).unwrap();
            for (user, list) in users.iter().zip(together) {
                let alone = copy.best_at(level, factors, &[user], &[*listed], k, &Unwatched).unwrap().remove(0);
                let bits = |list: &[(f32, u32)]| list.iter().map(|&(s, i)| (s.to_bits(), i)).collect::<Vec<_>>();
                let expected = bits(&best_items(factors, user, k, listed, &Unwatched).unwrap());
                for found in [&list, &alone].into_iter().flatten() {
                    assert_eq!(bits(found), expected, "{name}: {level:?} d {d} k {k}");
                    answered += 1;
                }
            }
        }
        answered
    }

    const EVERYTHING: Listed = Listed { excluded: &[], allowed: None };

    #[test]
    fn lists_are_those_of_the_plain_scan_to_the_last_bit() {
        for d in [1, 3, 4, 8, 17, 50, 64, 129] {
            for items in [64, 65, 1000, 3001] {
                let normal = matrix(d as u64, items, d);
                let users = numbers(99, 9 * d);
                let users: Vec<&[f32]> = users.chunks(d).collect();
                let norms: Vec<f32> = (0..items).map(|i| 30.0 / (1.0 + (mix(i as u64) % 1000) as f32)).collect();
                let popular = Array2::from_shape_fn((items, d), |(i, j)| normal[[i, j]] * norms[i]);
                // One direction outweighs all others, as in factors whose first axis is popularity.
                let skew = |j: usize, v: f32| if j == 0 { 9.0 + v } else { v / 9.0 };
                let skewed = Array2::from_shape_fn((items, d), |(i, j)| skew(j, normal[[i, j]]));
                for (name, factors) in [("normal", normal), ("popular", popular), ("skewed", skewed)] {
                    for k in [1, 10, 40] {
                        let answered = check(name, factors.view(), &users, k, &EVERYTHING);
                        assert!(
                            answered > 0 || items < 3000 || k > 10 || name == "skewed",
                            "{name}: d {d}, {items} items, k {k}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn ties_zeros_and_extremes_are_those_of_the_plain_scan() {
        let (d, items) = (16, 2000);
        let normal = matrix(5, items, d);
        let of = |f: &dyn Fn(usize, f32) -> f32| Array2::from_shape_fn((items, d), |(i, j)| f(i, normal[[i, j]]));
        let cases: Vec<(&str, Array2<f32>)> = vec![
            ("all the same", Array2::from_elem((items, d), 0.25)),
            ("zeros", Array2::zeros((items, d))),
            ("whole numbers", of(&|_, v| v.round())),
            ("each twice", Array2::from_shape_fn((items, d), |(i, j)| normal[[i / 2, j]])),
            ("mostly zeros", of(&|item, v| if item % 7 == 0 { v } else { -0.0 })),
            ("all below zero", of(&|_, v| -v.abs())),
            ("huge", of(&|_, v| v * 1e30)),
            ("great", of(&|_, v| v * 1e13)),
            ("tiny", of(&|_, v| v * 1e-39)),
            ("of all lengths", of(&|item, v| v * 10f32.powi(item as i32 % 50 - 40))),
            ("nearly tied", of(&|item, v| 1.0 + f32::EPSILON * (item % 3) as f32 + v * 1e-9)),
        ];
        let directions = [numbers(1, d), vec![1.0; d], vec![-1.0; d], vec![0.0; d], numbers(2, d)];
        let lengths = [1.0, 1e-42, 1e-20, 1e-12, 1e12, 1e30, f32::INFINITY];
        let users: Vec<Vec<f32>> = directions
            .iter()
            .flat_map(|user| lengths.map(|l| user.iter().map(|v| if *v == 0.0 { 0.0 } else { v * l }).collect()))
            .collect();
        let users: Vec<&[f32]> = users.iter().map(Vec::as_slice).collect();
        for (name, factors) in &cases {
            for k in [1, 10, 50] {
                check(name, factors.view(), &users, k, &EVERYTHING);
            }
        }
        assert!(Quantized::of(aview2(&[[f32::NAN; 4]; 16]), 1, &Unwatched).unwrap().is_none());
    }

    #[test]
    fn what_is_excluded_or_not_allowed_is_left_out() {
        let (d, items) = (20, 2500);
        let factors = matrix(8, items, d);
        let users = numbers(9, 7 * d);
        let users: Vec<&[f32]> = users.chunks(d).collect();
        let mut allowed = ItemSet::new(items);
        (0..items as u32).filter(|i| mix((*i).into()).is_multiple_of(3)).for_each(|i| allowed.insert(i));
        let best = best_items(factors.view(), users[0], 60, &EVERYTHING, &Unwatched).unwrap();
        let mut excluded: Vec<u32> = best.iter().step_by(2).map(|&(_, item)| item).collect();
        excluded.sort_unstable();
        for listed in [
            Listed { excluded: &excluded, ..EVERYTHING },
            Listed { allowed: Some(&allowed), ..EVERYTHING },
            Listed { excluded: &excluded, allowed: Some(&allowed) },
        ] {
            assert!(check("filtered", factors.view(), &users, 10, &listed) > 0);
        }
    }

    #[test]
    fn the_copy_is_the_same_on_any_number_of_threads() {
        let factors = matrix(3, 40_000, 6);
        let copies = [1, 2, 5].map(|threads| Quantized::of(factors.view(), threads, &Unwatched).unwrap().unwrap());
        for copy in &copies[1..] {
            assert!(*copy.bytes == *copies[0].bytes && *copy.order == *copies[0].order);
            assert!(*copy.scales == *copies[0].scales && *copy.errors == *copies[0].errors);
            assert!(*copy.norms == *copies[0].norms && *copy.ratios == *copies[0].ratios);
        }
    }
}
