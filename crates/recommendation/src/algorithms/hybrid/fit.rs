//! The weights of a blend: what gives held-out interactions the best places.
//!
//! Of each user only the candidates are kept, which no weights can keep out of the list for long: each component's best, and
//! the items held out. A blend is then judged in a few microseconds a user, and the search over the simplex is exhaustive in
//! small steps: weight moves from one component to another, in steps that halve, while the metric rises.

use std::sync::atomic::{AtomicUsize, Ordering};

use ndarray::{Array2, s};
use serde_json::{Value, json};

use super::component::Component;
use super::parameters::Parameters;
use super::ranker::{best, scale};
use crate::quality::Metric;
use crate::ranker::{Query, Ranker};
use crate::training::Training;
use interactions::HeldOut;
use kernels::matrix::{flat, flat_mut};
use runtime::draw::mix;
use runtime::error::Result;
use runtime::memory;
use runtime::parallel::for_each_chunk;
use runtime::progress::{Counted, Progress};

/// Users judged at most: their metric is then known to about ±0.002, and the difference of two blends far better.
pub const USERS: usize = 10_000;
/// Candidates of each component: so many times `k`, and no less than …
const CANDIDATES_PER_K: usize = 5;
const LEAST_CANDIDATES: usize = 100;
/// Users whose candidates are gathered between two looks for more work; fewer where their scores would be more than this.
const GATHERED: usize = 16;
const GATHERED_SCORES: usize = 1 << 20;
/// Users judged between two looks for more work.
const JUDGED: usize = 128;
/// The first and the last step of the search.
const STEPS: [f32; 5] = [0.2, 0.1, 0.05, 0.025, 0.0125];

/// The weights found, and how good they are.
pub struct Fitted {
    /// One for each component, with the sum 1.
    pub weights: Vec<f32>,
    /// The metric of the blend.
    value: f64,
    /// The metric of each component alone.
    pub alone: Vec<f64>,
    users: usize,
}

impl Fitted {
    pub fn figures(&self, parameters: &Parameters) -> Value {
        let best = self.alone.iter().copied().fold(0.0, f64::max);
        json!({
            "metric": parameters.metric.name(),
            "k": parameters.k,
            "users": self.users,
            "blend": self.value,
            "best_component": best,
        })
    }
}

/// What is kept of one user.
#[derive(Clone, Default)]
struct Candidates {
    /// Ascending.
    items: Vec<u32>,
    /// Places in `items` of what was held out.
    relevant: Vec<u32>,
    /// [items, components]: scaled scores.
    scores: Array2<f32>,
}

/// Trains every component on a part of the interactions, and finds the weights that serve the rest best.
pub fn fit(training: &Training, parameters: &Parameters) -> Result<Fitted> {
    let Training { interactions, progress, threads, .. } = *training;
    let share = f64::from(parameters.holdout);
    let held = match interactions.hold_out(share, parameters.seed, progress)? {
        // Nobody has two interactions: nothing tells the components apart.
        HeldOut { validation, .. } if validation.is_empty() => {
            let count = parameters.components.len();
            let weights = vec![1.0 / count as f32; count];
            return Ok(Fitted { weights, value: 0.0, alone: vec![0.0; count], users: 0 });
        }
        held => held,
    };
    let part = Training { interactions: &held.training, ..*training };
    let mut rankers = Vec::new();
    for component in &parameters.components {
        let parts = component.algorithm.train_with(&part, &component.options)?;
        let component = Component { options: parts.options, ..component.clone() };
        let (users, items) = (interactions.users(), interactions.items());
        rankers.push(component.open_trained(parts.graph, parts.data, users, items)?);
    }
    let candidates = gather(&part, &rankers, sampled(held.validation, parameters.seed), parameters.k)?;
    let judge = Judge { candidates: &candidates, parameters, threads, progress };
    let (weights, value, alone) = search(rankers.len(), |weights| judge.judge(weights))?;
    Ok(Fitted { weights, value, alone, users: candidates.len() })
}

