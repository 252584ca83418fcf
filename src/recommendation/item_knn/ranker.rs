//! Serving item neighbours: the neighbours of a history's items, summed.

use std::collections::HashMap;

use serde_json::Value;

use super::{Parameters, stored_parameters};
use crate::error::{Error, Result};
use crate::interactions::mapped::Mapped;
use crate::progress::Progress;
use crate::recommendation::Scored;
use crate::recommendation::ranker::{Contribution, Query, Ranker};
use crate::recommendation::store::Files;
use crate::recommendation::top_k::TopK;

pub struct ItemKnnRanker {
    model: String,
    parameters: Parameters,
    /// [items, width]
    neighbours: Mapped<i32>,
    /// [items, width], 0 where there are no more neighbours.
    similarities: Mapped<f32>,
    items: usize,
    width: usize,
}

impl ItemKnnRanker {
    pub fn open(files: &Files, options: &Value, items: usize) -> Result<Self> {
        let parameters = stored_parameters(options).map_err(|e| files.damaged(e.to_string()))?;
        let (shape, neighbours) = files.initializer("neighbours")?;
        let (other_shape, similarities) = files.initializer("similarities")?;
        let [rows, width] = shape;
        if rows != items || shape != other_shape {
            return Err(files.damaged("its neighbours do not fit its items"));
        }
        Ok(Self { model: files.model.into(), parameters, neighbours, similarities, items, width })
    }

    /// Neighbours and similarities of an item, best first.
    fn row(&self, item: u32) -> Result<impl Iterator<Item = (u32, f32)>> {
        let range = item as usize * self.width..(item as usize + 1) * self.width;
        let row = self.neighbours.get(range.clone()).zip(self.similarities.get(range));
        let (neighbours, similarities) = row.ok_or_else(|| self.damaged("an item has no neighbours"))?;
        if neighbours.iter().any(|&n| n < 0 || n as usize >= self.items) {
            return Err(self.damaged("an item has a neighbour that does not exist"));
        }
        let pairs = neighbours.iter().zip(similarities).take_while(|&(_, &s)| s > 0.0);
        Ok(pairs.map(|(&n, &s)| (n as u32, s)))
    }

    fn damaged(&self, reason: &str) -> Error {
        Error::DamagedModel { model: self.model.clone(), reason: reason.into() }
    }

    /// Calls `add` with each item and what it gains, in the order of the history.
    fn scores(&self, query: &Query, mut add: impl FnMut(u32, f32)) -> Result<()> {
        for (&item, &weight) in query.items.iter().zip(query.weights) {
            let c = self.parameters.weighting.confidence(weight);
            if c > 0.0 {
                self.row(item)?.for_each(|(neighbour, similarity)| add(neighbour, c * similarity));
            }
        }
        Ok(())
    }
}

/// The best `k` of the scores that are above 0.
fn best(scores: impl Iterator<Item = (u32, f32)>, query: &Query, k: usize) -> Vec<(f32, u32)> {
    let mut top = TopK::new(k);
    for (item, score) in scores {
        if score > 0.0 && score >= top.threshold() && !query.excludes(item) {
            top.push(score, item);
        }
    }
    top.into_sorted()
}

impl Ranker for ItemKnnRanker {
    fn rank(&self, query: &Query, k: usize, progress: &dyn Progress) -> Result<Vec<(f32, u32)>> {
        progress.check()?;
        // A short history touches few items: no array of all of them.
        if query.items.len() * self.width < self.items / 8 {
            let mut sums: HashMap<u32, f32> = HashMap::new();
            self.scores(query, |item, score| *sums.entry(item).or_default() += score)?;
            return Ok(best(sums.into_iter(), query, k));
        }
        let mut sums = vec![0f32; self.items];
        self.scores(query, |item, score| sums[item as usize] += score)?;
        Ok(best((0..).zip(sums), query, k))
    }

    fn rank_tile(&self, queries: &[Query], k: usize) -> Result<Vec<Vec<(f32, u32)>>> {
        let mut sums = vec![0f32; self.items];
        let mut touched = Vec::new();
        let mut lists = Vec::with_capacity(queries.len());
        for query in queries {
            self.scores(query, |item, score| {
                let sum = &mut sums[item as usize];
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
        self.scores(query, |item, score| scores[item as usize] += score)
    }

    fn similarity(&self, one: u32, other: u32) -> Result<f32> {
        Ok(self.row(one)?.find(|&(item, _)| item == other).map_or(0.0, |(_, similarity)| similarity))
    }

    /// The sum's own terms.
    fn explain(&self, query: &Query, item: u32, _: usize, _: &dyn Progress) -> Result<Vec<Contribution>> {
        let pairs = query.items.iter().zip(query.weights);
        pairs
            .map(|(&other, &weight)| {
                let share = self.parameters.weighting.confidence(weight) * self.similarity(other, item)?;
                Ok(Contribution { item: other, share })
            })
            .collect()
    }

    /// Its neighbours.
    fn similar_items(&self, item: u32, k: usize, _: &dyn Progress) -> Result<Vec<Scored>> {
        Ok(self.row(item)?.take(k).map(|(item, score)| Scored { item, score }).collect())
    }
}
