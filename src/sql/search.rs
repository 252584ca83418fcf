//! Search: training an index on a query, and searching it by words and by meaning.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ndarray::Array2;
use pgrx::prelude::*;
use pgrx::{notice, pg_sys};
use serde_json::{Map, Value, json};

use super::embedding;
use super::training::search_path;
use super::{given, list_length};
use crate::pg::errors;
use crate::pg::identity::as_role;
use crate::pg::interrupts::Statement;
use crate::pg::json::JsonB;
use crate::pg::settings;
use crate::service::catalog;
use crate::service::catalog::versions;
use crate::service::catalog::{NewVersion, Privilege, Task};
use crate::service::loaded;
use crate::service::loaded::{Ready, SearchIndex};
use crate::service::search_source;
use crate::service::selection::{QueryRun, Selection};
use ::embedding::text::Role;
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::progress::{Progress, Run, SCAN};
use search::{Fusion, Judged, Judgements, Measured, Options, Query};

/// Rows that a caller may skip, and rows that a call returns.
const MAX_OFFSET: usize = 10_000;
const MAX_K: usize = 10_000;

/// rank, id, score, lexical_score, vector_score
type Place = (i32, String, f32, f32, Option<f32>);

#[pg_extern(sql = false)]
fn train_search(
    name: Option<&str>,
    source: Option<&str>,
    options: Option<JsonB>,
    embedding_model: Option<&str>,
    judgements: Option<&str>,
    seed: Option<i64>,
    keep: Option<i32>,
) -> errors::Result<i32> {
    let began = Instant::now();
    catalog::require_writable();
    let (name, source) = (given(name, "name")?, given(source, "source")?);
    let statement = Statement::new("train_search", name);
    let asked = Options::read(&given(options, "options")?.0)?;
    let keep = versions::kept(keep)?;
    catalog::require_author(name)?;
    // A wrong name should not cost a scan.
    let version = embedding_model.map(|model| catalog::stamp(model, Privilege::Serve)).transpose()?;
    let embed = |texts: &[&str], progress: &dyn Progress| match embedding_model {
        Some(model) => embedding::embed_texts(model, texts, progress),
        None => Err(Error::Internal("there is no embedding model".into())),
    };
    let embed: Option<&dyn Fn(&[&str], &dyn Progress) -> Result<Array2<f32>>> = embedding_model.map(|_| &embed as _);
    let read = search_source::read(source, &asked, embed, &statement)?;
    // The source is SQL, which may have changed the model while it was read.
    if embedding_model.map(|model| catalog::stamp(model, Privilege::Serve)).transpose()? != version {
        let message =
            format!("model \"{}\" was changed while the source was read", embedding_model.unwrap_or_default());
        return Err(Error::invalid(message, "Try again.").into());
    }
    let rows = read.builder.rows();
    let packed = read.builder.finish(settings::threads(), &statement)?;
    let mut packed: Vec<(String, Bytes)> = packed.into_iter().map(|(name, bytes)| (name, bytes.into())).collect();
    let model = search::Model::open(name, packed.clone())?;
    let mut fusion = asked.fusion().unwrap_or(Fusion::ReciprocalRanks);
    let mut fitted = None;
    if let (None, Some(judgements)) = (asked.fusion(), judgements) {
        let mut judged = judged(&model, judgements, &statement)?;
        if let Some(name) = embedding_model.filter(|_| model.dimensions() > 0) {
            let texts: Vec<&str> = judged.iter().map(|query| query.text.as_str()).collect();
            let vectors = embedding::embed_as(name, &texts, Role::Query, &statement)?;
            judged.iter_mut().zip(vectors.rows()).for_each(|(query, vector)| query.vector = Some(vector.to_vec()));
        }
        let found = search::fit(&model, &judged, given(seed, "seed")? as u64, settings::threads(), &statement)?;
        if let Some(ranker) = &found.ranker {
            let (name, bytes) = search::packed_ranker(ranker)?;
            packed.push((name, bytes.into()));
        }
        fusion = found.fusion;
        fitted = Some(found.measured);
    }
    let fields: Map<String, Value> =
        model.lexical().fields().iter().map(|field| (field.name.clone(), field.weight.into())).collect();
    drop(model);
    let by_model = version.zip(embedding_model).filter(|_| read.has_vectors);
    let config = json!({
        "embedding_model": by_model.map(|(_, model)| model),
        "embedding_version": by_model.map(|(version, _)| version.version),
        "embedding_created": by_model.map(|(version, _)| version.created),
        "judgements": judgements,
        "fusion": fusion,
        "search_path": search_path()?,
    });
    let metrics = json!({
        "rows": rows,
        "fields": fields,
        "fusion": fusion,
        "judgements": fitted,
        "seconds": began.elapsed().as_secs_f64(),
    });
    let files: Vec<(&str, &[u8])> = packed.iter().map(|(name, bytes)| (name.as_str(), &bytes[..])).collect();
    let new = NewVersion {
        name,
        refreshes: None,
        task: Task::Search,
        algorithm: Some("hybrid"),
        config: &config,
        source: Some(source),
        metrics: Some(&metrics),
        files: &files,
        in_use: true,
    };
    let number = catalog::insert(&new, &statement)?;
    versions::keep(name, keep)?;
    Ok(number)
}

