//! The current history of a user: the source of a trained model is queried for one user, so that an order placed a second ago counts.
//!
//! The query runs like that of a view: with the privileges of the model's owner, who wrote it, and under the `search_path` of the training.
//! It cannot act as the caller, and the caller cannot make it use other tables or functions.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CString;
use std::panic::AssertUnwindSafe;

use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgTryBuilder, notice, pg_sys};

use crate::pg::context;
use crate::pg::id_type::IdType;
use crate::pg::identity::as_author;
use crate::pg::row::{Kind, Wanted, optional, required};
use crate::pg::source;
use crate::pg::source::{Lookup, as_subquery};
use crate::pg::transaction;
use crate::service::catalog::Stamp;
use crate::service::loaded::Recommender;
use interactions::Signals;
use runtime::error::{Error, Result};

/// Items (distinct indices of the model, ascending) and their summed weights.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    pub items: Vec<u32>,
    pub weights: Vec<f32>,
}

impl History {
    /// Sums the weights of items in any order. The order of summation is that of training, so that an unchanged history is identical to the
    /// bit.
    pub fn sum(mut pairs: Vec<(u32, f64)>) -> Self {
        pairs.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let mut history = Self::default();
        for same in pairs.chunk_by(|a, b| a.0 == b.0) {
            let weight = same.iter().map(|(_, w)| f64::from(*w as f32)).sum::<f64>() as f32;
            if weight != 0.0 {
                history.items.push(same[0].0);
                history.weights.push(weight);
            }
        }
        history
    }
}

/// The columns that are read; optional ones only if training read them.
const READ: [Wanted; 4] = [
    required("item_id", Kind::Id),
    optional("weight", Kind::Number),
    optional("ts", Kind::Time),
    optional("event", Kind::Text),
];

enum State {
    Readable(Kept),
    /// The source no longer exists, or its owner can no longer read it. Reported once in the transaction of this number, which uses the trained
    /// history; the next transaction tries again.
    Unreadable(u64),
}

/// A prepared lookup by user id.
struct Kept {
    lookup: Lookup,
    user_type: IdType,
}

thread_local! {
    static PLANS: RefCell<HashMap<String, (Stamp, State)>> = RefCell::new(HashMap::new());
}

/// The current history of `user` in the model's source; `None` if the source cannot be read.
pub fn now(recommender: &Recommender, user: &str) -> Result<Option<History>> {
    let entry = &recommender.entry;
    let Some(source) = &entry.source else { return Ok(None) };
    // Taken out while the query runs: the query may itself ask for recommendations.
    let kept = PLANS.with_borrow_mut(|plans| plans.remove(&entry.name)).filter(|(stamp, _)| *stamp == entry.stamp);
    let kept = match kept {
        Some((_, State::Unreadable(failed_in))) if failed_in == transaction::number() => {
            keep(recommender, State::Unreadable(failed_in));
            return Ok(None);
        }
        Some((_, State::Readable(kept))) => Some(kept),
        _ => None,
    };
    // What a plan was made for may have been altered in a way that no new plan of the same text can follow, the type of the user
    // ids say: then the query is prepared anew.
    let outcome = match kept.map(|kept| attempt(|| look(recommender, source, Some(kept), user))).transpose()? {
        Some(Ok(found)) => Ok(found),
        Some(Err(_)) | None => attempt(|| look(recommender, source, None, user))?,
    };
    match outcome {
        Ok((kept, history)) => {
            keep(recommender, State::Readable(kept));
            Ok(Some(history))
        }
        Err(reason) => {
            notice!(
                "using the training data of model \"{}\" because its source could not be read: {reason}",
                entry.name
            );
            keep(recommender, State::Unreadable(transaction::number()));
            Ok(None)
        }
    }
}

fn keep(recommender: &Recommender, state: State) {
    let entry = &recommender.entry;
    PLANS.with_borrow_mut(|plans| plans.insert(entry.name.clone(), (entry.stamp, state)));
}

/// Reads the user's rows with the stored lookup, or with a new one, and returns the lookup.
fn look(recommender: &Recommender, source: &str, kept: Option<Kept>, user: &str) -> Result<(Kept, History)> {
    let entry = &recommender.entry;
    let search_path = entry.config["search_path"].as_str().unwrap_or_default();
    as_author(entry.stamp.owner, search_path, || {
        let kept = match kept {
            Some(kept) => kept,
            None => prepare(source, entry.config["has_weight"] == true, &recommender.signals)?,
        };
        let history = match kept.user_type.datum(user) {
            Some(user) => read(recommender, &kept.lookup, user)?,
            // A text that was none of the source's ids is none now; an id that the source had may have been given another form.
            None if Some(kept.user_type) == user_id_type(recommender) => History::default(),
            None => {
                let found = kept.user_type.name().into();
                return Err(Error::ColumnType {
                    column: "user_id".into(),
                    found,
                    expected: "of the same type as in training",
                });
            }
        };
        Ok((kept, history))
    })
}

