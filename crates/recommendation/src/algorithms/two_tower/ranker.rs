//! Serving two towers: a user's vector, stored or folded in, against those of all items.

use std::borrow::Cow;

use ndarray::{ArrayView2, Axis};
use serde_json::Value;

use super::parameters::{Parameters, stored_parameters};
use super::towers::{UserTower, mean_of_history};
use crate::ranker::{Product, Query, Ranker, listed};
use inner_products::Scored;
use inner_products::scan::{TILE_USERS, best_items, best_items_of_tile, most_similar};
use kernels::cosine::cosine;
use kernels::dot::score_rows;
use neural::network::Layer;
use onnx::stored::{Files, MappedMatrix};
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::progress::Progress;

/// Items scored between two looks at progress.
const BLOCK: usize = 16_384;

pub struct TwoTowerRanker {
    model: String,
    parameters: Parameters,
    /// [items, d]: `[v_i, τ β_i]`
    item_factors: MappedMatrix<f32>,
    /// [items, d − 1]: H_i
    history_factors: MappedMatrix<f32>,
    /// [users, d]: `[x_u, 1]`; zeros where nothing was known of a user.
    user_factors: MappedMatrix<f32>,
    /// For users of whom only a history is known.
    user_tower: UserTower,
}

impl TwoTowerRanker {
    pub fn open(files: &Files, options: &Value, users: usize, items: usize) -> Result<Self> {
        let parameters = stored_parameters(options).map_err(|e| files.damaged(e.to_string()))?;
        let (d, width, hidden) = (parameters.factors, parameters.width(), parameters.hidden);
        let item_factors = files.initializer_matrix("item_factors")?;
        let history_factors = files.initializer_matrix("history_factors")?;
        let user_factors = files.tensor_matrix("user_factors")?;
        let fit = item_factors.dim() == (items, d) && history_factors.dim() == (items, width);
        if !fit || user_factors.dim() != (users, d) {
            return Err(files.damaged("its factors do not fit its users and items"));
        }
        let layer = |name: &str, inputs: usize, outputs: usize| -> Result<Layer> {
            let (shape, weight) = files.initializer::<f32, 2>(&format!("user_{name}_weight"))?;
            let (length, bias) = files.initializer::<f32, 1>(&format!("user_{name}_bias"))?;
            if shape != [inputs, outputs] || length != [outputs] {
                return Err(files.damaged(format!("user_{name}_weight has shape {shape:?}")));
            }
            Ok(Layer { weight: memory::shaped(inputs, outputs, weight.to_vec())?, bias: bias.to_vec() })
        };
        let user_tower = UserTower::new([layer("first", width, hidden)?, layer("second", hidden, width)?], Vec::new());
        Ok(Self { model: files.model.into(), parameters, item_factors, history_factors, user_factors, user_tower })
    }

    fn damaged(&self, reason: &str) -> Error {
        Error::DamagedModel { model: self.model.clone(), reason: reason.into() }
    }

    fn stored(&self, user: u32) -> Result<&[f32]> {
        self.user_factors.row(user as usize).ok_or_else(|| self.damaged("a user has no factors"))
    }

    /// The vector of whom a query is for; `None` where nothing is known of them.
    fn user(&self, query: &Query) -> Result<Option<Cow<'_, [f32]>>> {
        if let Some(user) = query.user {
            let stored = self.stored(user)?;
            return Ok(stored.iter().any(|&x| x != 0.0).then_some(stored.into()));
        }
        let mut mean = vec![0.0; self.parameters.width()];
        if !mean_of_history(self.history_factors.view(), query.items, query.weights, &mut mean) {
            return Ok(None);
        }
        let mut user = vec![0.0; self.parameters.factors];
        self.user_tower.embed(&mean, None, &mut user);
        Ok(Some(user.into()))
    }

    /// An item's vector, for comparison with others.
    fn item(&self, item: u32) -> Result<&[f32]> {
        self.history_factors.row(item as usize).ok_or_else(|| self.damaged("an item has no factors"))
    }
}

impl Product for TwoTowerRanker {
    fn item_factors(&self) -> ArrayView2<'_, f32> {
        self.item_factors.view()
    }

    /// Similar items are those of similar history factors.
    fn compared(&self) -> Option<usize> {
        None
    }

    fn user<'a>(&'a self, query: &Query, _progress: &dyn Progress) -> Result<Option<Cow<'a, [f32]>>> {
        self.user(query)
    }
}

impl Ranker for TwoTowerRanker {
    fn rank(&self, query: &Query, k: usize, progress: &dyn Progress) -> Result<Vec<(f32, u32)>> {
        match self.user(query)? {
            Some(user) => best_items(self.item_factors.view(), &user, k, &query.listed(), progress),
            None => Ok(Vec::new()),
        }
    }

    fn rank_tile(&self, queries: &[Query], k: usize) -> Result<Vec<Vec<(f32, u32)>>> {
        let mut lists = vec![Vec::new(); queries.len()];
        let users = queries.iter().map(|query| self.user(query)).collect::<Result<Vec<_>>>()?;
        let known: Vec<usize> = (0..queries.len()).filter(|&q| users[q].is_some()).collect();
        for part in known.chunks(TILE_USERS) {
            let queries: Vec<Query> = part.iter().map(|&q| queries[q]).collect();
            let users: Vec<&[f32]> = part.iter().filter_map(|&q| users[q].as_deref()).collect();
            let ranked = best_items_of_tile(self.item_factors.view(), &users, &listed(&queries), k);
            part.iter().zip(ranked).for_each(|(&q, list)| lists[q] = list);
        }
        Ok(lists)
    }

    fn score_all(&self, query: &Query, scores: &mut [f32], progress: &dyn Progress) -> Result<()> {
        scores.fill(0.0);
        if let Some(user) = self.user(query)? {
            let item_factors = self.item_factors.view();
            for (factors, scores) in item_factors.axis_chunks_iter(Axis(0), BLOCK).zip(scores.chunks_mut(BLOCK)) {
                progress.check()?;
                score_rows(factors, &user, scores);
            }
        }
        Ok(())
    }

    fn product(&self) -> Option<&dyn Product> {
        Some(self)
    }

    fn similarity(&self, one: u32, other: u32) -> Result<f32> {
        Ok(cosine(self.item(one)?, self.item(other)?))
    }

    /// By the cosine of what the items are in a history: popularity does not count.
    fn similar_items(&self, item: u32, k: usize, progress: &dyn Progress) -> Result<Vec<Scored>> {
        most_similar(self.history_factors.view(), self.item(item)?, item, k, progress)
    }

    /// By the cosine of the users' vectors.
    fn similar_users(&self, user: u32, k: usize, progress: &dyn Progress) -> Result<Option<Vec<Scored>>> {
        let mut found = most_similar(self.user_factors.view(), self.stored(user)?, user, k, progress)?;
        // Each vector of length 1 has a 1 behind it: (x · y + 1) / 2 was compared.
        found.iter_mut().for_each(|other| other.score = 2.0 * other.score - 1.0);
        Ok(Some(found))
    }
}
