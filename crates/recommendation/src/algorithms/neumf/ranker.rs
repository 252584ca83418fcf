//! Serving NeuMF: a forward pass for every item, given a trained user or one folded in.

use std::borrow::Cow;

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, aview1};
use serde_json::Value;

use super::fold_in::mean_of;
use super::parameters::{Parameters, stored_parameters};
use crate::ranker::{Query, Ranker};
use inner_products::Scored;
use inner_products::TopK;
use inner_products::scan::most_similar;
use kernels::cosine::cosine;
use kernels::dot::{dot, score_rows};
use kernels::matrix::flat;
use neural::dense::{Dense, PAD};
use onnx::stored::{Files, MappedMatrix};
use runtime::error::{Error, Result};
use runtime::mapped::Mapped;
use runtime::progress::Progress;

/// Items whose layers stay in the first-level cache.
const BLOCK: usize = 64;
/// Blocks between two looks at progress: some milliseconds.
const BLOCKS_PER_CHECK: usize = 32;

pub struct NeuMfRanker {
    model: String,
    parameters: Parameters,
    /// [items, f]
    item_gmf: MappedMatrix<f32>,
    /// [items, h]
    item_mlp: MappedMatrix<f32>,
    /// [users, f + h]
    users: MappedMatrix<f32>,
    /// The map of a history's mean to a state [f + h], in two parts.
    fold_in: [Dense; 2],
    /// After the first, without the last.
    layers: Vec<Dense>,
    /// The last, whose one output is the score.
    output: Vec<f32>,
    output_bias: f32,
    items: usize,
}

impl NeuMfRanker {
    pub fn open(files: &Files, options: &Value, users: usize, items: usize) -> Result<Self> {
        let parameters = stored_parameters(options).map_err(|e| files.damaged(e.to_string()))?;
        let (f, h, d) = (parameters.factors, parameters.hidden(0), parameters.state());
        let matrix = |name: &str, rows: usize, columns: usize| -> Result<MappedMatrix<f32>> {
            let values = files.initializer_matrix(name)?;
            match values.dim() {
                found if found == (rows, columns) => Ok(values),
                (rows, columns) => Err(files.damaged(format!("{name} has shape [{rows}, {columns}]"))),
            }
        };
        let vector = |name: &str, length: usize| -> Result<Mapped<f32>> {
            let (shape, values) = files.initializer(name)?;
            if shape == [length] { Ok(values) } else { Err(files.damaged(format!("{name} has shape {shape:?}"))) }
        };
        let dense = |name: &str, [weight, bias]: [&str; 2], inputs: usize, padded: usize, outputs: usize| {
            let weight = matrix(&format!("{name}{weight}"), inputs, outputs)?;
            let bias = vector(&format!("{name}{bias}"), outputs)?;
            Ok::<_, Error>(Dense::new(padded, weight.view(), &bias))
        };
        let (item_gmf, item_mlp) = (matrix("item_gmf", items, f)?, matrix("item_mlp", items, h)?);
        let user_states = files.tensor_matrix("user_factors")?;
        if user_states.dim() != (users, d) {
            return Err(files.damaged("its factors do not fit its users"));
        }
        let fold_in = [dense("fold_in_gmf", ["", "_bias"], d, d, f)?, dense("fold_in_mlp", ["", "_bias"], d, d, h)?];
        let mut layers = Vec::new();
        for layer in 1..parameters.layers {
            let inputs = parameters.hidden(layer - 1);
            // The first layer's result is as wide as it is stored.
            let padded = if layer == 1 { inputs } else { inputs.next_multiple_of(PAD) };
            let names = ["_weight", "_bias"];
            layers.push(dense(&format!("layer_{}", layer + 1), names, inputs, padded, parameters.hidden(layer))?);
        }
        let last = format!("layer_{}", parameters.layers + 1);
        let mut output = vector(&format!("{last}_weight"), f)?.to_vec();
        if let Some(layer) = layers.last() {
            output.resize(layer.outputs(), 0.0);
        }
        let ([], bias) = files.initializer::<f32, 0>(&format!("{last}_bias"))?;
        let output_bias = bias.first().copied().unwrap_or_default();
        let model = files.model.into();
        Ok(Self {
            model,
            parameters,
            item_gmf,
            item_mlp,
            users: user_states,
            fold_in,
            layers,
            output,
            output_bias,
            items,
        })
    }

