//! Serving: lists for a user, for a history, for everybody; similar items; typed views and functions.

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use pgrx::prelude::*;
use pgrx::{AnyElement, Spi};

use super::{given, list_length, raise};
use crate::error::{Error, Result};
use crate::pg::catalog::{self, Task};
use crate::pg::errors;
use crate::pg::history::{self, History};
use crate::pg::ids::id_text;
use crate::pg::interrupts::Statement;
use crate::pg::loaded::{self, Ready, Recommender};
use crate::pg::settings;
use crate::progress::{Progress, Run, SCAN};
use crate::recommendation::{Recommendation, Request, Who};

/// rank, item_id, score, reason
type Place = (i32, String, f32, String);

/// user_id, rank, item_id, score
type UserPlace = (String, i32, String, f32);

#[pg_extern(sql = false)]
fn recommend(
    model: &str,
    user_id: AnyElement,
    k: i32,
    exclude_seen: bool,
    history: &str,
) -> errors::Result<TableIterator<'static, (i32, String, f32, String)>> {
    let statement = Statement::new("recommend", model);
    let k = list_length(k)?;
    let live = is_live(history)?;
    let user_id = id_text(&user_id)?;
    let list = served(model, &statement, |recommender| {
        let known = recommender.model.user_ids().find(&user_id);
        let now = if live { history::now(recommender, &user_id)? } else { None };
        let request = Request { exclude_seen, ..Request::new(k) };
        let nothing = History::default();
        let who = match (known, &now) {
            // Nothing has changed since training: the trained factors are what folding in would give.
            (Some(user), Some(now)) if is_history(recommender, user, now)? => Who::User(user),
            (Some(user), None) => Who::User(user),
            (_, Some(now)) => Who::History { items: &now.items, weights: &now.weights },
            (None, None) => Who::History { items: &nothing.items, weights: &nothing.weights },
        };
        let list = recommender.model.recommend(who, &request, &statement)?;
        places(recommender, &list)
    })?;
    Ok(TableIterator::new(list))
}

/// Which history a list is made from: what the source holds now, or what the model was trained on.
fn is_live(history: &str) -> Result<bool> {
    match history {
        "live" => Ok(true),
        "trained" => Ok(false),
        other => Err(Error::argument("history", format!("\"{other}\""), "Give 'live' or 'trained'.")),
    }
}

fn is_history(recommender: &Recommender, user: u32, now: &History) -> Result<bool> {
    let (items, weights) = recommender.model.history(user)?;
    Ok(items == now.items && weights == now.weights)
}

#[pg_extern(sql = false)]
fn recommend_for_items(
    model: Option<&str>,
    item_ids: Option<Array<&str>>,
    weights: Option<Array<f32>>,
    k: Option<i32>,
    exclude_seen: Option<bool>,
) -> errors::Result<TableIterator<'static, (i32, String, f32, String)>> {
    let (model, item_ids) = (given(model, "model")?, given(item_ids, "item_ids")?);
    let (k, exclude_seen) = (list_length(given(k, "k")?)?, given(exclude_seen, "exclude_seen")?);
    let statement = Statement::new("recommend_for_items", model);
    let weights: Option<Vec<Option<f32>>> = weights.map(|w| w.iter().collect());
    if let Some(weights) = &weights
        && weights.len() != item_ids.len()
    {
        let value = format!("{} long for {} items", weights.len(), item_ids.len());
        return Err(Error::argument("weights", value, "Give one weight for each item, or leave weights out.").into());
    }
    let list = served(model, &statement, |recommender| {
        let mut pairs: Vec<(u32, f64)> = Vec::new();
        for (i, id) in item_ids.iter().enumerate() {
            let hint = "Leave NULL out of the array.";
            let id = id.ok_or_else(|| Error::argument(format!("item_ids[{}]", i + 1), "null", hint))?;
            let weight = match &weights {
                None => 1.0,
                Some(weights) => weights[i].unwrap_or(f32::NAN),
            };
            if !weight.is_finite() || weight < 0.0 {
                let hint = "A weight is a finite number, 0 or greater.";
                return Err(Error::argument(format!("weights[{}]", i + 1), weight, hint));
            }
            // An item that is new to the model says nothing to it.
            if let Some(item) = recommender.model.item_ids().find(id)
                && weight > 0.0
            {
                pairs.push((item, weight.into()));
            }
        }
        let history = History::sum(pairs);
        let who = Who::History { items: &history.items, weights: &history.weights };
        let request = Request { exclude_seen, ..Request::new(k) };
        let list = recommender.model.recommend(who, &request, &statement)?;
        places(recommender, &list)
    })?;
    Ok(TableIterator::new(list))
}

