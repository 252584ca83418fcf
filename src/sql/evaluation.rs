//! Evaluation: splits of a source, and metrics of recommenders on held-out rows.

use std::borrow::Cow;

use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::prelude::*;
use serde_json::Value;

use super::recommendation::with_recommender;
use super::training::{option_map, queries};
use super::{given, list_length, null_element};
use crate::pg::errors;
use crate::pg::interrupts::Statement;
use crate::pg::json::JsonB;
use crate::pg::row::{Kind, optional, required};
use crate::pg::settings;
use crate::pg::source::Source;
use crate::service::dataset::{Dataset, INTERACTION};
use crate::service::loaded::Recommender;
use evaluation::{
    Bootstrap, By, Candidates, Cases, CasesBuilder, Catalogue, Counts, Group, Measured, Metric, MetricSet, Protocol,
    Sampler, Segments, SplitMethod, Terms, compare, cross_validate as cross_validate_folds, evaluate as evaluate_cases,
    split as split_interactions, summarise,
};
use interactions::{Id, Interner};
use onnx::IdTable;
use recommendation::Model;
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::progress::Progress;

#[pg_extern(sql = false)]
fn split(
    source: &str,
    method: &str,
    ratio: f64,
    seed: i64,
) -> errors::Result<TableIterator<'static, (String, String, String, f32, Option<TimestampWithTimeZone>)>> {
    let statement = Statement::new("split", "");
    let method = SplitMethod::from_name(method)?;
    let source = Source::open(source, &INTERACTION)?;
    let (mut user_ids, mut item_ids) = (Interner::default(), Interner::default());
    let (mut users, mut items, mut weights) = (Vec::new(), Vec::new(), Vec::new());
    let mut times = source.has(3).then(Vec::new);
    let (has_weight, columns) = (source.has(2), source.names());
    source.read(&statement, |row| {
        memory::push(&mut users, user_ids.intern(row.id(0)?)?)?;
        memory::push(&mut items, item_ids.intern(row.id(1)?)?)?;
        memory::push(&mut weights, if has_weight { row.number(2)? as f32 } else { 1.0 })?;
        times.as_mut().map_or(Ok(()), |times| memory::push(times, row.time(3)))
    })?;
    if users.is_empty() {
        return Err(Error::EmptySource(String::new()).into());
    }
    if method == SplitMethod::ByTime && times.is_none() {
        return Err(Error::MissingColumn { column: "ts".into(), found: columns }.into());
    }
    let user_ids = ranked(user_ids, &mut users, &statement)?;
    let item_ids = ranked(item_ids, &mut items, &statement)?;
    let is_test = split_interactions(method, &users, &items, times.as_deref(), ratio, seed as u64, &statement)?;
    let id = |ids: &IdTable, index: u32| ids.get(index).unwrap_or_default().to_owned();
    Ok(TableIterator::new(is_test.into_iter().enumerate().map(move |(row, is_test)| {
        let part = if is_test { "test" } else { "train" };
        // −∞ stands for a row without a time.
        let time = times.as_ref().map(|times| times[row]).filter(|t| *t != i64::MIN);
        let time = time.and_then(|t| TimestampWithTimeZone::try_from(t).ok());
        (part.to_owned(), id(&user_ids, users[row]), id(&item_ids, items[row]), weights[row], time)
    })))
}

/// Replaces the numbers of ids with their ranks.
fn ranked(ids: Interner, numbers: &mut [u32], statement: &Statement) -> Result<IdTable> {
    let (table, rank) = ids.finish(statement)?;
    for numbers in numbers.chunks_mut(1 << 18) {
        statement.check()?;
        numbers.iter_mut().for_each(|number| *number = rank[*number as usize]);
    }
    Ok(table)
}

