//! How good searches are, by graded results of queries.

use std::collections::{BTreeMap, HashMap};

use pgrx::prelude::*;

use super::search::{MAX_K, bounded, find, vector, with_index};
use super::search_training::judged;
use super::{given, list_length, null_element};
use crate::pg::errors;
use crate::pg::interrupts::Statement;
use crate::service::catalog::Privilege;
use crate::service::loaded::SearchIndex;
use crate::service::search_source;
use crate::service::selection::Selection;
use evaluation::{ALL, Bootstrap, paired_t_test};
use runtime::error::{Error, Result};
use runtime::progress::Progress;
use search::{Judged, Measured};

/// A metric of one query.
pub type MetricOf = fn(&Measured) -> f64;

const METRICS: [(&str, MetricOf); 6] = [
    ("ndcg", |measured| measured.ndcg),
    ("mrr", |measured| measured.mrr),
    ("map", |measured| measured.map),
    ("recall", |measured| measured.recall),
    ("precision", |measured| measured.precision),
    ("zero_results", |measured| measured.zero_results),
];

/// What to measure.
struct Question<'a> {
    judgements: &'a str,
    k: usize,
    relevant: f32,
    metrics: Vec<(&'static str, MetricOf)>,
    segments: Option<&'a str>,
    bootstrap: Bootstrap,
}

impl<'a> Question<'a> {
    fn read(
        judgements: Option<&'a str>,
        k: Option<i32>,
        relevant: Option<f64>,
        metrics: Option<Vec<Option<String>>>,
        segments: Option<&'a str>,
        (bootstrap, confidence, seed): (Option<i32>, Option<f64>, Option<i64>),
    ) -> Result<Self> {
        let metrics = match metrics {
            None => METRICS.to_vec(),
            Some(names) => names.into_iter().map(metric).collect::<Result<_>>()?,
        };
        let resamples = given(bootstrap, "bootstrap")?;
        Ok(Self {
            judgements: given(judgements, "judgements")?,
            k: bounded("k", list_length(given(k, "k")?)?, MAX_K)?,
            relevant: given(relevant, "relevant")? as f32,
            metrics,
            segments,
            bootstrap: Bootstrap::new(resamples.into(), given(confidence, "confidence")?, given(seed, "seed")? as u64)?,
        })
    }

    /// The metrics of each query, by its text.
    fn measure(&self, index: &SearchIndex, judged: &[Judged], statement: &Statement) -> Result<Vec<Measured>> {
        let mut all = Vec::new();
        for (number, query) in judged.iter().enumerate() {
            statement.report("queries", number, judged.len());
            let vector = vector(index, &query.text, statement)?;
            let found = find(index, &query.text, vector.as_deref(), &Selection::default(), self.k, 0, statement)?;
            let ranking: Vec<u32> = found.iter().map(|found| found.row).collect();
            all.push(query.judgements.measure(&ranking, self.k, self.relevant));
        }
        Ok(all)
    }

    /// The queries of each segment by number, all of them first.
    fn groups(&self, judged: &[Judged], progress: &dyn Progress) -> Result<Vec<(String, Vec<usize>)>> {
        let mut groups = vec![(ALL.to_owned(), (0..judged.len()).collect())];
        let Some(segments) = self.segments else { return Ok(groups) };
        let numbers: HashMap<&str, usize> =
            judged.iter().zip(0..).map(|(q, number)| (q.text.as_str(), number)).collect();
        let mut by_name: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        search_source::segments(segments, progress, |query, segment| {
            if let Some(&number) = numbers.get(query) {
                by_name.entry(segment).or_default().push(number);
            }
        })?;
        groups.extend(by_name.into_iter().map(|(name, mut of)| {
            of.sort_unstable();
            of.dedup();
            (name, of)
        }));
        Ok(groups)
    }
}

