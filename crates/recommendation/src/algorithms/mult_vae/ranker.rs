//! Serving Mult-VAE: a history encoded and decoded, and a scan of the last layer.

use std::borrow::Cow;

use ndarray::{ArrayView2, ArrayViewMut2};
use serde_json::Value;

use super::fold_in::FoldIn;
use super::parameters::{Parameters, stored_parameters};
use crate::ranker::{Product, Query, Ranker, listed};
use inner_products::ItemFactors;
use inner_products::Scored;
use inner_products::scan::most_similar;
use kernels::cosine::cosine;
use kernels::matrix::flat_mut;
use neural::network::Layer;
use onnx::stored::{Files, MappedMatrix};
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::progress::Progress;

pub struct MultVaeRanker {
    model: String,
    parameters: Parameters,
    /// [items, hidden]: Y
    item_factors: ItemFactors,
    /// [items, hidden]: H
    history_factors: MappedMatrix<f32>,
    /// [users, factors]: μ
    user_factors: MappedMatrix<f32>,
    fold_in: FoldIn,
}

impl MultVaeRanker {
    pub fn open(files: &Files, options: &Value, users: usize, items: usize) -> Result<Self> {
        let parameters = stored_parameters(options).map_err(|e| files.damaged(e.to_string()))?;
        let Parameters { hidden, factors, weighting, .. } = parameters;
        let item_factors = ItemFactors::open(files, "item_factors", items, hidden)?;
        let history_factors = files.initializer_matrix("history_factors")?;
        let user_factors = files.tensor_matrix("user_factors")?;
        let ([width], bias) = files.initializer::<f32, 1>("history_bias")?;
        let fit = history_factors.dim() == (items, hidden) && user_factors.dim() == (users, factors);
        if !fit || width != hidden {
            return Err(files.damaged("its factors do not fit its users and items"));
        }
        let layer = |name: &str, inputs: usize, outputs: usize| -> Result<Layer> {
            let (shape, weight) = files.initializer::<f32, 2>(&format!("{name}_weight"))?;
            let (length, bias) = files.initializer::<f32, 1>(&format!("{name}_bias"))?;
            if shape != [inputs, outputs] || length != [outputs] {
                return Err(files.damaged(format!("{name}_weight has shape {shape:?}")));
            }
            Ok(Layer { weight: memory::shaped(inputs, outputs, weight.to_vec())?, bias: bias.to_vec() })
        };
        let (encoder, decoder) = (layer("encoder", hidden, factors)?, layer("decoder", factors, hidden - 1)?);
        let fold_in = FoldIn::new(weighting, &bias, &encoder, &decoder);
        Ok(Self { model: files.model.into(), parameters, item_factors, history_factors, user_factors, fold_in })
    }

    fn means(&self, user: u32) -> Result<&[f32]> {
        self.user_factors
            .row(user as usize)
            .ok_or_else(|| Error::DamagedModel { model: self.model.clone(), reason: "a user has no factors".into() })
    }

    /// What the items are scored by [hidden] for whom a query is for; `None` where nothing is known of them.
    fn user(&self, query: &Query) -> Result<Option<Vec<f32>>> {
        if !query.weights.iter().any(|&w| w > 0.0) {
            return Ok(None);
        }
        let decoded = match query.user {
            Some(user) => self.fold_in.decoded(self.means(user)?),
            None => self.fold_in.decoded(&self.fold_in.means(self.history_factors.view(), query.items, query.weights)),
        };
        Ok(Some(decoded))
    }

    /// An item's row without its bias.
    fn direction(&self, item: u32) -> Result<&[f32]> {
        Ok(&self.item_factors.row(item)?[..self.parameters.hidden - 1])
    }
}

impl Product for MultVaeRanker {
    fn item_factors(&self) -> ArrayView2<'_, f32> {
        self.item_factors.all()
    }

    /// Without the bias.
    fn compared(&self) -> Option<usize> {
        Some(self.parameters.hidden - 1)
    }

    fn user<'a>(&'a self, query: &Query, _progress: &dyn Progress) -> Result<Option<Cow<'a, [f32]>>> {
        Ok(self.user(query)?.map(Cow::Owned))
    }
}

impl Ranker for MultVaeRanker {
    fn rank(&self, query: &Query, k: usize, progress: &dyn Progress) -> Result<Vec<(f32, u32)>> {
        match self.user(query)? {
            Some(user) => self.item_factors.best(&user, k, &query.listed(), progress),
            None => Ok(Vec::new()),
        }
    }

    fn rank_tile(&self, queries: &[Query], k: usize) -> Result<Vec<Vec<(f32, u32)>>> {
        let mut lists = vec![Vec::new(); queries.len()];
        let users = queries.iter().map(|query| self.user(query)).collect::<Result<Vec<_>>>()?;
        let known: Vec<usize> = (0..queries.len()).filter(|&q| users[q].is_some()).collect();
        let of_known: Vec<&[f32]> = known.iter().filter_map(|&q| users[q].as_deref()).collect();
        let queries: Vec<Query> = known.iter().map(|&q| queries[q]).collect();
        let ranked = self.item_factors.best_of_tile(&of_known, &listed(&queries), k)?;
        known.into_iter().zip(ranked).for_each(|(q, list)| lists[q] = list);
        Ok(lists)
    }

    fn score_all(&self, query: &Query, scores: &mut [f32], progress: &dyn Progress) -> Result<()> {
        scores.fill(0.0);
        match self.user(query)? {
            Some(user) => self.item_factors.score_all(&user, scores, progress),
            None => Ok(()),
        }
    }

    fn score_tile(&self, queries: &[Query], mut scores: ArrayViewMut2<f32>) -> Result<()> {
        scores.fill(0.0);
        let items = scores.ncols();
        let users = queries.iter().map(|query| self.user(query)).collect::<Result<Vec<_>>>()?;
        let rows = users.iter().zip(flat_mut(scores).chunks_exact_mut(items.max(1)));
        let mut rows: Vec<(&[f32], &mut [f32])> =
            rows.filter_map(|(user, row)| user.as_deref().map(|user| (user, row))).collect();
        self.item_factors.score_tile(&mut rows);
        Ok(())
    }

    fn product(&self) -> Option<&dyn Product> {
        Some(self)
    }

    /// By the cosine of the last layer's rows, the bias left out.
    fn similar_items(&self, item: u32, k: usize, progress: &dyn Progress) -> Result<Vec<Scored>> {
        most_similar(self.item_factors.all(), self.direction(item)?, item, k, progress)
    }

    fn similarity(&self, one: u32, other: u32) -> Result<f32> {
        Ok(cosine(self.direction(one)?, self.direction(other)?))
    }

    /// By the cosine of the means of z.
    fn similar_users(&self, user: u32, k: usize, progress: &dyn Progress) -> Result<Option<Vec<Scored>>> {
        most_similar(self.user_factors.view(), self.means(user)?, user, k, progress).map(Some)
    }
}
