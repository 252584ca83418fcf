//! Runs of a text model: tokens in, vectors or scores out.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ndarray::{Array, Array2, Axis, Ix3};
use serde::{Deserialize, Serialize};

use crate::config::{Layout, PairConfig, Pooling, TOKEN_TYPES, TextConfig};
use crate::tokenizer::pair::id_and_segment;
use kernels::matrix::{rows, rows_mut};
use kernels::statistics::normalize;
use onnx::inspect::Signature;
use onnx::lanes::Lanes;
use onnx::runner::{Inputs, Runner};
use onnx::session::{RunMemory, Session};
use onnx::tensor::Tensor;
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::parallel::locked;
use runtime::progress::{Counted, Progress};

/// Tokens of one run, padding included. It bounds the memory of a run (about 100 MB for a BERT of width 384) and the time until it notices a
/// cancel request.
pub const MAX_TOKENS_PER_RUN: usize = 4096;

/// A call with fewer tokens for each lane runs its batches one after the other: opening a lane takes some tens of milliseconds.
const MIN_TOKENS_PER_LANE: usize = 8192;

/// Lanes share the tokens of a run, but not for ever: a run of few texts takes more time for each.
pub const MAX_SPLIT: usize = 4;

/// A call with more tokens than this frees the memory of its runs. Below, the memory is kept for the next call.
const MAX_TOKENS_KEPT: usize = 512;

/// How a graph takes tokens and returns vectors.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TextGraph {
    layout: Layout,
    pad_id: i64,
    with_token_types: bool,
    /// Name of the output with the vectors.
    pub output: String,
    pooling: Pooling,
    normalize: bool,
    /// Whether a text is a pair of two, whose tokens have segments, and the output is a score.
    of_pairs: bool,
    /// Whether the vector of a text depends on the others of its run.
    pub depends_on_batch: bool,
}

impl TextGraph {
    pub fn new(config: &TextConfig, graph: &Signature) -> Self {
        Self {
            layout: config.layout,
            pad_id: config.pad_id,
            with_token_types: graph.input(TOKEN_TYPES).is_some(),
            output: config.output.clone(),
            pooling: config.pooling,
            normalize: config.normalize,
            of_pairs: false,
            depends_on_batch: graph.depends_on_batch,
        }
    }

    /// The graph of a cross-encoder: its "vectors" are scores.
    pub fn of_pairs(config: &PairConfig, graph: &Signature) -> Self {
        Self {
            layout: Layout::Padded,
            pad_id: config.pad_id,
            with_token_types: graph.input(TOKEN_TYPES).is_some(),
            output: config.output.clone(),
            pooling: Pooling::Mean,
            normalize: false,
            of_pairs: true,
            depends_on_batch: graph.depends_on_batch,
        }
    }

    /// The inputs for texts of these tokens.
    pub fn inputs(&self, batch: &[&[u32]]) -> Result<Inputs<'static>> {
        match self.layout {
            Layout::Padded if self.of_pairs => padded(batch, self.pad_id, self.with_token_types, id_and_segment),
            Layout::Padded => padded(batch, self.pad_id, self.with_token_types, |id| (id, 0)),
            Layout::Ragged => Ok(ragged(batch)),
        }
    }

    /// The vectors [texts, dimensions], or scores [pairs, 1], of a batch, from the output of its run.
    pub fn vectors(&self, batch: &[&[u32]], outputs: Vec<Tensor>) -> Result<Array2<f32>> {
        let Ok([output]) = <[Tensor; 1]>::try_from(outputs) else {
            return Err(Error::Internal("model did not return exactly one output".into()));
        };
        if self.of_pairs {
            return scores(output, batch.len(), &self.output);
        }
        let mut vectors = match output.shape().len() {
            3 => pool(output, batch, self.pooling)?,
            _ => output.into_rows(batch.len())?,
        };
        if vectors.ncols() == 0 {
            return Err(Error::Internal("model returned empty vectors".into()));
        }
        if self.normalize {
            rows_mut(vectors.view_mut()).for_each(normalize);
        }
        Ok(vectors)
    }
}

