//! Sums over a node's neighbours in a bipartite graph: the sparse product that graph convolution consists of.
//!
//! `Y = D^-½ A D^-½ X` for the symmetric adjacency `A` of users and items and rows of `width` floats. The product is bound by
//! how fast neighbours' rows arrive from the caches: with 64 floats, Gowalla's 70,839 rows are 18 MB as `f32` and 9 MB as
//! bfloat16, which keeps an `f32`'s range and 8 bits of its precision. So rows are kept as bfloat16 ([`Table::half`]) while
//! training, and summed in `f32`. They are stored already multiplied by `D^-½`, so that the sum needs neighbours alone and
//! no value for each edge.

use std::ops::Range;

use super::vector::{Vector, dispatch};
use crate::Csr;
use runtime::error::Result;
use runtime::memory;
use runtime::progress::Progress;

/// Floats to which a row is padded: a pair of the widest registers, whose halves share words.
pub const PAD: usize = 32;

/// Rows per block: their sums fit the first-level cache.
pub const BLOCK_ROWS: usize = 32;

/// Users and items as one graph: node `u` is user `u`, node `users + i` is item `i`.
pub struct Adjacency {
    /// [nodes + 1]
    indptr: Vec<u64>,
    /// All below `nodes`.
    neighbours: Vec<u32>,
    /// [nodes]: 1 / √degree; 0 for a node without neighbours.
    scale: Vec<f32>,
    /// Nodes in runs of about equal work.
    runs: Vec<Range<usize>>,
    pub users: usize,
}

impl Adjacency {
    /// `by_user` [users, items]: every entry is an edge.
    pub fn new(by_user: &Csr, progress: &dyn Progress) -> Result<Self> {
        let by_item = by_user.transpose(progress)?;
        let (users, items) = (by_user.rows(), by_user.columns);
        let edges = by_user.entries();
        let mut indptr = memory::filled(0u64, users + items + 1)?;
        indptr[..=users].copy_from_slice(&by_user.indptr);
        indptr[users..].iter_mut().zip(&by_item.indptr).for_each(|(to, from)| *to = edges as u64 + from);
        let mut neighbours = Vec::new();
        memory::reserve(&mut neighbours, 2 * edges)?;
        neighbours.extend(by_user.indices.iter().map(|&item| users as u32 + item));
        neighbours.extend_from_slice(&by_item.indices);
        let degree = |w: &[u64]| (w[1] - w[0]) as f32;
        let scale = indptr.windows(2).map(|w| if w[1] > w[0] { 1.0 / degree(w).sqrt() } else { 0.0 }).collect();
        // What `sum` relies on.
        assert!(neighbours.iter().all(|&n| (n as usize) < users + items));
        let runs = balanced(&indptr);
        Ok(Self { indptr, neighbours, scale, runs, users })
    }

    pub fn nodes(&self) -> usize {
        self.scale.len()
    }

    pub fn scale(&self) -> &[f32] {
        &self.scale
    }

    pub fn runs(&self) -> &[Range<usize>] {
        &self.runs
    }

    /// `sums[r] = Σ table[n]` over the neighbours `n` of node `nodes[r]`, not yet multiplied by its own scale.
    pub fn sum(&self, table: &Table, nodes: Range<usize>, sums: &mut [f32]) {
        let indptr = &self.indptr[nodes.start..=nodes.end];
        assert_eq!(table.rows(), self.nodes());
        assert!(sums.len() == nodes.len() * table.width && table.width.is_multiple_of(PAD));
        // SAFETY: this holds neighbours below its number of nodes alone, as `new` saw, and the table has as many rows.
        unsafe {
            match &table.cells {
                Cells::Half(words) => sum_half(words, table.width, indptr, &self.neighbours, sums),
                Cells::Full(floats) => sum_full(floats, table.width, indptr, &self.neighbours, sums),
            }
        }
    }
}

/// Splits nodes into runs of about equal work; about 128 of them, of a few hundred microseconds each on a large graph.
fn balanced(indptr: &[u64]) -> Vec<Range<usize>> {
    // What a row costs besides its neighbours, counted in neighbours.
    const ROW: u64 = 8;
    const RUNS: u64 = 128;
    const MIN_WORK: u64 = 4096;
    let nodes = indptr.len() - 1;
    let work = |node: usize| indptr[node] + ROW * node as u64;
    let target = work(nodes).div_ceil(RUNS).max(MIN_WORK);
    let mut runs = Vec::new();
    let mut start = 0;
    while start < nodes {
        let limit = work(start) + target;
        let more = indptr[start + 1..].iter().zip(start as u64 + 1..).take_while(|&(&n, row)| n + ROW * row <= limit);
        let end = start + more.count().max(1);
        runs.push(start..end);
        start = end;
    }
    runs
}

