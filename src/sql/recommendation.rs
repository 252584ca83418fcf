//! Serving: recommendations for a user, for a basket and for all users; similar items and users; explanations.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use pgrx::prelude::*;
use pgrx::{AnyArray, AnyElement, pg_sys};

use super::{given, list_length, null_element, raise};
use crate::pg::arrays::ids;
use crate::pg::errors;
use crate::pg::ids::id_text;
use crate::pg::interrupts::Statement;
use crate::pg::settings;
use crate::service::catalog::{Privilege, Task};
use crate::service::history;
use crate::service::history::History;
use crate::service::loaded;
use crate::service::loaded::{Ready, Recommender};
use crate::service::selection::{QueryRun, Selection};
use recommendation::{Groups, Recommendation, Request, Who};
use runtime::error::{Error, Result};
use runtime::progress::{Progress, Run};

/// rank, item_id, score, reason
type Place = (i32, String, f32, String);

/// user_id, rank, item_id, score
type UserPlace = (String, i32, String, f32);

/// The arguments of a request besides the user. `k`, `exclude_seen` and `diversity` must not be NULL.
struct Asked {
    k: usize,
    exclude_seen: bool,
    filter: Option<String>,
    deny: Vec<String>,
    diversity: f32,
    group_by: Option<String>,
    max_per_group: Option<usize>,
}

/// [`Asked`] for one model: items as indices, queries answered.
struct Resolved<'a> {
    asked: &'a Asked,
    selection: Rc<Selection>,
    denied: Vec<u32>,
}

impl Resolved<'_> {
    /// The request for the engine.
    fn request(&self) -> Request<'_> {
        let groups = self.selection.groups.as_ref().zip(self.asked.max_per_group);
        Request {
            k: self.asked.k,
            exclude_seen: self.asked.exclude_seen,
            denied: &self.denied,
            allowed: self.selection.allowed.as_ref(),
            diversity: self.asked.diversity,
            groups: groups.map(|(group_of, max_per_group)| Groups { group_of, max_per_group }),
        }
    }
}

impl Asked {
    fn new(
        k: Option<i32>,
        exclude_seen: Option<bool>,
        filter: Option<&str>,
        deny: Option<AnyArray>,
        diversity: Option<f64>,
        group_by: Option<&str>,
        max_per_group: Option<i32>,
    ) -> Result<Self> {
        let diversity = given(diversity, "diversity")?;
        if !(0.0..=1.0).contains(&diversity) {
            let hint = "The value must be from 0 (by score only) to 1 (by difference only).";
            return Err(Error::argument("diversity", diversity, hint));
        }
        if group_by.is_some() != max_per_group.is_some() {
            let hint = "Pass both, as in group_by => 'category', max_per_group => 2.";
            return Err(Error::invalid("\"group_by\" and \"max_per_group\" must be specified together", hint));
        }
        if let Some(most) = max_per_group.filter(|most| *most < 1) {
            return Err(Error::argument("max_per_group", most, "The value must be 1 or more."));
        }
        Ok(Self {
            k: list_length(given(k, "k")?)?,
            exclude_seen: given(exclude_seen, "exclude_seen")?,
            filter: filter.map(str::to_owned),
            // NULL denies nothing.
            deny: deny.map_or(Ok(Vec::new()), |given| ids(&given, "deny"))?.into_iter().flatten().collect(),
            diversity: diversity as f32,
            group_by: group_by.map(str::to_owned),
            max_per_group: max_per_group.map(|most| most as usize),
        })
    }

    fn resolve(&self, recommender: &Recommender, run: QueryRun, statement: &Statement) -> Result<Resolved<'_>> {
        let selection = recommender.select(self.filter.as_deref(), self.group_by.as_deref(), run, statement)?;
        let ids = recommender.model.item_ids();
        let denied = self.deny.iter().filter_map(|id| ids.find(id)).collect();
        Ok(Resolved { asked: self, selection, denied })
    }
}

