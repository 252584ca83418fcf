//! Which items a request allows, and in which group each is: SQL of the caller's, run with the caller's rights.
//!
//! A condition is put around the model's items query, which its owner wrote: so only the owner may give one. Run by anybody
//! else, the owner's query would act in the name of whoever asks. All others give queries of their own.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::rc::Rc;

use pgrx::{pg_guard, pg_sys};

use crate::pg::identity::{ReadOnly, caller};
use crate::pg::row::{Kind, Row, optional, required};
use crate::pg::source::{Source, as_subquery};
use crate::pg::{foreign, transaction};
use crate::service::catalog::Stamp;
use crate::service::loaded::Recommender;
use recommendation::ItemSet;
use runtime::error::{Error, Result};
use runtime::progress::Progress;

/// Rows fetched at a time.
const FETCH: usize = 10_000;
/// The group of an item that is in none.
pub const NO_GROUP: u32 = u32::MAX;

/// What SQL says of a model's items.
#[derive(Default)]
pub struct Selection {
    pub allowed: Option<ItemSet>,
    /// [items]
    pub groups: Option<Vec<u32>>,
}

/// What a selection was made for.
#[derive(Clone, PartialEq, Eq)]
struct Key {
    model: String,
    stamp: Stamp,
    filter: Option<String>,
    group_by: Option<String>,
    role: pg_sys::Oid,
    transaction: u64,
    statement: i64,
    command: u32,
}

thread_local! {
    static LAST: RefCell<Option<Kept>> = const { RefCell::new(None) };
    /// The runs under way whose end is told: each once, however often others come in between.
    static TOLD: RefCell<Vec<QueryRun>> = const { RefCell::new(Vec::new()) };
}

struct Kept {
    run: QueryRun,
    key: Key,
    selection: Rc<Selection>,
}

/// `filter` is a condition on the columns of the model's items query, or a query that gives `item_id`; `group_by` is an
/// expression over the items query, or a query that gives `item_id` and `group_name`.
///
/// The last selection is kept for the run of a query that made it: a join over many users asks once. That run reads by one snapshot, and what
/// else a selection can depend on is compared: role, transaction, command. Once a setting was touched, on which row-level security may
/// depend, nothing is kept for the rest of the transaction.
pub fn select(
    recommender: &Recommender,
    filter: Option<&str>,
    group_by: Option<&str>,
    run: QueryRun,
    progress: &dyn Progress,
) -> Result<Rc<Selection>> {
    if filter.is_none() && group_by.is_none() {
        return Ok(Rc::default());
    }
    // SAFETY: plain reads of this backend's state.
    let (statement, command) =
        unsafe { (pg_sys::GetCurrentStatementStartTimestamp(), pg_sys::GetCurrentCommandId(false)) };
    let key = Key {
        model: recommender.entry.name.clone(),
        stamp: recommender.entry.stamp,
        filter: filter.map(Into::into),
        group_by: group_by.map(Into::into),
        role: caller(),
        transaction: transaction::number(),
        statement,
        command,
    };
    let kept = LAST.with_borrow(|last| {
        last.as_ref()
            .filter(|kept| kept.run == run && kept.key == key && !foreign::settings_touched())
            .map(|kept| kept.selection.clone())
    });
    if let Some(kept) = kept {
        return Ok(kept);
    }
    let selection = Selection {
        allowed: filter.map(|filter| allowed(recommender, filter, progress)).transpose()?,
        groups: group_by.map(|group_by| groups(recommender, group_by, progress)).transpose()?,
    };
    let selection = Rc::new(selection);
    run.forget_at_end();
    LAST.set(Some(Kept { run, key, selection: selection.clone() }));
    Ok(selection)
}

/// The run of a query, told by the memory that its functions live in until it ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct QueryRun(pg_sys::MemoryContext);

impl QueryRun {
    pub fn of(call: pg_sys::FunctionCallInfo) -> Self {
        // SAFETY: the call under way has a function, which has its memory.
        Self(unsafe { (*(*call).flinfo).fn_mcxt })
    }

