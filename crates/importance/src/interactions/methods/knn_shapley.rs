//! `knn_shapley`: the Shapley value of an interaction among the nearest neighbours of held-out items.
//!
//! For a held-out pair `(u, j)` the players are the interactions of `u`. A coalition `S` of them is worth the score that an item-based
//! recommender gives `j` from the `K` nearest items (Sarwar, Karypis, Konstan, Riedl, WWW 2001, with the cosine of co-occurrence):
//!
//! `v_j(S) = 1/K Σ_{i ∈ top K of S by sim(i, j)} sim(i, j)`, `sim(i, j) = n_ij / √(n_i n_j)`
//!
//! The total worth is the mean of `v_j` over the held-out pairs, minus the mean of `v_j'` over `negatives` items `j'` that `u` did not choose,
//! drawn in proportion to their popularity. The Shapley value is linear in the worth and exact for a single `v_j`: with the similarities of
//! `u`'s interactions sorted, `y_1 ≥ … ≥ y_n`,
//!
//! `s_n = y_n/K · min(K, n)/n`, `s_m = s_{m+1} + (y_m − y_{m+1})/K · min(K, m)/m`,
//!
//! the recursion of Jia et al., "Efficient task-specific data valuation for nearest neighbor algorithms" (VLDB 2019), theorem 1, with
//! similarities instead of matches: `v_j` is a sum of games `min(K, |S ∩ {1…m}|)`, of which each player of `{1…m}` gets
//! `min(K, m)/m`. The values add up to the worth of all interactions.
//!
//! Low: it supports items that its user does not choose. Interactions of users without held-out pairs score 0. Held-out pairs that are also
//! among the interactions are ignored, since they would support themselves.
//!
//! O(Σ_j Σ_{v: j ∈ N(v)} n_v) time over the different held-out and drawn items, plus O(n_u log n_u) per pair.

use crate::interactions::method::{InteractionMethod, Plan};
use crate::interactions::task::Task;
use kernels::Csr;
use runtime::draw::{below, mix};
use runtime::error::{Error, Result};
use runtime::jobs::{Relay, Signal};
use runtime::memory;
use runtime::options::Options;
use runtime::parallel::for_each_chunk;
use runtime::progress::Progress;

/// Approximate number of values kept before they are added up.
const KEPT: usize = 1 << 20;
/// Users between two checks for a cancel request.
const LOOK: usize = 1 << 8;
/// Attempts to draw an item that the user did not choose.
const TRIES: u64 = 32;

/// A held-out (positive sign) or drawn (negative sign) item of a user.
#[derive(Clone, Copy, Debug)]
struct Target {
    item: u32,
    user: u32,
    sign: f64,
}

pub struct KnnShapley;

impl InteractionMethod for KnnShapley {
    fn name(&self) -> &'static str {
        "knn_shapley"
    }

    fn needs_validation(&self) -> bool {
        true
    }

    fn plan(&self, options: &mut Options) -> Result<Box<dyn Plan>> {
        Ok(Box::new(Parameters::read(options)?))
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Parameters {
    /// K
    k: usize,
    negatives: usize,
    seed: u64,
}

impl Parameters {
    pub fn read(options: &mut Options) -> Result<Self> {
        Ok(Self {
            k: options.integer("k", 10, 1, 10_000)? as usize,
            negatives: options.integer("negatives", 4, 0, 100)? as usize,
            seed: options.integer("seed", 0, 0, u64::MAX)?,
        })
    }
}

impl Plan for Parameters {
    fn score(&self, task: &Task) -> Result<Vec<f64>> {
        score(task, self)
    }
}

fn score(task: &Task, parameters: &Parameters) -> Result<Vec<f64>> {
    let progress = Relay::new(task.progress);
    let (pairs, targets) = targets(task, parameters, &progress)?;
    let by_item = task.by_user.transpose(&progress)?;
    let game = Game { by_user: task.by_user, by_item: &by_item, k: parameters.k };

    let mut scores = memory::filled(0f64, task.by_user.entries())?;
    let mut rest = &targets[..];
    while !rest.is_empty() {
        progress.report("held-out items", targets.len() - rest.len(), targets.len());
        // As many as fit, all those of an item together.
        let mut kept = 0;
        let mut batch: Vec<(&[Target], Vec<Vec<f64>>)> = Vec::new();
        for same in rest.chunk_by(|a, b| a.item == b.item) {
            kept += same.iter().map(|target| task.by_user.row(target.user as usize).0.len()).sum::<usize>();
            memory::push(&mut batch, (same, Vec::new()))?;
            if kept >= KEPT {
                break;
            }
        }
        rest = &rest[batch.iter().map(|(same, _)| same.len()).sum()..];
        let sums = || vec![0f32; by_item.rows()];
        for_each_chunk(&mut batch, 1, task.threads, &progress, sums, |sums, _, batch| {
            batch.iter_mut().try_for_each(|(targets, values)| game.play(targets, sums, values, &progress.signal))
        })?;
        for (target, values) in batch.iter().flat_map(|(targets, values)| targets.iter().zip(values)) {
            let start = task.by_user.indptr[target.user as usize] as usize;
            let weight = target.sign / pairs as f64;
            scores[start..].iter_mut().zip(values).for_each(|(score, value)| *score += weight * value);
        }
    }
    Ok(scores)
}

/// The number of held-out pairs, and the targets, sorted by item.
fn targets(task: &Task, parameters: &Parameters, progress: &dyn Progress) -> Result<(usize, Vec<Target>)> {
    let Parameters { negatives, seed, .. } = *parameters;
    let held_out = task.held_out.unwrap_or_default();
    let mut targets = Vec::new();
    let mut pairs = 0;
    for (n, &(user, item)) in held_out.iter().enumerate() {
        if n % (1 << 14) == 0 {
            progress.check()?;
        }
        let chosen = task.by_user.row(user as usize).0;
        if chosen.is_empty() || chosen.binary_search(&item).is_ok() {
            continue;
        }
        pairs += 1;
        memory::push(&mut targets, Target { item, user, sign: 1.0 })?;
        for number in 0..negatives {
            let key = mix(seed ^ mix((u64::from(user) << 32) | u64::from(item)) ^ mix(number as u64));
            let drawn = (0..TRIES).map(|t| task.by_user.indices[below(key, t, task.by_user.entries())]);
            let other = drawn.into_iter().find(|other| *other != item && chosen.binary_search(other).is_err());
            if let Some(item) = other {
                memory::push(&mut targets, Target { item, user, sign: -1.0 / negatives as f64 })?;
            }
        }
    }
    if pairs == 0 {
        let hint = "Give pairs of known users and items that are not in the source, such as those of a later time.";
        return Err(Error::invalid("the validation query has no pair to judge by", hint));
    }
    progress.check()?;
    // A pair held out and drawn, or drawn twice, keeps its order: the sort is stable.
    targets.sort_by_key(|target| (target.item, target.user));
    Ok((pairs, targets))
}

struct Game<'a> {
    by_user: &'a Csr,
    by_item: &'a Csr,
    k: usize,
}

