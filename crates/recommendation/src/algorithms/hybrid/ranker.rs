//! Serving a blend: every component's scores of all items, scaled and summed.

use std::collections::HashMap;

use ndarray::{ArrayViewMut2, s};
use serde_json::Value;

use super::component::{Registry, prefix};
use super::graph::{LEAST_SCALE, LEAST_SHARE};
use super::parameters::Parameters;
use crate::ranker::{Contribution, Query, Ranker};
use inner_products::Scored;
use inner_products::TopK;
use kernels::matrix::{flat, flat_mut};
use onnx::stored::Files;
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::options::Options;
use runtime::progress::Progress;

/// Similar items asked of each component, besides those asked for: the blend may rank lower ones higher.
const MORE_SIMILAR: usize = 50;
/// Scores in one sum of `f32`, and its lanes.
const BLOCK: usize = 4096;
const LANES: usize = 16;
/// Scores of a tile at once: so many users', or their items would be more than this.
const TILE_USERS: usize = 16;
const TILE_SCORES: usize = 1 << 21;
/// Scores that take some 10 ms.
const TILE_WORK: usize = 1 << 20;

pub struct HybridRanker {
    components: Vec<Part>,
    items: usize,
}

/// A component that has a weight.
struct Part {
    ranker: Box<dyn Ranker>,
    weight: f32,
    /// See [`Part::similarity`]; 0 for cosines.
    similarity_scale: f32,
}

/// What a component's scores of one history are divided by: their standard deviation. Infinite where they do not differ.
pub fn scale(scores: &[f32]) -> f32 {
    let n = scores.len().max(1) as f64;
    let mean = (lanes(scores, |score| score) / n) as f32;
    let variance = lanes(scores, |score| (score - mean) * (score - mean)) / n;
    let scale = variance.sqrt() as f32;
    if scale > mean.abs() * LEAST_SHARE + LEAST_SCALE { scale } else { f32::INFINITY }
}

/// `Σ f(score)`: in `f32` by lanes within a block, in `f64` over the blocks.
fn lanes(scores: &[f32], f: impl Fn(f32) -> f32) -> f64 {
    let of_block = |block: &[f32]| {
        let mut sums = [0f32; LANES];
        let groups = block.chunks_exact(LANES);
        let rest: f32 = groups.remainder().iter().map(|&score| f(score)).sum();
        groups.for_each(|group| sums.iter_mut().zip(group).for_each(|(sum, &score)| *sum += f(score)));
        f64::from(sums.iter().sum::<f32>() + rest)
    };
    scores.chunks(BLOCK).map(of_block).sum()
}

impl HybridRanker {
    pub fn open(files: &Files, options: &Value, users: usize, items: usize, registry: Registry) -> Result<Self> {
        let mut reader = Options::new("hybrid", options)?;
        let parameters = Parameters::read(&mut reader, registry).map_err(|e| files.damaged(e.to_string()))?;
        reader.finish().map_err(|e| files.damaged(e.to_string()))?;
        let ([count], weights) = files.tensor::<f32, 1>("blend.weights")?;
        let ([scales], similarity_scales) = files.tensor::<f32, 1>("blend.similarity_scales")?;
        if count != parameters.components.len() || scales != count {
            return Err(files.damaged("its weights do not fit its components"));
        }
        let mut components = Vec::new();
        for (number, component) in parameters.components.iter().enumerate() {
            let (weight, similarity_scale) = (weights[number], similarity_scales[number]);
            if !(weight >= 0.0 && weight.is_finite() && similarity_scale >= 0.0 && similarity_scale.is_finite()) {
                return Err(files.damaged("its weights are no weights"));
            }
            if weight > 0.0 {
                let files = files.under(&prefix(number));
                let ranker = component.algorithm.open(&files, &component.options, users, items)?;
                components.push(Part { ranker, weight, similarity_scale });
            }
        }
        Ok(Self { components, items })
    }

    /// The blended scores; `own` is room for one component's.
    fn blend(&self, query: &Query, scores: &mut [f32], own: &mut [f32], progress: &dyn Progress) -> Result<()> {
        scores.fill(0.0);
        for part in &self.components {
            part.ranker.score_all(query, own, progress)?;
            part.add(own, scores);
        }
        progress.check()
    }

    /// The same for several histories: [queries, items].
    fn blend_tile(&self, queries: &[Query], mut scores: ArrayViewMut2<f32>, mut own: ArrayViewMut2<f32>) -> Result<()> {
        scores.fill(0.0);
        let items = self.items.max(1);
        for part in &self.components {
            part.ranker.score_tile(queries, own.view_mut())?;
            let rows = flat_mut(scores.view_mut()).chunks_exact_mut(items).zip(flat(own.view()).chunks_exact(items));
            rows.for_each(|(scores, own)| part.add(own, scores));
        }
        Ok(())
    }
}

