//! Which training rows matter, and which mislead.

use pgrx::prelude::*;
use serde_json::Value;

use super::embedding::embed_texts;
use super::{given, null_element};
use crate::pg::errors;
use crate::pg::interrupts::Statement;
use crate::pg::json::JsonB;
use crate::pg::settings;
use crate::service::loaded;
use crate::service::loaded::Ready;
use crate::service::samples::{Encoded, Rows, encode};
use importance::label_errors;
use importance::model::{Inputs, Outputs};
use importance::{Method, Task, ranks, score};
use onnx::session::RunMemory;
use runtime::error::{Error, Result};
use runtime::options::Options;
use runtime::progress::{Progress, Run};
use tabular::{Encoder, EncoderOptions, LabelKind, Labels};

/// Rows that a user's own model is run on at a time.
const BATCH: usize = 1024;

/// Where rows come from, and which columns are the label and the id.
pub(super) struct Asked<'a> {
    source: &'a str,
    label: &'a str,
    id: Option<&'a str>,
    validation: Option<&'a str>,
    seed: u64,
}

impl<'a> Asked<'a> {
    pub(super) fn new(
        source: Option<&'a str>,
        label: Option<&'a str>,
        id: Option<&'a str>,
        validation: Option<&'a str>,
        seed: Option<i64>,
    ) -> Result<Self> {
        let source = given(source, "source")?;
        Ok(Self { source, label: given(label, "label")?, id, validation, seed: given(seed, "seed")? as u64 })
    }

    fn rows(&self, progress: &dyn Progress) -> Result<Rows> {
        Rows::read("source", self.source, self.id, &[self.label], progress)
    }

    pub(super) fn task<'b>(&self, encoded: &'b Encoded, progress: &'b dyn Progress) -> Task<'b> {
        Task {
            samples: &encoded.samples,
            validation: encoded.validation.as_ref(),
            seed: self.seed,
            threads: settings::threads(),
            progress,
        }
    }

    /// Reads the source and the query of the argument `validation`, and encodes both. The options are `task`, `max_categories`,
    /// `text_dimensions` and `embedding_model`.
    pub(super) fn read(
        &self,
        validation: &'static str,
        options: &mut Options,
        progress: &dyn Progress,
    ) -> Result<(Vec<String>, Encoded)> {
        let kind = label_kind(options)?;
        let defaults = EncoderOptions::default();
        let encoder = EncoderOptions {
            max_categories: options.integer("max_categories", defaults.max_categories as u64, 1, 1 << 16)? as usize,
            text_dimensions: options.integer("text_dimensions", defaults.text_dimensions as u64, 1, 1 << 16)? as usize,
        };
        let embedding = match options.given("embedding_model") {
            None => None,
            Some(Value::String(name)) => Some(name.as_str()),
            Some(other) => {
                let hint = "The value must be the name of a text embedding model.";
                return Err(Error::argument("option \"embedding_model\"", other, hint));
            }
        };
        options.record("embedding_model", embedding.map_or(Value::Null, Value::from));
        let mut source = self.rows(progress)?;
        let mut clean =
            self.validation.map(|query| Rows::read(validation, query, None, &[self.label], progress)).transpose()?;
        if let Some(model) = embedding {
            let texts = Encoder::texts(&source.table, &[self.label], &encoder);
            for rows in [Some(&mut source), clean.as_mut()].into_iter().flatten() {
                rows.embed_texts(&texts, &mut |texts| embed_texts(model, texts, progress))?;
            }
        }
        let encoded = encode(&source, clean.as_ref(), self.label, kind, &encoder, progress)?;
        Ok((source.ids, encoded))
    }
}

fn label_kind(options: &mut Options) -> Result<Option<LabelKind>> {
    let tasks =
        [("auto", None), ("classification", Some(LabelKind::Classes)), ("regression", Some(LabelKind::Numbers))];
    options.choice("task", &tasks)
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)]
fn importance(
    source: Option<&str>,
    method: Option<&str>,
    label: Option<&str>,
    id: Option<&str>,
    validation: Option<&str>,
    options: Option<JsonB>,
    model: Option<&str>,
    seed: Option<i64>,
) -> errors::Result<TableIterator<'static, (String, f64, i64)>> {
    let method = Method::from_name(given(method, "method")?)?;
    let asked = Asked::new(source, label, id, validation, seed)?;
    let (ids, scores) = scores(&asked, &[method], options, model, "importance")?;
    let (scores, ranks) = scores.into_iter().next().unwrap_or_default();
    let rows = ids.into_iter().zip(scores).zip(ranks).map(|((id, score), rank)| (id, score, rank as i64));
    Ok(TableIterator::new(rows.collect::<Vec<_>>()))
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)]
fn importance_by_methods(
    source: Option<&str>,
    methods: Option<Vec<Option<String>>>,
    label: Option<&str>,
    id: Option<&str>,
    validation: Option<&str>,
    options: Option<JsonB>,
    model: Option<&str>,
    seed: Option<i64>,
) -> errors::Result<TableIterator<'static, (String, String, f64, i64)>> {
    let mut wanted: Vec<Method> = Vec::new();
    for name in given(methods, "methods")? {
        let method = Method::from_name(name.as_deref().ok_or_else(|| null_element("methods"))?)?;
        if !wanted.contains(&method) {
            wanted.push(method);
        }
    }
    if wanted.is_empty() {
        return Err(Error::invalid(
            "methods must not be empty",
            "Name at least one method, as in ARRAY['aum', 'el2n'].",
        )
        .into());
    }
    let asked = Asked::new(source, label, id, validation, seed)?;
    let (ids, scores) = scores(&asked, &wanted, options, model, "importance")?;
    let rows = wanted.into_iter().zip(scores).flat_map(move |(method, (scores, ranks))| {
        let rows = ids.clone().into_iter().zip(scores).zip(ranks);
        rows.map(move |((id, score), rank)| (id, method.name().to_owned(), score, rank as i64))
    });
    Ok(TableIterator::new(rows))
}

