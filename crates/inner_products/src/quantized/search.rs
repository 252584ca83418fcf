//! Exact search in the copy: of all of it for some users at once, or for one user of the blocks that the caller chooses.

use std::ops::Range;

use ndarray::ArrayView2;

use super::{NORMS, Quantized, UP, norms, quantize};
use crate::listed::Listed;
use crate::top_k::TopK;
use kernels::bytes::{Blocks, ByteLevel, ByteQuery, ROWS, block_bytes, passes};
use kernels::dot::dot;
use kernels::matrix::flat;
use runtime::error::Result;
use runtime::progress::Progress;

/// Absolute room for results below the normal numbers of `f32`.
const UNDERFLOW: f32 = 2.0 * f32::MIN_POSITIVE;

/// Bytes looked at between two updates of the scores to beat; they stay in the first-level cache.
const CHUNK_BYTES: usize = 32 << 10;
/// Chunks between two looks at `progress`: well below a millisecond for one user.
const CHUNKS_PER_CHECK: usize = 64;
/// Where more than one in so many of the items must be scored, the plain scan is faster.
const SCORED: usize = 8;

impl Quantized {
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

    pub(super) fn best_at(
        &self,
        level: ByteLevel,
        factors: ArrayView2<f32>,
        users: &[&[f32]],
        listed: &[Listed],
        k: usize,
        progress: &dyn Progress,
    ) -> Result<Vec<Option<Vec<(f32, u32)>>>> {
        let mut lists = vec![None; users.len()];
        // Those still searching, and their bytes: what they have in common lies side by side.
        let (mut searches, mut bytes) = (Vec::new(), Vec::new());
        for (place, (&user, &listed)) in users.iter().zip(listed).enumerate() {
            if let Some((bounds, byte_query)) = Bounds::of(user, self.groups) {
                let left = self.order.len() / SCORED;
                searches.push(Search { place, user, listed, bounds, top: TopK::new(k), left });
                bytes.push(byte_query);
            }
        }
        let blocks = self.errors.len();
        let mut chunks = Chunks::new(self, level, flat(factors), searches.len());
        let mut start = 0;
        for chunk in 0.. {
            if chunk % CHUNKS_PER_CHECK == 0 {
                progress.check()?;
            }
            let norm = self.norms.get(start).copied().unwrap_or(0.0);
            let mut a = 0;
            while a < searches.len() {
                let search: &Search = &searches[a];
                bytes[a].least = search.least();
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
            start = chunks.read(start..blocks, &mut searches, &bytes);
        }
        Ok(lists)
    }

    /// The search of one `user` in the blocks that it is told to read. `None` for a user without bounds.
    pub(crate) fn reading<'a>(
        &'a self,
        factors: ArrayView2<'a, f32>,
        user: &'a [f32],
        listed: Listed<'a>,
        k: usize,
    ) -> Option<Reading<'a>> {
        let (bounds, bytes) = Bounds::of(user, self.groups)?;
        let search = Search { place: 0, user, listed, bounds, top: TopK::new(k), left: usize::MAX };
        Some(Reading { chunks: Chunks::new(self, ByteLevel::best(), flat(factors), 1), search, bytes, chunk: 0 })
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
    listed: Listed<'a>,
    bounds: Bounds,
    top: TopK,
    /// Items that may still be scored.
    left: usize,
}

impl Search<'_> {
    /// The bound that an item must reach.
    fn least(&self) -> f32 {
        self.top.threshold() - UNDERFLOW
    }

    /// Scores the items of a block whose bits are set.
    #[inline(never)]
    fn take(&mut self, factors: &[f32], order: &[u32], block: usize, mut mask: u16) {
        let d = self.user.len();
        while mask != 0 {
            let place = block * ROWS + mask.trailing_zeros() as usize;
            mask &= mask - 1;
            // Neither is missing but at places without an item, or in a damaged file.
            let Some(&item) = order.get(place) else { break };
            let Some(row) = factors.get(item as usize * d..(item as usize + 1) * d) else { continue };
            // A bit is read faster than a row.
            if self.listed.allowed.is_some_and(|allowed| !allowed.contains(item)) {
                continue;
            }
            self.left = self.left.saturating_sub(1);
            let score = dot(row, self.user);
            if score >= self.top.threshold() && score > f32::NEG_INFINITY && !self.listed.excludes(item) {
                self.top.push(score, item);
            }
        }
    }
}