/// Texts with different tokens, sorted by their number.
#[derive(Default)]
pub struct Texts<'a> {
    pub tokens: Vec<&'a [u32]>,
    /// How many texts of the caller have those tokens, for reports.
    pub counts: Vec<usize>,
}

impl Texts<'_> {
    /// The texts of a run that begins with number `first`: as many as fit `max_batch` and, padding included, `max_tokens`.
    pub fn fitting(&self, first: usize, max_batch: usize, max_tokens: usize) -> usize {
        let rest = &self.tokens[first..];
        let fits = |n: usize| n * rest[n - 1].len() <= max_tokens;
        (1..=rest.len().min(max_batch.max(1))).take_while(|&n| n == 1 || fits(n)).count()
    }

    fn batches(&self, max_batch: usize, max_tokens: usize) -> Vec<std::ops::Range<usize>> {
        let mut batches = Vec::new();
        let mut first = 0;
        while first < self.tokens.len() {
            let next = first + self.fitting(first, max_batch, max_tokens);
            batches.push(first..next);
            first = next;
        }
        batches
    }
}

/// Limits of a call.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Texts in one run.
    pub max_batch: usize,
    pub threads: usize,
}

/// The vectors of the texts from number `first`, and how many runs made them, and how long those took.
pub struct Embedded {
    pub first: usize,
    pub vectors: Array2<f32>,
    pub runs: usize,
    pub took: Duration,
}

/// Runs a text model.
pub trait TextRunner: Runner {
    /// Embeds `texts`. `take` gets the vectors of each run, in any order, from any thread.
    fn embed(
        &mut self,
        graph: &TextGraph,
        texts: &Texts,
        limits: Limits,
        progress: &dyn Progress,
        take: &mut (dyn FnMut(Embedded) -> Result<()> + Send),
    ) -> Result<()>;
}

impl TextRunner for Session {
    fn embed(
        &mut self,
        graph: &TextGraph,
        texts: &Texts,
        limits: Limits,
        progress: &dyn Progress,
        take: &mut (dyn FnMut(Embedded) -> Result<()> + Send),
    ) -> Result<()> {
        let total: usize = texts.tokens.iter().map(|tokens| tokens.len()).sum();
        let threads = limits.threads;
        let lanes = match threads > 1 && total >= threads.saturating_mul(MIN_TOKENS_PER_LANE) {
            true => Lanes::open(self, threads, progress)?,
            false => None,
        };
        let max_tokens = MAX_TOKENS_PER_RUN / if lanes.is_some() { threads.min(MAX_SPLIT) } else { 1 };
        let batches = texts.batches(limits.max_batch, max_tokens);
        let count = |batch: &std::ops::Range<usize>| texts.counts[batch.clone()].iter().sum::<usize>();
        let all = count(&(0..texts.counts.len()));
        match lanes {
            None => {
                let mut done = 0;
                for (number, batch) in batches.iter().enumerate() {
                    let tokens = &texts.tokens[batch.clone()];
                    let last = number + 1 == batches.len();
                    let memory = if last && total > MAX_TOKENS_KEPT { RunMemory::GiveBack } else { RunMemory::Keep };
                    let (outputs, took) = self.run(graph.inputs(tokens)?, &[&graph.output], memory, progress)?;
                    take(Embedded { first: batch.start, vectors: graph.vectors(tokens, outputs)?, runs: 1, took })?;
                    done += count(batch);
                    if !last {
                        progress.report("texts embedded", done, all);
                    }
                }
                Ok(())
            }
            Some(lanes) => {
                let done = AtomicUsize::new(0);
                let counted = Counted { whole: progress, phase: "texts embedded", done: &done, total: all };
                let (began, take) = (Instant::now(), Mutex::new(take));
                let took = Mutex::new(vec![began.elapsed(); batches.len()]);
                lanes.run(
                    batches.len(),
                    &[&graph.output],
                    &counted,
                    |number| {
                        locked(&took)[number] = began.elapsed();
                        graph.inputs(&texts.tokens[batches[number].clone()])
                    },
                    |number, outputs| {
                        let batch = &batches[number];
                        let vectors = graph.vectors(&texts.tokens[batch.clone()], outputs)?;
                        let took = began.elapsed() - locked(&took)[number];
                        done.fetch_add(count(batch), Ordering::Relaxed);
                        (*locked(&take))(Embedded { first: batch.start, vectors, runs: 1, took })
                    },
                )
            }
        }
    }
}

