//! `reco.interaction_importance`: scores of the interactions that a recommender is trained on.

use pgrx::pg_sys;
use pgrx::prelude::*;
use serde_json::Value;

use super::given;
use super::recommendation::{as_recommender, recommender};
use crate::pg::errors;
use crate::pg::identity::{as_author, caller};
use crate::pg::interrupts::Statement;
use crate::pg::json::JsonB;
use crate::pg::row::{Kind, Wanted, required};
use crate::pg::settings;
use crate::pg::source::Source;
use crate::service::dataset::{Dataset, Queries};
use importance::interactions::{Method, Task};
use interactions::Interactions;
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::options::Options;
use runtime::progress::Progress;
use runtime::sorting::sort_watched;

const PAIR: [Wanted; 2] = [required("user_id", Kind::Id), required("item_id", Kind::Id)];

#[pg_extern(sql = false)]
fn interaction_importance(
    model: Option<&str>,
    method: Option<&str>,
    validation: Option<&str>,
    source: Option<&str>,
    options: Option<JsonB>,
) -> errors::Result<TableIterator<'static, (String, String, f64)>> {
    let method = Method::from_name(given(method, "method")?)?;
    let options = options.map_or(Value::Null, |options| options.0);
    let mut options = Options::new(method.name(), &options)?;
    let plan = method.plan(&mut options)?;
    options.finish()?;
    let statement = Statement::new("interaction_importance", model.unwrap_or_default());
    check_validation(method, validation)?;
    let interactions = match (model, source) {
        (Some(model), None) => of_model(model, &statement)?,
        (None, Some(source)) => {
            Dataset::read(&Queries { source: source.into(), ..Queries::default() }, &statement)?.interactions
        }
        _ => {
            let hint = "Pass either a trained recommender or source => 'SELECT user_id, item_id FROM …'.";
            let message = match model {
                Some(_) => "cannot specify both \"model\" and \"source\"",
                None => "either \"model\" or \"source\" must be specified",
            };
            return Err(Error::invalid(message, hint).into());
        }
    };
    let held_out = validation.map(|query| held_out(query, &interactions, &statement)).transpose()?;
    let task = Task {
        by_user: &interactions.by_user,
        held_out: held_out.as_deref(),
        threads: settings::threads(),
        progress: &statement,
    };
    let scores = plan.score(&task)?;
    let Interactions { user_ids, item_ids, by_user, .. } = interactions;
    let mut user = 0;
    let mut entry = 0;
    Ok(TableIterator::new(scores.into_iter().map(move |score| {
        while by_user.indptr[user + 1] <= entry {
            user += 1;
        }
        let item = by_user.indices[entry as usize];
        entry += 1;
        let id = |id: Option<&str>| id.unwrap_or_default().to_owned();
        (id(user_ids.get(user as u32)), id(item_ids.get(item)), score)
    })))
}

fn check_validation(method: Method, validation: Option<&str>) -> Result<()> {
    let name = method.name();
    match validation {
        None if method.needs_validation() => {
            let hint = "Pass held-out interactions: validation => 'SELECT user_id, item_id FROM …'.";
            Err(Error::invalid(format!("method \"{name}\" requires the argument \"validation\""), hint))
        }
        Some(_) if !method.needs_validation() => {
            let others = Method::names(|method| method.needs_validation());
            let message = format!("cannot specify \"validation\" for method \"{name}\"");
            Err(Error::invalid(message, format!("Omit validation, or use one of {others}.")))
        }
        _ => Ok(()),
    }
}

/// The current interactions of a recommender's source, read with the rights of its owner. The caller must be a member of the owner's
/// role.
fn of_model(model: &str, statement: &Statement) -> Result<Interactions> {
    let ready = recommender(model, statement)?;
    let current = as_recommender(&ready)?;
    // SAFETY: looks two roles up.
    if !unsafe { pg_sys::has_privs_of_role(caller(), current.entry.stamp.owner) } {
        return Err(Error::NotModelOwner(model.into()));
    }
    let source = current.entry.source.clone().ok_or_else(|| {
        let hint = "Pass the query that it was trained on: source => 'SELECT user_id, item_id FROM …'.";
        Error::invalid(format!("model \"{model}\" has no stored source"), hint)
    })?;
    let queries = Queries { source, signals: current.signals.clone(), ..Queries::default() };
    let search_path = current.entry.config["search_path"].as_str().unwrap_or_default();
    Ok(as_author(current.entry.stamp.owner, search_path, || Dataset::read(&queries, statement))?.interactions)
}

/// The pairs of a validation query; unknown users and items are left out.
fn held_out(query: &str, interactions: &Interactions, statement: &Statement) -> Result<Vec<(u32, u32)>> {
    let mut pairs = Vec::new();
    Source::open_named("validation", query, &PAIR)?.read(statement, |row| {
        let user = interactions.user_ids.find(&row.id(0)?.to_text());
        let item = interactions.item_ids.find(&row.id(1)?.to_text());
        user.zip(item).map_or(Ok(()), |pair| memory::push(&mut pairs, pair))
    })?;
    sort_watched(&mut pairs, &|| statement.check(), Ord::cmp)?;
    pairs.dedup();
    Ok(pairs)
}
