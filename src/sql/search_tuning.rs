//! Which options of a search index rank judged queries best.

use pgrx::prelude::*;
use serde_json::{Map, Value, json};

use super::embedding;
use super::search::{MAX_K, bounded};
use super::search_evaluation::{mean, metric};
use super::search_training::{judged, opened};
use super::{given, list_length};
use crate::pg::errors;
use crate::pg::interrupts::Statement;
use crate::pg::json::JsonB;
use crate::service::catalog;
use crate::service::catalog::Privilege;
use crate::service::search_source;
use crate::service::search_source::{Passages, Previous};
use ::embedding::text::Role;
use runtime::error::{Error, Result};
use runtime::progress::Progress;
use search::{Fusion, Judged, Model, Options, Query};

/// Combinations that are tried.
const MAX_TRIALS: usize = 200;
/// The option that is tried on one index: the others need an index each.
const SHARE: &str = "lexical_weight";

#[pg_extern(sql = false)]
fn tune_search(
    source: Option<&str>,
    judgements: Option<&str>,
    grid: Option<JsonB>,
    embedding_model: Option<&str>,
    k: Option<i32>,
    metric_name: Option<&str>,
    relevant: Option<f64>,
) -> errors::Result<TableIterator<'static, (i32, JsonB, f64, i64)>> {
    let (source, judgements) = (given(source, "source")?, given(judgements, "judgements")?);
    let statement = Statement::new("tune_search", "");
    let k = bounded("k", list_length(given(k, "k")?)?, MAX_K)?;
    let (_, of) = metric(Some(given(metric_name, "metric")?.to_owned()))?;
    let relevant = given(relevant, "relevant")? as f32;
    let trials = combinations(&given(grid, "grid")?.0)?;
    // A wrong name should not cost a scan.
    let version = || embedding_model.map(|model| catalog::stamp(model, Privilege::Serve)).transpose();
    let before_reading = version()?;
    let embed = |texts: &[&str], progress: &dyn Progress| match embedding_model {
        Some(model) => embedding::embed_texts(model, texts, progress),
        None => Err(Error::Internal("there is no embedding model".into())),
    };
    let passages = if embedding_model.is_some() { Passages::Embedded(&embed) } else { Passages::Unused };
    let (mut before, mut made_of) = (None::<Model>, Value::Null);
    let mut rows: Vec<(Value, f64, i64)> = Vec::new();
    for (number, trial) in trials.iter().enumerate() {
        statement.report("combinations of options", number, trials.len());
        let options = Options::read(&Value::Object(trial.clone()))?;
        let mut others = trial.clone();
        others.remove(SHARE);
        let others = Value::Object(others);
        if before.is_none() || others != made_of {
            // The same passages have the same vectors.
            let previous = before.as_ref().map(|model| Previous { model, stays: false, has_same_vectors: true });
            let read = search_source::read(source, &options, &passages, previous, &statement)?;
            let model = opened(read, &statement)?;
            before = Some(model);
            made_of = others;
        }
        let Some(model) = &before else { continue };
        let queries = with_vectors(model, judged(model, judgements, &statement)?, embedding_model, &statement)?;
        let fusion = options.fusion().unwrap_or(Fusion::ReciprocalRanks);
        let mut values = Vec::new();
        for judged in &queries {
            let query = Query { text: &judged.text, vector: judged.vector.as_deref(), allowed: None };
            let found = model.search(fusion, &query, k, 0, &statement)?;
            let ranking: Vec<u32> = found.iter().map(|found| found.row).collect();
            values.push(of(&judged.judgements.measure(&ranking, k, relevant)));
        }
        rows.push((Value::Object(trial.clone()), mean(&values).unwrap_or(0.0), values.len() as i64));
    }
    // The source and the judgements are SQL, which may have changed the model between two combinations.
    if version()? != before_reading {
        let message = format!("model \"{}\" was changed while options were tried", embedding_model.unwrap_or_default());
        return Err(Error::invalid(message, "Try again.").into());
    }
    // The sort is stable: of equal ones the first of the grid.
    rows.sort_by(|(_, a, _), (_, b, _)| b.total_cmp(a));
    let ranked = (1..).zip(rows).map(|(rank, (options, value, queries))| (rank, JsonB(options), value, queries));
    Ok(TableIterator::new(ranked.collect::<Vec<_>>()))
}

/// Queries with the vectors that the index compares with.
fn with_vectors(
    model: &Model,
    mut queries: Vec<Judged>,
    embedding_model: Option<&str>,
    progress: &dyn Progress,
) -> Result<Vec<Judged>> {
    if let Some(name) = embedding_model.filter(|_| model.dimensions() > 0) {
        let texts: Vec<&str> = queries.iter().map(|query| query.text.as_str()).collect();
        let vectors = embedding::embed_as(name, &texts, Role::Query, progress)?;
        queries.iter_mut().zip(vectors.rows()).for_each(|(query, vector)| query.vector = Some(vector.to_vec()));
    }
    Ok(queries)
}

/// Every combination of the values that a grid has for each option; those of one index stand together.
fn combinations(grid: &Value) -> Result<Vec<Map<String, Value>>> {
    let hint = "Pass an object with an array of values for each option, as in {\"lexical_weight\": [0.2, 0.5]}.";
    let Value::Object(grid) = grid else {
        return Err(Error::invalid(format!("grid must be a JSON object, not {grid}"), hint));
    };
    let mut all = vec![Map::new()];
    let last = grid.iter().filter(|(name, _)| *name == SHARE);
    for (name, values) in grid.iter().filter(|(name, _)| *name != SHARE).chain(last) {
        let values = values.as_array().filter(|values| !values.is_empty());
        let values =
            values.ok_or_else(|| Error::invalid(format!("\"{name}\" in grid is not a list of values"), hint))?;
        if all.len() * values.len() > MAX_TRIALS {
            return Err(Error::TooLarge {
                what: "grid".into(),
                needed: format!("{} combinations or more", all.len() * values.len()),
                limit: format!("{MAX_TRIALS} combinations"),
                hint: "Try fewer values.".into(),
            });
        }
        let with = |one: &Map<String, Value>, value: &Value| {
            let mut one = one.clone();
            one.insert(name.clone(), value.clone());
            one
        };
        all = all.iter().flat_map(|one| values.iter().map(move |value| with(one, value))).collect();
    }
    // A wrong option should not cost a scan.
    all.iter().try_for_each(|options| Options::read(&json!(options)).map(drop))?;
    Ok(all)
}