/// At most [`USERS`] of them, by chance.
fn sampled(mut validation: Vec<(u32, Vec<u32>)>, seed: u64) -> Vec<(u32, Vec<u32>)> {
    if validation.len() > USERS {
        validation.sort_by_cached_key(|&(user, _)| mix(mix(!seed) ^ u64::from(user)));
        validation.truncate(USERS);
        validation.sort_unstable_by_key(|&(user, _)| user);
    }
    validation
}

fn gather(
    training: &Training,
    rankers: &[Box<dyn Ranker>],
    validation: Vec<(u32, Vec<u32>)>,
    k: usize,
) -> Result<Vec<Candidates>> {
    let Training { interactions, progress, threads, .. } = *training;
    let history = interactions.history();
    let (items, count) = (interactions.items(), rankers.len());
    let most = (CANDIDATES_PER_K * k).max(LEAST_CANDIDATES);
    let mut all = memory::filled(Candidates::default(), validation.len())?;
    let gathered = (GATHERED_SCORES / items.max(1)).clamp(1, GATHERED);
    let done = AtomicUsize::new(0);
    for_each_chunk(
        &mut all,
        gathered,
        threads,
        &Counted { whole: progress, phase: "users scored", done: &done, total: validation.len() },
        || vec![Array2::default((0, 0)); count],
        |room: &mut Vec<Array2<f32>>, chunk, all| {
            let validation = &validation[chunk * gathered..][..all.len()];
            let queries = validation.iter().map(|&(user, _)| {
                let (seen, weights) = history.row(user as usize);
                Query { user: Some(user), items: seen, weights, excluded: seen, allowed: None }
            });
            let queries: Vec<Query> = queries.collect();
            let mut found: Vec<Vec<u32>> = validation.iter().map(|(_, held_out)| held_out.clone()).collect();
            for (ranker, scores) in rankers.iter().zip(room.iter_mut()) {
                if scores.is_empty() {
                    *scores = memory::matrix(gathered, items, 0.0)?;
                }
                let mut scores = scores.slice_mut(s![..queries.len(), ..]);
                ranker.score_tile(&queries, scores.view_mut())?;
                let rows = flat_mut(scores).chunks_exact_mut(items);
                for ((query, found), scores) in queries.iter().zip(&mut found).zip(rows) {
                    let factor = 1.0 / scale(scores);
                    scores.iter_mut().for_each(|score| *score *= factor);
                    found.extend(best(scores, query, most).into_iter().map(|(_, item)| item));
                }
            }
            for (place, (candidates, mut found)) in all.iter_mut().zip(found).enumerate() {
                found.sort_unstable();
                found.dedup();
                candidates.scores = memory::matrix(found.len(), count, 0.0)?;
                for (&item, mut to) in found.iter().zip(candidates.scores.rows_mut()) {
                    to.iter_mut().zip(&*room).for_each(|(to, scores)| *to = scores[[place, item as usize]]);
                }
                let relevant = validation[place].1.iter().filter_map(|item| found.binary_search(item).ok());
                candidates.relevant = relevant.map(|place| place as u32).collect();
                candidates.items = found;
            }
            done.fetch_add(all.len(), Ordering::Relaxed);
            Ok(())
        },
    )?;
    Ok(all)
}

struct Judge<'a> {
    candidates: &'a [Candidates],
    parameters: &'a Parameters,
    threads: usize,
    progress: &'a dyn Progress,
}

impl Judge<'_> {
    /// The metric of a blend, averaged over the users.
    fn judge(&self, weights: &[f32]) -> Result<f64> {
        let mut values = memory::filled(0f64, self.candidates.len())?;
        for_each_chunk(&mut values, JUDGED, self.threads, self.progress, Vec::new, |blended, chunk, values| {
            for (value, candidates) in values.iter_mut().zip(&self.candidates[chunk * JUDGED..]) {
                *value = judge_user(candidates, weights, self.parameters.metric, self.parameters.k, blended);
            }
            Ok(())
        })?;
        Ok(values.iter().sum::<f64>() / values.len().max(1) as f64)
    }
}

