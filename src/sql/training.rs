//! Training recommenders, refreshing them, and tuning their options.

use std::time::{Duration, Instant};

use pgrx::datum::{Interval, Uuid};
use pgrx::notice;
use pgrx::prelude::*;
use serde_json::{Map, Value, json};

use super::given;
use super::recommendation::{as_recommender, recommender};
use super::search_training;
use crate::pg::errors;
use crate::pg::identity::{as_author, search_path};
use crate::pg::interrupts::Statement;
use crate::pg::json::JsonB;
use crate::service::catalog;
use crate::service::catalog::versions;
use crate::service::catalog::{DATA_FILE, NewVersion, ONNX_FILE, Privilege, Task};
use crate::service::dataset::{Dataset, Queries};
use crate::service::loaded::{self, Recommender};
use interactions::Signals;
use recommendation::{Algorithm, Metric, Previous, Search, Trained, Training};
use runtime::error::{Error, Result};

/// The length of the lists that are compared before a version is promoted.
const COMPARED_AT: usize = 10;
/// iALS iterations of a refresh, which starts from the factors of the version in use.
const REFRESH_ITERATIONS: u64 = 3;

/// When a new version is promoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Promote {
    Always,
    IfBetter,
    Never,
}

impl Promote {
    fn from_name(name: &str) -> Result<Self> {
        match name {
            "always" => Ok(Self::Always),
            "if_better" => Ok(Self::IfBetter),
            "never" => Ok(Self::Never),
            other => Err(Error::argument(
                "promote",
                format!("\"{other}\""),
                "Valid values are 'always', 'if_better' and 'never'.",
            )),
        }
    }
}

/// A version to train.
struct Version<'a> {
    name: &'a str,
    /// The model, if it is a refresh.
    refreshes: Option<Uuid>,
    source: &'a str,
    algorithm: &'static dyn Algorithm,
    options: Map<String, Value>,
    promote: Promote,
    /// The number of newest versions to keep; 0 for all.
    keep: i32,
    began: Instant,
}

/// A trained version.
struct Made {
    trained: Trained,
    config: Value,
    promoted: bool,
}

#[pg_extern(sql = false)]
fn train(
    name: Option<&str>,
    source: Option<&str>,
    algorithm: Option<&str>,
    options: Option<JsonB>,
    seed: Option<i64>,
    items: Option<&str>,
    users: Option<&str>,
    event_weights: Option<JsonB>,
    half_life: Option<Interval>,
    promote: Option<&str>,
    keep: Option<i32>,
) -> errors::Result<i32> {
    let began = Instant::now();
    catalog::require_writable();
    let (name, source) = (given(name, "name")?, given(source, "source")?);
    let statement = Statement::new("train", name);
    let algorithm = recommendation::algorithm(given(algorithm, "algorithm")?)?;
    let promote = Promote::from_name(given(promote, "promote")?)?;
    let keep = versions::kept(keep)?;
    let options = option_map(options, algorithm, given(seed, "seed")?)?;
    let queries = Queries { served: true, ..queries(source, items, users, event_weights, half_life)? };
    catalog::require_author(name)?;
    let search_path = search_path()?;
    let mut dataset = Dataset::read(&queries, &statement)?;
    dataset.config["search_path"] = search_path.into();
    let version = Version { name, refreshes: None, source, algorithm, options, promote, keep, began };
    let trained = make(&version, dataset, None, &statement)?;
    Ok(store(&version, &trained, &statement)?)
}

