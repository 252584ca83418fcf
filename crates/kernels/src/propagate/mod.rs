//! Sums over a node's neighbours in a bipartite graph: the sparse product that graph convolution consists of.
//!
//! `Y = D^-½ A D^-½ X` for the symmetric adjacency `A` of users and items and rows of `width` floats. The product is bound by
//! how fast neighbours' rows arrive from the caches: with 64 floats, Gowalla's 70,839 rows are 18 MB as `f32` and 9 MB as
//! bfloat16, which keeps an `f32`'s range and 8 bits of its precision. So rows are kept as bfloat16 ([`Table::half`]) while
//! training, and summed in `f32`. They are stored already multiplied by `D^-½`, so that the sum needs neighbours alone and
//! no value for each edge.

mod table;

use std::ops::Range;

use ndarray::ArrayViewMut2;

use crate::Csr;
use crate::matrix::{flat, flat_mut};
use crate::vector::{Vector, dispatch};
use runtime::error::Result;
use runtime::memory;
use runtime::progress::Progress;

use table::Cells;
pub use table::{PAD, Rows, Table};

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
    pub fn sum(&self, table: &Table, nodes: Range<usize>, sums: ArrayViewMut2<f32>) {
        let indptr = &self.indptr[nodes.start..=nodes.end];
        let width = table.width();
        assert_eq!(table.rows(), self.nodes());
        assert!(sums.dim() == (nodes.len(), width) && width.is_multiple_of(PAD));
        let sums = flat_mut(sums);
        // SAFETY: this holds neighbours below its number of nodes alone, as `new` saw, and the table has as many rows.
        unsafe {
            match &table.0 {
                Cells::Half(words) => sum_half(flat(words.view()), width, indptr, &self.neighbours, sums),
                Cells::Full(floats) => sum_full(flat(floats.view()), width, indptr, &self.neighbours, sums),
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
    use ndarray::{Array2, Axis, s};

    use super::*;
    use runtime::progress::Unwatched;

    fn matrix(rows: usize, columns: usize) -> Array2<f32> {
        Array2::from_shape_fn((rows, columns), |(r, c)| (((r * columns + c) * 7919 % 1009) as f32 - 504.0) / 500.0)
    }

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
        let mut dense = Array2::<f64>::zeros((n, n));
        for u in 0..40 {
            for &i in by_user.row(u).0 {
                dense[[u, 40 + i as usize]] = 1.0;
                dense[[40 + i as usize, u]] = 1.0;
            }
        }
        let degree = dense.sum_axis(Axis(1));
        for width in [32, 64, 96] {
            let x = matrix(n, width);
            for (mut table, tolerance) in
                [(Table::half(n, width).unwrap(), 8e-3), (Table::full(n, width).unwrap(), 1e-5)]
            {
                table.all().write(0, x.view(), adjacency.scale());
                let mut sums = Array2::zeros((n, width));
                for run in adjacency.runs() {
                    adjacency.sum(&table, run.clone(), sums.slice_mut(s![run.clone(), ..]));
                }
                for row in 0..n {
                    for k in 0..width {
                        let terms = (0..n).filter(|&c| dense[[row, c]] > 0.0);
                        let exact: f64 = terms.map(|c| f64::from(x[[c, k]]) / (degree[row] * degree[c]).sqrt()).sum();
                        let got = f64::from(sums[[row, k]] * adjacency.scale()[row]);
                        assert!((got - exact).abs() < tolerance, "{width} {row} {k}: {got} {exact}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_written_to_a_table_is_read_back_in_its_place() {
        let width = 64;
        let x = Array2::from_shape_fn((3, width), |(row, k)| (row * width + k) as f32);
        for mut table in [Table::half(3, width).unwrap(), Table::full(3, width).unwrap()] {
            table.all().write(0, x.view(), &[1.0, 2.0, 4.0]);
            let mut row = vec![1.0; width];
            table.add_row(2, 0.25, &mut row);
            for (k, got) in row.iter().enumerate() {
                let exact = 1.0 + (2 * width + k) as f32;
                assert!((got - exact).abs() < exact / 250.0, "{k}: {got}");
            }
            table.all().clear(2);
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
        let mut table = Table::half(n, width).unwrap();
        table.all().write(0, matrix(n, width).view(), adjacency.scale());
        let (mut a, mut b) = (Array2::zeros((n, width)), vec![0.0; n * width]);
        adjacency.sum(&table, 0..n, a.view_mut());
        let Cells::Half(words) = &table.0 else { unreachable!() };
        let words = flat(words.view());
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