#[pg_extern(sql = false)]
fn search(
    model: Option<&str>,
    query: Option<&str>,
    k: Option<i32>,
    filter: Option<&str>,
    offset: Option<i32>,
    call: pg_sys::FunctionCallInfo,
) -> errors::Result<TableIterator<'static, (i32, String, f32, f32, Option<f32>)>> {
    // No index or no query: no rows, as from a strict function.
    let (Some(model), Some(query)) = (model, query) else { return Ok(TableIterator::new(Vec::new())) };
    let statement = Statement::new("search", model);
    let k = bounded("k", list_length(given(k, "k")?)?, MAX_K)?;
    let offset = given(offset, "offset")?;
    let offset =
        usize::try_from(offset).map_err(|_| Error::argument("offset", offset, "The value must be 0 or more."))?;
    let offset = bounded("offset", offset, MAX_OFFSET)?;
    let places = with_index(model, Privilege::Serve, &statement, |index| {
        let began = Instant::now();
        // Before the filter, which is SQL: whose name the model runs in was looked up just now.
        let vector = vector(index, query, &statement)?;
        let selection = index.select(filter, QueryRun::of(call), &statement)?;
        let found = find(index, query, vector.as_deref(), &selection, k, offset, &statement)?;
        ran(index, began.elapsed(), &statement);
        let place = |(found, rank): (&search::Found, i32)| {
            Ok((rank, index.model.id(found.row)?.to_owned(), found.score, found.lexical, found.cosine))
        };
        found.iter().zip(offset as i32 + 1..).map(place).collect::<Result<Vec<Place>>>()
    })?;
    Ok(TableIterator::new(places))
}

#[pg_extern(sql = false)]
fn search_matches(
    model: Option<&str>,
    query: Option<&str>,
    filter: Option<&str>,
    call: pg_sys::FunctionCallInfo,
) -> errors::Result<SetOfIterator<'static, String>> {
    let (Some(model), Some(query)) = (model, query) else { return Ok(SetOfIterator::new(Vec::new())) };
    let statement = Statement::new("search_matches", model);
    let ids = with_index(model, Privilege::Serve, &statement, |index| {
        let selection = index.select(filter, QueryRun::of(call), &statement)?;
        let rows = index.model.matches(query, selection.allowed.as_ref(), &statement)?;
        rows.into_iter().map(|row| Ok(index.model.id(row)?.to_owned())).collect::<Result<Vec<String>>>()
    })?;
    Ok(SetOfIterator::new(ids))
}

#[pg_extern(sql = false)]
fn suggest(model: &str, prefix: &str, k: i32) -> errors::Result<TableIterator<'static, (i32, String, i64)>> {
    let statement = Statement::new("suggest", model);
    let k = bounded("k", list_length(k)?, MAX_K)?;
    let words = with_index(model, Privilege::Serve, &statement, |index| {
        let words = index.model.lexical().complete(prefix, k, &statement)?;
        Ok((1..).zip(words).map(|(rank, (word, rows))| (rank, word, rows as i64)).collect::<Vec<_>>())
    })?;
    Ok(TableIterator::new(words))
}

#[pg_extern(sql = false)]
fn highlight(model: &str, query: &str, text: &str, before: &str, after: &str) -> errors::Result<String> {
    let statement = Statement::new("highlight", model);
    let marked = with_index(model, Privilege::Serve, &statement, |index| {
        let (mut marked, mut end) = (Vec::new(), 0);
        for range in index.model.lexical().highlight(query, text, &statement)? {
            for part in [&text[end..range.start], before, &text[range.clone()], after] {
                memory::extend(&mut marked, part.as_bytes())?;
            }
            end = range.end;
        }
        memory::extend(&mut marked, &text.as_bytes()[end..])?;
        let marked = String::from_utf8(marked).map_err(|e| Error::Internal(e.to_string()))?;
        Ok(marked)
    })?;
    Ok(marked)
}

