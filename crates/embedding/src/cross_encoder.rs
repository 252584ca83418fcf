//! Scores pairs of a query and a text with a cross-encoder, which reads both at once.
//!
//! Nogueira and Cho, "Passage Re-ranking with BERT", 2019. A run for each pair: it is for the best results of a search, not for all rows.

use crate::config::PairConfig;
use crate::text::results;
use crate::text_graph::{Limits, TextGraph, TextRunner};
use crate::tokenizer::pair::PairTokenizer;
use onnx::inspect::Signature;
use runtime::error::{Error, Result};
use runtime::progress::Progress;

pub struct CrossEncoder {
    tokenizer: PairTokenizer,
    runner: Box<dyn TextRunner>,
    graph: TextGraph,
}

impl CrossEncoder {
    /// `tokenizer` must have been opened with `config.max_length`.
    pub fn new(
        tokenizer: PairTokenizer,
        runner: Box<dyn TextRunner>,
        config: &PairConfig,
        signature: &Signature,
    ) -> Self {
        Self { tokenizer, runner, graph: TextGraph::of_pairs(config, signature) }
    }

    pub fn runner(&self) -> &dyn TextRunner {
        &*self.runner
    }

    /// The score of `query` with each of `texts`, in their order: the greater, the more relevant. Pairs with the same tokens are run once.
    pub fn score(&mut self, query: &str, texts: &[&str], limits: Limits, progress: &dyn Progress) -> Result<Vec<f32>> {
        let tokens = self.tokenizer.tokenize(query, texts, limits.threads, progress)?;
        let scores =
            results(&mut *self.runner, &self.graph, &tokens, limits, progress).map_err(|error| match error {
                Error::ModelRun { model, reason } if model.is_empty() => {
                    Error::ModelRun { model: self.runner.model().to_owned(), reason }
                }
                other => other,
            })?;
        Ok(scores.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use ndarray::{Array2, array};
    use serde_json::json;

    use super::*;
    use crate::text_graph::{Embedded, Texts};
    use crate::tokenizer::TextTokenizer;
    use crate::tokenizer::fixtures::{Folder, words};
    use onnx::runner::{Inputs, Ran, Runner};
    use onnx::session::{Provider, RunMemory};
    use onnx::tensor::Tensor;
    use runtime::progress::{Run, Unwatched};

    /// A graph whose logit is the sum of the ids of the text, and of those of the query by 100; or another output.
    struct Sums(Option<Tensor>);

    impl Runner for Sums {
        fn model(&self) -> &str {
            "sums"
        }
        fn provider(&self) -> Provider {
            Provider::Cpu
        }
        fn bytes(&self) -> u64 {
            0
        }
        fn run(&mut self, inputs: Inputs, _: &[&str], _: RunMemory, _: &dyn Progress) -> Result<Ran> {
            let tensors: Vec<Array2<f32>> = inputs
                .into_iter()
                .map(|(_, tensor)| match tensor {
                    Tensor::I64(values) => values.mapv(|value| value as f32).into_dimensionality().unwrap(),
                    other => panic!("{other:?}"),
                })
                .collect();
            let [ids, mask, types] = <[Array2<f32>; 3]>::try_from(tensors).unwrap();
            let weighted = ids * mask * types.mapv(|segment| if segment == 0.0 { 100.0 } else { 1.0 });
            let sums: Tensor = weighted.sum_axis(ndarray::Axis(1)).into();
            Ok((vec![self.0.clone().unwrap_or(sums)], Duration::ZERO))
        }
        fn run_each(&mut self, _: Vec<Inputs>, _: &[&str], _: usize, _: &dyn Progress) -> Result<Vec<Ran>> {
            Err(Error::Internal("not asked for".into()))
        }
    }

    impl TextRunner for Sums {
        fn embed(
            &mut self,
            graph: &TextGraph,
            texts: &Texts,
            limits: Limits,
            progress: &dyn Progress,
            take: &mut (dyn FnMut(Embedded) -> Result<()> + Send),
        ) -> Result<()> {
            let mut first = 0;
            while first < texts.tokens.len() {
                let batch = &texts.tokens[first..first + texts.fitting(first, limits.max_batch, 1000)];
                let (outputs, took) = self.run(graph.inputs(batch)?, &[], RunMemory::Keep, progress)?;
                take(Embedded { first, vectors: graph.vectors(batch, outputs)?, runs: 1, took })?;
                first += batch.len();
            }
            Ok(())
        }
    }

    fn encoder(output: Option<Tensor>) -> CrossEncoder {
        let special = |id: &str, segment: u32| json!({"SpecialToken": {"id": id, "type_id": segment}});
        let text = |id: &str, segment: u32| json!({"Sequence": {"id": id, "type_id": segment}});
        let mut json = words();
        json["post_processor"] = json!({"type": "TemplateProcessing", "single": [text("A", 0)],
            "pair": [text("A", 0), special("|", 0), text("B", 1)],
            "special_tokens": {"|": {"id": "|", "ids": [10], "tokens": ["|"]}}});
        let folder = Folder::new();
        TextTokenizer::prepare(json.to_string().as_bytes(), &folder.0).unwrap();
        let tokenizer = PairTokenizer::open(&folder.0, 64).unwrap();
        let input = |name: &str| onnx::inspect::Port { name: name.into(), element_type: 7, shape: Vec::new() };
        let signature = Signature { inputs: vec![input("token_type_ids")], ..Default::default() };
        CrossEncoder::new(tokenizer, Box::new(Sums(output)), &PairConfig::default(), &signature)
    }

    /// Counts rows and tokens.
    #[derive(Default)]
    struct Counts(Cell<(usize, usize)>);

    impl Progress for Counts {
        fn check(&self) -> Result<()> {
            Ok(())
        }
        fn ran(&self, run: &Run) {
            let (rows, tokens) = self.0.get();
            self.0.set((rows + run.rows, tokens + run.tokens.unwrap_or(0)));
        }
    }

    #[test]
    fn scores_stand_in_the_order_of_the_texts_whatever_the_batch() {
        let texts = ["wine wine wine", "red", "", "wine", "red", "red wine red wine red wine"];
        for max_batch in [1, 2, 32] {
            let counts = Counts::default();
            let limits = Limits { max_batch, threads: 1 };
            let scores = encoder(None).score("wine", &texts, limits, &counts).unwrap();
            assert_eq!(scores, [1206.0, 1201.0, 1200.0, 1202.0, 1201.0, 1209.0]);
            // A pair that is there twice counts twice and runs once.
            assert_eq!(counts.0.get(), (6, 2 * 5 + 3 + 1 + 1 + 6));
        }
        assert!(encoder(None).score("wine", &[], Limits { max_batch: 1, threads: 1 }, &Unwatched).unwrap().is_empty());
    }

    #[test]
    fn an_output_of_another_shape_is_an_error_that_names_the_model() {
        let output = Some(array![[1f32, 2.0, 3.0]].into());
        let limits = Limits { max_batch: 1, threads: 1 };
        let error = encoder(output).score("red", &["wine"], limits, &Unwatched).unwrap_err();
        assert!(error.to_string().starts_with("model \"sums\" failed: output \"\" has shape [1, 3]"), "{error}");
    }
}
