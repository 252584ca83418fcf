//! Exact maximum inner product search over item factors: for one user a fused scan, for a tile of users a matrix product
//! whose results never leave the registers unless they can enter a list.

use ndarray::{ArrayView2, Axis};

use super::listed::{ItemSet, Listed, Scored};
use super::top_k::TopK;
use kernels::dot::{dot, score_rows, tile_product};
use kernels::matrix::flat;
use kernels::vector::{Vector, dispatch};
use runtime::error::Result;
use runtime::progress::Progress;

/// Items scored between two looks at the heap; their factors and scores stay in the first-level cache.
const BLOCK: usize = 512;
/// Blocks between two looks at `progress`: some milliseconds.
const BLOCKS_PER_CHECK: usize = 64;
/// Users in a tile at most.
pub const TILE_USERS: usize = 64;
/// A tile's sums are rounded in another order than a single user's: so many more are kept, scored again and cut.
const SLACK: usize = 8;

/// The best `k` of `factors` [items, d] by inner product with `user` [d], without those excluded. Bound by memory bandwidth.
pub fn best_items(
    factors: ArrayView2<f32>,
    user: &[f32],
    k: usize,
    listed: &Listed,
    progress: &dyn Progress,
) -> Result<Vec<(f32, u32)>> {
    let mut top = TopK::new(k);
    let mut scores = [0f32; BLOCK];
    for (b, block) in factors.axis_chunks_iter(Axis(0), BLOCK).enumerate() {
        if b % BLOCKS_PER_CHECK == 0 {
            progress.check()?;
        }
        let scores = &mut scores[..block.nrows()];
        score_rows(block, user, scores);
        let mut threshold = top.threshold();
        for (i, &score) in scores.iter().enumerate() {
            if score > threshold {
                let item = (b * BLOCK + i) as u32;
                if !listed.excludes(item) {
                    top.push(score, item);
                    threshold = top.threshold();
                }
            }
        }
    }
    Ok(top.into_sorted())
}

/// [`best_items`] where only a few items are `allowed`.
pub fn best_of(
    allowed: &ItemSet,
    factors: ArrayView2<f32>,
    user: &[f32],
    k: usize,
    listed: &Listed,
    progress: &dyn Progress,
) -> Result<Vec<(f32, u32)>> {
    let (d, factors) = (user.len(), flat(factors));
    let mut top = TopK::new(k);
    for (n, item) in allowed.iter().enumerate() {
        if n % BLOCK == 0 {
            progress.check()?;
        }
        let Some(row) = factors.get(item as usize * d..(item as usize + 1) * d) else { break };
        let score = dot(row, user);
        if score > top.threshold() && !listed.excludes(item) {
            top.push(score, item);
        }
    }
    Ok(top.into_sorted())
}

/// The rows of `factors` [rows, d] with the greatest cosine to `query`, best first, without row `own`. Of each row as many columns are
/// compared as `query` has: a bias in the last one has no part in a direction.
pub fn most_similar(
    factors: ArrayView2<f32>,
    query: &[f32],
    own: u32,
    k: usize,
    progress: &dyn Progress,
) -> Result<Vec<Scored>> {
    let length = dot(query, query).sqrt();
    let mut top = TopK::new(k);
    for (other, row) in flat(factors).chunks_exact(factors.ncols().max(1)).enumerate() {
        if other % (BLOCK * BLOCKS_PER_CHECK) == 0 {
            progress.check()?;
        }
        let row = &row[..query.len()];
        let product = length * dot(row, row).sqrt();
        // Rows without interactions have no direction.
        if product > 0.0 && other != own as usize {
            top.push(dot(query, row) / product, other as u32);
        }
    }
    Ok(top.into_sorted().into_iter().map(|(score, item)| Scored { item, score }).collect())
}

/// [`best_items`] for up to [`TILE_USERS`] users at once, with the same results.
pub fn best_items_of_tile(
    factors: ArrayView2<f32>,
    users: &[&[f32]],
    listed: &[Listed],
    k: usize,
) -> Vec<Vec<(f32, u32)>> {
    best_sums_of_tile(factors, users, None, listed, k)
}

