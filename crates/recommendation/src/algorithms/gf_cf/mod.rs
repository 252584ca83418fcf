//! GF-CF: a history is a signal on the graph of users and items, and recommending is to filter it.
//!
//! With the confidences `R` [users, items], the degrees `D_U` and `D_I` (sums of its rows and columns), `R̃ = D_U^{-1/2} R D_I^{-1/2}`,
//! `P = R̃ᵀR̃` and the right singular vectors `V` [items, factors] of `R̃`'s largest singular values `σ`, a history `r` (its confidences
//! by item) scores `r D_I^{-a} (P + α V Vᵀ) (I − τ P) D_I^{b}`.
//!
//! - `P`, what the neighbours on the graph chose, and the ideal low-pass filter `V Vᵀ`, weighed by α (`low_pass_weight`), are those of Shen
//!   and others, "How powerful is graph convolution for recommendation?" (CIKM 2021), eq. 9 and algorithm 1.
//! - `I − τ P` (`sharpening`) takes back some of what everybody's neighbours have in common: one Euler step of the sharpening
//!   process of Choi and others, "Blurring-sharpening process models for collaborative filtering" (SIGIR 2023), eq. 9.
//!   In the terms `P²` and `V Vᵀ P`, `P` is `V Σ² Vᵀ`: what is left out is of the order of the smallest `σ⁴` kept.
//! - a and b (`input_exponent`, `output_exponent`) normalise the signal and undo that. Shen's low-pass filter has ½ and ½, and so has
//!   all of this by default; Shen's linear filter has 0 and 0. Recall@20 and NDCG@20 on Gowalla are 0.192 and 0.160 by the defaults and
//!   0.185 and 0.152 as published; on MovieLens 1M both rank alike.
//!
//! `P` is kept as an [item graph](crate::item_graph) of each item's `neighbours` greatest weights, without the diagonal; the other terms
//! are inner products of `V`'s rows, from a [randomised decomposition](kernels::randomized_svd).
//! O(Σ_u n_u² + iterations · factors · (entries + items · factors)) time, O(items · (neighbours + factors) + users · factors) memory.

mod parameters;
mod ranker;

use serde_json::{Map, Value, json};

use self::parameters::{Parameters, power};
use crate::algorithm::Algorithm;
use crate::item_graph::{Confidences, Neighbours, confidences, products, scatter_scores};
use crate::ranker::Ranker;
use crate::training::{Parts, Training, history_graph, user_counts};
use kernels::Csr;
use kernels::randomized_svd::{RightSvd, Svd};
use onnx::graph::{GraphBuilder, int_attribute};
use onnx::stored::{DataWriter, Files};
use runtime::error::Result;
use runtime::options::Options;

use ranker::GfCfRanker;

/// Columns that the decomposition carries beyond those wanted.
const OVERSAMPLING: usize = 16;

/// `gf_cf` in SQL.
pub struct GfCf;

impl Algorithm for GfCf {
    fn name(&self) -> &'static str {
        "gf_cf"
    }

    fn train(&self, training: &Training, options: Options) -> Result<Parts> {
        train(training, options)
    }

    fn open(&self, files: &Files, options: &Value, _users: usize, items: usize) -> Result<Box<dyn Ranker>> {
        Ok(Box::new(GfCfRanker::open(files, options, items)?))
    }
}

fn train(training: &Training, mut options: Options) -> Result<Parts> {
    let Training { interactions, threads, progress, .. } = *training;
    let parameters = Parameters::read(&mut options)?;
    let options = options.finish()?;
    let items = interactions.items();
    let width = parameters.neighbours.min(items.saturating_sub(1)).max(1);
    Neighbours::check_size("gf_cf", items, width)?;
    let mut r = interactions.by_user.clone();
    r.values.iter_mut().for_each(|w| *w = parameters.weighting.confidence(*w));
    let degrees = normalize(&mut r);
    progress.check()?;

    let input: Vec<f32> = degrees.iter().map(|&d| power(d, -parameters.input_exponent)).collect();
    let output: Vec<f32> = degrees.iter().map(|&d| power(d, parameters.output_exponent)).collect();
    let weigh = |i: usize, j: usize, product: f32| input[i] * product * output[j];
    let found = products(&r, width, weigh, threads, progress)?;
    let mut graph = history_graph("gf_cf", items);
    let history = confidences(&mut graph, parameters.weighting);
    let mut figures = Map::new();
    let mut base = None;
    if parameters.has_low_pass() {
        let Parameters { factors, iterations, seed, .. } = parameters;
        let svd = Svd { rank: factors, oversampling: OVERSAMPLING, iterations, seed };
        let mut found = svd.decompose(&r, &r.transpose(progress)?, threads, progress)?;
        found.vectors.rows_mut().into_iter().zip(&output).for_each(|(mut v, d)| v.iter_mut().for_each(|x| *x *= d));
        // Of the factors, which serve both sides, the history has to undo the output's scale.
        let exponent = -parameters.input_exponent - parameters.output_exponent;
        let scale: Vec<f32> = degrees.iter().map(|&d| power(d, exponent)).collect();
        base = Some(low_pass(&mut graph, &history, &parameters, &found, &scale));
        let first_and_last = [found.values.first(), found.values.last()];
        figures.insert("singular_values".into(), json!(first_and_last));
    }
    scatter_scores(&mut graph, &history, &found, base.as_deref());
    let mut data = DataWriter::default();
    data.tensor("item_degrees", &[items], degrees);
    Ok(Parts { options, graph, data, figures, popularity: user_counts(interactions) })
}

/// From `R` to `R̃`; returns the diagonal of `D_I`.
fn normalize(r: &mut Csr) -> Vec<f32> {
    let mut degrees = vec![0f64; r.columns];
    r.indices.iter().zip(&r.values).for_each(|(&item, &c)| degrees[item as usize] += f64::from(c));
    let degrees: Vec<f32> = degrees.into_iter().map(|d| d as f32).collect();
    for user in r.indptr.windows(2) {
        let range = user[0] as usize..user[1] as usize;
        let (values, items) = (&mut r.values[range.clone()], &r.indices[range]);
        let degree: f32 = values.iter().sum();
        let scale = power(degree, -0.5);
        values.iter_mut().zip(items).for_each(|(c, &item)| *c *= scale * power(degrees[item as usize], -0.5));
    }
    degrees
}

/// `f_j · (w ∘ Σ_i c_i s_i f_i)` for every item `j` [items], given the rows `f` of `D_I^b V`.
fn low_pass(
    g: &mut GraphBuilder,
    history: &Confidences,
    parameters: &Parameters,
    svd: &RightSvd,
    scale: &[f32],
) -> String {
    let axis = || vec![int_attribute("axis", 0)];
    let gains: Vec<f32> = svd.values.iter().map(|&value| parameters.gain(value)).collect();
    let factors = g.matrix("item_factors", svd.vectors.view());
    let scale = g.floats("history_scale", &[scale.len()], scale);
    let gains = g.floats("gains", &[gains.len()], &gains);
    let own = g.node_with("Gather", &[&factors, &history.index], axis());
    let own_scale = g.node_with("Gather", &[&scale, &history.index], axis());
    let weights = g.node("Mul", &[&history.confidence, &own_scale]);
    let spectrum = g.node("MatMul", &[&weights, &own]);
    let filtered = g.node("Mul", &[&spectrum, &gains]);
    g.node("MatMul", &[&factors, &filtered])
}

#[cfg(test)]
mod tests;
