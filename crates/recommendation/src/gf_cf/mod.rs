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
//! `P` is kept as an [item graph](super::item_graph) of each item's `neighbours` greatest weights, without the diagonal; the other terms
//! are inner products of `V`'s rows, from a [randomised decomposition](kernels::randomized_svd).
//! O(Σ_u n_u² + iterations · factors · (entries + items · factors)) time, O(items · (neighbours + factors) + users · factors) memory.

mod ranker;

use serde_json::{Map, Value, json};

use super::item_graph::{Confidences, Neighbours, confidences, products, scatter_scores};
use super::trainer::{Parts, Training, history_graph, user_counts};
use super::weighting::Weighting;
use kernels::Csr;
use kernels::randomized_svd::{RightSvd, Svd};
use onnx::graph::{GraphBuilder, int_attribute};
use onnx::stored::DataWriter;
use runtime::error::Result;
use runtime::options::Options;

pub use ranker::GfCfRanker;

/// Columns that the decomposition carries beyond those wanted.
const OVERSAMPLING: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq)]
struct Parameters {
    neighbours: usize,
    factors: usize,
    /// α
    low_pass_weight: f32,
    /// τ
    sharpening: f32,
    /// a
    input_exponent: f32,
    /// b
    output_exponent: f32,
    iterations: usize,
    seed: u64,
    weighting: Weighting,
}

impl Parameters {
    fn read(options: &mut Options) -> Result<Self> {
        Ok(Self {
            neighbours: options.integer("neighbours", 500, 1, 100_000)? as usize,
            factors: options.integer("factors", 256, 1, 1024)? as usize,
            low_pass_weight: options.float("low_pass_weight", 0.3, 0.0, 100.0)?,
            sharpening: options.float("sharpening", 0.5, 0.0, 10.0)?,
            input_exponent: options.float("input_exponent", 0.5, -2.0, 2.0)?,
            output_exponent: options.float("output_exponent", 0.5, -2.0, 2.0)?,
            iterations: options.integer("iterations", 8, 1, 100)? as usize,
            seed: options.integer("seed", 0, 0, u64::MAX)?,
            weighting: Weighting::read(options)?,
        })
    }

    /// Those of a stored model.
    fn stored(options: &Value) -> Result<Self> {
        let mut reader = Options::new("gf_cf", options)?;
        let parameters = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(parameters)
    }

    /// Whether singular vectors take part.
    fn has_low_pass(&self) -> bool {
        self.low_pass_weight > 0.0 || self.sharpening > 0.0
    }

    /// The filter's gain at a singular value, besides that of `P`.
    fn gain(&self, singular_value: f32) -> f32 {
        let square = singular_value * singular_value;
        if square > 0.0 {
            self.low_pass_weight * (1.0 - self.sharpening * square) - self.sharpening * square * square
        } else {
            0.0
        }
    }
}

/// `degree^exponent`; 0 for an item that nobody chose.
fn power(degree: f32, exponent: f32) -> f32 {
    let power = if degree > 0.0 { degree.powf(exponent) } else { 0.0 };
    if power.is_finite() { power } else { 0.0 }
}

pub fn train(training: &Training, mut options: Options) -> Result<Parts> {
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
        found.vectors.chunks_exact_mut(factors).zip(&output).for_each(|(v, d)| v.iter_mut().for_each(|x| *x *= d));
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
    let factors = g.floats("item_factors", &[scale.len(), gains.len()], &svd.vectors);
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
