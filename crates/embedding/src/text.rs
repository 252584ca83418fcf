//! Embeds texts: tokenizes them, runs the model on those with different tokens, and puts the vectors in their order.

use ndarray::Array2;

use crate::config::TextConfig;
use crate::text_graph::{Limits, TextGraph, TextRunner, Texts};
use crate::tokenizer::TextTokenizer;
use onnx::inspect::Signature;
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::progress::{Progress, Run};

pub struct TextEmbedder {
    tokenizer: TextTokenizer,
    runner: Box<dyn TextRunner>,
    graph: TextGraph,
    pub config: TextConfig,
}

/// Which of the model's two prefixes is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Query,
    Passage,
}

impl TextEmbedder {
    /// `tokenizer` must have been opened with `config.max_length`.
    pub fn new(
        tokenizer: TextTokenizer,
        runner: Box<dyn TextRunner>,
        config: TextConfig,
        signature: &Signature,
    ) -> Self {
        Self { tokenizer, runner, graph: TextGraph::new(&config, signature), config }
    }

    pub fn runner(&self) -> &dyn TextRunner {
        &*self.runner
    }

    /// A vector for each text [texts, dimensions], in their order.
    pub fn embed(
        &mut self,
        texts: &[&str],
        role: Role,
        limits: Limits,
        progress: &dyn Progress,
    ) -> Result<Array2<f32>> {
        let prefix = match role {
            Role::Query => &self.config.query_prefix,
            Role::Passage => &self.config.passage_prefix,
        };
        let tokens = self.tokenizer.tokenize(texts, prefix, limits.threads, progress)?;
        results(&mut *self.runner, &self.graph, &tokens, limits, progress)
    }
}

/// The results of a graph for texts of these tokens, a row for each, in their order.
///
/// Texts with the same tokens are run once. Texts of similar length are run together, which limits padding.
pub(crate) fn results(
    runner: &mut dyn TextRunner,
    graph: &TextGraph,
    tokens: &[Vec<u32>],
    limits: Limits,
    progress: &dyn Progress,
) -> Result<Array2<f32>> {
    let mut order: Vec<usize> = (0..tokens.len()).collect();
    order.sort_unstable_by(|&a, &b| (tokens[a].len(), &tokens[a]).cmp(&(tokens[b].len(), &tokens[b])));
    // The places of the texts with the same tokens.
    let places: Vec<&[usize]> = order.chunk_by(|&a, &b| tokens[a] == tokens[b]).collect();
    let distinct = Texts {
        tokens: places.iter().map(|places| tokens[places[0]].as_slice()).collect(),
        counts: places.iter().map(|places| places.len()).collect(),
    };
    let (mut vectors, mut runs) = (Array2::default((0, 0)), Vec::new());
    let outcome = runner.embed(graph, &distinct, limits, progress, &mut |embedded| {
        let (first, found) = (embedded.first, embedded.vectors);
        if vectors.is_empty() {
            vectors = memory::matrix(tokens.len(), found.ncols(), 0f32)?;
        }
        if vectors.ncols() != found.ncols() {
            return Err(Error::Dimensions { left: vectors.ncols(), right: found.ncols() });
        }
        runs.push((first..first + found.nrows(), embedded.runs, embedded.took));
        for (places, vector) in places[first..].iter().zip(found.rows()) {
            places.iter().for_each(|&place| vectors.row_mut(place).assign(&vector));
        }
        Ok(())
    });
    for (texts, runs, took) in runs {
        progress.ran(&Run {
            runs,
            model: runner.model(),
            provider: runner.provider().name(),
            rows: distinct.counts[texts.clone()].iter().sum(),
            tokens: Some(distinct.tokens[texts].iter().map(|tokens| tokens.len()).sum()),
            took,
        });
    }
    outcome.map(|()| vectors)
}