/// `input_ids`, `attention_mask` and, where the graph has them, `token_type_ids`, `[rows, longest]`. `read` gives the id and the type of a token.
fn padded(
    batch: &[&[u32]],
    pad_id: i64,
    with_token_types: bool,
    read: impl Fn(u32) -> (u32, u32),
) -> Result<Vec<(&'static str, Tensor)>> {
    let longest = batch.iter().map(|t| t.len()).max().unwrap_or(0).max(1);
    let filled = |value: i64| memory::matrix(batch.len(), longest, value);
    let (mut ids, mut mask) = (filled(pad_id)?, filled(0)?);
    for ((tokens, ids), mask) in batch.iter().zip(rows_mut(ids.view_mut())).zip(rows_mut(mask.view_mut())) {
        ids.iter_mut().zip(*tokens).for_each(|(id, &token)| *id = i64::from(read(token).0));
        mask[..tokens.len()].fill(1);
    }
    let mut inputs = vec![("input_ids", ids.into()), ("attention_mask", mask.into())];
    if with_token_types {
        let mut types = filled(0)?;
        for (tokens, types) in batch.iter().zip(rows_mut(types.view_mut())) {
            types.iter_mut().zip(*tokens).for_each(|(type_id, &token)| *type_id = i64::from(read(token).1));
        }
        inputs.push((TOKEN_TYPES, types.into()));
    }
    Ok(inputs)
}

/// `token_ids` of all texts, concatenated, and `row_splits`, the start of each.
fn ragged(batch: &[&[u32]]) -> Vec<(&'static str, Tensor)> {
    let ids: Vec<i32> = batch.concat().into_iter().map(|id| id as i32).collect();
    let mut splits = vec![0i64];
    for tokens in batch {
        splits.push(splits[splits.len() - 1] + tokens.len() as i64);
    }
    vec![("token_ids", Array::from_vec(ids).into()), ("row_splits", Array::from_vec(splits).into())]
}

/// Pools the vectors of tokens, `[rows, longest, dimension]`, into one for each text; padding is ignored.
fn pool(output: Tensor, batch: &[&[u32]], pooling: Pooling) -> Result<Array2<f32>> {
    let wrong = format!("model returned a tensor of shape {:?} for tokens", output.shape());
    let Tensor::F32(values) = output else { return Err(Error::Internal(wrong)) };
    let values = values.into_dimensionality::<Ix3>()?;
    let (texts, longest, dimension) = values.dim();
    if texts != batch.len() || batch.iter().any(|t| t.len() > longest) || dimension == 0 {
        return Err(Error::Internal(wrong));
    }
    let mut pooled = memory::matrix(texts, dimension, 0f32)?;
    for ((out, tokens), text) in rows_mut(pooled.view_mut()).zip(values.outer_iter()).zip(batch) {
        let used = match pooling {
            Pooling::Cls => 1,
            Pooling::Mean => text.len().max(1),
        };
        for token in rows(tokens.view()).take(used) {
            out.iter_mut().zip(token).for_each(|(o, t)| *o += t / used as f32);
        }
    }
    Ok(pooled)
}

