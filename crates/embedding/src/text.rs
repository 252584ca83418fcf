//! Runs a text model on batches of texts.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ndarray::{Array, Array2, Ix3};

use crate::config::{Layout, Pooling, TextConfig};
use crate::tokenizer::TextTokenizer;
use kernels::matrix::{rows, rows_mut};
use kernels::statistics::normalize;
use onnx::inspect::Signature;
use onnx::lanes::{Inputs, Lanes};
use onnx::session::{RunMemory, Session};
use onnx::tensor::Tensor;
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::parallel::locked;
use runtime::progress::{Counted, Progress, Run};

/// Tokens of one run, padding included. It bounds the memory of a run (about 100 MB for a BERT of width 384) and the time until it notices a
/// cancel request.
const MAX_TOKENS_PER_RUN: usize = 4096;

/// A call with fewer tokens for each lane runs its batches one after the other: opening a lane takes some tens of milliseconds.
const MIN_TOKENS_PER_LANE: usize = 8192;

/// Lanes share the tokens of a run, but not for ever: a run of few texts takes more time for each.
const MAX_SPLIT: usize = 4;

/// A call with more tokens than this frees the memory of its runs. Below, the memory is kept for the next call.
const MAX_TOKENS_KEPT: usize = 512;

pub struct TextEmbedder {
    tokenizer: TextTokenizer,
    session: Session,
    pub config: TextConfig,
    with_token_types: bool,
}

/// Which of the model's two prefixes is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Query,
    Passage,
}

impl TextEmbedder {
    /// `tokenizer` must have been opened with `config.max_length`.
    pub fn new(tokenizer: TextTokenizer, session: Session, config: TextConfig, graph: &Signature) -> Self {
        Self { tokenizer, session, with_token_types: graph.input("token_type_ids").is_some(), config }
    }

    pub fn session(&self) -> &Session {
        &self.session
    }

    /// A vector for each text [texts, dimensions], in their order. A run has at most `max_batch` texts.
    ///
    /// Texts with the same tokens are run once. Texts of similar length are run together, which limits padding.
    pub fn embed(
        &mut self,
        texts: &[&str],
        role: Role,
        max_batch: usize,
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<Array2<f32>> {
        let prefix = match role {
            Role::Query => &self.config.query_prefix,
            Role::Passage => &self.config.passage_prefix,
        };
        let tokens = self.tokenizer.tokenize(texts, prefix, threads, progress)?;
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_unstable_by(|&a, &b| (tokens[a].len(), &tokens[a]).cmp(&(tokens[b].len(), &tokens[b])));
        let same_tokens: Vec<&[usize]> = order.chunk_by(|&a, &b| tokens[a] == tokens[b]).collect();

        let total: usize = same_tokens.iter().map(|texts| tokens[texts[0]].len()).sum();
        let lanes = match threads > 1 && total >= threads.saturating_mul(MIN_TOKENS_PER_LANE) {
            true => Lanes::open(&self.session, threads, progress)?,
            false => None,
        };
        let max_tokens = MAX_TOKENS_PER_RUN / if lanes.is_some() { threads.min(MAX_SPLIT) } else { 1 };
        let mut batches = Vec::new();
        let mut rest = same_tokens.as_slice();
        while !rest.is_empty() {
            let fits = |n: usize| n * tokens[rest[n - 1][0]].len() <= max_tokens;
            let rows = (1..=rest.len().min(max_batch.max(1))).take_while(|&n| n == 1 || fits(n)).count();
            let (batch, later) = rest.split_at(rows);
            batches
                .push(Batch { texts: batch, tokens: batch.iter().map(|texts| tokens[texts[0]].as_slice()).collect() });
            rest = later;
        }
        match lanes {
            Some(lanes) => self.embed_in_lanes(&lanes, &batches, texts.len(), progress),
            None => self.embed_in_turn(&batches, texts.len(), progress),
        }
    }

    fn embed_in_turn(&mut self, batches: &[Batch], texts: usize, progress: &dyn Progress) -> Result<Array2<f32>> {
        let mut vectors = Vectors::new(texts);
        let (mut tokens_run, mut done) = (0, 0);
        for (number, batch) in batches.iter().enumerate() {
            let last = number + 1 == batches.len();
            tokens_run += batch.tokens();
            let memory = match last && tokens_run > MAX_TOKENS_KEPT {
                true => RunMemory::GiveBack,
                false => RunMemory::Keep,
            };
            let begun = Instant::now();
            let outputs = self.session.run(self.inputs(&batch.tokens)?, &[&self.config.output], memory, progress)?;
            vectors.take(batch, self.vectors(&batch.tokens, outputs)?)?;
            self.ran(batch, begun.elapsed(), progress);
            done += batch.texts();
            if !last {
                progress.report("texts embedded", done, texts);
            }
        }
        Ok(vectors.values)
    }

    fn embed_in_lanes(
        &self,
        lanes: &Lanes,
        batches: &[Batch],
        texts: usize,
        progress: &dyn Progress,
    ) -> Result<Array2<f32>> {
        let done = AtomicUsize::new(0);
        let counted = Counted { whole: progress, phase: "texts embedded", done: &done, total: texts };
        let began = Instant::now();
        let (vectors, took) = (Mutex::new(Vectors::new(texts)), Mutex::new(vec![began.elapsed(); batches.len()]));
        lanes.run(
            batches.len(),
            &[&self.config.output],
            &counted,
            |number| {
                locked(&took)[number] = began.elapsed();
                self.inputs(&batches[number].tokens)
            },
            |number, outputs| {
                let batch = &batches[number];
                let found = self.vectors(&batch.tokens, outputs)?;
                let took = &mut locked(&took)[number];
                *took = began.elapsed() - *took;
                done.fetch_add(batch.texts(), Ordering::Relaxed);
                locked(&vectors).take(batch, found)
            },
        )?;
        for (batch, &took) in batches.iter().zip(&*locked(&took)) {
            self.ran(batch, took, progress);
        }
        Ok(vectors.into_inner().unwrap_or_else(PoisonError::into_inner).values)
    }

    fn ran(&self, batch: &Batch, took: Duration, progress: &dyn Progress) {
        progress.ran(&Run {
            model: &self.session.name,
            provider: self.session.provider.name(),
            rows: batch.texts(),
            tokens: Some(batch.tokens()),
            took,
        });
    }

    fn inputs(&self, batch: &[&[u32]]) -> Result<Inputs<'static>> {
        match self.config.layout {
            Layout::Padded => padded(batch, self.config.pad_id, self.with_token_types),
            Layout::Ragged => Ok(ragged(batch)),
        }
    }