/// Reads the copy chunk by chunk.
struct Chunks<'a> {
    copy: &'a Quantized,
    level: ByteLevel,
    factors: &'a [f32],
    /// Blocks of the next chunk. The first chunks are small: the sooner there is a score to beat, the fewer items pass.
    length: usize,
    /// The most blocks of a chunk.
    most: usize,
    slacks: Vec<f32>,
    masks: Vec<u16>,
}

impl<'a> Chunks<'a> {
    fn new(copy: &'a Quantized, level: ByteLevel, factors: &'a [f32], searches: usize) -> Self {
        let most = (CHUNK_BYTES / block_bytes(copy.groups).max(1)).clamp(4, 64);
        let (slacks, masks) = (vec![0f32; most * searches], vec![0u16; most * searches]);
        Self { copy, level, factors, length: 1, most, slacks, masks }
    }

    /// Reads the first of some `blocks`, at least one, for all of `searches`, whose bytes are `queries`. Where the rest begins.
    fn read(&mut self, blocks: Range<usize>, searches: &mut [Search], queries: &[ByteQuery]) -> usize {
        let Self { copy, level, factors, .. } = *self;
        let start = blocks.start;
        let end = blocks.end.min(start + self.length);
        self.length = self.most.min(2 * self.length);
        let n = end - start;
        let (slacks, masks) = (&mut self.slacks[..n * searches.len()], &mut self.masks[..n * searches.len()]);
        for (search, slacks) in searches.iter().zip(slacks.chunks_exact_mut(n)) {
            search.bounds.slacks(&copy.errors[start..end], &copy.ratios[start..end], slacks);
        }
        let stride = block_bytes(copy.groups);
        let chunk = Blocks {
            bytes: &copy.bytes[start * stride..end * stride],
            scales: &copy.scales[start * ROWS..end * ROWS],
            groups: copy.groups,
        };
        passes(level, &chunk, queries, slacks, masks);
        for (search, masks) in searches.iter_mut().zip(masks.chunks_exact(n)) {
            for (block, &mask) in (start..).zip(masks).filter(|&(_, &mask)| mask != 0) {
                search.take(factors, &copy.order, block, mask);
            }
        }
        end
    }
}

/// See [`Quantized::reading`].
pub(crate) struct Reading<'a> {
    chunks: Chunks<'a>,
    search: Search<'a>,
    bytes: ByteQuery,
    /// Chunks read.
    chunk: usize,
}

impl Reading<'_> {
    /// Keeps the best of some more `blocks`.
    pub fn read(&mut self, mut blocks: Range<usize>, progress: &dyn Progress) -> Result<()> {
        while !blocks.is_empty() {
            if self.chunk.is_multiple_of(CHUNKS_PER_CHECK) {
                progress.check()?;
            }
            self.chunk += 1;
            self.bytes.least = self.search.least();
            let (search, bytes) = (std::slice::from_mut(&mut self.search), std::slice::from_ref(&self.bytes));
            blocks.start = self.chunks.read(blocks.clone(), search, bytes);
        }
        Ok(())
    }

    /// Whether as many items as wanted have been found.
    pub fn is_full(&self) -> bool {
        self.search.top.is_full()
    }

    /// The best of what was read, best first.
    pub fn into_sorted(self) -> Vec<(f32, u32)> {
        self.search.top.into_sorted()
    }
}