#[pg_extern(sql = false)]
fn refresh(model: Option<&str>, promote: Option<&str>, keep: Option<i32>) -> errors::Result<i32> {
    let began = Instant::now();
    catalog::require_writable();
    let model = given(model, "model")?;
    let statement = Statement::new("refresh", model);
    let promote = Promote::from_name(given(promote, "promote")?)?;
    let keep = versions::kept(keep)?;
    versions::require_owner(model)?;
    let ready = loaded::model(model, &statement)?;
    if let Some(index) = search_training::as_index(&ready) {
        if promote == Promote::IfBetter {
            let hint = "A refreshed search index is ranked as before: pass 'always' or 'never'.";
            return Err(Error::argument("promote", "\"if_better\"", hint).into());
        }
        return Ok(search_training::refresh(index, promote == Promote::Always, keep, began, &statement)?);
    }
    let ready = recommender(model, &statement)?;
    let current = as_recommender(&ready)?;
    let config = &current.entry.config;
    let text = |key: &str| config[key].as_str().map(str::to_owned);
    let source = current.entry.source.clone().ok_or_else(|| {
        let hint = "Train a model of this name with reco.train.";
        Error::invalid(format!("model \"{model}\" has no stored source"), hint)
    })?;
    let signals = current.signals.clone();
    let queries = Queries { source: source.clone(), items: text("items"), users: text("users"), signals, served: true };
    let search_path = text("search_path").unwrap_or_default();
    let mut dataset = as_author(current.entry.stamp.owner, &search_path, || Dataset::read(&queries, &statement))?;
    dataset.config["search_path"] = search_path.into();
    let algorithm = current.model.algorithm();
    let mut options = current.model.options().as_object().cloned().unwrap_or_default();
    let previous = current.model.previous(&dataset.interactions)?;
    if previous.is_some() {
        options.insert("iterations".into(), REFRESH_ITERATIONS.into());
    }
    let refreshes = Some(current.entry.id);
    let version = Version { name: model, refreshes, source: &source, algorithm, options, promote, keep, began };
    let trained = make(&version, dataset, previous.as_ref(), &statement)?;
    // The model was not locked during training and may have been dropped: storing checks that.
    Ok(store(&version, &trained, &statement)?)
}

/// Trains a version and decides whether to promote it. Takes long and holds no lock.
fn make(version: &Version, dataset: Dataset, previous: Option<&Previous>, statement: &Statement) -> Result<Made> {
    let read = version.began.elapsed().as_secs_f64();
    let options = Value::Object(version.options.clone());
    let training = Training { previous, ..dataset.training(statement) };
    let judged = match version.promote {
        Promote::IfBetter => judge(version.name, &training, version.algorithm, &options, statement)?,
        _ => None,
    };
    let mut trained = recommendation::train(&training, version.algorithm, &options)?;
    trained.metadata["seconds"]["read"] = read.into();
    let mut promoted = version.promote != Promote::Never;
    if let Some(judged) = judged {
        promoted = judged.candidate >= judged.current;
        trained.metadata["promotion"] = json!({
            "metric": format!("ndcg@{COMPARED_AT}"), "users": judged.users,
            "version_in_use": judged.current, "this_version": judged.candidate,
        });
        if !promoted {
            notice!(
                "new version of model \"{}\" was not promoted: on new interactions of {} users its NDCG@{COMPARED_AT} is {:.4}, that of the version in use is {:.4}",
                version.name,
                judged.users,
                judged.candidate,
                judged.current
            );
        }
    }
    let Dataset { interactions, config, .. } = dataset;
    drop(interactions);
    Ok(Made { trained, config, promoted })
}

/// Stores a trained version and removes old versions.
fn store(version: &Version, made: &Made, statement: &Statement) -> Result<i32> {
    let new = NewVersion {
        name: version.name,
        refreshes: version.refreshes,
        task: Task::Recommendation,
        algorithm: Some(version.algorithm.name()),
        config: &made.config,
        source: Some(version.source),
        metrics: Some(&made.trained.metadata),
        files: &[(ONNX_FILE, &made.trained.onnx), (DATA_FILE, &made.trained.data)],
        shared: &[],
        in_use: made.promoted,
    };
    let number = catalog::insert(&new, statement)?;
    versions::keep(version.name, version.keep)?;
    Ok(number)
}

