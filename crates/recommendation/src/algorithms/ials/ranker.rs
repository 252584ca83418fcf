//! Serving iALS: stored or folded-in user factors against all item factors.

use std::borrow::Cow;

use ndarray::{Array2, ArrayView2, ArrayViewMut2, s};
use serde_json::Value;

use super::features::factors_from_features;
use super::parameters::Parameters;
use super::problem::PAD;
use crate::ranker::{Contribution, Product, Query, Ranker, listed};
use inner_products::ItemFactors;
use inner_products::Scored;
use inner_products::scan::most_similar;
use interactions::Features;
use kernels::cholesky;
use kernels::dense::add_gram;
use kernels::dot::dot;
use kernels::matrix::{flat, flat_mut};
use onnx::stored::{Files, MappedMatrix};
use runtime::error::{Error, Result};
use runtime::mapped::Mapped;
use runtime::memory;
use runtime::progress::{Progress, Unwatched};

/// A history's items whose factors are gathered at a time.
const GATHERED: usize = 64;

pub struct IalsRanker {
    model: String,
    parameters: Parameters,
    /// [items, d], in the eigenbasis of its Gram matrix.
    item_factors: ItemFactors,
    /// [d]: the diagonal of that Gram matrix.
    item_gram: Mapped<f32>,
    /// [users, d]
    user_factors: MappedMatrix<f32>,
    /// [features, d]: see [`super::features`]; without rows where the model was trained without.
    feature_map: MappedMatrix<f32>,
    items: usize,
}

impl IalsRanker {
    pub fn open(files: &Files, options: &Value, users: usize, items: usize) -> Result<Self> {
        let parameters = Parameters::stored(options).map_err(|e| files.damaged(e.to_string()))?;
        let d = parameters.factors;
        let item_factors = ItemFactors::open(files, "item_factors", items, d)?;
        let (gram_shape, item_gram) = files.initializer("item_gram")?;
        let user_factors = files.tensor_matrix("user_factors")?;
        // Models of the first version have none.
        let feature_map = match files.has_tensor("feature_map") {
            true => files.tensor_matrix("feature_map")?,
            false => MappedMatrix::empty(d),
        };
        if gram_shape != [d] || user_factors.dim() != (users, d) || feature_map.dim().1 != d {
            return Err(files.damaged("its factors do not fit its users and items"));
        }
        Ok(Self { model: files.model.into(), parameters, item_factors, item_gram, user_factors, feature_map, items })
    }

    fn damaged(&self, reason: &str) -> Error {
        Error::DamagedModel { model: self.model.clone(), reason: reason.into() }
    }

    fn confidence(&self, weight: f32) -> f32 {
        self.parameters.signed_confidence(weight)
    }

    /// The matrix of a history's normal equations (Hu 2008, eq. 4) [d, d], lower triangle: `Σ c y yᵀ + α₀ Λ + λ I`.
    fn normal_matrix(&self, items: &[u32], weights: &[f32], progress: &dyn Progress) -> Result<Array2<f64>> {
        let d = self.parameters.factors;
        let stride = d.next_multiple_of(PAD);
        let mut gram = memory::matrix(stride, stride, 0f32)?;
        let mut gathered = memory::matrix(GATHERED, stride, 0f32)?;
        let mut interactions = 0;
        for (items, weights) in items.chunks(GATHERED).zip(weights.chunks(GATHERED)) {
            progress.check()?;
            let mut rows = 0;
            for (&item, &weight) in items.iter().zip(weights) {
                let c = self.confidence(weight).abs();
                if c > 0.0 {
                    let (root, y) = (c.sqrt(), self.item_factors.row(item)?);
                    let to = &mut flat_mut(gathered.view_mut())[rows * stride..];
                    to.iter_mut().zip(y).for_each(|(to, &y)| *to = root * y);
                    rows += 1;
                }
            }
            interactions += rows;
            add_gram(gathered.slice(s![..rows, ..]), gram.view_mut());
        }
        let lambda = self.parameters.lambda(interactions, self.items);
        let (mut a, gram) = (memory::matrix(d, d, 0f64)?, flat(gram.view()));
        for (k, row) in flat_mut(a.view_mut()).chunks_exact_mut(d).enumerate() {
            row[..=k].iter_mut().zip(gram[k..].iter().step_by(stride)).for_each(|(to, &x)| *to = f64::from(x));
            row[k] += f64::from(self.parameters.unobserved_weight * self.item_gram[k] + lambda);
        }
        progress.check()?;
        Ok(a)
    }

    /// The solution of normal equations by Cholesky in `f64`.
    fn solve(&self, mut a: Array2<f64>, b: impl Iterator<Item = f64>) -> Result<Vec<f32>> {
        let mut b: Vec<f64> = b.collect();
        cholesky::solve(a.view_mut(), &mut b)
            .ok_or_else(|| self.damaged("a history cannot be folded into its factors"))?;
        Ok(b.into_iter().map(|x| x as f32).collect())
    }