/// Users whose lists are made together: one matrix product fills all cores for some milliseconds.
const USERS_AT_ONCE: u32 = 512;

#[pg_extern(sql = false)]
fn recommend_all(
    model: &str,
    k: i32,
    exclude_seen: bool,
) -> errors::Result<TableIterator<'static, (String, i32, String, f32)>> {
    let k = list_length(k)?;
    let statement = Statement::new("recommend_all", model);
    let ready = recommender(model, &statement)?;
    let users = as_recommender(&ready)?.model.user_ids().len() as u32;
    let (mut next, mut took) = (0u32, Duration::ZERO);
    let mut rows: VecDeque<UserPlace> = VecDeque::new();
    // Given back with the last user's list: whoever called may keep the iterator for longer.
    let mut under_way = Some(statement);
    Ok(TableIterator::new(std::iter::from_fn(move || {
        while rows.is_empty() {
            let statement = under_way.as_ref()?;
            let recommender = raise(as_recommender(&ready));
            let end = users.min(next.saturating_add(USERS_AT_ONCE));
            statement.report("users", next as usize, users as usize);
            let began = Instant::now();
            rows = raise(recommend_block(recommender, next..end, k, exclude_seen, statement));
            // Without the time in which the caller does something with the rows.
            took += began.elapsed();
            next = end;
            if next == users {
                statement.ran(&scan(recommender, users as usize, took));
                under_way = None;
            }
        }
        rows.pop_front()
    })))
}

/// The lists of the users of these numbers.
fn recommend_block(
    recommender: &Recommender,
    users: Range<u32>,
    k: usize,
    exclude_seen: bool,
    statement: &Statement,
) -> Result<VecDeque<UserPlace>> {
    let request = Request { exclude_seen, ..Request::new(k) };
    let lists = recommender.model.recommend_block(users.clone(), &request, settings::threads(), statement)?;
    let mut rows = VecDeque::new();
    for (user, list) in users.zip(lists) {
        let user_id = id(recommender, recommender.model.user_ids().get(user), user)?;
        for (rank, item_id, score, _) in places(recommender, &list)? {
            rows.push_back((user_id.clone(), rank, item_id, score));
        }
    }
    Ok(rows)
}

#[pg_extern(sql = false)]
fn similar_items(
    model: &str,
    item_id: AnyElement,
    k: i32,
) -> errors::Result<TableIterator<'static, (i32, String, f32)>> {
    let k = list_length(k)?;
    let item_id = id_text(&item_id)?;
    let statement = Statement::new("similar_items", model);
    let rows = served(model, &statement, |recommender| {
        let hint = "An item is known to the model if it was in the source that the model was trained on.";
        let item =
            recommender.model.item_ids().find(&item_id).ok_or_else(|| {
                Error::argument("item_id", format!("\"{item_id}\", which the model does not know"), hint)
            })?;
        let similar = recommender.model.similar_items(item, k, &statement)?;
        (1..)
            .zip(similar)
            .map(|(rank, s)| Ok((rank, id(recommender, recommender.model.item_ids().get(s.item), s.item)?, s.score)))
            .collect::<Result<Vec<_>>>()
    })?;
    Ok(TableIterator::new(rows))
}

#[pg_extern(sql = false)]
fn model_users(model: &str) -> errors::Result<SetOfIterator<'static, String>> {
    let ready = recommender(model, &Statement::new("model_users", model))?;
    let mut next = 0u32;
    Ok(SetOfIterator::new(std::iter::from_fn(move || {
        let user = raise(as_recommender(&ready)).model.user_ids().get(next)?.to_owned();
        next += 1;
        Some(user)
    })))
}

#[pg_extern(sql = false)]
fn create_view(model: &str, view: &str, k: i32, history: &str) -> errors::Result<()> {
    catalog::require_writable();
    list_length(k)?;
    is_live(history)?;
    let types = id_types(model)?;
    let query = format!(
        "CREATE VIEW {} AS
         SELECT users.user_id::{} AS user_id, list.rank, list.item_id::{} AS item_id, list.score
           FROM reco.model_users({model}) AS users(user_id)
          CROSS JOIN LATERAL reco.recommend({model}, users.user_id, {k}, history => {}) AS list",
        object_name(view)?,
        types.0,
        types.1,
        pgrx::spi::quote_literal(history),
        model = pgrx::spi::quote_literal(model),
    );
    Ok(Spi::run(&query).map_err(Error::from)?)
}