#[pg_extern(sql = false)]
fn recommend(
    model: Option<&str>,
    user_id: Option<AnyElement>,
    k: Option<i32>,
    exclude_seen: Option<bool>,
    history: Option<&str>,
    filter: Option<&str>,
    deny: Option<AnyArray>,
    diversity: Option<f64>,
    group_by: Option<&str>,
    max_per_group: Option<i32>,
    call: pg_sys::FunctionCallInfo,
) -> errors::Result<TableIterator<'static, (i32, String, f32, String)>> {
    // No model or no user: no rows, as from a strict function.
    let (Some(model), Some(user_id)) = (model, user_id) else { return Ok(TableIterator::new(Vec::new())) };
    let statement = Statement::new("recommend", model);
    let live = is_live(given(history, "history")?)?;
    let asked = Asked::new(k, exclude_seen, filter, deny, diversity, group_by, max_per_group)?;
    let user_id = id_text(&user_id)?;
    let list = served(model, Privilege::Serve, &statement, |recommender| {
        let resolved = asked.resolve(recommender, QueryRun::of(call), &statement)?;
        for_user(recommender, &user_id, live, |who| {
            let list = one_list(recommender, who, &resolved.request(), &statement)?;
            places(recommender, &list)
        })
    })?;
    Ok(TableIterator::new(list))
}

/// The list of one user or basket, made on CUDA where that was chosen.
fn one_list(
    recommender: &Recommender,
    who: Who,
    request: &Request,
    statement: &Statement,
) -> Result<Vec<Recommendation>> {
    recommender.with_device(statement, |device| match device {
        Some(device) => recommender.model.recommend_on(device, who, request, statement),
        None => recommender.model.recommend(who, request, statement),
    })
}

/// Calls `body` with the user, or with the user's current history if it differs from the trained one.
pub fn for_user<T>(
    recommender: &Recommender,
    user_id: &str,
    live: bool,
    body: impl FnOnce(Who) -> Result<T>,
) -> Result<T> {
    let known = recommender.model.user_ids().find(user_id);
    let now = if live { history::now(recommender, user_id)? } else { None };
    let nothing = History::default();
    body(match (known, &now) {
        // Nothing has changed since training: the trained factors are what folding in would give.
        (Some(user), Some(now)) if is_history(recommender, user, now)? => Who::User(user),
        (Some(user), None) => Who::User(user),
        (_, Some(now)) => Who::History { items: &now.items, weights: &now.weights },
        (None, None) => Who::History { items: &nothing.items, weights: &nothing.weights },
    })
}

#[pg_extern(sql = false)]
fn explain(
    model: &str,
    user_id: AnyElement,
    item_id: AnyElement,
    history: &str,
) -> errors::Result<TableIterator<'static, (i32, String, f32, f32)>> {
    let statement = Statement::new("explain", model);
    let live = is_live(history)?;
    let (user_id, item_id) = (id_text(&user_id)?, id_text(&item_id)?);
    let rows = served(model, Privilege::Read, &statement, |recommender| {
        let item = known_item(recommender, &item_id)?;
        for_user(recommender, &user_id, live, |who| {
            let weights: HashMap<u32, f32> = match who {
                Who::User(user) => {
                    let (items, weights) = recommender.model.history(user)?;
                    items.iter().copied().zip(weights.iter().copied()).collect()
                }
                Who::History { items, weights } => items.iter().copied().zip(weights.iter().copied()).collect(),
            };
            let shares = recommender.model.explain(who, item, &statement)?;
            (1..)
                .zip(shares)
                .map(|(rank, s)| {
                    let id = id(recommender, recommender.model.item_ids().get(s.item), s.item)?;
                    Ok((rank, id, s.share, weights.get(&s.item).copied().unwrap_or_default()))
                })
                .collect::<Result<Vec<_>>>()
        })
    })?;
    Ok(TableIterator::new(rows))
}

#[pg_extern(sql = false)]
fn similar_users(
    model: &str,
    user_id: AnyElement,
    k: i32,
) -> errors::Result<TableIterator<'static, (i32, String, f32)>> {
    let k = list_length(k)?;
    let user_id = id_text(&user_id)?;
    let statement = Statement::new("similar_users", model);
    let rows = served(model, Privilege::Read, &statement, |recommender| {
        let ids = recommender.model.user_ids();
        let hint = "A model knows the users of the source that it was trained on.";
        let user = ids
            .find(&user_id)
            .ok_or_else(|| Error::invalid(format!("user \"{user_id}\" is unknown to the model"), hint))?;
        let similar = recommender.model.similar_users(user, k, &statement)?;
        let rows = (1..).zip(similar).map(|(rank, s)| Ok((rank, id(recommender, ids.get(s.item), s.item)?, s.score)));
        rows.collect::<Result<Vec<_>>>()
    })?;
    Ok(TableIterator::new(rows))
}