    /// With the run goes what was kept for it: its memory may be another's then.
    fn forget_at_end(self) {
        if TOLD.with_borrow(|told| told.contains(&self)) {
            return;
        }
        // SAFETY: the callback lives in the memory whose end it tells of.
        unsafe {
            let callback = pg_sys::MemoryContextAlloc(self.0, size_of::<pg_sys::MemoryContextCallback>())
                .cast::<pg_sys::MemoryContextCallback>();
            (*callback).func = Some(forget);
            (*callback).arg = self.0.cast();
            pg_sys::MemoryContextRegisterResetCallback(self.0, callback);
        }
        TOLD.with_borrow_mut(|told| told.push(self));
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn forget(argument: *mut c_void) {
    let run = QueryRun(argument.cast());
    TOLD.with_borrow_mut(|told| told.retain(|other| *other != run));
    LAST.with_borrow_mut(|last| _ = last.take_if(|kept| kept.run == run));
}

/// The model's items query, in which `of` is looked up.
fn items_query<'a>(recommender: &'a Recommender, of: &'static str, value: &str) -> Result<&'a str> {
    let query = recommender.entry.config["items"].as_str().ok_or_else(|| {
        let hint = "A condition needs a model trained with items => 'SELECT item_id, … FROM …'; without, give a query \
                    for filter: 'SELECT item_id FROM … WHERE …'.";
        Error::argument(of, format!("\"{value}\", and the model was trained without items"), hint)
    })?;
    if recommender.entry.stamp.owner != caller() {
        return Err(Error::ForeignQuery { model: recommender.entry.name.clone(), argument: of });
    }
    Ok(query)
}

fn is_query(text: &str) -> bool {
    let word: String = text.trim_start().chars().take_while(char::is_ascii_alphabetic).collect();
    ["select", "with", "table", "values"].contains(&word.to_ascii_lowercase().as_str())
}

fn allowed(recommender: &Recommender, filter: &str, progress: &dyn Progress) -> Result<ItemSet> {
    let query = if is_query(filter) {
        format!("SELECT item_id FROM {} AS filter", as_subquery("filter", filter)?)
    } else {
        let items = items_query(recommender, "filter", filter)?;
        format!("SELECT item_id FROM {} AS items WHERE (\n{filter}\n)", as_subquery("items", items)?)
    };
    let ids = recommender.model.item_ids();
    let mut set = ItemSet::new(ids.len());
    each_row("filter", &query, progress, |row| {
        // An item that is new to the model cannot be in a list.
        if let Some(item) = ids.find(&row.id(0)?.to_text()) {
            set.insert(item);
        }
        Ok(())
    })?;
    Ok(set)
}

fn groups(recommender: &Recommender, group_by: &str, progress: &dyn Progress) -> Result<Vec<u32>> {
    let query = if is_query(group_by) {
        format!("SELECT item_id, group_name FROM {} AS groups", as_subquery("group_by", group_by)?)
    } else {
        let items = items_query(recommender, "group_by", group_by)?;
        format!("SELECT item_id, (\n{group_by}\n) AS group_name FROM {} AS items", as_subquery("items", items)?)
    };
    let ids = recommender.model.item_ids();
    let mut groups = runtime::memory::filled(NO_GROUP, ids.len())?;
    let mut numbers: HashMap<String, u32> = HashMap::new();
    each_row("group_by", &query, progress, |row| {
        if let (Some(item), Some(name)) = (ids.find(&row.id(0)?.to_text()), row.printed(1)?) {
            let next = numbers.len() as u32;
            groups[item as usize] = *numbers.entry(name).or_insert(next);
        }
        Ok(())
    })?;
    Ok(groups)
}

/// Runs a query that may not write, whatever functions it calls.
fn each_row(
    what: &'static str,
    query: &str,
    progress: &dyn Progress,
    mut visit: impl FnMut(&Row) -> Result<()>,
) -> Result<()> {
    let _read_only = ReadOnly::begin();
    progress.report(&format!("reading {what}"), 0, 0);
    let wanted = [required("item_id", Kind::Id), optional("group_name", Kind::Printed)];
    let mut rows = Source::open_named(what, query, &wanted)?;
    while rows.fetch(FETCH, &mut visit)? > 0 {
        progress.check()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::is_query;

    #[test]
    fn a_query_is_told_from_a_condition() {
        assert!(is_query(" SELECT 1") && is_query("with x as (select 1) table x") && is_query("TABLE a"));
        assert!(!is_query("price < 3") && !is_query("selected") && !is_query("(select true)") && !is_query(""));
    }
}
