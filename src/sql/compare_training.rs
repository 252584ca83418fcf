//! `reco.compare_training`: training with and without weights.

use ahash::AHashMap;
use pgrx::prelude::*;
use serde_json::Value;

use super::importance::Asked;
use super::training::{option_map, queries};
use super::{given, list_length};
use crate::pg::errors;
use crate::pg::interrupts::Statement;
use crate::pg::json::JsonB;
use crate::pg::row::{Kind, Row, Wanted, required};
use crate::pg::source::Source;
use crate::service::dataset::Dataset;
use importance::compare::{Comparison, Repeats, compare_recommenders, compare_rows};
use interactions::{Id, Interactions};
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::options::Options;
use runtime::progress::Progress;
use runtime::sorting::sort_watched;

/// The algorithm for rows with features and a label.
const BOOSTING: &str = "boosting";

const WEIGHTS: [Wanted; 3] =
    [required("user_id", Kind::Id), required("item_id", Kind::Id), required("weight", Kind::Number)];
const PAIR: [Wanted; 2] = [required("user_id", Kind::Id), required("item_id", Kind::Id)];
const ROW_WEIGHTS: [Wanted; 2] = [required("id", Kind::Id), required("weight", Kind::Number)];

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)]
fn compare_training(
    source: Option<&str>,
    weights: Option<&str>,
    algorithm: Option<&str>,
    label: Option<&str>,
    id: Option<&str>,
    test: Option<&str>,
    options: Option<JsonB>,
    k: Option<i32>,
    seeds: Option<i32>,
    held_out: Option<f64>,
    confidence: Option<f64>,
    seed: Option<i64>,
) -> errors::Result<TableIterator<'static, (String, f64, f64, f64, Option<f64>, Option<f64>)>> {
    let statement = Statement::new("compare_training", "");
    let weights = given(weights, "weights")?;
    let (seeds, held_out) = (given(seeds, "seeds")?, given(held_out, "held_out")?);
    let repeats = Repeats::new(seeds, given(seed, "seed")?, held_out, given(confidence, "confidence")?)?;
    let found = match given(algorithm, "algorithm")? {
        BOOSTING => {
            let asked = Asked::new(source, label, id, test, seed)?;
            of_rows(&asked, weights, options, &repeats, &statement)?
        }
        name => {
            let unknown = |e: Error| match e {
                Error::UnknownName { what, name, known } => {
                    Error::UnknownName { what, name, known: format!("{BOOSTING}, {known}") }
                }
                other => other,
            };
            let algorithm = recommendation::algorithm(name).map_err(unknown)?;
            let options = Value::Object(option_map(options, algorithm, 0)?);
            let k = list_length(given(k, "k")?)?;
            let dataset = Dataset::read(&queries(given(source, "source")?, None, None, None, None)?, &statement)?;
            let weights = weights_of_pairs(weights, &dataset.interactions, &statement)?;
            let test = test.map(|query| pairs_to_find(query, &dataset.interactions, &statement)).transpose()?;
            let training = dataset.training(&statement);
            compare_recommenders(&training, &weights, test.as_ref(), algorithm, &options, k, &repeats)?
        }
    };
    Ok(TableIterator::new(found.into_iter().map(line)))
}

fn line(found: Comparison) -> (String, f64, f64, f64, Option<f64>, Option<f64>) {
    let Comparison { metric, unweighted, weighted, interval } = found;
    let (low, high) = interval.unzip();
    (metric.to_owned(), unweighted, weighted, weighted - unweighted, low, high)
}

fn of_rows(
    asked: &Asked,
    weights: &str,
    options: Option<JsonB>,
    repeats: &Repeats,
    statement: &Statement,
) -> Result<Vec<Comparison>> {
    let options = options.map_or(Value::Null, |options| options.0);
    let mut options = Options::new(BOOSTING, &options)?;
    let (ids, encoded) = asked.read("test", &mut options, statement)?;
    let mut by_id = AHashMap::new();
    Source::open_named("weights", weights, &ROW_WEIGHTS)?.read(statement, |row| {
        let id = row.id(0)?.to_text().to_string();
        if by_id.insert(id.clone(), weight(row, 1)?).is_some() {
            return Err(duplicate(&format!("id \"{id}\"")));
        }
        Ok(())
    })?;
    let weights: Vec<f32> = ids.iter().map(|id| by_id.get(id).copied().unwrap_or(0.0)).collect();
    let found = compare_rows(&asked.task(&encoded, statement), &weights, &mut options, repeats)?;
    options.finish()?;
    Ok(found)
}

/// A weight for each entry of the interactions by user; 0 for pairs that the query does not return.
fn weights_of_pairs(query: &str, interactions: &Interactions, statement: &Statement) -> Result<Vec<f32>> {
    let matrix = &interactions.by_user;
    let mut weights = memory::filled(f32::NAN, matrix.entries())?;
    Source::open_named("weights", query, &WEIGHTS)?.read(statement, |row| {
        let (user, item) = (row.id(0)?, row.id(1)?);
        let weight = weight(row, 2)?;
        let Some((u, i)) = place(interactions, &user, &item) else { return Ok(()) };
        let Ok(n) = matrix.row(u as usize).0.binary_search(&i) else { return Ok(()) };
        let entry = matrix.indptr[u as usize] as usize + n;
        if !weights[entry].is_nan() {
            return Err(duplicate(&format!("user \"{}\" and item \"{}\"", user.to_text(), item.to_text())));
        }
        weights[entry] = weight;
        Ok(())
    })?;
    weights.iter_mut().filter(|weight| weight.is_nan()).for_each(|weight| *weight = 0.0);
    Ok(weights)
}

/// Items of each user, ascending; unknown users and items are left out.
fn pairs_to_find(query: &str, interactions: &Interactions, statement: &Statement) -> Result<Vec<(u32, Vec<u32>)>> {
    let mut pairs = Vec::new();
    Source::open_named("test", query, &PAIR)?.read(statement, |row| {
        match place(interactions, &row.id(0)?, &row.id(1)?) {
            Some(pair) => memory::push(&mut pairs, pair),
            None => Ok(()),
        }
    })?;
    sort_watched(&mut pairs, &|| statement.check(), Ord::cmp)?;
    pairs.dedup();
    let users = pairs.chunk_by(|a, b| a.0 == b.0);
    Ok(users.map(|pairs| (pairs[0].0, pairs.iter().map(|pair| pair.1).collect())).collect())
}

fn place(interactions: &Interactions, user: &Id, item: &Id) -> Option<(u32, u32)> {
    Some((interactions.user_ids.find(&user.to_text())?, interactions.item_ids.find(&item.to_text())?))
}

fn weight(row: &Row, column: usize) -> Result<f32> {
    let weight = row.number(column)?;
    if !(weight.is_finite() && weight >= 0.0) {
        return Err(Error::argument("column \"weight\"", weight, "A weight must be a finite number, 0 or more."));
    }
    Ok(weight as f32)
}

fn duplicate(id: &str) -> Error {
    Error::invalid(format!("duplicate weight for {id}"), "The query must return one weight for each row.")
}