/// One user's metric. `blended` is room for the scores.
fn judge_user(candidates: &Candidates, weights: &[f32], metric: Metric, k: usize, blended: &mut Vec<f32>) -> f64 {
    blended.clear();
    let rows = flat(candidates.scores.view()).chunks_exact(weights.len());
    blended.extend(rows.map(|row| row.iter().zip(weights).map(|(&score, &weight)| score * weight).sum::<f32>()));
    let ranked = candidates.relevant.iter().map(|&place| place as usize).filter(|&place| blended[place] != 0.0);
    let places = ranked.map(|place| {
        let score = blended[place];
        // Candidates ascend by item, so those before win ties.
        let before = blended[..place].iter().filter(|&&other| other >= score && other != 0.0).count();
        before + blended[place..].iter().filter(|&&other| other > score && other != 0.0).count()
    });
    metric.of(places, candidates.relevant.len(), k)
}

/// The best weights on the simplex, their value, and the values of each component alone.
///
/// From the better of the best component alone and equal weights: the move of a step's weight from one component to another
/// that raises the value most, until none does; then with a smaller step.
fn search(count: usize, mut judge: impl FnMut(&[f32]) -> Result<f64>) -> Result<(Vec<f32>, f64, Vec<f64>)> {
    let one = |which: usize| (0..count).map(|n| f32::from(n == which)).collect::<Vec<f32>>();
    let alone: Vec<f64> = (0..count).map(|which| judge(&one(which))).collect::<Result<_>>()?;
    let best = (0..count).fold(0, |best, n| if alone[n] > alone[best] { n } else { best });
    let (mut weights, mut value) = (one(best), alone[best]);
    if count == 1 {
        return Ok((weights, value, alone));
    }
    let equal = vec![1.0 / count as f32; count];
    let equal_value = judge(&equal)?;
    if equal_value > value {
        (weights, value) = (equal, equal_value);
    }
    for step in STEPS {
        loop {
            let mut better: Option<Vec<f32>> = None;
            for (from, to) in (0..count * count).map(|pair| (pair / count, pair % count)) {
                let moved = step.min(weights[from]);
                if from == to || moved <= 0.0 {
                    continue;
                }
                let mut tried = weights.clone();
                tried[to] += moved;
                // All of it, or rounding would leave a crumb.
                tried[from] = if moved == weights[from] { 0.0 } else { weights[from] - moved };
                let tried_value = judge(&tried)?;
                if tried_value > value {
                    (better, value) = (Some(tried), tried_value);
                }
            }
            match better {
                Some(better) => weights = better,
                None => break,
            }
        }
    }
    Ok((weights, value, alone))
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn the_search_finds_the_top_of_a_hill_and_leaves_nothing_behind() {
        let hill = |top: [f32; 3]| {
            move |w: &[f32]| Ok(-w.iter().zip(top).map(|(&w, t)| f64::from((w - t) * (w - t))).sum::<f64>())
        };
        let (weights, _, alone) = search(3, hill([0.3, 0.65, 0.05])).unwrap();
        assert!(weights.iter().zip([0.3, 0.65, 0.05]).all(|(w, t)| (w - t).abs() < 0.02), "{weights:?}");
        assert_eq!(alone.len(), 3);
        let (weights, value, alone) = search(3, hill([0.0, 1.0, 0.0])).unwrap();
        assert_eq!((weights, value), (vec![0.0, 1.0, 0.0], alone[1]));
    }

    #[test]
    fn a_user_is_judged_as_the_list_would_be() {
        let candidates = Candidates {
            items: vec![1, 4, 6, 9],
            relevant: vec![1, 3],
            scores: array![[0.5, 0.0], [0.5, 1.0], [1.0, 0.2], [0.0, 0.0]],
        };
        let judge = |weights: &[f32], metric, k| judge_user(&candidates, weights, metric, k, &mut Vec::new());
        let ideal = 1.0 + 1.0 / 3f64.log2();
        // Items 6, 1, 4: item 1 wins the tie, and of item 9 nobody says anything.
        assert!((judge(&[1.0, 0.0], Metric::Ndcg, 3) - 0.5 / ideal).abs() < 1e-12);
        assert_eq!(judge(&[1.0, 0.0], Metric::Recall, 2), 0.0);
        assert_eq!(judge(&[0.0, 1.0], Metric::Recall, 1), 0.5);
        assert!((judge(&[0.0, 1.0], Metric::Ndcg, 1) - 1.0).abs() < 1e-12);
    }
}
