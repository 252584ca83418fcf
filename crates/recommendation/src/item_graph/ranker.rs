//! Serving item graphs: the rows of a history's items, summed.

use std::collections::HashMap;

use crate::ranker::{Contribution, Query, Ranker};
use crate::weighting::Weighting;
use inner_products::Scored;
use inner_products::TopK;
use onnx::stored::{Files, MappedMatrix};
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::progress::Progress;

/// An item graph in a model's file.
pub struct ItemGraph {
    model: String,
    weighting: Weighting,
    /// A row for each item.
    neighbours: MappedMatrix<i32>,
    /// The same, descending, then 0 where there are no more neighbours.
    weights: MappedMatrix<f32>,
}

impl ItemGraph {
    pub fn open(files: &Files, weighting: Weighting, items: usize) -> Result<Self> {
        let neighbours = files.initializer_matrix("neighbours")?;
        let weights = files.initializer_matrix("similarities")?;
        if neighbours.dim().0 != items || neighbours.dim() != weights.dim() {
            return Err(files.damaged("its neighbours do not fit its items"));
        }
        Ok(Self { model: files.model.into(), weighting, neighbours, weights })
    }

    pub fn items(&self) -> usize {
        self.neighbours.dim().0
    }

    /// Neighbours and weights of an item, the greatest first.
    pub fn row(&self, item: u32) -> Result<impl Iterator<Item = (u32, f32)>> {
        let row = self.neighbours.row(item as usize).zip(self.weights.row(item as usize));
        let (neighbours, weights) = row.ok_or_else(|| self.damaged("an item has no neighbours"))?;
        if neighbours.iter().any(|&n| n < 0 || n as usize >= self.items()) {
            return Err(self.damaged("an item has a neighbour that does not exist"));
        }
        let pairs = neighbours.iter().zip(weights).take_while(|&(_, &weight)| weight != 0.0);
        Ok(pairs.map(|(&n, &weight)| (n as u32, weight)))
    }

    /// `W_ij`
    pub fn weight(&self, i: u32, j: u32) -> Result<f32> {
        Ok(self.row(i)?.find(|&(item, _)| item == j).map_or(0.0, |(_, weight)| weight))
    }

    pub fn damaged(&self, reason: &str) -> Error {
        Error::DamagedModel { model: self.model.clone(), reason: reason.into() }
    }

    /// The items of a history that count, with their confidences.
    pub fn confidences<'a>(&self, query: &Query<'a>) -> impl Iterator<Item = (u32, f32)> + use<'a> {
        let weighting = self.weighting;
        let pairs = query.items.iter().zip(query.weights);
        pairs.map(move |(&item, &weight)| (item, weighting.confidence(weight))).filter(|&(_, c)| c > 0.0)
    }

    /// Calls `add` with each item and what it gains, in the order of the history.
    pub fn scores(&self, query: &Query, mut add: impl FnMut(u32, f32)) -> Result<()> {
        for (item, c) in self.confidences(query) {
            self.row(item)?.for_each(|(neighbour, weight)| add(neighbour, c * weight));
        }
        Ok(())
    }

    /// The sum's own terms for one item of the scores, with what `more` adds to `W_ij`.
    pub fn explain(&self, query: &Query, j: u32, more: impl Fn(u32) -> Result<f32>) -> Result<Vec<Contribution>> {
        let pairs = query.items.iter().zip(query.weights);
        let shares = pairs.map(|(&item, &weight)| {
            let share = self.weighting.confidence(weight) * (self.weight(item, j)? + more(item)?);
            Ok(Contribution { item, share })
        });
        shares.collect()
    }
}

/// The best `k` of the scores that are above 0.
pub fn best(scores: impl Iterator<Item = (u32, f32)>, query: &Query, k: usize) -> Vec<(f32, u32)> {
    let mut top = TopK::new(k);
    for (item, score) in scores {
        if score > 0.0 && score >= top.threshold() && !query.excludes(item) {
            top.push(score, item);
        }
    }
    top.into_sorted()
}

/// A model that is an item graph and no more.
pub struct ItemGraphRanker(pub ItemGraph);

impl Ranker for ItemGraphRanker {
    fn rank(&self, query: &Query, k: usize, progress: &dyn Progress) -> Result<Vec<(f32, u32)>> {
        let Self(graph) = self;
        progress.check()?;
        // A short history touches few items: no array of all of them.
        if query.items.len() * graph.neighbours.dim().1 < graph.items() / 8 {
            let mut sums: HashMap<u32, f32> = HashMap::new();
            graph.scores(query, |item, score| *sums.entry(item).or_default() += score)?;
            return Ok(best(sums.into_iter(), query, k));
        }
        let mut sums = memory::filled(0f32, graph.items())?;
        graph.scores(query, |item, score| sums[item as usize] += score)?;
        Ok(best((0..).zip(sums), query, k))
    }

    fn rank_tile(&self, queries: &[Query], k: usize) -> Result<Vec<Vec<(f32, u32)>>> {
        let Self(graph) = self;
        let mut sums = memory::filled(0f32, graph.items())?;
        let mut touched = Vec::new();
        let mut lists = Vec::with_capacity(queries.len());
        for query in queries {
            graph.scores(query, |item, score| {
                let sum = &mut sums[item as usize];
                // Weights of both signs may cancel out, and the item come twice: the second time it has no score left.
                if *sum == 0.0 {
                    touched.push(item);
                }
                *sum += score;
            })?;
            lists.push(best(touched.drain(..).map(|item| (item, std::mem::take(&mut sums[item as usize]))), query, k));
        }
        Ok(lists)
    }

    fn score_all(&self, query: &Query, scores: &mut [f32], progress: &dyn Progress) -> Result<()> {
        progress.check()?;
        scores.fill(0.0);
        self.0.scores(query, |item, score| scores[item as usize] += score)
    }

    fn similarity(&self, one: u32, other: u32) -> Result<f32> {
        self.0.weight(one, other)
    }

    /// The sum's own terms.
    fn explain(&self, query: &Query, item: u32, _: usize, _: &dyn Progress) -> Result<Vec<Contribution>> {
        self.0.explain(query, item, |_| Ok(0.0))
    }

    /// Its neighbours of positive weight.
    fn similar_items(&self, item: u32, k: usize, _: &dyn Progress) -> Result<Vec<Scored>> {
        let positive = self.0.row(item)?.take_while(|&(_, weight)| weight > 0.0);
        Ok(positive.take(k).map(|(item, score)| Scored { item, score }).collect())
    }
}