#[pg_extern(sql = false)]
fn evaluate_search(
    model: Option<&str>,
    judgements: Option<&str>,
    k: Option<i32>,
    relevant: Option<f64>,
) -> errors::Result<TableIterator<'static, (String, f64, i64)>> {
    let (model, judgements) = (given(model, "model")?, given(judgements, "judgements")?);
    let statement = Statement::new("evaluate_search", model);
    let k = bounded("k", list_length(given(k, "k")?)?, MAX_K)?;
    let relevant = given(relevant, "relevant")? as f32;
    let rows = with_index(model, Privilege::Serve, &statement, |index| {
        let judged = judged(&index.model, judgements, &statement)?;
        let mut all = Vec::new();
        for (number, query) in judged.iter().enumerate() {
            statement.report("queries", number, judged.len());
            let vector = vector(index, &query.text, &statement)?;
            let found = find(index, &query.text, vector.as_deref(), &Selection::default(), k, 0, &statement)?;
            let ranking: Vec<u32> = found.iter().map(|found| found.row).collect();
            all.push(query.judgements.measure(&ranking, k, relevant));
        }
        let mean = |of: &dyn Fn(&Measured) -> f64| all.iter().map(of).sum::<f64>() / all.len().max(1) as f64;
        let queries = all.len() as i64;
        Ok(vec![
            ("ndcg".to_owned(), mean(&|m| m.ndcg), queries),
            ("mrr".to_owned(), mean(&|m| m.mrr), queries),
            ("map".to_owned(), mean(&|m| m.map), queries),
            ("recall".to_owned(), mean(&|m| m.recall), queries),
            ("precision".to_owned(), mean(&|m| m.precision), queries),
            ("zero_results".to_owned(), mean(&|m| m.zero_results), queries),
        ])
    })?;
    Ok(TableIterator::new(rows))
}

/// The judged queries with the rows of the index that have grades. Ids that the index does not know are left out, with a notice.
fn judged(model: &search::Model, query: &str, progress: &dyn Progress) -> Result<Vec<Judged>> {
    let (mut all, mut unknown) = (0, 0);
    let mut by_query: BTreeMap<String, Vec<(u32, f32)>> = BTreeMap::new();
    search_source::judgements(query, progress, |text, id, grade| {
        all += 1;
        let grades = by_query.entry(text).or_default();
        match model.find(&id) {
            Some(row) => memory::push(grades, (row, grade)),
            None => {
                unknown += 1;
                Ok(())
            }
        }
    })?;
    let judged = by_query.into_iter();
    let judged: Vec<Judged> =
        judged.map(|(text, grades)| Judged { text, vector: None, judgements: Judgements::new(grades) }).collect();
    if unknown > 0 {
        notice!("{unknown} of {all} judgements are of ids that the index does not have");
    }
    Ok(judged)
}

/// The rows that are found for a text.
fn find(
    index: &SearchIndex,
    text: &str,
    vector: Option<&[f32]>,
    selection: &Selection,
    k: usize,
    offset: usize,
    progress: &dyn Progress,
) -> Result<Vec<search::Found>> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let query = Query { text, vector, allowed: selection.allowed.as_ref() };
    index.model.search(index.fusion, &query, k, offset, progress)
}

/// The vector of a query, by the model that made those of the rows. It runs in the name of the index's owner: whoever may search needs no
/// privilege on it.
fn vector(index: &SearchIndex, text: &str, progress: &dyn Progress) -> Result<Option<Vec<f32>>> {
    let config = &index.entry.config;
    let has_vector = index.model.dimensions() > 0 && !text.trim().is_empty();
    let Some(name) = config["embedding_model"].as_str().filter(|_| has_vector) else {
        return Ok(None);
    };
    as_role(index.entry.stamp.owner, || {
        let version = catalog::stamp(name, Privilege::Serve)?;
        let same = config["embedding_version"] == json!(version.version)
            && config["embedding_created"] == json!(version.created);
        if !same {
            let model = &index.entry.name;
            let message =
                format!("vectors of search index \"{model}\" were made by another version of model \"{name}\"");
            return Err(Error::invalid(message, "Run reco.train_search again, or promote that version."));
        }
        let vectors = embedding::embed_as(name, &[text], Role::Query, progress)?;
        Ok(vectors.outer_iter().next().map(|vector| vector.to_vec()))
    })
}

fn bounded(argument: &str, value: usize, most: usize) -> Result<usize> {
    if value > most {
        return Err(Error::argument(argument, value, format!("The value must be {most} or less.")));
    }
    Ok(value)
}

/// A search, for the statistics.
fn ran(index: &SearchIndex, took: Duration, progress: &dyn Progress) {
    progress.ran(&Run { runs: 1, model: &index.entry.name, provider: SCAN, rows: 1, tokens: None, took });
}

fn with_index<T>(
    name: &str,
    privilege: Privilege,
    progress: &dyn Progress,
    body: impl FnOnce(&SearchIndex) -> Result<T>,
) -> Result<T> {
    let ready: Rc<Ready> = loaded::model_for(name, privilege, progress)?;
    match &*ready {
        Ready::Search(index) => body(index),
        other => Err(Error::WrongTask {
            name: name.into(),
            task: other.task().name().into(),
            wanted: Task::Search.name().into(),
        }),
    }
}