/// Prepares the lookup in a source, with the current privileges.
fn prepare(source: &str, has_weight: bool, signals: &Signals) -> Result<Kept> {
    let subquery = as_subquery("source", source)?;
    // What the source need not have is looked for only where training read it.
    let read_by_training = [true, has_weight, signals.needs_time(), signals.needs_event()];
    let columns: Vec<&str> = READ.iter().zip(read_by_training).filter(|(_, read)| *read).map(|(c, _)| c.name).collect();
    let [user_type] = source::column_types(&format!("SELECT user_id FROM {subquery} AS source"), ["user_id"])?;
    let user_type = user_type.and_then(IdType::of).ok_or_else(|| Error::ColumnType {
        column: "user_id".into(),
        found: user_type.map_or_else(|| "unknown".into(), crate::pg::row::type_name),
        expected: "text, bigint, integer, smallint or uuid",
    })?;
    let query = format!("SELECT {} FROM {subquery} AS source WHERE user_id = $1", columns.join(", "));
    let query = CString::new(query).map_err(|_| Error::Internal("source contains a zero byte".into()))?;
    Ok(Kept { lookup: Lookup::prepare(&query, user_type.oid(), &READ)?, user_type })
}

/// An error if a source cannot later be queried for single users.
pub fn check(source: &str, has_weight: bool, signals: &Signals) -> Result<()> {
    prepare(source, has_weight, signals).map(drop)
}

/// The result of `body`, or the reason why the source cannot be read. A source that was dropped or altered, or that its owner cannot read, is
/// not an error of the caller. When `body` fails it has undone its effects.
fn attempt<T>(body: impl FnOnce() -> Result<T>) -> Result<std::result::Result<T, String>> {
    let returned = |result: Result<T>| match result {
        Err(error @ (Error::MissingColumn { .. } | Error::ColumnType { .. } | Error::Invalid { .. })) => {
            Ok(Err(error.to_string()))
        }
        other => other.map(Ok),
    };
    // SAFETY: a plain read.
    if unsafe { pg_sys::IsInParallelMode() } {
        // Above parallel workers nothing can be rolled back but the statement.
        return returned(body());
    }
    let failed = |error: CaughtError| {
        let (CaughtError::PostgresError(report)
        | CaughtError::ErrorReport(report)
        | CaughtError::RustPanic { ereport: report, .. }) = &error;
        if is_about_the_query(report.sql_error_code() as i32) {
            context::forget();
            Ok(Err(report.message().to_owned()))
        } else {
            error.rethrow()
        }
    };
    PgTryBuilder::new(AssertUnwindSafe(|| returned(body()))).catch_others(failed).catch_rust_panic(failed).execute()
}

/// Whether an error is of class 42 (names, privileges, types), 3F (schemas), 0A (features) or 25 (it writes): caused by the query, not by its
/// data.
fn is_about_the_query(sqlstate: i32) -> bool {
    // Six bits for each of the five characters, the first lowest, counted from '0'.
    let class = |text: &[u8; 2]| i32::from(text[0] - b'0') | i32::from(text[1] - b'0') << 6;
    [b"42", b"3F", b"0A", b"25"].map(class).contains(&(sqlstate & 0xfff))
}

fn read(recommender: &Recommender, lookup: &Lookup, user: pg_sys::Datum) -> Result<History> {
    let (item_ids, signals) = (recommender.model.item_ids(), &recommender.signals);
    let mut pairs: Vec<(u32, f64)> = Vec::new();
    lookup.run(user, |row| {
        let weight = if row.has(1) { row.number(1)? } else { 1.0 };
        let event = if row.has(3) { row.text(3)? } else { None };
        let weight = signals.weight(weight, event) as f32;
        let time = if row.has(2) { row.time(2) } else { i64::MIN };
        let weight = f64::from(if signals.needs_time() { signals.decayed(weight, time) } else { weight });
        // Rows that training would reject are skipped, and so are items that the model does not know.
        if let Some(item) = item_ids.find(&row.id(0)?.to_text())
            && weight.is_finite()
            && weight != 0.0
        {
            pairs.push((item, weight));
        }
        Ok(())
    })?;
    Ok(History::sum(pairs))
}

/// The type of user ids in the model's source when it was trained.
pub fn user_id_type(recommender: &Recommender) -> Option<IdType> {
    IdType::from_name(recommender.entry.config["user_id_type"].as_str()?)
}

/// The type of item ids in the model's source when it was trained.
pub fn item_id_type(recommender: &Recommender) -> Option<IdType> {
    IdType::from_name(recommender.entry.config["item_id_type"].as_str()?)
}