pub fn metric(name: Option<String>) -> Result<(&'static str, MetricOf)> {
    let name = name.ok_or_else(|| null_element("metrics"))?;
    METRICS.into_iter().find(|(known, _)| *known == name).ok_or_else(|| Error::UnknownName {
        what: "metric",
        name,
        known: METRICS.map(|(known, _)| known).join(", "),
    })
}

pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

#[pg_extern(sql = false)]
fn evaluate_search(
    model: Option<&str>,
    judgements: Option<&str>,
    k: Option<i32>,
    relevant: Option<f64>,
    metrics: Option<Vec<Option<String>>>,
    segments: Option<&str>,
    bootstrap: Option<i32>,
    confidence: Option<f64>,
    seed: Option<i64>,
) -> errors::Result<TableIterator<'static, (String, Option<f64>, Option<f64>, Option<f64>, String, i64)>> {
    let model = given(model, "model")?;
    let statement = Statement::new("evaluate_search", model);
    let question = Question::read(judgements, k, relevant, metrics, segments, (bootstrap, confidence, seed))?;
    let rows = with_index(model, Privilege::Serve, &statement, |index| {
        let judged = judged(&index.model, question.judgements, &statement)?;
        let measured = question.measure(index, &judged, &statement)?;
        let mut rows = Vec::new();
        for (segment, queries) in question.groups(&judged, &statement)? {
            for (name, of) in &question.metrics {
                let values: Vec<f64> = queries.iter().map(|&query| of(&measured[query])).collect();
                let (low, high) = question.bootstrap.interval_of_mean(&values, &statement)?.unzip();
                rows.push((name.to_string(), mean(&values), low, high, segment.clone(), queries.len() as i64));
            }
        }
        Ok(rows)
    })?;
    Ok(TableIterator::new(rows))
}

#[pg_extern(sql = false)]
fn compare_search(
    model_a: Option<&str>,
    model_b: Option<&str>,
    judgements: Option<&str>,
    k: Option<i32>,
    relevant: Option<f64>,
    metrics: Option<Vec<Option<String>>>,
    segments: Option<&str>,
    bootstrap: Option<i32>,
    confidence: Option<f64>,
    seed: Option<i64>,
) -> errors::Result<
    TableIterator<
        'static,
        (String, Option<f64>, Option<f64>, Option<f64>, Option<f64>, Option<f64>, Option<f64>, String, i64),
    >,
> {
    let (model_a, model_b) = (given(model_a, "model_a")?, given(model_b, "model_b")?);
    let statement = Statement::new("compare_search", model_a);
    let question = Question::read(judgements, k, relevant, metrics, segments, (bootstrap, confidence, seed))?;
    // Each index reads the judgements by its own ids; both have the queries in the order of their texts.
    let measured = |model: &str| {
        with_index(model, Privilege::Serve, &statement, |index| {
            let judged = judged(&index.model, question.judgements, &statement)?;
            Ok((question.measure(index, &judged, &statement)?, judged))
        })
    };
    let ((a, judged), (b, of_b)) = (measured(model_a)?, measured(model_b)?);
    if judged.len() != of_b.len() || judged.iter().zip(&of_b).any(|(a, b)| a.text != b.text) {
        let message = "query of judgements returned other queries when it was run again";
        return Err(Error::invalid(message, "Make a table of its result first.").into());
    }
    let mut rows = Vec::new();
    for (segment, queries) in question.groups(&judged, &statement)? {
        for (name, of) in &question.metrics {
            let values =
                |measured: &[Measured]| queries.iter().map(|&query| of(&measured[query])).collect::<Vec<f64>>();
            let (a, b) = (values(&a), values(&b));
            let differences: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a - b).collect();
            let (low, high) = question.bootstrap.interval_of_mean(&differences, &statement)?.unzip();
            let p_value = paired_t_test(&differences);
            let (a, b, difference) = (mean(&a), mean(&b), mean(&differences));
            rows.push((name.to_string(), a, b, difference, low, high, p_value, segment.clone(), queries.len() as i64));
        }
    }
    Ok(TableIterator::new(rows))
}