/// The scores `[pairs, 1]` of pairs, from a logit for each, or two: the second says that the text is relevant, and the first that it is not.
fn scores(output: Tensor, pairs: usize, name: &str) -> Result<Array2<f32>> {
    // The caller of a run knows the model's name.
    let failed = |reason: String| Error::ModelRun { model: String::new(), reason };
    let shape = output.shape().to_vec();
    let (Tensor::F32(values), [rows] | [rows, 1 | 2]) = (output, shape.as_slice()) else {
        let expected = format!("[{pairs}], [{pairs}, 1] or [{pairs}, 2]");
        return Err(failed(format!("output \"{name}\" has shape {shape:?} for {pairs} pairs, expected {expected}")));
    };
    if *rows != pairs {
        return Err(failed(format!("output \"{name}\" has {rows} scores for {pairs} pairs")));
    }
    let logits = values.into_shape_with_order((pairs, shape.get(1).copied().unwrap_or(1)))?;
    let score = |logits: ndarray::ArrayView1<f32>| match logits.to_vec()[..] {
        [irrelevant, relevant] => relevant - irrelevant,
        _ => logits.sum(),
    };
    let scores = logits.map_axis(Axis(1), score).insert_axis(Axis(1));
    if scores.iter().any(|score| score.is_nan()) {
        return Err(failed(format!("output \"{name}\" has a score that is not a number")));
    }
    Ok(scores)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn padding_is_masked_and_ids_stand_where_they_belong() {
        let inputs = padded(&[&[5, 6], &[7]], 9, true, |id| (id, 0)).unwrap();
        assert_eq!(inputs[0].1, array![[5i64, 6], [7, 9]].into());
        assert_eq!(inputs[1].1, array![[1i64, 1], [1, 0]].into());
        assert_eq!(inputs[2].1, array![[0i64, 0], [0, 0]].into());
    }

    #[test]
    fn the_segments_of_a_pair_become_token_types() {
        let second = |id: u32| 1 << 30 | id;
        let inputs = padded(&[&[5, 6, second(7)], &[5, second(8)]], 9, true, id_and_segment).unwrap();
        assert_eq!(inputs[0].1, array![[5i64, 6, 7], [5, 8, 9]].into());
        assert_eq!(inputs[1].1, array![[1i64, 1, 1], [1, 1, 0]].into());
        assert_eq!(inputs[2].1, array![[0i64, 0, 1], [0, 1, 0]].into());
    }

    #[test]
    fn scores_are_logits_or_how_much_the_second_exceeds_the_first() {
        let expected = array![[3f32], [-1.0]];
        assert_eq!(scores(array![3f32, -1.0].into(), 2, "logits").unwrap(), expected);
        assert_eq!(scores(array![[3f32], [-1.0]].into(), 2, "logits").unwrap(), expected);
        assert_eq!(scores(array![[1f32, 4.0], [0.5, -0.5]].into(), 2, "logits").unwrap(), expected);
        let wrong: [Tensor; 5] = [
            array![[1f32, 2.0, 3.0], [1.0, 2.0, 3.0]].into(),
            array![[[1f32], [2.0]]].into(),
            array![1f32].into(),
            array![1i64, 2].into(),
            array![f32::NAN, 1.0].into(),
        ];
        for output in wrong {
            assert!(
                matches!(scores(output, 2, "logits"), Err(Error::ModelRun { reason, .. }) if reason.contains("\"logits\""))
            );
        }
    }

    #[test]
    fn ragged_rows_are_told_apart_by_their_splits() {
        let inputs = ragged(&[&[5, 6], &[], &[7]]);
        assert_eq!(inputs[0].1, array![5, 6, 7].into());
        assert_eq!(inputs[1].1, array![0i64, 2, 2, 3].into());
    }

    #[test]
    fn the_mean_leaves_padding_out_and_cls_takes_the_first() {
        let output = Tensor::from(array![[[1f32, 2.0], [3.0, 4.0], [100.0, 100.0]]]);
        assert_eq!(pool(output.clone(), &[&[1, 2]], Pooling::Mean).unwrap(), array![[2.0, 3.0]]);
        assert_eq!(pool(output, &[&[1, 2]], Pooling::Cls).unwrap(), array![[1.0, 2.0]]);
    }
}