#[pg_extern(sql = false)]
fn evaluate(
    model: Option<&str>,
    test: Option<&str>,
    k: Option<i32>,
    exclude_seen: Option<bool>,
    metrics: Option<Vec<Option<String>>>,
    segments: Option<Vec<Option<String>>>,
    history: Option<&str>,
    negatives: Option<&str>,
    sampled_negatives: Option<i32>,
    bootstrap: Option<i32>,
    confidence: Option<f64>,
    seed: Option<i64>,
) -> errors::Result<TableIterator<'static, (String, Option<f64>, Option<f64>, Option<f64>, String)>> {
    let model = given(model, "model")?;
    let statement = Statement::new("evaluate", model);
    let question = Question::read(Arguments {
        test,
        k,
        exclude_seen,
        metrics,
        segments,
        history,
        negatives,
        sampled_negatives,
        bootstrap,
        confidence,
        seed,
    })?;
    let rows = with_recommender(model, &statement, |recommender| {
        let asked = question.ask([&recommender.model], &statement)?;
        let [measured] = &asked.measured;
        let lines = summarise(measured, question.metrics, &question.bootstrap, settings::threads(), &statement)?;
        let mut rows = Vec::new();
        for group in &measured.groups {
            for line in lines.iter().filter(|line| line.segment == group.segment) {
                let (low, high) = line.interval.unzip();
                rows.push((line.metric.name().to_owned(), line.value, low, high, group.segment.to_owned()));
            }
            for (name, count) in asked.counts_of(group, &question) {
                rows.push((name.to_owned(), Some(count as f64), None, None, group.segment.to_owned()));
            }
        }
        Ok(rows)
    })?;
    Ok(TableIterator::new(rows))
}

#[pg_extern(sql = false)]
fn compare_models(
    model_a: Option<&str>,
    model_b: Option<&str>,
    test: Option<&str>,
    k: Option<i32>,
    exclude_seen: Option<bool>,
    metrics: Option<Vec<Option<String>>>,
    segments: Option<Vec<Option<String>>>,
    history: Option<&str>,
    negatives: Option<&str>,
    sampled_negatives: Option<i32>,
    bootstrap: Option<i32>,
    confidence: Option<f64>,
    seed: Option<i64>,
) -> errors::Result<
    TableIterator<
        'static,
        (String, Option<f64>, Option<f64>, Option<f64>, Option<f64>, Option<f64>, Option<f64>, String),
    >,
> {
    let (model_a, model_b) = (given(model_a, "model_a")?, given(model_b, "model_b")?);
    let statement = Statement::new("compare_models", model_a);
    let question = Question::read(Arguments {
        test,
        k,
        exclude_seen,
        metrics,
        segments,
        history,
        negatives,
        sampled_negatives,
        bootstrap,
        confidence,
        seed,
    })?;
    let answer = |a: &Recommender, b: &Recommender| {
        let asked = question.ask([&a.model, &b.model], &statement)?;
        let [a, b] = &asked.measured;
        let lines = compare([a, b], question.metrics, &question.bootstrap, settings::threads(), &statement)?;
        let mut rows = Vec::new();
        for group in &a.groups {
            for line in lines.iter().filter(|line| line.segment == group.segment) {
                let ([a, b], (low, high)) = (line.values, line.interval.unzip());
                let segment = group.segment.to_owned();
                rows.push((line.metric.name().to_owned(), a, b, line.difference(), low, high, line.p_value, segment));
            }
            for (name, count) in asked.counts_of(group, &question) {
                let count = Some(count as f64);
                rows.push((name.to_owned(), count, count, None, None, None, None, group.segment.to_owned()));
            }
        }
        Ok(rows)
    };
    let rows = with_recommender(model_a, &statement, |a| with_recommender(model_b, &statement, |b| answer(a, b)))?;
    Ok(TableIterator::new(rows))
}

