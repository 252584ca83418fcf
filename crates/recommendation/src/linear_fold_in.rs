//! Factor models whose fold-in is linear: a ranker and a graph for all of them.
//!
//! Items have two vectors: `y_i` by which they are ranked (`item_factors` [items, d]) and `h_i` by which they speak for whoever
//! chose them (`history_factors` [items, d]). A history given now has the factors `x = (Σ_i c_i h_i) / (Σ_i c_i)^p`, `c` a
//! weight's confidence: its mean for p = 1, LightGCN's normalisation for p = ½. Scores are `Y x`. Stored users have the
//! factors they were trained with (`user_factors` [users, d] in the data file).
//!
//! A bias of the items is the last column of `item_factors` where that column of `history_factors` is 1 throughout and p = 1:
//! every user's last factor then is 1. Cosines leave it out.
//!
//! Folding in costs O(n d), ranking O(items · d).

use std::borrow::Cow;

use ndarray::{Array2, ArrayView2, Axis};

use super::ranker::{Contribution, Product, Query, Ranker, listed};
use super::training::history_graph;
use super::weighting::Weighting;
use inner_products::Scored;
use inner_products::scan::{TILE_USERS, best_items, best_items_of_tile, most_similar};
use kernels::cosine::cosine;
use kernels::dot::{dot, score_rows};
use onnx::graph::{GraphBuilder, int_attribute};
use onnx::proto::data_type;
use onnx::stored::{DataWriter, Files, MappedMatrix};
use runtime::error::{Error, Result};
use runtime::progress::{Progress, Unwatched};

/// Rows handled between two looks at progress.
const BLOCK: usize = 16_384;
/// Stands for a sum of confidences that is 0, so that nothing is divided by it.
const LEAST_TOTAL: f32 = 1e-30;

/// How a history becomes a user's factors; the same for every model of an algorithm but for its options.
#[derive(Clone, Copy, Debug)]
pub struct FoldIn {
    pub weighting: Weighting,
    /// p
    pub exponent: f32,
    /// Whether the last factor is the items' bias.
    pub biased: bool,
}

/// What training gives: all [rows, d].
pub struct Factors {
    pub users: Array2<f32>,
    pub items: Array2<f32>,
    pub history: Array2<f32>,
}

impl FoldIn {
    /// The graph and the data file's part of a model.
    pub fn write(&self, algorithm: &str, factors: Factors) -> (GraphBuilder, DataWriter) {
        let mut g = history_graph(algorithm, factors.items.nrows());
        let zero = g.float("zero", 0.0);
        let y = g.matrix("item_factors", factors.items.view());
        let h = g.matrix("history_factors", factors.history.view());

        // An item of weight 0 in front changes nothing, and spares every operator the empty history.
        let no_item = g.int64s("no_item", &[1], &[0]);
        let no_weight = g.floats("no_weight", &[1], &[0.0]);
        let axis = || vec![int_attribute("axis", 0)];
        let index = g.node_with("Concat", &[&no_item, "item_index"], axis());
        let weight = g.node_with("Concat", &[&no_weight, "weight"], axis());
        let weight = g.node("Max", &[&weight, &zero]);
        let positive = g.node("Greater", &[&weight, &zero]);
        let observed = g.node_with("Cast", &[&positive], vec![int_attribute("to", data_type::FLOAT.into())]);
        let confidence = self.weighting.write(&mut g, &weight, &observed);

        let rows = g.node_with("Gather", &[&h, &index], axis());
        let sum = g.node("MatMul", &[&confidence, &rows]);
        let total = g.node_with("ReduceSum", &[&confidence], vec![int_attribute("keepdims", 0)]);
        let least = g.float("least_total", LEAST_TOTAL);
        let total = g.node("Max", &[&total, &least]);
        let exponent = g.float("exponent", self.exponent);
        let norm = g.node("Pow", &[&total, &exponent]);
        let user = g.node("Div", &[&sum, &norm]);
        g.node_to("MatMul", &[&y, &user], Vec::new(), &["scores"]);

        let mut data = DataWriter::default();
        data.dense("user_factors", factors.users);
        (g, data)
    }
}

pub struct LinearFoldIn {
    model: String,
    fold_in: FoldIn,
    item_factors: MappedMatrix<f32>,
    history_factors: MappedMatrix<f32>,
    user_factors: MappedMatrix<f32>,
}

impl LinearFoldIn {
    pub fn open(files: &Files, fold_in: FoldIn, users: usize, items: usize) -> Result<Self> {
        let item_factors = files.initializer_matrix("item_factors")?;
        let history_factors = files.initializer_matrix("history_factors")?;
        let user_factors = files.tensor_matrix("user_factors")?;
        let (rows, d) = item_factors.dim();
        let fit = rows == items && history_factors.dim() == (items, d) && user_factors.dim() == (users, d);
        if !fit || d <= usize::from(fold_in.biased) {
            return Err(files.damaged("its factors do not fit its users and items"));
        }
        Ok(Self { model: files.model.into(), fold_in, item_factors, history_factors, user_factors })
    }

