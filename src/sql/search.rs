//! Searching an index by words and by meaning.

use std::rc::Rc;
use std::time::{Duration, Instant};

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::embedding;
use super::recommendation::{for_user, with_recommender};
use super::rerank::rerank_texts;
use super::search_training::is_made_by;
use super::{given, list_length};
use crate::pg::errors;
use crate::pg::identity::as_role;
use crate::pg::interrupts::Statement;
use crate::service::catalog;
use crate::service::catalog::{Privilege, Task};
use crate::service::loaded;
use crate::service::loaded::{Ready, SearchIndex};
use crate::service::search_source;
use crate::service::selection::{QueryRun, Selection};
use ::embedding::text::Role;
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::progress::{Progress, Run, SCAN};
use search::{Found, Query};

/// Rows that a caller may skip, and rows that a call returns.
const MAX_OFFSET: usize = 10_000;
pub const MAX_K: usize = 10_000;

/// Rows that a cross-encoder ranks, and at most.
const RERANKED: usize = 50;
const MAX_RERANKED: usize = 200;
/// Rows that are ranked by a user's taste, at least.
const PERSONAL: usize = 200;

/// rank, id, score, lexical_score, vector_score
type Place = (i32, String, f32, f32, Option<f32>);

#[pg_extern(sql = false)]
fn search(
    model: Option<&str>,
    query: Option<&str>,
    k: Option<i32>,
    filter: Option<&str>,
    user_id: Option<&str>,
    personalize: Option<f64>,
    rerank: Option<&str>,
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
    let share = personal_share(given(personalize, "personalize")?)?;
    let end = k + offset;
    let reach = match (rerank, user_id) {
        (Some(_), _) if end > MAX_RERANKED => {
            let hint = format!("With rerank, the sum of k and offset must be {MAX_RERANKED} or less.");
            return Err(Error::argument("k", k, hint).into());
        }
        (Some(_), _) => {
            if end > RERANKED {
                MAX_RERANKED
            } else {
                RERANKED
            }
        }
        (None, Some(_)) => end.max(PERSONAL),
        (None, None) => end,
    };
    let places = with_index(model, Privilege::Serve, &statement, |index| {
        let began = Instant::now();
        // Before the filter, which is SQL: whose name the model runs in was looked up just now.
        let vector = vector(index, query, &statement)?;
        let selection = index.select(filter, QueryRun::of(call), &statement)?;
        let mut found = find(index, query, vector.as_deref(), &selection, reach, 0, &statement)?;
        if let Some(model) = rerank {
            found = reranked(index, query, model, found, &statement)?;
        }
        if let Some(user) = user_id {
            found = personal(index, user, share, found, &statement)?;
        }
        let found: Vec<Found> = found.into_iter().skip(offset).take(k).collect();
        ran(index, began.elapsed(), &statement);
        let place = |(found, rank): (&Found, i32)| {
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
fn suggest(model: &str, prefix: &str, k: i32) -> errors::Result<TableIterator<'static, (i32, String, i64, String)>> {
    let statement = Statement::new("suggest", model);
    let k = bounded("k", list_length(k)?, MAX_K)?;
    let words = with_index(model, Privilege::Serve, &statement, |index| {
        // What people have searched for says more than a word does.
        let queries = index.model.queries().map(|past| past.complete(prefix, k)).unwrap_or_default();
        let mut found: Vec<(String, i64, &str)> =
            queries.into_iter().map(|(text, count)| (text.to_owned(), count as i64, "query")).collect();
        for (word, rows) in index.model.lexical().complete(prefix, k, &statement)? {
            if !found.iter().any(|(text, ..)| *text == word) {
                found.push((word, rows as i64, "word"));
            }
        }
        found.truncate(k);
        let rows = (1..).zip(found).map(|(rank, (text, count, kind))| (rank, text, count, kind.to_owned()));
        Ok(rows.collect::<Vec<_>>())
    })?;
    Ok(TableIterator::new(words))
}

#[pg_extern(sql = false)]
fn related_queries(
    model: &str,
    query: &str,
    k: i32,
) -> errors::Result<TableIterator<'static, (i32, String, f32, i64)>> {
    let statement = Statement::new("related_queries", model);
    let k = bounded("k", list_length(k)?, MAX_K)?;
    let related = with_index(model, Privilege::Serve, &statement, |index| {
        let vector = vector(index, query, &statement)?;
        let Some(past) = index.model.queries() else { return Ok(Vec::new()) };
        let related = past.related(query, vector.as_deref(), k, &statement)?;
        let row = |(rank, (text, count, similarity)): (i32, (&str, u64, f32))| {
            (rank, text.to_owned(), similarity, count as i64)
        };
        Ok((1..).zip(related).map(row).collect::<Vec<_>>())
    })?;
    Ok(TableIterator::new(related))
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

/// Rows by the scores that a cross-encoder gives their texts, as the source has them now. What the source no longer has is left out.
fn reranked(
    index: &SearchIndex,
    query: &str,
    model: &str,
    found: Vec<Found>,
    progress: &dyn Progress,
) -> Result<Vec<Found>> {
    let ids = found.iter().map(|found| index.model.id(found.row)).collect::<Result<Vec<&str>>>()?;
    let mut passages = search_source::passages(&index.entry, &ids, progress)?;
    let present = found.iter().zip(&ids).filter_map(|(found, id)| Some((*found, passages.remove(*id)?)));
    let (found, passages): (Vec<Found>, Vec<String>) = present.unzip();
    let texts: Vec<&str> = passages.iter().map(String::as_str).collect();
    let scores = rerank_texts(model, query, &texts, progress)?;
    Ok(by_score(found.into_iter().zip(scores).map(|(found, score)| Found { score, ..found }).collect()))
}

/// Rows by their scores and those that the index's recommender gives them for a user, both brought to the range from 0 to 1. Whoever
/// searches needs a grant of the recommender. A row that it does not know counts as one of the middle.
fn personal(
    index: &SearchIndex,
    user: &str,
    share: f32,
    found: Vec<Found>,
    statement: &Statement,
) -> Result<Vec<Found>> {
    let name = index.entry.config["recommender"].as_str().ok_or_else(|| {
        let message = format!("search index \"{}\" has no recommender", index.entry.name);
        Error::invalid(message, "Pass recommender to reco.train_search.")
    })?;
    let liked = with_recommender(name, statement, |recommender| {
        let scores = for_user(recommender, user, true, |who| recommender.model.score_all(who, statement))?;
        // Of somebody new it knows only what all like.
        let is_known = scores.iter().any(|&score| score != 0.0);
        let scores = if is_known { &scores[..] } else { recommender.model.popularity_scores() };
        let of = |found: &Found| -> Result<Option<f32>> {
            let item = recommender.model.item_ids().find(index.model.id(found.row)?);
            Ok(item.and_then(|item| scores.get(item as usize).copied()).filter(|score| score.is_finite()))
        };
        found.iter().map(of).collect::<Result<Vec<Option<f32>>>>()
    })?;
    let scores: Vec<Option<f32>> = found.iter().map(|found| Some(found.score)).collect();
    let blended = in_range(&scores).into_iter().zip(in_range(&liked)).zip(found);
    let blended =
        blended.map(|((score, liked), found)| Found { score: (1.0 - share) * score + share * liked, ..found });
    Ok(by_score(blended.collect()))
}

/// Numbers from 0, the least, to 1, the greatest; ½ where there is none, or no two are different.
fn in_range(values: &[Option<f32>]) -> Vec<f32> {
    let (low, high) = values
        .iter()
        .flatten()
        .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &value| (low.min(value), high.max(value)));
    let part = |value: f32| if high > low { (value - low) / (high - low) } else { 0.5 };
    values.iter().map(|value| value.map_or(0.5, part)).collect()
}

/// Best first, ties as they were.
fn by_score(mut found: Vec<Found>) -> Vec<Found> {
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    found
}

fn personal_share(share: f64) -> Result<f32> {
    if !(0.0..=1.0).contains(&share) {
        return Err(Error::argument("personalize", share, "The value must be from 0 to 1."));
    }
    Ok(share as f32)
}

/// The rows that are found for a text.
pub fn find(
    index: &SearchIndex,
    text: &str,
    vector: Option<&[f32]>,
    selection: &Selection,
    k: usize,
    offset: usize,
    progress: &dyn Progress,
) -> Result<Vec<Found>> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let query = Query { text, vector, allowed: selection.allowed.as_ref() };
    index.model.search(index.fusion, &query, k, offset, progress)
}

/// The vector of a query, by the model that made those of the rows. It runs in the name of the index's owner: whoever may search needs no
/// privilege on it.
pub fn vector(index: &SearchIndex, text: &str, progress: &dyn Progress) -> Result<Option<Vec<f32>>> {
    let config = &index.entry.config;
    let has_vector = index.model.dimensions() > 0 && !text.trim().is_empty();
    let Some(name) = config["embedding_model"].as_str().filter(|_| has_vector) else {
        return Ok(None);
    };
    as_role(index.entry.stamp.owner, || {
        let version = catalog::stamp(name, Privilege::Serve)?;
        let same = is_made_by(config, Some(version));
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

pub fn bounded(argument: &str, value: usize, most: usize) -> Result<usize> {
    if value > most {
        return Err(Error::argument(argument, value, format!("The value must be {most} or less.")));
    }
    Ok(value)
}

/// A search, for the statistics.
fn ran(index: &SearchIndex, took: Duration, progress: &dyn Progress) {
    progress.ran(&Run { runs: 1, model: &index.entry.name, provider: SCAN, rows: 1, tokens: None, took });
}

pub fn with_index<T>(
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