    /// The exact factors of a history.
    fn fold_in(&self, items: &[u32], weights: &[f32], progress: &dyn Progress) -> Result<Vec<f32>> {
        let a = self.normal_matrix(items, weights, progress)?;
        let mut b = vec![0f64; self.parameters.factors];
        for (&item, &weight) in items.iter().zip(weights).filter(|&(_, &w)| w > 0.0) {
            let c = f64::from(self.confidence(weight));
            b.iter_mut().zip(self.item_factors.row(item)?).for_each(|(b, &y)| *b += c * f64::from(y));
        }
        self.solve(a, b.into_iter())
    }

    /// The factors of whom a query is for.
    fn user(&self, query: &Query, progress: &dyn Progress) -> Result<Cow<'_, [f32]>> {
        Ok(match query.user {
            Some(user) => self.stored(user)?.into(),
            None => self.fold_in(query.items, query.weights, progress)?.into(),
        })
    }

    fn stored(&self, user: u32) -> Result<&[f32]> {
        self.user_factors.row(user as usize).ok_or_else(|| self.damaged("a user has no factors"))
    }
}

/// Whether there is anything to be personal about.
fn has_history(query: &Query) -> bool {
    query.weights.iter().any(|&w| w > 0.0)
}

impl Product for IalsRanker {
    fn item_factors(&self) -> ArrayView2<'_, f32> {
        self.item_factors.all()
    }

    fn compared(&self) -> Option<usize> {
        Some(self.parameters.factors)
    }

    fn user<'a>(&'a self, query: &Query, progress: &dyn Progress) -> Result<Option<Cow<'a, [f32]>>> {
        if has_history(query) { self.user(query, progress).map(Some) } else { Ok(None) }
    }
}

impl Ranker for IalsRanker {
    fn rank(&self, query: &Query, k: usize, progress: &dyn Progress) -> Result<Vec<(f32, u32)>> {
        if !has_history(query) {
            return Ok(Vec::new());
        }
        self.item_factors.best(&self.user(query, progress)?, k, &query.listed(), progress)
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
        let ranked = self.item_factors.best_of_tile(&users, &listed(&queries), k)?;
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

    fn score_tile(&self, queries: &[Query], mut scores: ArrayViewMut2<f32>) -> Result<()> {
        scores.fill(0.0);
        let rows = flat_mut(scores).chunks_exact_mut(self.items.max(1));
        let known = queries.iter().zip(rows).filter(|(query, _)| has_history(query));
        let (users, rows): (Vec<_>, Vec<_>) = known.map(|(query, row)| (self.user(query, &Unwatched), row)).unzip();
        let users: Vec<Cow<[f32]>> = users.into_iter().collect::<Result<_>>()?;
        let mut rows: Vec<_> = users.iter().map(|user| &**user).zip(rows).collect();
        self.item_factors.score_tile(&mut rows);
        Ok(())
    }

    /// Hu, Koren, Volinsky 2008, §5: `score = Σ_j c_j p_j s_j` with `s_j = y_jᵀ (Σ c y yᵀ + α₀ Λ + λ I)⁻¹ y_item`. The shares add up
    /// to the score; what was turned down carries nothing of its own.
    fn explain(&self, query: &Query, item: u32, _items: usize, progress: &dyn Progress) -> Result<Vec<Contribution>> {
        let a = self.normal_matrix(query.items, query.weights, progress)?;
        let solved = self.solve(a, self.item_factors.row(item)?.iter().map(|&y| f64::from(y)))?;
        let share = |(&item, &weight): (&u32, &f32)| {
            let share = self.confidence(weight).max(0.0) * dot(self.item_factors.row(item)?, &solved);
            Ok(Contribution { item, share })
        };
        query.items.iter().zip(query.weights).map(share).collect()
    }

    fn product(&self) -> Option<&dyn Product> {
        Some(self)
    }

    fn item_factors(&self) -> Option<ArrayView2<'_, f32>> {
        Some(self.item_factors.all())
    }

    fn item_factors_from_features(&self, features: &Features) -> Result<Option<Array2<f32>>> {
        if self.feature_map.dim().0 == 0 {
            return Ok(None);
        }
        factors_from_features(features, self.feature_map.view()).map(Some)
    }

    fn similarity(&self, one: u32, other: u32) -> Result<f32> {
        self.item_factors.similarity(one, other)
    }

    /// By the cosine of user factors.
    fn similar_users(&self, user: u32, k: usize, progress: &dyn Progress) -> Result<Option<Vec<Scored>>> {
        most_similar(self.user_factors.view(), self.stored(user)?, user, k, progress).map(Some)
    }

    /// By the cosine of item factors.
    fn similar_items(&self, item: u32, k: usize, progress: &dyn Progress) -> Result<Vec<Scored>> {
        self.item_factors.similar(item, k, progress)
    }
}