/// Scores of all rows, and their ranks.
type Ranked = (Vec<f64>, Vec<u64>);

/// The ids of the source's rows, and the scores of each method.
fn scores(
    asked: &Asked,
    methods: &[Method],
    options: Option<JsonB>,
    model: Option<&str>,
    function: &'static str,
) -> Result<(Vec<String>, Vec<Ranked>)> {
    let statement = Statement::new(function, model.unwrap_or_default());
    let options = options.map_or(Value::Null, |options| options.0);
    let mut options = Options::new("importance", &options)?;
    let (ids, scores) = match model {
        Some(model) => scores_of_model(asked, methods, model, &mut options, &statement)?,
        None => {
            let (ids, encoded) = asked.read("validation", &mut options, &statement)?;
            let scores = score(methods, &asked.task(&encoded, &statement), &mut options)?;
            (ids, scores)
        }
    };
    options.finish()?;
    let ranked = scores.into_iter().map(|scores| {
        let ranks = ranks(&scores, &statement)?;
        Ok((scores, ranks))
    });
    Ok((ids, ranked.collect::<Result<_>>()?))
}

/// Scores from the outputs of a model of the catalog, which is run in batches.
fn scores_of_model(
    asked: &Asked,
    methods: &[Method],
    model: &str,
    options: &mut Options,
    statement: &Statement,
) -> Result<(Vec<String>, Vec<Vec<f64>>)> {
    let kind = label_kind(options)?;
    let ready = loaded::graph(model, statement)?;
    let Ready::Graph(graph) = &*ready else {
        return Err(Error::Internal("the model is not loaded as a graph".into()));
    };
    let graph = &mut *graph.borrow_mut();
    let mut outputs = Outputs::new(model, &graph.signature, options)?;
    let rows = asked.rows(statement)?;
    let missing = || Error::Internal("the label column is missing".into());
    let (_, label) = rows.table.column(asked.label).ok_or_else(missing)?;
    let labels = Labels::fit(asked.label, label, kind)?;
    let inputs = Inputs::new(model, &graph.signature, &rows.table, &[asked.label])?;
    let mut scores = vec![Vec::new(); methods.len()];
    for first in (0..inputs.rows()).step_by(BATCH) {
        let last = inputs.rows().min(first + BATCH);
        let memory = if last == inputs.rows() { RunMemory::GiveBack } else { RunMemory::Keep };
        let tensors = inputs.tensors(first..last)?;
        let (given, took) = graph.runner.run(tensors, &outputs.names(), memory, statement)?;
        let (name, provider) = (graph.runner.model(), graph.runner.provider().name());
        statement.ran(&Run { runs: 1, model: name, provider, rows: last - first, tokens: None, took });
        outputs.score(methods, &given, &labels, first, &mut scores)?;
        statement.check()?;
        statement.report("rows run through the model", last, inputs.rows());
    }
    Ok((rows.ids, scores))
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)]
fn prune(
    source: Option<&str>,
    method: Option<&str>,
    fraction: Option<f64>,
    label: Option<&str>,
    id: Option<&str>,
    validation: Option<&str>,
    options: Option<JsonB>,
    seed: Option<i64>,
) -> errors::Result<TableIterator<'static, (String, f64)>> {
    let method = Method::from_name(given(method, "method")?)?;
    let fraction = given(fraction, "fraction")?;
    if !(0.0..1.0).contains(&fraction) {
        let hint = "The share of rows to leave out must be at least 0 and below 1.";
        return Err(Error::argument("fraction", fraction, hint).into());
    }
    let asked = Asked::new(source, label, id, validation, seed)?;
    let (ids, scores) = scores(&asked, &[method], options, None, "prune")?;
    let (scores, ranks) = scores.into_iter().next().unwrap_or_default();
    let stay = scores.len() as u64 - (fraction * scores.len() as f64).floor() as u64;
    let rows = ids.into_iter().zip(scores).zip(ranks).filter(move |(_, rank)| *rank <= stay);
    Ok(TableIterator::new(rows.map(|(row, _)| row).collect::<Vec<_>>()))
}

#[pg_extern(sql = false)]
fn find_label_errors(
    source: Option<&str>,
    label: Option<&str>,
    id: Option<&str>,
    options: Option<JsonB>,
    seed: Option<i64>,
) -> errors::Result<TableIterator<'static, (String, String, String, f64)>> {
    let asked = Asked::new(source, label, id, None, seed)?;
    let statement = Statement::new("find_label_errors", "");
    let options = options.map_or(Value::Null, |options| options.0);
    let mut options = Options::new("find_label_errors", &options)?;
    let (ids, encoded) = asked.read("validation", &mut options, &statement)?;
    let found = label_errors::find(&asked.task(&encoded, &statement), &mut options)?;
    options.finish()?;
    let Labels::Classes { names, .. } = encoded.samples.labels else { return Ok(TableIterator::new(Vec::new())) };
    let rows = found.into_iter().map(move |error| {
        let name = |class: u32| names[class as usize].clone();
        (ids[error.row].clone(), name(error.given), name(error.suggested), error.confidence)
    });
    Ok(TableIterator::new(rows.collect::<Vec<_>>()))
}
