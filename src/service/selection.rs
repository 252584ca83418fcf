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
use crate::service::catalog::Entry;
use crate::service::catalog::Stamp;
use recommendation::ItemSet;
use runtime::error::{Error, Result};
use runtime::progress::Progress;

/// The group of items without a group.
pub const NO_GROUP: u32 = u32::MAX;

/// What a filter selects from: the items of a recommender, the rows of a search index.
pub struct Selectable<'a> {
    pub entry: &'a Entry,
    /// The owner's query that conditions are applied to, if there is one.
    pub query: Option<&'a str>,
    /// The name of its id column.
    pub id: &'static str,
    /// What the caller did not pass to the training if there is no query.
    pub missing: &'static str,
    pub len: usize,
    pub find: &'a dyn Fn(&str) -> Option<u32>,
}

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
    of: &Selectable,
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
        model: of.entry.name.clone(),
        stamp: of.entry.stamp,
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
        allowed: filter.map(|filter| allowed(of, filter, progress)).transpose()?,
        groups: group_by.map(|group_by| groups(of, group_by, progress)).transpose()?,
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

/// The model's query, for a condition in the argument `argument`.
fn own_query<'a>(of: &Selectable<'a>, argument: &'static str) -> Result<&'a str> {
    let model = &of.entry.name;
    let query = of.query.ok_or_else(|| {
        let hint = format!(
            "A condition needs a model trained with {}. Otherwise pass a query, as in filter => 'SELECT {} FROM … WHERE …'.",
            of.missing, of.id
        );
        Error::invalid(format!("cannot use a condition as \"{argument}\" because model \"{model}\" was trained without items"), hint)
    })?;
    if of.entry.stamp.owner != caller() {
        return Err(Error::ForeignQuery { model: model.clone(), argument });
    }
    Ok(query)
}

fn is_query(text: &str) -> bool {
    let word: String = text.trim_start().chars().take_while(char::is_ascii_alphabetic).collect();
    ["select", "with", "table", "values"].contains(&word.to_ascii_lowercase().as_str())
}

fn allowed(of: &Selectable, filter: &str, progress: &dyn Progress) -> Result<ItemSet> {
    let id = of.id;
    let query = if is_query(filter) {
        format!("SELECT {id} FROM {} AS filter", as_subquery("filter", filter)?)
    } else {
        let items = own_query(of, "filter")?;
        format!("SELECT {id} FROM {} AS items WHERE (\n{filter}\n)", as_subquery("items", items)?)
    };
    let mut set = ItemSet::new(of.len);
    each_row("filter", id, &query, progress, |row| {
        // An item that is new to the model cannot be in a list.
        if let Some(item) = (of.find)(&row.id(0)?.to_text()) {
            set.insert(item);
        }
        Ok(())
    })?;
    Ok(set)
}

fn groups(of: &Selectable, group_by: &str, progress: &dyn Progress) -> Result<Vec<u32>> {
    let id = of.id;
    let query = if is_query(group_by) {
        format!("SELECT {id}, group_name FROM {} AS groups", as_subquery("group_by", group_by)?)
    } else {
        let items = own_query(of, "group_by")?;
        format!("SELECT {id}, (\n{group_by}\n) AS group_name FROM {} AS items", as_subquery("items", items)?)
    };
    let mut groups = runtime::memory::filled(NO_GROUP, of.len)?;
    let mut numbers: HashMap<String, u32> = HashMap::new();
    each_row("group_by", id, &query, progress, |row| {
        if let (Some(item), Some(name)) = ((of.find)(&row.id(0)?.to_text()), row.printed(1)?) {
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
    id: &'static str,
    query: &str,
    progress: &dyn Progress,
    visit: impl FnMut(&Row) -> Result<()>,
) -> Result<()> {
    let _read_only = ReadOnly::begin();
    let wanted = [required(id, Kind::Id), optional("group_name", Kind::Printed)];
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
