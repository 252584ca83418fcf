//! Runs a text model on batches of texts.

use std::time::Instant;

use ndarray::{Array, Array2, Ix3};

use crate::config::{Layout, Pooling, TextConfig};
use crate::tokenizer::TextTokenizer;
use kernels::matrix::{rows, rows_mut};
use kernels::statistics::normalize;
use onnx::inspect::Signature;
use onnx::session::{RunMemory, Session};
use onnx::tensor::Tensor;
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::progress::{Progress, Run};

/// Tokens of one run, padding included. It bounds the memory of a run (about 100 MB for a BERT of width 384) and the time until it notices a
/// cancel request.
const MAX_TOKENS_PER_RUN: usize = 4096;

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

        let mut vectors = Array2::default((0, 0));
        let mut tokens_run: usize = 0;
        let mut rest = same_tokens.as_slice();
        let mut done = 0;
        while !rest.is_empty() {
            let fits = |n: usize| n * tokens[rest[n - 1][0]].len() <= MAX_TOKENS_PER_RUN;
            let rows = (1..=rest.len().min(max_batch.max(1))).take_while(|&n| n == 1 || fits(n)).count();
            let (batch, later) = rest.split_at(rows);
            let batch_tokens: Vec<&[u32]> = batch.iter().map(|texts| tokens[texts[0]].as_slice()).collect();
            let run_tokens: usize = batch_tokens.iter().map(|tokens| tokens.len()).sum();
            tokens_run += run_tokens;
            let memory = match later.is_empty() && tokens_run > MAX_TOKENS_KEPT {
                true => RunMemory::GiveBack,
                false => RunMemory::Keep,
            };
            let begun = Instant::now();
            let batch_vectors = self.run(&batch_tokens, memory, progress)?;
            let answered = batch.iter().map(|texts| texts.len()).sum();
            progress.ran(&Run {
                model: &self.session.name,
                provider: self.session.provider.name(),
                rows: answered,
                tokens: Some(run_tokens),
                took: begun.elapsed(),
            });
            if vectors.is_empty() {
                vectors = memory::matrix(texts.len(), batch_vectors.ncols(), 0f32)?;
            }
            if vectors.ncols() != batch_vectors.ncols() {
                return Err(Error::Dimensions { left: vectors.ncols(), right: batch_vectors.ncols() });
            }
            for (texts, vector) in batch.iter().zip(batch_vectors.rows()) {
                texts.iter().for_each(|&text| vectors.row_mut(text).assign(&vector));
            }
            rest = later;
            done += answered;
            if !rest.is_empty() {
                progress.report("texts embedded", done, texts.len());
            }
        }
        Ok(vectors)
    }

    fn run(&mut self, batch: &[&[u32]], memory: RunMemory, progress: &dyn Progress) -> Result<Array2<f32>> {
        let inputs = match self.config.layout {
            Layout::Padded => padded(batch, self.config.pad_id, self.with_token_types)?,
            Layout::Ragged => ragged(batch),
        };
        let outputs = self.session.run(inputs, &[&self.config.output], memory, progress)?;
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