fn known_item(recommender: &Recommender, item_id: &str) -> Result<u32> {
    let hint = "A model knows the items of the source and the items query that it was trained on. Add new items with \
                reco.refresh.";
    recommender
        .model
        .item_ids()
        .find(item_id)
        .ok_or_else(|| Error::invalid(format!("item \"{item_id}\" is unknown to the model"), hint))
}

/// Whether `history` is the current content of the source (`live`) or what the model was trained on (`trained`).
pub fn is_live(history: &str) -> Result<bool> {
    match history {
        "live" => Ok(true),
        "trained" => Ok(false),
        other => Err(Error::argument("history", format!("\"{other}\""), "Valid values are 'live' and 'trained'.")),
    }
}

fn is_history(recommender: &Recommender, user: u32, now: &History) -> Result<bool> {
    let (items, weights) = recommender.model.history(user)?;
    Ok(items == now.items && weights == now.weights)
}

#[pg_extern(sql = false)]
fn recommend_for_items(
    model: Option<&str>,
    item_ids: Option<AnyArray>,
    weights: Option<Array<f64>>,
    k: Option<i32>,
    exclude_seen: Option<bool>,
    filter: Option<&str>,
    deny: Option<AnyArray>,
    diversity: Option<f64>,
    group_by: Option<&str>,
    max_per_group: Option<i32>,
    call: pg_sys::FunctionCallInfo,
) -> errors::Result<TableIterator<'static, (i32, String, f32, String)>> {
    let (model, item_ids) = (given(model, "model")?, ids(&given(item_ids, "item_ids")?, "item_ids")?);
    let asked = Asked::new(k, exclude_seen, filter, deny, diversity, group_by, max_per_group)?;
    let statement = Statement::new("recommend_for_items", model);
    let weights: Option<Vec<Option<f64>>> = weights.map(|w| w.iter().collect());
    if let Some(weights) = &weights
        && weights.len() != item_ids.len()
    {
        let message =
            format!("number of weights ({}) does not match number of items ({})", weights.len(), item_ids.len());
        return Err(Error::invalid(message, "Pass one weight for each item, or omit weights.").into());
    }
    let list = served(model, Privilege::Serve, &statement, |recommender| {
        let mut pairs: Vec<(u32, f64)> = Vec::new();
        for (i, id) in item_ids.iter().enumerate() {
            if i.is_multiple_of(LOOK) {
                statement.check()?;
            }
            let id = id.as_deref().ok_or_else(|| null_element("item_ids"))?;
            let weight = match &weights {
                None => 1.0,
                Some(weights) => weights[i].unwrap_or(f64::NAN),
            };
            if !(weight as f32).is_finite() {
                let hint = "A weight must be a finite number; below 0 it is negative feedback.";
                return Err(Error::argument(format!("weights[{}]", i + 1), weight, hint));
            }
            // Items that the model does not know are ignored.
            if let Some(item) = recommender.model.item_ids().find(id)
                && weight != 0.0
            {
                pairs.push((item, f64::from(weight as f32)));
            }
        }
        let history = History::sum(pairs);
        let who = Who::History { items: &history.items, weights: &history.weights };
        let resolved = asked.resolve(recommender, QueryRun::of(call), &statement)?;
        let list = one_list(recommender, who, &resolved.request(), &statement)?;
        places(recommender, &list)
    })?;
    Ok(TableIterator::new(list))
}

/// Ids between two checks for cancel requests.
const LOOK: usize = 8192;

/// Users per block: one matrix product keeps all cores busy for some milliseconds.
const USERS_AT_ONCE: u32 = 512;