#[pg_extern(sql = false)]
fn create_function(model: &str, function: &str, k: i32, history: &str) -> errors::Result<()> {
    catalog::require_writable();
    list_length(k)?;
    is_live(history)?;
    let types = id_types(model)?;
    let body = format!(
        "SELECT list.rank, list.item_id::{}, list.score
           FROM reco.recommend({}, user_id, k, history => {}) AS list",
        types.1,
        pgrx::spi::quote_literal(model),
        pgrx::spi::quote_literal(history),
    );
    let query = format!(
        "CREATE FUNCTION {}(user_id {}, k integer DEFAULT {k})
         RETURNS TABLE (rank integer, item_id {}, score real)
         LANGUAGE sql STABLE STRICT ROWS 10 AS {}",
        object_name(function)?,
        types.0,
        types.1,
        pgrx::spi::quote_literal(body),
    );
    Ok(Spi::run(&query).map_err(Error::from)?)
}

/// The SQL types of the model's user and item ids.
fn id_types(model: &str) -> Result<(&'static str, &'static str)> {
    with_recommender(model, &Statement::new("create_view", model), |recommender| {
        let type_of = |t: Option<crate::pg::ids::IdType>| t.map_or("text", |t| t.name());
        Ok((type_of(history::user_id_type(recommender)), type_of(history::item_id_type(recommender))))
    })
}

/// A name as the user writes it, perhaps with a schema, quoted where it must be.
fn object_name(name: &str) -> Result<String> {
    let quoted: Option<String> = Spi::get_one_with_args(
        "SELECT pg_catalog.string_agg(pg_catalog.quote_ident(part), '.') FROM pg_catalog.unnest(pg_catalog.parse_ident($1)) AS part",
        &[name.into()],
    )?;
    quoted.ok_or_else(|| Error::argument("name", format!("\"{name}\""), "Give a name, as in sales.top_items."))
}

fn recommender(model: &str, statement: &Statement) -> Result<Rc<Ready>> {
    let ready = loaded::model(model, statement)?;
    match &*ready {
        Ready::Recommender(_) => Ok(ready),
        other => Err(Error::WrongTask {
            name: model.into(),
            task: other.task().name().into(),
            wanted: Task::Recommendation.name().into(),
        }),
    }
}

fn as_recommender(ready: &Rc<Ready>) -> Result<&Recommender> {
    match &**ready {
        Ready::Recommender(recommender) => Ok(recommender),
        _ => Err(Error::Internal("a recommender was asked for".into())),
    }
}

pub fn with_recommender<T>(
    model: &str,
    statement: &Statement,
    body: impl FnOnce(&Recommender) -> Result<T>,
) -> Result<T> {
    body(as_recommender(&recommender(model, statement)?)?)
}

/// One list made by `body`, counted as a run of the model.
fn served<T>(model: &str, statement: &Statement, body: impl FnOnce(&Recommender) -> Result<T>) -> Result<T> {
    with_recommender(model, statement, |recommender| {
        let began = Instant::now();
        let list = body(recommender)?;
        statement.ran(&scan(recommender, 1, began.elapsed()));
        Ok(list)
    })
}

/// A run that made lists for `rows` users, baskets or items.
fn scan(recommender: &Recommender, rows: usize, took: Duration) -> Run<'_> {
    Run { model: &recommender.entry.name, provider: SCAN, rows, tokens: None, took }
}

fn places(recommender: &Recommender, list: &[Recommendation]) -> Result<Vec<Place>> {
    (1..)
        .zip(list)
        .map(|(rank, r)| {
            let item = id(recommender, recommender.model.item_ids().get(r.item), r.item)?;
            Ok((rank, item, r.score, r.reason.name().to_owned()))
        })
        .collect()
}

fn id(recommender: &Recommender, text: Option<&str>, index: u32) -> Result<String> {
    text.map(str::to_owned).ok_or_else(|| Error::DamagedModel {
        model: recommender.entry.name.clone(),
        reason: format!("id number {index} is missing"),
    })
}
