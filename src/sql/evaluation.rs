//! Measuring recommenders: held-out rows, and the metrics of a model's lists against them.

use std::collections::{BTreeMap, BTreeSet};

use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;

use super::list_length;
use super::recommendation::with_recommender;
use crate::error::Error;
use crate::evaluation::{SplitMethod, evaluate_model, split as split_interactions};
use crate::interactions::Id;
use crate::pg::dataset::{FETCH, INTERACTION};
use crate::pg::errors;
use crate::pg::interrupts::Statement;
use crate::pg::settings;
use crate::pg::source::{Kind, Source, required};
use crate::progress::Progress;

struct Interaction {
    user: String,
    item: String,
    weight: f64,
    /// Microseconds since 2000; `None` where the source has no times.
    time: Option<i64>,
}

#[pg_extern(sql = false)]
fn split(
    source: &str,
    method: &str,
    ratio: f64,
    seed: i64,
) -> errors::Result<TableIterator<'static, (String, String, String, f32, Option<TimestampWithTimeZone>)>> {
    let statement = Statement::new("split", "");
    let method = SplitMethod::from_name(method)?;
    let mut rows = Vec::new();
    let mut source = Source::open(source, &INTERACTION)?;
    loop {
        let (has_weight, has_time) = (source.has(2), source.has(3));
        let fetched = source.fetch(FETCH, |row| {
            rows.push(Interaction {
                user: row.id(0)?.to_text(),
                item: row.id(1)?.to_text(),
                weight: if has_weight { row.number(2)? } else { 1.0 },
                time: has_time.then(|| row.time(3)),
            });
            Ok(())
        })?;
        if fetched == 0 {
            break;
        }
        statement.check()?;
        statement.report("rows read from the source", rows.len(), 0);
    }
    source.close()?;
    if rows.is_empty() {
        return Err(Error::EmptySource(String::new()).into());
    }
    if method == SplitMethod::ByTime && rows[0].time.is_none() {
        return Err(Error::MissingColumn { column: "ts", found: "no time".into() }.into());
    }
    let users = numbered(rows.iter().map(|r| r.user.as_str()));
    let items = numbered(rows.iter().map(|r| r.item.as_str()));
    let times: Option<Vec<i64>> = rows.iter().map(|r| r.time).collect();
    let is_test = split_interactions(method, &users, &items, times.as_deref(), ratio, seed as u64)?;
    Ok(TableIterator::new(rows.into_iter().zip(is_test).map(|(row, is_test)| {
        let part = if is_test { "test" } else { "train" };
        // −∞ stands for a row without a time.
        let time = row.time.filter(|t| *t != i64::MIN).and_then(|t| TimestampWithTimeZone::try_from(t).ok());
        (part.to_owned(), row.user, row.item, row.weight as f32, time)
    })))
}

/// Each id's rank among all: a number that does not depend on the order of the rows.
fn numbered<'a>(ids: impl Iterator<Item = &'a str> + Clone) -> Vec<u32> {
    let ranks: BTreeMap<&str, u32> = ids.clone().collect::<BTreeSet<_>>().into_iter().zip(0..).collect();
    ids.map(|id| ranks[id]).collect()
}

#[pg_extern(sql = false)]
fn evaluate(
    model: &str,
    test: &str,
    k: i32,
    exclude_seen: bool,
) -> errors::Result<TableIterator<'static, (String, f64)>> {
    let k = list_length(k)?;
    let statement = Statement::new("evaluate", model);
    let rows = with_recommender(model, &statement, |recommender| {
        let model = &recommender.model;
        let mut counts = Counts::default();
        let mut relevant: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        let mut source = Source::open(test, &[required("user_id", Kind::Id), required("item_id", Kind::Id)])?;
        while source.fetch(FETCH, |row| {
            counts.rows += 1;
            let user = find(row.id(0)?, |id| model.user_ids().find(id));
            let item = find(row.id(1)?, |id| model.item_ids().find(id));
            match (user, item) {
                (None, _) => counts.unknown_users += 1,
                (_, None) => counts.unknown_items += 1,
                (Some(user), Some(item)) => {
                    // What a list leaves out as seen cannot be in it.
                    if exclude_seen && model.history(user)?.0.binary_search(&item).is_ok() {
                        counts.seen += 1;
                    } else {
                        relevant.entry(user).or_default().insert(item);
                    }
                }
            }
            Ok(())
        })? > 0
        {
            statement.check()?;
            statement.report("rows read from the test", counts.rows, 0);
        }
        source.close()?;
        if counts.rows == 0 {
            return Err(Error::EmptySource(String::new()));
        }
        if relevant.is_empty() {
            let hint = "Its users and items must be ones that the model was trained on, and, unless exclude_seen is \
                        false, the pairs must be new to it.";
            return Err(Error::argument("test", "a query without a pair to be found", hint));
        }
        let test: Vec<(u32, Vec<u32>)> =
            relevant.into_iter().map(|(user, items)| (user, items.into_iter().collect())).collect();
        let mut rows: Vec<(String, f64)> =
            evaluate_model(model, &test, k, exclude_seen, settings::threads(), &statement)?
                .values
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect();
        rows.extend([
            ("users".to_owned(), test.len() as f64),
            ("rows".to_owned(), counts.rows as f64),
            ("rows_of_unknown_users".to_owned(), counts.unknown_users as f64),
            ("rows_of_unknown_items".to_owned(), counts.unknown_items as f64),
            ("rows_seen_in_training".to_owned(), counts.seen as f64),
        ]);
        Ok(rows)
    })?;
    Ok(TableIterator::new(rows))
}

/// Rows of the test query, and those that no list could ever contain.
#[derive(Default)]
struct Counts {
    rows: usize,
    unknown_users: usize,
    unknown_items: usize,
    seen: usize,
}

fn find(id: Id, find: impl Fn(&str) -> Option<u32>) -> Option<u32> {
    match id {
        Id::Text(text) => find(text),
        other => find(&other.to_text()),
    }
}