#[pg_extern(sql = false)]
fn recommend_all(
    model: Option<&str>,
    k: Option<i32>,
    exclude_seen: Option<bool>,
    filter: Option<&str>,
    deny: Option<AnyArray>,
    diversity: Option<f64>,
    group_by: Option<&str>,
    max_per_group: Option<i32>,
    call: pg_sys::FunctionCallInfo,
) -> errors::Result<TableIterator<'static, (String, i32, String, f32)>> {
    let model = given(model, "model")?;
    let asked = Asked::new(k, exclude_seen, filter, deny, diversity, group_by, max_per_group)?;
    let statement = Statement::new("recommend_all", model);
    let ready = recommender_for(model, Privilege::Read, &statement)?;
    let users = as_recommender(&ready)?.model.user_ids().len() as u32;
    let run = QueryRun::of(call);
    let (mut next, mut took) = (0u32, Duration::ZERO);
    let mut rows: VecDeque<UserPlace> = VecDeque::new();
    // Dropped with the last user's list: the caller may keep the iterator for longer.
    let mut under_way = Some(statement);
    Ok(TableIterator::new(std::iter::from_fn(move || {
        while rows.is_empty() {
            let statement = under_way.as_ref()?;
            let recommender = raise(as_recommender(&ready));
            let end = users.min(next.saturating_add(USERS_AT_ONCE));
            statement.report("users", next as usize, users as usize);
            let began = Instant::now();
            rows = raise(recommend_block(recommender, next..end, &asked, run, statement));
            // Time spent in the caller between rows is not counted.
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

/// The lists of a range of users.
fn recommend_block(
    recommender: &Recommender,
    users: Range<u32>,
    asked: &Asked,
    run: QueryRun,
    statement: &Statement,
) -> Result<VecDeque<UserPlace>> {
    let resolved = asked.resolve(recommender, run, statement)?;
    let request = resolved.request();
    let (range, threads) = (users.clone(), settings::threads());
    let lists = recommender.with_device(statement, |device| match device {
        Some(device) => recommender.model.recommend_block_on(device, range, &request, threads, statement),
        None => recommender.model.recommend_block(range, &request, threads, statement),
    })?;
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
    let rows = served(model, Privilege::Serve, &statement, |recommender| {
        let item = known_item(recommender, &item_id)?;
        let similar = recommender.with_device(&statement, |device| match device {
            Some(device) => recommender.model.similar_items_on(device, item, k, &statement),
            None => recommender.model.similar_items(item, k, &statement),
        })?;
        (1..)
            .zip(similar)
            .map(|(rank, s)| Ok((rank, id(recommender, recommender.model.item_ids().get(s.item), s.item)?, s.score)))
            .collect::<Result<Vec<_>>>()
    })?;
    Ok(TableIterator::new(rows))
}

#[pg_extern(sql = false)]
fn model_users(model: &str) -> errors::Result<SetOfIterator<'static, String>> {
    let ready = recommender_for(model, Privilege::Read, &Statement::new("model_users", model))?;
    let mut next = 0u32;
    Ok(SetOfIterator::new(std::iter::from_fn(move || {
        let user = raise(as_recommender(&ready)).model.user_ids().get(next)?.to_owned();
        next += 1;
        Some(user)
    })))
}

pub fn recommender(model: &str, statement: &Statement) -> Result<Rc<Ready>> {
    recommender_for(model, Privilege::Serve, statement)
}

/// The recommender, for a call that requires `privilege`.
pub fn recommender_for(model: &str, privilege: Privilege, statement: &Statement) -> Result<Rc<Ready>> {
    let ready = loaded::model_for(model, privilege, statement)?;
    match &*ready {
        Ready::Recommender(_) => Ok(ready),
        other => Err(Error::WrongTask {
            name: model.into(),
            task: other.task().name().into(),
            wanted: Task::Recommendation.name().into(),
        }),
    }
}

pub fn as_recommender(ready: &Rc<Ready>) -> Result<&Recommender> {
    match &**ready {
        Ready::Recommender(recommender) => Ok(recommender),
        _ => Err(Error::Internal("the model is not a recommender".into())),
    }
}

pub fn with_recommender<T>(
    model: &str,
    statement: &Statement,
    body: impl FnOnce(&Recommender) -> Result<T>,
) -> Result<T> {
    body(as_recommender(&recommender(model, statement)?)?)
}

/// Runs `body` and counts it as a run of the model.
fn served<T>(
    model: &str,
    privilege: Privilege,
    statement: &Statement,
    body: impl FnOnce(&Recommender) -> Result<T>,
) -> Result<T> {
    let ready = recommender_for(model, privilege, statement)?;
    let recommender = as_recommender(&ready)?;
    let began = Instant::now();
    let list = body(recommender)?;
    statement.ran(&scan(recommender, 1, began.elapsed()));
    Ok(list)
}

/// A run that made lists for `rows` users, baskets or items.
fn scan(recommender: &Recommender, rows: usize, took: Duration) -> Run<'_> {
    Run { runs: 1, model: &recommender.entry.name, provider: recommender.provider(), rows, tokens: None, took }
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
