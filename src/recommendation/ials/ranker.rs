//! Serving iALS: stored or folded-in user factors against all item factors.

use std::borrow::Cow;

use serde_json::Value;

use super::{Parameters, stored_parameters};
use crate::error::{Error, Result};
use crate::interactions::mapped::Mapped;
use crate::linalg::decompose::cholesky_solve;
use crate::progress::{Progress, Unwatched};
use crate::recommendation::Scored;
use crate::recommendation::item_factors::ItemFactors;
use crate::recommendation::ranker::{Query, Ranker};
use crate::recommendation::scan::most_similar;
use crate::recommendation::store::Files;

pub struct IalsRanker {
    model: String,
    parameters: Parameters,
    /// [items, d], in the eigenbasis of its Gram matrix.
    item_factors: ItemFactors,
    /// [d]: the diagonal of that Gram matrix.
    item_gram: Mapped<f32>,
    /// [users, d]
    user_factors: Mapped<f32>,
    items: usize,
}

impl IalsRanker {
    pub fn open(files: &Files, options: &Value, users: usize, items: usize) -> Result<Self> {
        let parameters = stored_parameters(options).map_err(|e| files.damaged(e.to_string()))?;
        let d = parameters.factors;
        let item_factors = ItemFactors::open(files, "item_factors", items, d)?;
        let (gram_shape, item_gram) = files.initializer("item_gram")?;
        let (user_shape, user_factors) = files.tensor("user_factors")?;
        if gram_shape != [d] || user_shape != [users, d] {
            return Err(files.damaged("its factors do not fit its users and items"));
        }
        Ok(Self { model: files.model.into(), parameters, item_factors, item_gram, user_factors, items })
    }

    fn damaged(&self, reason: &str) -> Error {
        Error::DamagedModel { model: self.model.clone(), reason: reason.into() }
    }

    /// The exact solution of one user's normal equations (Hu 2008, eq. 4) by Cholesky in `f64`.
    fn fold_in(&self, items: &[u32], weights: &[f32], progress: &dyn Progress) -> Result<Vec<f32>> {
        let d = self.parameters.factors;
        let mut a = vec![0f64; d * d];
        let mut b = vec![0f64; d];
        let mut interactions = 0;
        for (n, (&item, &weight)) in items.iter().zip(weights).enumerate() {
            if n % 256 == 0 {
                progress.check()?;
            }
            let c = f64::from(self.parameters.weighting.confidence(weight));
            if c <= 0.0 {
                continue;
            }
            interactions += 1;
            let y = self.item_factors.row(item)?;
            for (k, row) in a.chunks_exact_mut(d).enumerate() {
                let scaled = c * f64::from(y[k]);
                b[k] += scaled;
                row[..=k].iter_mut().zip(y).for_each(|(a, &y)| *a += scaled * f64::from(y));
            }
        }
        let lambda = self.parameters.lambda(interactions, self.items);
        for k in 0..d {
            a[k * d + k] += f64::from(self.parameters.unobserved_weight * self.item_gram[k] + lambda);
        }
        progress.check()?;
        if !cholesky_solve(&mut a, &mut b) {
            return Err(self.damaged("a history cannot be folded into its factors"));
        }
        Ok(b.into_iter().map(|x| x as f32).collect())
    }

    /// The factors of whom a query is for.
    fn user(&self, query: &Query, progress: &dyn Progress) -> Result<Cow<'_, [f32]>> {
        Ok(match query.user {
            Some(user) => self.stored(user)?.into(),
            None => self.fold_in(query.items, query.weights, progress)?.into(),
        })
    }

    fn stored(&self, user: u32) -> Result<&[f32]> {
        let d = self.parameters.factors;
        let start = user as usize * d;
        self.user_factors.get(start..start + d).ok_or_else(|| self.damaged("a user has no factors"))
    }
}

/// Whether there is anything to be personal about.
fn has_history(query: &Query) -> bool {
    query.weights.iter().any(|&w| w > 0.0)
}

impl Ranker for IalsRanker {
    fn rank(&self, query: &Query, k: usize, progress: &dyn Progress) -> Result<Vec<(f32, u32)>> {
        if !has_history(query) {
            return Ok(Vec::new());
        }
        self.item_factors.best(&self.user(query, progress)?, k, query, progress)
    }

    fn rank_tile(&self, queries: &[Query], k: usize) -> Result<Vec<Vec<(f32, u32)>>> {
        let mut lists = vec![Vec::new(); queries.len()];
        let known: Vec<usize> = (0..queries.len()).filter(|&q| has_history(&queries[q])).collect();
        let queries: Vec<Query> = known.iter().map(|&q| queries[q]).collect();
        let users = queries.iter().map(|query| match query.user {
            Some(user) => self.stored(user).map(Cow::Borrowed),
            None => self.fold_in(query.items, query.weights, &Unwatched).map(Cow::Owned),
        });
        let users: Vec<Cow<[f32]>> = users.collect::<Result<_>>()?;
        let users: Vec<&[f32]> = users.iter().map(|user| &**user).collect();
        let ranked = self.item_factors.best_of_tile(&users, &queries, k)?;
        known.iter().zip(ranked).for_each(|(&q, list)| lists[q] = list);
        Ok(lists)
    }

    fn score_all(&self, query: &Query, scores: &mut [f32], progress: &dyn Progress) -> Result<()> {
        scores.fill(0.0);
        if has_history(query) {
            self.item_factors.score_all(&self.user(query, progress)?, scores, progress)?;
        }
        Ok(())
    }

    fn score_tile(&self, queries: &[Query], scores: &mut [f32]) -> Result<()> {
        scores.fill(0.0);
        let known =
            queries.iter().zip(scores.chunks_exact_mut(self.items.max(1))).filter(|(query, _)| has_history(query));
        let (users, rows): (Vec<_>, Vec<_>) = known.map(|(query, row)| (self.user(query, &Unwatched), row)).unzip();
        let users: Vec<Cow<[f32]>> = users.into_iter().collect::<Result<_>>()?;
        let mut rows: Vec<_> = users.iter().map(|user| &**user).zip(rows).collect();
        self.item_factors.score_tile(&mut rows);
        Ok(())
    }

    fn similarity(&self, one: u32, other: u32) -> Result<f32> {
        self.item_factors.similarity(one, other)
    }

    /// By the cosine of user factors.
    fn similar_users(&self, user: u32, k: usize, progress: &dyn Progress) -> Result<Option<Vec<Scored>>> {
        most_similar(&self.user_factors, self.stored(user)?, user, k, progress).map(Some)
    }

    /// By the cosine of item factors.
    fn similar_items(&self, item: u32, k: usize, progress: &dyn Progress) -> Result<Vec<Scored>> {
        self.item_factors.similar(item, k, progress)
    }
}