    /// The vectors of a batch, from the model's output.
    fn vectors(&self, batch: &[&[u32]], outputs: Vec<Tensor>) -> Result<Array2<f32>> {
        let Ok([output]) = <[Tensor; 1]>::try_from(outputs) else {
            return Err(Error::Internal("model did not return exactly one output".into()));
        };
        let mut vectors = match output.shape().len() {
            3 => pool(output, batch, self.config.pooling)?,
            _ => output.into_rows(batch.len())?,
        };
        if vectors.ncols() == 0 {
            return Err(Error::Internal("model returned empty vectors".into()));
        }
        if self.config.normalize {
            rows_mut(vectors.view_mut()).for_each(normalize);
        }
        Ok(vectors)
    }
}

/// Texts that run together.
struct Batch<'a> {
    /// The places of the texts with the same tokens, for each row of the run.
    texts: &'a [&'a [usize]],
    tokens: Vec<&'a [u32]>,
}

impl Batch<'_> {
    fn texts(&self) -> usize {
        self.texts.iter().map(|texts| texts.len()).sum()
    }

    fn tokens(&self) -> usize {
        self.tokens.iter().map(|tokens| tokens.len()).sum()
    }
}

/// The vectors of all texts, allocated with the first batch.
struct Vectors {
    texts: usize,
    values: Array2<f32>,
}

impl Vectors {
    fn new(texts: usize) -> Self {
        Self { texts, values: Array2::default((0, 0)) }
    }

    fn take(&mut self, batch: &Batch, found: Array2<f32>) -> Result<()> {
        if self.values.is_empty() {
            self.values = memory::matrix(self.texts, found.ncols(), 0f32)?;
        }
        if self.values.ncols() != found.ncols() {
            return Err(Error::Dimensions { left: self.values.ncols(), right: found.ncols() });
        }
        for (texts, vector) in batch.texts.iter().zip(found.rows()) {
            texts.iter().for_each(|&text| self.values.row_mut(text).assign(&vector));
        }
        Ok(())
    }
}

/// `input_ids`, `attention_mask` and, where the graph has them, `token_type_ids` (all 0), `[rows, longest]`.
fn padded(batch: &[&[u32]], pad_id: i64, with_token_types: bool) -> Result<Vec<(&'static str, Tensor)>> {
    let longest = batch.iter().map(|t| t.len()).max().unwrap_or(0).max(1);
    let filled = |value: i64| memory::matrix(batch.len(), longest, value);
    let (mut ids, mut mask) = (filled(pad_id)?, filled(0)?);
    for ((tokens, ids), mask) in batch.iter().zip(rows_mut(ids.view_mut())).zip(rows_mut(mask.view_mut())) {
        ids.iter_mut().zip(*tokens).for_each(|(id, &token)| *id = i64::from(token));
        mask[..tokens.len()].fill(1);
    }
    let mut inputs = vec![("input_ids", ids.into()), ("attention_mask", mask.into())];
    if with_token_types {
        inputs.push(("token_type_ids", filled(0)?.into()));
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

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn padding_is_masked_and_ids_stand_where_they_belong() {
        let inputs = padded(&[&[5, 6], &[7]], 9, true).unwrap();
        assert_eq!(inputs[0].1, array![[5i64, 6], [7, 9]].into());
        assert_eq!(inputs[1].1, array![[1i64, 1], [1, 0]].into());
        assert_eq!(inputs[2].1, array![[0i64, 0], [0, 0]].into());
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