impl Game<'_> {
    /// The values of each target's players; all targets have the same item. `sums` [items] are zero before and after.
    fn play(&self, targets: &[Target], sums: &mut [f32], values: &mut Vec<Vec<f64>>, signal: &Signal) -> Result<()> {
        let Some(item) = targets.first().map(|target| target.item as usize) else { return Ok(()) };
        let users = self.by_item.row(item).0;
        let each = |sums: &mut [f32], change: &dyn Fn(&mut f32)| {
            users.iter().enumerate().try_for_each(|(n, &user)| {
                if n % LOOK == 0 {
                    signal.check()?;
                }
                self.by_user.row(user as usize).0.iter().for_each(|&other| change(&mut sums[other as usize]));
                Ok(())
            })
        };
        each(sums, &|sum| *sum += 1.0)?;
        for target in targets {
            signal.check()?;
            let similarity = |&other: &u32| {
                let count = self.by_item.row(other as usize).0.len();
                f64::from(sums[other as usize]) / ((count * users.len().max(1)) as f64).sqrt()
            };
            let near: Vec<f64> = self.by_user.row(target.user as usize).0.iter().map(similarity).collect();
            values.push(shapley(&near, self.k));
        }
        each(sums, &|sum| *sum = 0.0)
    }
}

/// The Shapley value of each player in `v(S) = 1/k Σ_{top k of S} y`.
fn shapley(y: &[f64], k: usize) -> Vec<f64> {
    let mut order: Vec<usize> = (0..y.len()).collect();
    order.sort_by(|&a, &b| y[b].total_cmp(&y[a]));
    let mut values = vec![0.0; y.len()];
    let (mut value, mut next) = (0.0, 0.0);
    for (before, &player) in order.iter().enumerate().rev() {
        let m = before + 1;
        value += (y[player] - next) / k as f64 * k.min(m) as f64 / m as f64;
        values[player] = value;
        next = y[player];
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shapley_s_over_all_coalitions() {
        let y = [0.3, 0.9, 0.0, 0.3, 0.5, 0.1];
        let n = y.len();
        for k in [1, 2, 4, 6, 9] {
            let worth = |coalition: usize| {
                let mut of: Vec<f64> = (0..n).filter(|p| coalition >> p & 1 == 1).map(|p| y[p]).collect();
                of.sort_by(|a, b| b.total_cmp(a));
                of.iter().take(k).sum::<f64>() / k as f64
            };
            let factorial = |n: usize| (1..=n).map(|x| x as f64).product::<f64>();
            let values = shapley(&y, k);
            for (player, value) in values.iter().enumerate() {
                let without = (0..1usize << n).filter(|coalition| coalition >> player & 1 == 0);
                let expected: f64 = without
                    .map(|coalition| {
                        let size = coalition.count_ones() as usize;
                        let weight = factorial(size) * factorial(n - size - 1) / factorial(n);
                        weight * (worth(coalition | 1 << player) - worth(coalition))
                    })
                    .sum();
                assert!((value - expected).abs() < 1e-12, "{k} {player} {value} {expected}");
            }
            assert!((values.iter().sum::<f64>() - worth((1 << n) - 1)).abs() < 1e-12);
        }
    }
}