#[pg_extern(sql = false)]
fn cross_validate(
    source: Option<&str>,
    algorithm: Option<&str>,
    options: Option<JsonB>,
    folds: Option<i32>,
    k: Option<i32>,
    metrics: Option<Vec<Option<String>>>,
    seed: Option<i64>,
    items: Option<&str>,
    users: Option<&str>,
    event_weights: Option<JsonB>,
    half_life: Option<Interval>,
) -> errors::Result<TableIterator<'static, (Option<i32>, String, Option<f64>)>> {
    let statement = Statement::new("cross_validate", "");
    let source = given(source, "source")?;
    let algorithm = recommendation::algorithm(given(algorithm, "algorithm")?)?;
    let (folds, seed) = (given(folds, "folds")?, given(seed, "seed")?);
    let options = Value::Object(option_map(options, algorithm, seed)?);
    let protocol = Protocol {
        k: list_length(given(k, "k")?)?,
        exclude_seen: true,
        metrics: named_metrics(metrics)?.unwrap_or_else(MetricSet::all),
        candidates: Candidates::Catalogue,
        threads: settings::threads(),
    };
    let dataset = Dataset::read(&queries(source, items, users, event_weights, half_life)?, &statement)?;
    let folds = usize::try_from(folds).unwrap_or(0);
    let results =
        cross_validate_folds(&dataset.training(&statement), algorithm, &options, folds, &protocol, seed as u64)?;

    let mut rows = Vec::new();
    for (fold, lines) in (1..).zip(&results) {
        rows.extend(lines.iter().map(|line| (Some(fold), line.metric.name().to_owned(), line.value)));
    }
    for metric in protocol.metrics.iter() {
        let of_metric = results.iter().flatten().filter(|line| line.metric == metric);
        let values: Vec<f64> = of_metric.filter_map(|line| line.value).collect();
        let mean = (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
        rows.push((None, metric.name().to_owned(), mean));
    }
    Ok(TableIterator::new(rows))
}

/// The arguments that `reco.evaluate` and `reco.compare_models` share.
struct Arguments<'a> {
    test: Option<&'a str>,
    k: Option<i32>,
    exclude_seen: Option<bool>,
    metrics: Option<Vec<Option<String>>>,
    segments: Option<Vec<Option<String>>>,
    history: Option<&'a str>,
    negatives: Option<&'a str>,
    sampled_negatives: Option<i32>,
    bootstrap: Option<i32>,
    confidence: Option<f64>,
    seed: Option<i64>,
}

/// The arguments, checked; the same for one model or several.
struct Question<'a> {
    test: &'a str,
    k: usize,
    exclude_seen: bool,
    metrics: MetricSet,
    by: By,
    history: Option<&'a str>,
    negatives: Option<&'a str>,
    sampled_negatives: Option<usize>,
    bootstrap: Bootstrap,
    seed: u64,
}

/// The results of `N` models.
struct Asked<const N: usize> {
    measured: [Measured; N],
    counts: Counts,
}

impl<'a> Question<'a> {
    fn read(arguments: Arguments<'a>) -> Result<Self> {
        let Arguments { history, negatives, sampled_negatives, .. } = arguments;
        let hint = "The number must be 1 or more. Omit it to rank all items.";
        if let Some(wanted) = sampled_negatives.filter(|&n| n < 1) {
            return Err(Error::argument("sampled_negatives", wanted, hint));
        }
        if negatives.is_some() && sampled_negatives.is_some() {
            let message = "cannot specify both \"negatives\" and \"sampled_negatives\"";
            return Err(Error::invalid(message, "Pass either the candidates or the number to sample."));
        }
        let candidates = negatives.is_some() || sampled_negatives.is_some();
        let metrics = match named_metrics(arguments.metrics)? {
            None if candidates => MetricSet::of_relevance(),
            None => MetricSet::all(),
            Some(named) => named,
        };
        if let Some(metric) = metrics.iter().find(|m| candidates && m.is_of_lists()) {
            let hint = "Omit negatives and sampled_negatives to compute it.";
            return Err(Error::invalid(
                format!("metric \"{}\" is not defined for lists of candidates", metric.name()),
                hint,
            ));
        }
        let seed = given(arguments.seed, "seed")? as u64;
        let bootstrap = given(arguments.bootstrap, "bootstrap")?.into();
        Ok(Self {
            test: given(arguments.test, "test")?,
            k: list_length(given(arguments.k, "k")?)?,
            exclude_seen: given(arguments.exclude_seen, "exclude_seen")?,
            metrics,
            by: By::from_names(named(arguments.segments, "segments")?.unwrap_or_default().iter().map(String::as_str))?,
            history,
            negatives,
            sampled_negatives: sampled_negatives.map(|n| n as usize),
            bootstrap: Bootstrap::new(bootstrap, given(arguments.confidence, "confidence")?, seed)?,
            seed,
        })
    }