/// The best `k` of one history's scores, without those of 0.
pub fn best(scores: &[f32], query: &Query, k: usize) -> Vec<(f32, u32)> {
    let mut top = TopK::new(k);
    let mut threshold = top.threshold();
    for (item, &score) in (0..).zip(scores) {
        // Of an item that no component has anything to say about, the score is 0.
        if score > threshold && score != 0.0 && !query.excludes(item) {
            top.push(score, item);
            threshold = top.threshold();
        }
    }
    top.into_sorted()
}

impl Part {
    /// Adds this component's scores of one history to the blend's.
    fn add(&self, own: &[f32], scores: &mut [f32]) {
        let factor = self.weight / scale(own);
        scores.iter_mut().zip(own).for_each(|(sum, &score)| *sum += factor * score);
    }

    /// A component's similarity, from −1 to 1 and in its order.
    fn similarity(&self, similarity: f32) -> f32 {
        if self.similarity_scale > 0.0 { similarity / (similarity.abs() + self.similarity_scale) } else { similarity }
    }
}

impl Ranker for HybridRanker {
    fn rank(&self, query: &Query, k: usize, progress: &dyn Progress) -> Result<Vec<(f32, u32)>> {
        let mut scores = memory::filled(0f32, self.items)?;
        self.score_all(query, &mut scores, progress)?;
        Ok(best(&scores, query, k))
    }

    fn rank_tile(&self, queries: &[Query], k: usize) -> Result<Vec<Vec<(f32, u32)>>> {
        let users = (TILE_SCORES / self.items.max(1)).clamp(1, TILE_USERS.min(queries.len().max(1)));
        let mut scores = memory::matrix(users, self.items, 0f32)?;
        let mut own = memory::matrix(users, self.items, 0f32)?;
        let mut lists = Vec::with_capacity(queries.len());
        for queries in queries.chunks(users) {
            let mut scores = scores.slice_mut(s![..queries.len(), ..]);
            self.blend_tile(queries, scores.view_mut(), own.slice_mut(s![..queries.len(), ..]))?;
            let rows = flat(scores.view()).chunks_exact(self.items.max(1));
            lists.extend(queries.iter().zip(rows).map(|(query, row)| best(row, query, k)));
        }
        Ok(lists)
    }

    fn users_per_tile(&self) -> usize {
        let all = self.components.iter().map(|part| part.ranker.users_per_tile());
        // Each scores all items, which costs more than the scan for a few.
        all.min().unwrap_or(usize::MAX).min((TILE_WORK / self.items.max(1)).max(1))
    }

    fn score_tile(&self, queries: &[Query], scores: ArrayViewMut2<f32>) -> Result<()> {
        let mut own = memory::matrix(scores.nrows(), scores.ncols(), 0f32)?;
        self.blend_tile(queries, scores, own.view_mut())
    }

    fn score_all(&self, query: &Query, scores: &mut [f32], progress: &dyn Progress) -> Result<()> {
        let mut own = memory::filled(0f32, scores.len())?;
        self.blend(query, scores, &mut own, progress)
    }

    fn similarity(&self, one: u32, other: u32) -> Result<f32> {
        let parts = self.components.iter();
        parts.map(|part| Ok(part.weight * part.similarity(part.ranker.similarity(one, other)?))).sum()
    }

    /// By the weighted sum of the components' similarities, among the items that any of them counts as similar.
    fn similar_items(&self, item: u32, k: usize, progress: &dyn Progress) -> Result<Vec<Scored>> {
        let mut found = Vec::new();
        for part in &self.components {
            match part.ranker.similar_items(item, k.saturating_add(MORE_SIMILAR).min(self.items), progress) {
                Ok(alike) => found.extend(alike.into_iter().map(|scored| scored.item)),
                Err(Error::Unsupported { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        found.sort_unstable();
        found.dedup();
        let mut top = TopK::new(k);
        for other in found {
            top.push(self.similarity(item, other)?, other);
        }
        Ok(top.into_sorted().into_iter().map(|(score, item)| Scored { item, score }).collect())
    }

    /// By the first component that knows any.
    fn similar_users(&self, user: u32, k: usize, progress: &dyn Progress) -> Result<Option<Vec<Scored>>> {
        for part in &self.components {
            if let Some(users) = part.ranker.similar_users(user, k, progress)? {
                return Ok(Some(users));
            }
        }
        Ok(None)
    }

    /// The components' shares, each scaled and weighted as its scores are.
    fn explain(&self, query: &Query, item: u32, items: usize, progress: &dyn Progress) -> Result<Vec<Contribution>> {
        let mut own = memory::filled(0f32, items)?;
        let mut places = HashMap::with_capacity(query.items.len());
        for (place, &item) in query.items.iter().enumerate() {
            places.entry(item).or_insert(place);
        }
        let mut shares: Vec<Contribution> = query.items.iter().map(|&item| Contribution { item, share: 0.0 }).collect();
        for part in &self.components {
            part.ranker.score_all(query, &mut own, progress)?;
            let factor = part.weight / scale(&own);
            for own in part.ranker.explain(query, item, items, progress)? {
                if let Some(&place) = places.get(&own.item) {
                    shares[place].share += factor * own.share;
                }
            }
        }
        Ok(shares)
    }
}