/// A row for each node, multiplied by the node's scale.
#[derive(Default)]
pub struct Table {
    pub width: usize,
    cells: Cells,
}

enum Cells {
    /// [rows, width / 2]: of each 32 floats, word `k` holds float `k` in its lower half and float `16 + k` in its upper one.
    Half(Vec<u32>),
    /// [rows, width]
    Full(Vec<f32>),
}

impl Default for Cells {
    fn default() -> Self {
        Self::Full(Vec::new())
    }
}

/// Some consecutive rows of a [`Table`].
pub enum Rows<'a> {
    Half(&'a mut [u32]),
    Full(&'a mut [f32]),
}

/// Rows of `width` in runs, to be written at the same time.
pub fn split_rows<'a, T>(mut all: &'a mut [T], runs: &[Range<usize>], width: usize) -> Vec<&'a mut [T]> {
    let run = |run: &Range<usize>| {
        let (part, rest) = std::mem::take(&mut all).split_at_mut(run.len() * width);
        all = rest;
        part
    };
    runs.iter().map(run).collect()
}

impl Table {
    /// bfloat16; `width` is a multiple of [`PAD`].
    pub fn half(rows: usize, width: usize) -> Result<Self> {
        assert_eq!(width % PAD, 0);
        Ok(Self { width, cells: Cells::Half(memory::filled(0, rows * width / 2)?) })
    }

    pub fn full(rows: usize, width: usize) -> Result<Self> {
        assert_eq!(width % PAD, 0);
        Ok(Self { width, cells: Cells::Full(memory::filled(0.0, rows * width)?) })
    }

    fn rows(&self) -> usize {
        match &self.cells {
            Cells::Half(words) => 2 * words.len() / self.width.max(1),
            Cells::Full(floats) => floats.len() / self.width.max(1),
        }
    }

    /// See [`split_rows`].
    pub fn split<'a>(&'a mut self, runs: &[Range<usize>]) -> Vec<Rows<'a>> {
        let width = self.width;
        match &mut self.cells {
            Cells::Half(words) => split_rows(words, runs, width / 2).into_iter().map(Rows::Half).collect(),
            Cells::Full(floats) => split_rows(floats, runs, width).into_iter().map(Rows::Full).collect(),
        }
    }

    pub fn all(&mut self) -> Rows<'_> {
        match &mut self.cells {
            Cells::Half(words) => Rows::Half(words),
            Cells::Full(floats) => Rows::Full(floats),
        }
    }

    /// `to += factor · row`
    pub fn add_row(&self, row: usize, factor: f32, to: &mut [f32]) {
        let width = self.width;
        match &self.cells {
            Cells::Half(words) => add_half(&words[row * width / 2..][..width / 2], factor, to),
            Cells::Full(floats) => {
                floats[row * width..][..width].iter().zip(to).for_each(|(&x, to)| *to += factor * x);
            }
        }
    }
}