/// The same for the sums of inner products and what `base` [items, TILE_USERS] holds.
pub fn best_sums_of_tile(
    factors: ArrayView2<f32>,
    users: &[&[f32]],
    base: Option<ArrayView2<f32>>,
    listed: &[Listed],
    k: usize,
) -> Vec<Vec<(f32, u32)>> {
    let d = factors.ncols();
    if d == 0 || users.is_empty() {
        return vec![Vec::new(); users.len()];
    }
    let (factors, base) = (flat(factors), base.map(flat));
    let mut tile = Tile {
        packed: vec![0.0; d * TILE_USERS],
        thresholds: [f32::INFINITY; TILE_USERS],
        tops: users.iter().map(|_| TopK::new(k.saturating_add(SLACK))).collect(),
        base,
        listed,
    };
    for (u, user) in users.iter().enumerate() {
        user.iter().enumerate().for_each(|(i, &x)| tile.packed[i * TILE_USERS + u] = x);
        tile.thresholds[u] = f32::NEG_INFINITY;
    }
    scan_tile(factors, d, &mut tile);
    let rescored = tile.tops.into_iter().zip(users).enumerate().map(|(u, (top, user))| {
        let mut exact = TopK::new(k);
        for (_, item) in top.into_sorted() {
            let more = base.map_or(0.0, |base| base[item as usize * TILE_USERS + u]);
            exact.push(dot(&factors[item as usize * d..][..d], user) + more, item);
        }
        exact.into_sorted()
    });
    rescored.collect()
}

struct Tile<'a> {
    /// [d, TILE_USERS]: the users' factors by columns, zeros past the last user.
    packed: Vec<f32>,
    /// Each user's score to beat; infinite past the last user.
    thresholds: [f32; TILE_USERS],
    tops: Vec<TopK>,
    /// [items, TILE_USERS]
    base: Option<&'a [f32]>,
    listed: &'a [Listed<'a>],
}

impl Tile<'_> {
    /// Takes the scores of one item for the users from `first` on. Seldom called once the heaps are full.
    #[inline(never)]
    fn take(&mut self, item: u32, first: usize, scores: &[f32]) {
        for (u, &score) in (first..).zip(scores) {
            if score > self.thresholds[u] && !self.listed[u].excludes(item) {
                self.tops[u].push(score, item);
                self.thresholds[u] = self.tops[u].threshold();
            }
        }
    }
}

#[inline(always)]
unsafe fn scan_tile_body<V: Vector, const W: usize>(factors: &[f32], d: usize, tile: &mut Tile) {
    let items = factors.len() / d;
    let users = tile.tops.len();
    assert!(tile.packed.len() == d * TILE_USERS && users <= TILE_USERS && TILE_USERS.is_multiple_of(W * V::LANES));
    assert!(tile.base.is_none_or(|base| base.len() == items * TILE_USERS));
    let mut scores = [0f32; 16];
    for first in (0..items).step_by(4) {
        let n = (items - first).min(4);
        // SAFETY: the rows lie within `factors`, a short last group repeats its last one; the strips lie within `packed` and `base`.
        unsafe {
            let one = V::splat(1.0);
            let rows: [*const f32; 4] = std::array::from_fn(|r| factors.as_ptr().add((first + r.min(n - 1)) * d));
            let mut j = 0;
            while j < users {
                let acc = tile_product::<V, 4, W>(rows, tile.packed.as_ptr().add(j), d, TILE_USERS);
                for (r, row) in acc.iter().enumerate().take(n) {
                    for (w, &v) in row.iter().enumerate() {
                        let at = j + w * V::LANES;
                        let v = match tile.base {
                            None => v,
                            Some(base) => v.mul_add(one, V::load(base.as_ptr().add((first + r) * TILE_USERS + at))),
                        };
                        if v.any_greater(V::load(tile.thresholds.as_ptr().add(at))) {
                            v.store(scores.as_mut_ptr());
                            let count = V::LANES.min(users - at.min(users));
                            tile.take((first + r) as u32, at, &scores[..count]);
                        }
                    }
                }
                j += W * V::LANES;
            }
        }
    }
}
dispatch! {
    fn scan_tile(factors: &[f32], d: usize, tile: &mut Tile) = scan_tile_body
}
