//! The items that a request allows, and their groups: the caller's SQL, run with the caller's privileges.
//!
//! A condition is applied to the model's items query, which the model's owner wrote. So only the owner may use conditions: otherwise the
//! owner's query would run with the privileges of the caller. Other roles pass queries of their own.

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

/// The group of items without a group.
pub const NO_GROUP: u32 = u32::MAX;

/// The result of the queries on a model's items.
#[derive(Default)]
pub struct Selection {
    pub allowed: Option<ItemSet>,
    /// [items]
    pub groups: Option<Vec<u32>>,
}

/// The inputs of a selection.
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
    /// The active runs that have a callback at their end.
    static TOLD: RefCell<Vec<QueryRun>> = const { RefCell::new(Vec::new()) };
}

struct Kept {
    run: QueryRun,
    key: Key,
    selection: Rc<Selection>,
}

/// Evaluates `filter` and `group_by`. `filter` is a condition on the columns of the model's items query, or a query that returns `item_id`.
/// `group_by` is an expression over the items query, or a query that returns `item_id` and `group_name`.
///
/// The last selection is reused within one execution of a query, so that a join over many users evaluates it once. That execution has one
/// snapshot; the other inputs (role, transaction, command) are compared. Row-level security may depend on settings: after a setting may have
/// changed, nothing is reused for the rest of the transaction.
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

/// An execution of a query, identified by the memory context of its functions, which lives until its end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct QueryRun(pg_sys::MemoryContext);

impl QueryRun {
    pub fn of(call: pg_sys::FunctionCallInfo) -> Self {
        // SAFETY: the call under way has a function, which has its memory.
        Self(unsafe { (*(*call).flinfo).fn_mcxt })
    }

    /// Drops the stored selection at the end of the execution, since its memory context may be reused afterwards.
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

/// The model's items query, for a condition in the argument `of`.
fn items_query<'a>(recommender: &'a Recommender, of: &'static str) -> Result<&'a str> {
    let query = recommender.entry.config["items"].as_str().ok_or_else(|| {
        let hint = "A condition needs a model trained with items => 'SELECT item_id, … FROM …'. Otherwise pass a query, as \
                    in filter => 'SELECT item_id FROM … WHERE …'.";
        let model = &recommender.entry.name;
        let message = format!("cannot use a condition as \"{of}\" because model \"{model}\" was trained without items");
        Error::invalid(message, hint)
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
        let items = items_query(recommender, "filter")?;
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
        let items = items_query(recommender, "group_by")?;
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

/// Runs a query in a read-only transaction state, which also covers functions that it calls.
fn each_row(
    what: &'static str,
    query: &str,
    progress: &dyn Progress,
    visit: impl FnMut(&Row) -> Result<()>,
) -> Result<()> {
    let _read_only = ReadOnly::begin();
    let wanted = [required("item_id", Kind::Id), optional("group_name", Kind::Printed)];
    Source::open_named(what, query, &wanted)?.read(progress, visit)?;
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
