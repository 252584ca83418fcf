//! Serving GF-CF: the rows of the item graph, summed, and the low-pass filter's inner products.

use ndarray::{ArrayViewMut2, Axis};
use serde_json::Value;

use super::parameters::{Parameters, power};
use crate::item_graph::{ItemGraph, best};
use crate::ranker::{Contribution, Query, Ranker, listed};
use inner_products::Scored;
use inner_products::TopK;
use inner_products::scan::{TILE_USERS, best_sums_of_tile};
use kernels::dot::{dot, score_rows};
use kernels::matrix::flat_mut;
use onnx::stored::{Files, MappedMatrix};
use runtime::error::Result;
use runtime::mapped::Mapped;
use runtime::memory;
use runtime::progress::Progress;

/// Items scored between two looks at progress.
const BLOCK: usize = 16_384;
/// Items scored for a whole tile of users before the next ones are read.
const TILE_BLOCK: usize = 512;

pub struct GfCfRanker {
    parameters: Parameters,
    graph: ItemGraph,
    /// [items]: the diagonal of `D_I`.
    degrees: Mapped<f32>,
    low_pass: Option<LowPass>,
}

/// The terms with singular vectors: `L_ij = s_i Σ_k f_ik w_k f_jk`.
struct LowPass {
    /// [items, d]: f
    factors: MappedMatrix<f32>,
    /// [items]: s
    scale: Mapped<f32>,
    /// [d]: w
    gains: Mapped<f32>,
}

impl GfCfRanker {
    pub fn open(files: &Files, options: &Value, items: usize) -> Result<Self> {
        let parameters = Parameters::stored(options).map_err(|e| files.damaged(e.to_string()))?;
        let graph = ItemGraph::open(files, parameters.weighting, items)?;
        let ([known], degrees) = files.tensor("item_degrees")?;
        if known != items {
            return Err(files.damaged("its degrees do not fit its items"));
        }
        if !parameters.has_low_pass() {
            return Ok(Self { parameters, graph, degrees, low_pass: None });
        }
        let factors = files.initializer_matrix("item_factors")?;
        let ([scaled], scale) = files.initializer("history_scale")?;
        let ([d], gains) = files.initializer("gains")?;
        if factors.dim() != (items, d) || scaled != items || d == 0 {
            return Err(files.damaged("its factors do not fit its items"));
        }
        Ok(Self { parameters, graph, degrees, low_pass: Some(LowPass { factors, scale, gains }) })
    }

    /// Whether there is anything to be personal about.
    fn has_history(&self, query: &Query) -> bool {
        self.graph.confidences(query).next().is_some()
    }

    /// From a weight between two items to that between their normalised signals, which is the same both ways.
    fn normalized(&self, weight: f32, i: u32, j: u32) -> f32 {
        let degree = |item: u32| self.degrees.get(item as usize).copied().unwrap_or(0.0);
        let Parameters { input_exponent, output_exponent, .. } = self.parameters;
        weight * power(degree(i), input_exponent) * power(degree(j), -output_exponent)
    }
}

impl LowPass {
    fn item(&self, item: u32) -> &[f32] {
        self.factors.row(item as usize).unwrap_or(&[])
    }

    fn weight(&self, i: u32, j: u32) -> f32 {
        dot(&self.spectrum([(i, 1.0)]), self.item(j))
    }

    /// What a history has in each singular direction [d], after the filter.
    fn spectrum(&self, history: impl IntoIterator<Item = (u32, f32)>) -> Vec<f32> {
        let mut sums = vec![0f32; self.gains.len()];
        for (item, c) in history {
            let weight = c * self.scale.get(item as usize).copied().unwrap_or(0.0);
            sums.iter_mut().zip(self.item(item)).for_each(|(sum, f)| *sum += weight * f);
        }
        sums.iter_mut().zip(self.gains.iter()).for_each(|(sum, gain)| *sum *= gain);
        sums
    }

    /// Adds the inner products of `spectrum` and every item.
    fn add_scores(&self, spectrum: &[f32], scores: &mut [f32], progress: &dyn Progress) -> Result<()> {
        let mut products = vec![0f32; BLOCK.min(scores.len())];
        for (factors, scores) in self.factors.view().axis_chunks_iter(Axis(0), BLOCK).zip(scores.chunks_mut(BLOCK)) {
            progress.check()?;
            let products = &mut products[..scores.len()];
            score_rows(factors, spectrum, products);
            scores.iter_mut().zip(products.iter()).for_each(|(score, product)| *score += product);
        }
        Ok(())
    }
}

impl Ranker for GfCfRanker {
    fn rank(&self, query: &Query, k: usize, progress: &dyn Progress) -> Result<Vec<(f32, u32)>> {
        let mut scores = memory::filled(0f32, self.graph.items())?;
        self.score_all(query, &mut scores, progress)?;
        Ok(best((0..).zip(scores), query, k))
    }

