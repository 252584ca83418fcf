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
use pgrx::{PgSqlErrorCode, PgTryBuilder, notice, pg_sys};

use crate::error::{Error, Result};
use crate::pg::catalog::Stamp;
use crate::pg::identity::as_author;
use crate::pg::ids::IdType;
use crate::pg::loaded::Recommender;
use crate::pg::source::{Kind, Lookup, as_subquery, optional, required};

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

enum State {
    Readable(Lookup),
    /// The source is gone or its owner may not read it any more: said once, then the trained history serves.
    Unreadable,
}

thread_local! {
    static PLANS: RefCell<HashMap<String, (Stamp, State)>> = RefCell::new(HashMap::new());
}

/// The history of `user` in the model's source now; `None` where the source cannot be read.
pub fn now(recommender: &Recommender, user: &str) -> Result<Option<History>> {
    let entry = &recommender.entry;
    let (Some(source), Some(user_type)) = (&entry.source, user_id_type(recommender)) else { return Ok(None) };
    let Some(user) = user_type.datum(user) else { return Ok(Some(History::default())) };
    let search_path = entry.config["search_path"].as_str().unwrap_or_default();
    // Taken out while the query runs: the query may itself ask for recommendations.
    let kept = PLANS.with_borrow_mut(|plans| plans.remove(&entry.name)).filter(|(stamp, _)| *stamp == entry.stamp);
    let (state, history) = match kept {
        Some((_, State::Unreadable)) => (State::Unreadable, None),
        Some((_, State::Readable(lookup))) => {
            let history = as_author(entry.owner, search_path, || read(recommender, &lookup, user))?;
            (State::Readable(lookup), Some(history))
        }
        None => match first(recommender, source, search_path, user_type, user)? {
            Ok((lookup, history)) => (State::Readable(lookup), Some(history)),
            Err(reason) => {
                notice!(
                    "recommending from what \"{}\" was trained on, since its source cannot be read: {reason}",
                    entry.name
                );
                (State::Unreadable, None)
            }
        },
    };
    PLANS.with_borrow_mut(|plans| plans.insert(entry.name.clone(), (entry.stamp, state)));
    Ok(history)
}

/// The first look, inside a subtransaction: a source that is gone is no error of the caller's.
fn first(
    recommender: &Recommender,
    source: &str,
    search_path: &str,
    user_type: IdType,
    user: pg_sys::Datum,
) -> Result<std::result::Result<(Lookup, History), String>> {
    let signals = &recommender.signals;
    let wanted = [
        required("item_id", Kind::Id),
        optional("weight", Kind::Number),
        optional("ts", Kind::Time),
        optional("event", Kind::Text),
    ];
    // What the source need not have is looked for only where training read it.
    let has_weight = recommender.entry.config["has_weight"] == true;
    let read_by_training = [true, has_weight, signals.needs_time(), signals.needs_event()];
    let columns: Vec<&str> =
        wanted.iter().zip(read_by_training).filter(|(_, read)| *read).map(|(c, _)| c.name).collect();
    let columns = columns.join(", ");
    let query = format!("SELECT {columns} FROM {} AS source WHERE user_id = $1", as_subquery(source));
    let query = CString::new(query).map_err(|_| Error::Internal("a source with a zero byte".into()))?;
    let look = || {
        as_author(recommender.entry.owner, search_path, || {
            let lookup = Lookup::prepare(&query, user_type.oid(), &wanted)?;
            let history = read(recommender, &lookup, user)?;
            Ok((lookup, history))
        })
    };
    // SAFETY: a plain read.
    if unsafe { pg_sys::IsInParallelMode() } {
        // Above parallel workers PostgreSQL allows no subtransaction: there a source that is gone is an error.
        return look().map(Ok);
    }
    // SAFETY: a subtransaction begun here ends here, on either path, with the memory context and the resource owner
    // that were current before.
    unsafe {
        let context = pg_sys::CurrentMemoryContext;
        let owner = pg_sys::CurrentResourceOwner;
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(context);
        let restore = || {
            pg_sys::MemoryContextSwitchTo(context);
            pg_sys::CurrentResourceOwner = owner;
        };
        // Whatever went wrong, the subtransaction ends here: left open, it would be taken for the caller's own.
        let failed = |error: CaughtError| {
            pg_sys::RollbackAndReleaseCurrentSubTransaction();
            restore();
            let (CaughtError::PostgresError(report)
            | CaughtError::ErrorReport(report)
            | CaughtError::RustPanic { ereport: report, .. }) = &error;
            match report.sql_error_code() {
                PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE
                | PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE
                | PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN => Ok(Err(report.message().to_owned())),
                _ => error.rethrow(),
            }
        };
        PgTryBuilder::new(AssertUnwindSafe(|| {
            let found = look();
            pg_sys::ReleaseCurrentSubTransaction();
            restore();
            found.map(Ok)
        }))
        .catch_others(failed)
        .catch_rust_panic(failed)
        .execute()
    }
}

fn read(recommender: &Recommender, lookup: &Lookup, user: pg_sys::Datum) -> Result<History> {
    let (item_ids, signals) = (recommender.model.item_ids(), &recommender.signals);
    let mut pairs: Vec<(u32, f64)> = Vec::new();
    lookup.run(user, |row| {
        let weight = if lookup.has(1) { row.number(1)? } else { 1.0 };
        let event = if lookup.has(3) { row.text(3)? } else { None };
        let weight = signals.weight(weight, event) as f32;
        let time = if lookup.has(2) { row.time(2) } else { i64::MIN };
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

/// The type of user ids in the model's source.
pub fn user_id_type(recommender: &Recommender) -> Option<IdType> {
    IdType::from_name(recommender.entry.config["user_id_type"].as_str()?)
}

/// The type of item ids in the model's source.
pub fn item_id_type(recommender: &Recommender) -> Option<IdType> {
    IdType::from_name(recommender.entry.config["item_id_type"].as_str()?)
}