    /// Evaluates each model on the same cases.
    fn ask<const N: usize>(&self, models: [&Model; N], statement: &Statement) -> Result<Asked<N>> {
        let (cases, counts) = self.cases(models, statement)?;
        let sampler = Sampler::new(models, &cases, self.sampled_negatives.unwrap_or(0), self.seed, statement)?;
        let mut segments = Segments::default();
        let mut measured = Vec::with_capacity(N);
        for (n, (model, cases)) in models.iter().zip(&cases).enumerate() {
            let draw = |case| sampler.draw(case, n);
            let candidates = match (self.negatives, self.sampled_negatives) {
                (Some(_), _) => Candidates::Given,
                (None, Some(wanted)) => Candidates::Drawn(wanted, &draw),
                (None, None) => Candidates::Catalogue,
            };
            let Self { k, exclude_seen, metrics, .. } = *self;
            let protocol = Protocol { k, exclude_seen, metrics, candidates, threads: settings::threads() };
            let catalogue = Catalogue::of(model, protocol.wants_audiences(), statement)?;
            if n == 0 {
                // Those of the first model are everyone's: the same users are averaged over.
                segments = Segments::of(model, cases, &catalogue, self.by)?;
            }
            measured.push(evaluate_cases(model, cases, &segments, &catalogue, &protocol, statement)?);
        }
        let measured = measured.try_into().map_err(|_| Error::Internal("a model was not evaluated".into()))?;
        Ok(Asked { measured, counts })
    }

    fn cases<const N: usize>(&self, models: [&Model; N], statement: &Statement) -> Result<([Cases; N], Counts)> {
        let terms = Terms { exclude_seen: self.exclude_seen, newcomers: self.by.users };
        let mut builder = CasesBuilder::new(models, terms, self.negatives.is_some(), statement);
        let pair = [required("user_id", Kind::Id), required("item_id", Kind::Id)];
        if let Some(history) = self.history {
            let wanted = [pair[0], pair[1], optional("weight", Kind::Number)];
            let source = Source::open_named("history", history, &wanted)?;
            let has_weight = source.has(2);
            source.read(statement, |row| {
                let weight = if has_weight { row.number(2)? } else { 1.0 };
                builder.push_history(&text(row.id(0)?), &text(row.id(1)?), weight)
            })?;
        }
        let test = Source::open_named("test", self.test, &pair)?;
        test.read(statement, |row| builder.push(&text(row.id(0)?), &text(row.id(1)?)))?;
        if let Some(negatives) = self.negatives {
            Source::open_named("negatives", negatives, &pair)?
                .read(statement, |row| builder.push_negative(&text(row.id(0)?), &text(row.id(1)?)))?;
        }
        builder.finish()
    }
}

impl<const N: usize> Asked<N> {
    /// Counts beside the metrics: the users of a segment, and for the segment of all users the rows that were left out.
    fn counts_of(&self, group: &Group, question: &Question) -> Vec<(&'static str, usize)> {
        let mut counts = vec![("users", group.rows.len())];
        if group.segment != self.measured[0].groups[0].segment {
            return counts;
        }
        counts.extend([
            ("rows", self.counts.rows),
            ("rows_of_unknown_users", self.counts.unknown_users),
            ("rows_of_unknown_items", self.counts.unknown_items),
            ("rows_seen_in_training", self.counts.seen),
        ]);
        if question.negatives.is_some() {
            counts.extend([
                ("users_without_negatives", self.counts.users_without_negatives),
                ("negatives_of_unknown_items", self.counts.unknown_negatives),
                ("negatives_seen_in_training", self.counts.seen_negatives),
            ]);
        }
        if question.sampled_negatives.is_some() {
            counts.push(("users_with_fewer_negatives", self.measured[0].short));
        }
        counts
    }
}

fn text(id: Id) -> Cow<str> {
    match id {
        Id::Text(text) => text.into(),
        other => other.to_text().into(),
    }
}

fn named_metrics(names: Option<Vec<Option<String>>>) -> Result<Option<MetricSet>> {
    let names = named(names, "metrics")?;
    names.map(|names| names.iter().map(|name| Metric::from_name(name)).collect()).transpose()
}

/// The elements of an array of names, which must not contain NULL.
fn named(names: Option<Vec<Option<String>>>, argument: &str) -> Result<Option<Vec<String>>> {
    let Some(names) = names else { return Ok(None) };
    let all: Option<Vec<String>> = names.into_iter().collect();
    all.map(Some).ok_or_else(|| null_element(argument))
}