impl Rows<'_> {
    /// Writes `factors[r] · values[r]` to row `first + r`.
    pub fn write(&mut self, first: usize, values: &[f32], factors: &[f32]) {
        if factors.is_empty() {
            return;
        }
        let width = values.len() / factors.len();
        match self {
            Self::Half(words) => {
                let words = &mut words[first * width / 2..][..factors.len() * width / 2];
                write_half(values, factors, width, words);
            }
            Self::Full(floats) => {
                let floats = &mut floats[first * width..][..factors.len() * width];
                for ((to, from), &factor) in floats.chunks_mut(width).zip(values.chunks(width)).zip(factors) {
                    to.iter_mut().zip(from).for_each(|(to, &x)| *to = factor * x);
                }
            }
        }
    }

    /// Writes zeros to a row.
    pub fn clear(&mut self, row: usize, width: usize) {
        match self {
            Self::Half(words) => words[row * width / 2..][..width / 2].fill(0),
            Self::Full(floats) => floats[row * width..][..width].fill(0.0),
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

/// Prefetch distance in rows: about the latency of the third-level cache.
const AHEAD: usize = 12;

/// Adds up one strip of each row's neighbours: `N` registers of floats, which are `N` loads of `f32` or as many of halves.
///
/// # Safety
/// `load(row, n)` must be valid for every neighbour and register, `sums` for `N` registers, and the processor must have `V`'s
/// instructions.
#[inline(always)]
unsafe fn sum_strip<V: Vector, const N: usize>(
    neighbours: &[u32],
    prefetch: impl Fn(usize),
    load: impl Fn(usize, usize) -> V,
) -> [V; N] {
    // SAFETY: as the caller promises.
    unsafe {
        let mut acc = [V::splat(0.0); N];
        let one = V::splat(1.0);
        for (j, &n) in neighbours.iter().enumerate() {
            if let Some(&later) = neighbours.get(j + AHEAD) {
                prefetch(later as usize);
            }
            for (k, acc) in acc.iter_mut().enumerate() {
                *acc = one.mul_add(load(n as usize, k), *acc);
            }
        }
        acc
    }
}

#[inline(always)]
unsafe fn sum_half_body<V: Vector, const TILE: usize>(
    words: &[u32],
    width: usize,
    indptr: &[u64],
    neighbours: &[u32],
    sums: &mut [f32],
) {
    let stride = width / 2;
    // Registers in each half of a group of 32 floats.
    let half = PAD / 2 / V::LANES;
    for (range, sums) in indptr.windows(2).zip(sums.chunks_exact_mut(width)) {
        let neighbours = &neighbours[range[0] as usize..range[1] as usize];
        // SAFETY: every neighbour is a row of the table, as the caller promises; strips end within a row.
        unsafe {
            let base = words.as_ptr();
            let sums = sums.as_mut_ptr();
            let mut group = 0;
            while group < stride {
                let from = base.add(group);
                let prefetch = |n: usize| V::prefetch(from.add(n * stride).cast());
                let to = sums.add(2 * group);
                // Two groups at a time where there are two: neighbours' numbers are read once for both.
                if group + PAD <= stride {
                    match V::LANES {
                        16 => store(sum_groups::<V, 4>(neighbours, from, stride, prefetch), to, half),
                        8 => store(sum_groups::<V, 8>(neighbours, from, stride, prefetch), to, half),
                        _ => store(sum_groups::<V, 16>(neighbours, from, stride, prefetch), to, half),
                    }
                    group += PAD;
                } else {
                    match V::LANES {
                        16 => store(sum_groups::<V, 2>(neighbours, from, stride, prefetch), to, half),
                        8 => store(sum_groups::<V, 4>(neighbours, from, stride, prefetch), to, half),
                        _ => store(sum_groups::<V, 8>(neighbours, from, stride, prefetch), to, half),
                    }
                    group += PAD / 2;
                }
            }
        }
    }
}

/// Accumulator `2 k` sums the lower halves of word register `k`, `2 k + 1` the upper ones.
///
/// # Safety
/// Every neighbour's row must have `N / 2` registers of words at `from`.
#[inline(always)]
unsafe fn sum_groups<V: Vector, const N: usize>(
    neighbours: &[u32],
    from: *const u32,
    stride: usize,
    prefetch: impl Fn(usize),
) -> [V; N] {
    // SAFETY: as the caller promises.
    unsafe {
        sum_strip::<V, N>(
            neighbours,
            |n| {
                prefetch(n);
                if N * V::LANES > PAD {
                    V::prefetch(from.add(n * stride + PAD / 2).cast());
                }
            },
            |n, k| {
                let at = from.add(n * stride + k / 2 * V::LANES);
                if k % 2 == 0 { V::lower_halves(at) } else { V::upper_halves(at) }
            },
        )
    }
}

/// Puts accumulators of [`sum_groups`] in the order of floats; `half` registers make up half a group.
///
/// # Safety
/// `to` must be valid for `N` registers.
#[inline(always)]
unsafe fn store<V: Vector, const N: usize>(sums: [V; N], to: *mut f32, half: usize) {
    for (k, v) in sums.into_iter().enumerate() {
        let (group, register) = (k / 2 / half, k / 2 % half);
        let at = group * PAD + register * V::LANES + if k % 2 == 0 { 0 } else { PAD / 2 };
        // SAFETY: see above.
        unsafe { v.store(to.add(at)) };
    }
}
dispatch! {
    /// # Safety
    /// Every neighbour is below the number of rows of `words` [_, width / 2], `width` a multiple of [`PAD`].
    unsafe fn sum_half(words: &[u32], width: usize, indptr: &[u64], neighbours: &[u32], sums: &mut [f32]) = sum_half_body
}

#[inline(always)]
unsafe fn sum_full_body<V: Vector, const TILE: usize>(
    floats: &[f32],
    width: usize,
    indptr: &[u64],
    neighbours: &[u32],
    sums: &mut [f32],
) {
    for (range, sums) in indptr.windows(2).zip(sums.chunks_exact_mut(width)) {
        let neighbours = &neighbours[range[0] as usize..range[1] as usize];
        for at in (0..width).step_by(V::LANES) {
            // SAFETY: as in `sum_half_body`; `width` is a multiple of LANES.
            unsafe {
                let from = floats.as_ptr().add(at);
                let load = |n: usize, _| V::load(from.add(n * width));
                let [sum] = sum_strip::<V, 1>(neighbours, |_| (), load);
                sum.store(sums.as_mut_ptr().add(at));
            }
        }
    }
}
dispatch! {
    /// # Safety
    /// Every neighbour is below the number of rows of `floats` [_, width], `width` a multiple of [`PAD`].
    unsafe fn sum_full(floats: &[f32], width: usize, indptr: &[u64], neighbours: &[u32], sums: &mut [f32]) = sum_full_body
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::progress::Unwatched;

    fn graph() -> Csr {
        let (users, items) = (40usize, 23usize);
        let mut csr = Csr { indptr: vec![0], columns: items, ..Csr::default() };
        for u in 0..users {
            // User 5 and item 22 have no edge.
            let row =
                (0..items - 1).filter(|&i| u != 5 && runtime::draw::mix((u * items + i) as u64).is_multiple_of(3));
            csr.indices.extend(row.map(|i| i as u32));
            csr.indptr.push(csr.indices.len() as u64);
        }
        csr.values = vec![1.0; csr.indices.len()];
        csr
    }

    #[test]
    fn propagation_is_the_dense_product_with_the_normalised_adjacency() {
        let by_user = graph();
        let adjacency = Adjacency::new(&by_user, &Unwatched).unwrap();
        let n = adjacency.nodes();
        let mut dense = vec![0f64; n * n];
        for u in 0..40 {
            for &i in by_user.row(u).0 {
                dense[u * n + 40 + i as usize] = 1.0;
                dense[(40 + i as usize) * n + u] = 1.0;
            }
        }
        let degree: Vec<f64> = dense.chunks(n).map(|row| row.iter().sum()).collect();
        for width in [32, 64, 96] {
            let x: Vec<f32> = (0..n * width).map(|k| ((k * 7919 % 1009) as f32 - 504.0) / 500.0).collect();
            for (mut table, tolerance) in
                [(Table::half(n, width).unwrap(), 8e-3), (Table::full(n, width).unwrap(), 1e-5)]
            {
                table.all().write(0, &x, adjacency.scale());
                let mut sums = vec![0.0; n * width];
                for run in adjacency.runs() {
                    adjacency.sum(&table, run.clone(), &mut sums[run.start * width..run.end * width]);
                }
                for row in 0..n {
                    for k in 0..width {
                        let terms = (0..n).filter(|&c| dense[row * n + c] > 0.0);
                        let exact: f64 =
                            terms.map(|c| f64::from(x[c * width + k]) / (degree[row] * degree[c]).sqrt()).sum();
                        let got = f64::from(sums[row * width + k] * adjacency.scale()[row]);
                        assert!((got - exact).abs() < tolerance, "{width} {row} {k}: {got} {exact}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_written_to_a_table_is_read_back_in_its_place() {
        let width = 64;
        let x: Vec<f32> = (0..3 * width).map(|k| k as f32).collect();
        for mut table in [Table::half(3, width).unwrap(), Table::full(3, width).unwrap()] {
            table.all().write(0, &x, &[1.0, 2.0, 4.0]);
            let mut row = vec![1.0; width];
            table.add_row(2, 0.25, &mut row);
            for (k, got) in row.iter().enumerate() {
                let exact = 1.0 + (2 * width + k) as f32;
                assert!((got - exact).abs() < exact / 250.0, "{k}: {got}");
            }
            table.all().clear(2, width);
            let mut row = vec![0.0; width];
            table.add_row(2, 1.0, &mut row);
            assert!(row.iter().all(|&x| x == 0.0));
        }
    }

    #[test]
    fn the_portable_sums_agree_with_those_of_this_processor() {
        use crate::vector::Portable;
        let adjacency = Adjacency::new(&graph(), &Unwatched).unwrap();
        let (n, width) = (adjacency.nodes(), 96);
        let x: Vec<f32> = (0..n * width).map(|k| ((k * 7919 % 1009) as f32 - 504.0) / 500.0).collect();
        let mut table = Table::half(n, width).unwrap();
        table.all().write(0, &x, adjacency.scale());
        let (mut a, mut b) = (vec![0.0; n * width], vec![0.0; n * width]);
        adjacency.sum(&table, 0..n, &mut a);
        let Cells::Half(words) = &table.cells else { unreachable!() };
        // SAFETY: `Portable` needs no particular instructions.
        unsafe { sum_half_body::<Portable, 2>(words, width, &adjacency.indptr, &adjacency.neighbours, &mut b) };
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-4));
    }

    #[test]
    fn runs_cover_every_node_once() {
        let mut indptr = vec![0u64];
        (0..50_000u64).for_each(|n| indptr.push(indptr[n as usize] + if n == 7 { 1_000_000 } else { n % 40 }));
        let runs = balanced(&indptr);
        assert!(runs.windows(2).all(|w| w[0].end == w[1].start) && runs.len() < 200, "{}", runs.len());
        assert_eq!((runs[0].start, runs[runs.len() - 1].end), (0, 50_000));
        assert!(balanced(&[0]).is_empty());
    }
}