    /// The state of whom a query is for; `None` where nothing is known.
    fn user(&self, query: &Query) -> Result<Option<Cow<'_, [f32]>>> {
        if !query.weights.iter().any(|&w| w > 0.0) {
            return Ok(None);
        }
        let d = self.parameters.state();
        if let Some(user) = query.user {
            let state = self.users.row(user as usize);
            return state.map(|state| Some(state.into())).ok_or_else(|| self.damaged("a user has no factors"));
        }
        let f = self.parameters.factors;
        let mut mean = vec![0.0; d];
        let items = query.items.iter().zip(query.weights).filter(|&(_, &w)| w > 0.0).map(|(&item, _)| item);
        mean_of(self.item_gmf.view(), self.item_mlp.view(), items, &mut mean);
        let mut state = Vec::with_capacity(d);
        for (dense, width) in self.fold_in.iter().zip([f, d - f]) {
            let mut part = Array2::zeros((1, dense.outputs()));
            dense.forward(aview1(&mean).insert_axis(Axis(0)), false, part.view_mut());
            state.extend(part.iter().take(width));
        }
        Ok(Some(state.into()))
    }

    fn damaged(&self, reason: &str) -> Error {
        Error::DamagedModel { model: self.model.clone(), reason: reason.into() }
    }

    /// Calls `take` with the first item and the scores of each block of items.
    fn each_block(&self, user: &[f32], progress: &dyn Progress, mut take: impl FnMut(usize, &[f32])) -> Result<()> {
        let f = self.parameters.factors;
        let h = user.len() - f;
        let widest = self.layers.iter().map(Dense::outputs).fold(h, usize::max);
        let (mut x, mut y) = (vec![0.0; BLOCK * widest], vec![0.0; BLOCK * widest]);
        let mut scores = [0f32; BLOCK];
        let (gmf, mlp) = (self.item_gmf.view(), self.item_mlp.view());
        let blocks = gmf.axis_chunks_iter(Axis(0), BLOCK).zip(mlp.axis_chunks_iter(Axis(0), BLOCK));
        for (b, (gmf, mlp)) in blocks.enumerate() {
            if b % BLOCKS_PER_CHECK == 0 {
                progress.check()?;
            }
            let n = gmf.nrows();
            for (to, from) in x.chunks_exact_mut(h).zip(flat(mlp).chunks_exact(h)) {
                to.iter_mut().zip(from).zip(&user[f..]).for_each(|((to, i), u)| *to = (i + u).max(0.0));
            }
            let mut width = h;
            for layer in &self.layers {
                let outputs = layer.outputs();
                let into = ArrayViewMut2::from_shape((n, outputs), &mut y[..n * outputs])?;
                layer.forward(ArrayView2::from_shape((n, width), &x[..n * width])?, true, into);
                width = outputs;
                std::mem::swap(&mut x, &mut y);
            }
            let scores = &mut scores[..n];
            score_rows(gmf, &user[..f], scores);
            for (score, row) in scores.iter_mut().zip(x.chunks_exact(width)) {
                *score += dot(row, &self.output) + self.output_bias;
            }
            take(b * BLOCK, scores);
        }
        Ok(())
    }

    /// An item's embeddings, for comparison with others.
    fn item(&self, item: u32) -> Result<&[f32]> {
        self.item_mlp.row(item as usize).ok_or_else(|| self.damaged("an item has no factors"))
    }
}

impl Ranker for NeuMfRanker {
    fn rank(&self, query: &Query, k: usize, progress: &dyn Progress) -> Result<Vec<(f32, u32)>> {
        let Some(user) = self.user(query)? else { return Ok(Vec::new()) };
        let mut top = TopK::new(k);
        self.each_block(&user, progress, |first, scores| {
            for (score, item) in scores.iter().zip(first as u32..) {
                if *score > top.threshold() && !query.excludes(item) {
                    top.push(*score, item);
                }
            }
        })?;
        Ok(top.into_sorted())
    }

    /// A forward pass for every item and user: tiles of a few.
    fn users_per_tile(&self) -> usize {
        (1 << 14) / self.items.clamp(1, 1 << 14)
    }

    fn score_all(&self, query: &Query, scores: &mut [f32], progress: &dyn Progress) -> Result<()> {
        scores.fill(0.0);
        let Some(user) = self.user(query)? else { return Ok(()) };
        self.each_block(&user, progress, |first, block| {
            scores.iter_mut().skip(first).zip(block).for_each(|(to, &score)| *to = score);
        })
    }

    fn similarity(&self, one: u32, other: u32) -> Result<f32> {
        Ok(cosine(self.item(one)?, self.item(other)?))
    }

    /// By the cosine of what the perceptron's first layer sees of an item.
    fn similar_items(&self, item: u32, k: usize, progress: &dyn Progress) -> Result<Vec<Scored>> {
        most_similar(self.item_mlp.view(), self.item(item)?, item, k, progress)
    }

    /// By the cosine of the users' states.
    fn similar_users(&self, user: u32, k: usize, progress: &dyn Progress) -> Result<Option<Vec<Scored>>> {
        let own = self.users.row(user as usize).ok_or_else(|| self.damaged("a user has no factors"))?;
        most_similar(self.users.view(), own, user, k, progress).map(Some)
    }
}
