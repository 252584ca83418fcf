//! What a user has done by now: a trained model's source, asked for one user, so that an order placed a second ago
//! counts.
//!
//! The query runs as a view's would: with the rights of the model's owner, who wrote it, under the `search_path` of then.
//! Neither can it act in the caller's name, nor can the caller slip other tables or functions under it.

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

/// Items (indices of the model, each once, ascending) and their summed weights.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    pub items: Vec<u32>,
    pub weights: Vec<f32>,
}

impl History {
    /// Items in any order, perhaps repeatedly. Summed as training sums, so that an unchanged history is the same to the
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

/// What is read of a user's interactions, where training read it.
const READ: [Wanted; 4] = [
    required("item_id", Kind::Id),
    optional("weight", Kind::Number),
    optional("ts", Kind::Time),
    optional("event", Kind::Text),
];

enum State {
    Readable(Kept),
    /// The source is gone, or its owner may not read it any more: said once in the transaction of that number, in which the trained
    /// history serves. In the next it is tried again.
    Unreadable(u64),
}

/// A look-up by user ids of a type.
struct Kept {
    lookup: Lookup,
    user_type: IdType,
}

thread_local! {
    static PLANS: RefCell<HashMap<String, (Stamp, State)>> = RefCell::new(HashMap::new());
}

/// The history of `user` in the model's source now; `None` where the source cannot be read.
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
                "recommending from what \"{}\" was trained on, since its source cannot be read: {reason}",
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

/// The user's rows, by the look-up that is kept or by a new one, which is kept then.
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
                    expected: "the type it was trained with",
                });
            }
        };
        Ok((kept, history))
    })
}

/// The look-up that a source is read through, prepared with the rights of the moment.
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
    let query = CString::new(query).map_err(|_| Error::Internal("a source with a zero byte".into()))?;
    Ok(Kept { lookup: Lookup::prepare(&query, user_type.oid(), &READ)?, user_type })
}

/// Whether a source that is to be trained on can be read for one user later on: an error says why not.
pub fn check(source: &str, has_weight: bool, signals: &Signals) -> Result<()> {
    prepare(source, has_weight, signals).map(drop)
}

/// What `body` gives, or why a source cannot be read: that it is gone, or not what it was, or not its owner's to read, is no error
/// of whoever asks for a list. `body` has undone what it did when it fails.
fn attempt<T>(body: impl FnOnce() -> Result<T>) -> Result<std::result::Result<T, String>> {
    let returned = |result: Result<T>| match result {
        Err(error @ (Error::MissingColumn { .. } | Error::ColumnType { .. } | Error::InvalidArgument { .. })) => {
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

/// Whether an error is of the classes 42 (names, rights, types), 3F (schemas), 0A (features) or 25 (it writes): of the query, whatever
/// its data.
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
        // What training would refuse cannot be in a history either; an item that is new to the model has no factors.
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