/// Compares the version in use with a candidate on the interactions that are new since the version in use was trained. `None` if
/// there is no version in use or there are no new interactions.
fn judge(
    name: &str,
    training: &Training,
    algorithm: &'static dyn Algorithm,
    options: &Value,
    statement: &Statement,
) -> Result<Option<recommendation::promotion::Judged>> {
    match catalog::stamp(name, Privilege::Serve) {
        Err(Error::UnknownModel(_)) => return Ok(None),
        other => other?,
    };
    let ready = recommender(name, statement)?;
    let current: &Recommender = as_recommender(&ready)?;
    recommendation::promotion::judge(&current.model, training, algorithm, options, COMPARED_AT)
}

#[pg_extern(sql = false)]
fn tune(
    source: Option<&str>,
    algorithm: Option<&str>,
    grid: Option<JsonB>,
    k: Option<i32>,
    metric: Option<&str>,
    budget: Option<Interval>,
    holdout: Option<f64>,
    seed: Option<i64>,
    items: Option<&str>,
    users: Option<&str>,
    event_weights: Option<JsonB>,
    half_life: Option<Interval>,
) -> errors::Result<TableIterator<'static, (i32, JsonB, f64, f64, f64, f64, Option<String>)>> {
    let source = given(source, "source")?;
    let statement = Statement::new("tune", "");
    let algorithm = recommendation::algorithm(given(algorithm, "algorithm")?)?;
    let k = super::list_length(given(k, "k")?)?;
    let metric = Metric::from_name(given(metric, "metric")?)?;
    let seed = given(seed, "seed")? as u64;
    let budget = microseconds(&given(budget, "budget")?);
    let budget = Duration::from_micros(u64::try_from(budget).unwrap_or(0));
    let grid = grid.map_or(Value::Null, |grid| grid.0);
    let search = Search { metric, k, budget, holdout: given(holdout, "holdout")?, seed };
    let queries = queries(source, items, users, event_weights, half_life)?;
    let dataset = Dataset::read(&queries, &statement)?;
    let trials = recommendation::tune(&dataset.training(&statement), algorithm, &grid, &search)?;
    let rows =
        (1..).zip(trials).map(|(rank, t)| (rank, JsonB(t.options), t.ndcg, t.recall, t.seconds, t.share, t.failure));
    Ok(TableIterator::new(rows.collect::<Vec<_>>()))
}

/// The queries in the arguments of `reco.train` and `reco.tune`.
pub fn queries(
    source: &str,
    items: Option<&str>,
    users: Option<&str>,
    event_weights: Option<JsonB>,
    half_life: Option<Interval>,
) -> Result<Queries> {
    let signals = Signals::new(event_weights.as_ref().map(|w| &w.0), half_life.as_ref().map(microseconds))?;
    let (items, users) = (items.map(Into::into), users.map(Into::into));
    Ok(Queries { source: source.into(), items, users, signals, served: false })
}

/// A month counts 30 days, as PostgreSQL compares intervals.
fn microseconds(interval: &Interval) -> i64 {
    const DAY: i64 = 86_400_000_000;
    let days = i64::from(interval.months()) * 30 + i64::from(interval.days());
    days.saturating_mul(DAY).saturating_add(interval.micros())
}

/// The options as an object. The argument `seed` is added if the algorithm has an option of that name.
pub fn option_map(options: Option<JsonB>, algorithm: &dyn Algorithm, seed: i64) -> Result<Map<String, Value>> {
    let mut options = match options.map(|o| o.0) {
        Some(Value::Object(options)) => options,
        None | Some(Value::Null) => Map::new(),
        Some(other) => {
            return Err(Error::invalid(
                format!("options must be a JSON object, not {other}"),
                "Pass an object, as in '{\"factors\": 64}'.",
            ));
        }
    };
    if algorithm.is_stochastic() {
        // Any bigint is a seed.
        options.entry("seed").or_insert((seed as u64).into());
    }
    Ok(options)
}