    fn rank_tile(&self, queries: &[Query], k: usize) -> Result<Vec<Vec<(f32, u32)>>> {
        let mut lists = vec![Vec::new(); queries.len()];
        let known: Vec<usize> = (0..queries.len()).filter(|&q| self.has_history(&queries[q])).collect();
        for part in known.chunks(TILE_USERS) {
            let queries: Vec<Query> = part.iter().map(|&q| queries[q]).collect();
            let mut base = memory::matrix(self.graph.items(), TILE_USERS, 0f32)?;
            let sums = flat_mut(base.view_mut());
            for (u, query) in queries.iter().enumerate() {
                self.graph.scores(query, |item, score| sums[item as usize * TILE_USERS + u] += score)?;
            }
            let ranked = match &self.low_pass {
                Some(low) => {
                    let spectra: Vec<_> = queries.iter().map(|q| low.spectrum(self.graph.confidences(q))).collect();
                    let spectra: Vec<&[f32]> = spectra.iter().map(Vec::as_slice).collect();
                    let mut ranked =
                        best_sums_of_tile(low.factors.view(), &spectra, Some(base.view()), &listed(&queries), k);
                    ranked.iter_mut().for_each(|list| list.retain(|&(score, _)| score > 0.0));
                    ranked
                }
                None => {
                    let column = |u: usize| base.column(u).into_iter().copied();
                    queries.iter().enumerate().map(|(u, query)| best((0..).zip(column(u)), query, k)).collect()
                }
            };
            part.iter().zip(ranked).for_each(|(&q, list)| lists[q] = list);
        }
        Ok(lists)
    }

    fn score_all(&self, query: &Query, scores: &mut [f32], progress: &dyn Progress) -> Result<()> {
        progress.check()?;
        scores.fill(0.0);
        self.graph.scores(query, |item, score| scores[item as usize] += score)?;
        match &self.low_pass {
            Some(low) if self.has_history(query) => {
                low.add_scores(&low.spectrum(self.graph.confidences(query)), scores, progress)
            }
            _ => Ok(()),
        }
    }

    /// A block of items at a time for all of them, while its factors are in the cache.
    fn score_tile(&self, queries: &[Query], mut scores: ArrayViewMut2<f32>) -> Result<()> {
        let items = self.graph.items().max(1);
        scores.fill(0.0);
        let scores = flat_mut(scores);
        for (query, scores) in queries.iter().zip(scores.chunks_exact_mut(items)) {
            self.graph.scores(query, |item, score| scores[item as usize] += score)?;
        }
        let Some(low) = &self.low_pass else { return Ok(()) };
        let spectrum = |query| self.has_history(query).then(|| low.spectrum(self.graph.confidences(query)));
        let spectra: Vec<Option<Vec<f32>>> = queries.iter().map(spectrum).collect();
        let mut products = [0f32; TILE_BLOCK];
        for (block, factors) in low.factors.view().axis_chunks_iter(Axis(0), TILE_BLOCK).enumerate() {
            let products = &mut products[..factors.nrows()];
            for (scores, spectrum) in scores.chunks_exact_mut(items).zip(&spectra) {
                let Some(spectrum) = spectrum else { continue };
                score_rows(factors, spectrum, products);
                let scores = &mut scores[block * TILE_BLOCK..];
                scores.iter_mut().zip(products.iter()).for_each(|(score, product)| *score += product);
            }
        }
        Ok(())
    }

    /// What the filter makes of one item's signal at the other.
    fn similarity(&self, one: u32, other: u32) -> Result<f32> {
        let low = self.low_pass.as_ref().map_or(0.0, |low| low.weight(one, other));
        Ok(self.normalized(self.graph.weight(one, other)? + low, one, other))
    }

    /// The sum's own terms.
    fn explain(&self, query: &Query, item: u32, _: usize, _: &dyn Progress) -> Result<Vec<Contribution>> {
        self.graph.explain(query, item, |i| Ok(self.low_pass.as_ref().map_or(0.0, |low| low.weight(i, item))))
    }

    fn similar_items(&self, item: u32, k: usize, progress: &dyn Progress) -> Result<Vec<Scored>> {
        let mut scores = memory::filled(0f32, self.graph.items())?;
        self.graph.row(item)?.for_each(|(other, weight)| scores[other as usize] = weight);
        if let Some(low) = &self.low_pass {
            low.add_scores(&low.spectrum([(item, 1.0)]), &mut scores, progress)?;
        }
        let mut top = TopK::new(k);
        let others = (0..).zip(scores).filter(|&(other, score)| other != item && score > 0.0);
        others.for_each(|(other, score)| top.push(self.normalized(score, item, other), other));
        Ok(top.into_sorted().into_iter().map(|(score, item)| Scored { item, score }).collect())
    }
}