    fn row<'a>(&self, factors: &'a MappedMatrix<f32>, row: u32) -> Result<&'a [f32]> {
        factors.row(row as usize).ok_or_else(|| Error::DamagedModel {
            model: self.model.clone(),
            reason: "a user or an item has no factors".into(),
        })
    }

    /// What one unit of summed `c h` counts.
    fn norm(&self, query: &Query) -> f32 {
        let total: f32 = query.weights.iter().map(|&w| self.fold_in.weighting.confidence(w)).sum();
        1.0 / total.max(LEAST_TOTAL).powf(self.fold_in.exponent)
    }

    fn folded(&self, query: &Query, progress: &dyn Progress) -> Result<Vec<f32>> {
        let mut x = vec![0f32; self.item_factors.dim().1];
        for (n, (&item, &weight)) in query.items.iter().zip(query.weights).enumerate() {
            if n % BLOCK == 0 {
                progress.check()?;
            }
            let c = self.fold_in.weighting.confidence(weight);
            if c > 0.0 {
                let h = self.row(&self.history_factors, item)?;
                x.iter_mut().zip(h).for_each(|(x, &h)| *x += c * h);
            }
        }
        let norm = self.norm(query);
        x.iter_mut().for_each(|x| *x *= norm);
        Ok(x)
    }

    /// The factors of whom a query is for.
    fn user(&self, query: &Query, progress: &dyn Progress) -> Result<Cow<'_, [f32]>> {
        Ok(match query.user {
            Some(user) => self.row(&self.user_factors, user)?.into(),
            None => self.folded(query, progress)?.into(),
        })
    }

    /// The part of a row that has a direction.
    fn direction<'a>(&self, row: &'a [f32]) -> &'a [f32] {
        &row[..row.len() - usize::from(self.fold_in.biased)]
    }

    /// The rows with the greatest cosine to row `own`, best first, without itself.
    fn most_similar(
        &self,
        factors: &MappedMatrix<f32>,
        own: u32,
        k: usize,
        progress: &dyn Progress,
    ) -> Result<Vec<Scored>> {
        most_similar(factors.view(), self.direction(self.row(factors, own)?), own, k, progress)
    }
}

/// Whether there is anything to be personal about.
fn has_history(query: &Query) -> bool {
    query.weights.iter().any(|&w| w > 0.0)
}

impl Product for LinearFoldIn {
    fn item_factors(&self) -> ArrayView2<'_, f32> {
        self.item_factors.view()
    }

    fn compared(&self) -> Option<usize> {
        Some(self.item_factors.dim().1 - usize::from(self.fold_in.biased))
    }

    fn user<'a>(&'a self, query: &Query, progress: &dyn Progress) -> Result<Option<Cow<'a, [f32]>>> {
        if has_history(query) { self.user(query, progress).map(Some) } else { Ok(None) }
    }
}

impl Ranker for LinearFoldIn {
    fn rank(&self, query: &Query, k: usize, progress: &dyn Progress) -> Result<Vec<(f32, u32)>> {
        if !has_history(query) {
            return Ok(Vec::new());
        }
        best_items(self.item_factors.view(), &self.user(query, progress)?, k, &query.listed(), progress)
    }

    fn rank_tile(&self, queries: &[Query], k: usize) -> Result<Vec<Vec<(f32, u32)>>> {
        let mut lists = vec![Vec::new(); queries.len()];
        let known: Vec<usize> = (0..queries.len()).filter(|&q| has_history(&queries[q])).collect();
        for part in known.chunks(TILE_USERS) {
            let queries: Vec<Query> = part.iter().map(|&q| queries[q]).collect();
            let users: Vec<Cow<[f32]>> =
                queries.iter().map(|query| self.user(query, &Unwatched)).collect::<Result<_>>()?;
            let users: Vec<&[f32]> = users.iter().map(|user| &**user).collect();
            let ranked = best_items_of_tile(self.item_factors.view(), &users, &listed(&queries), k);
            part.iter().zip(ranked).for_each(|(&q, list)| lists[q] = list);
        }
        Ok(lists)
    }

    fn score_all(&self, query: &Query, scores: &mut [f32], progress: &dyn Progress) -> Result<()> {
        scores.fill(0.0);
        if has_history(query) {
            let user = self.user(query, progress)?;
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

    /// By the cosine of item factors.
    fn similar_items(&self, item: u32, k: usize, progress: &dyn Progress) -> Result<Vec<Scored>> {
        self.most_similar(&self.item_factors, item, k, progress)
    }

    fn similarity(&self, one: u32, other: u32) -> Result<f32> {
        let (one, other) = (self.row(&self.item_factors, one)?, self.row(&self.item_factors, other)?);
        Ok(cosine(self.direction(one), self.direction(other)))
    }

    /// By the cosine of user factors.
    fn similar_users(&self, user: u32, k: usize, progress: &dyn Progress) -> Result<Option<Vec<Scored>>> {
        self.most_similar(&self.user_factors, user, k, progress).map(Some)
    }

    /// `c_i (h_i · y) / (Σ c)^p`: exact, the shares add up to the folded-in score.
    fn explain(&self, query: &Query, item: u32, _items: usize, progress: &dyn Progress) -> Result<Vec<Contribution>> {
        let y = self.row(&self.item_factors, item)?;
        let norm = self.norm(query);
        let shares = query.items.iter().zip(query.weights).enumerate().map(|(n, (&item, &weight))| {
            if n % BLOCK == 0 {
                progress.check()?;
            }
            let c = self.fold_in.weighting.confidence(weight);
            Ok(Contribution { item, share: c * norm * dot(self.row(&self.history_factors, item)?, y) })
        });
        shares.collect()
    }
}
