//! Which items a request allows, and in which group each is: SQL of the caller's, run with the caller's rights.
//!
//! A condition is put around the model's items query, which its owner wrote: so only the owner may give one. Run by anybody
//! else, the owner's query would act in the name of whoever asks. All others give queries of their own.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use pgrx::pg_sys;

use crate::error::{Error, Result};
use crate::pg::catalog::Stamp;
use crate::pg::identity::caller;
use crate::pg::loaded::Recommender;
use crate::pg::source::{Kind, Source, as_subquery, optional, required};
use crate::progress::Progress;
use crate::recommendation::ItemSet;

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

/// What a selection was made for: within one command it cannot change.
#[derive(Clone, PartialEq, Eq)]
struct Key {
    model: String,
    stamp: Stamp,
    filter: Option<String>,
    group_by: Option<String>,
    role: pg_sys::Oid,
    statement: i64,
    command: u32,
}

thread_local! {
    static LAST: RefCell<Option<(Key, Rc<Selection>)>> = const { RefCell::new(None) };
}

/// `filter` is a condition on the columns of the model's items query, or a query that gives `item_id`; `group_by` is an
/// expression over the items query, or a query that gives `item_id` and `group_name`.
///
/// The last selection is kept for the command that made it: a join over many users asks once.
pub fn select(
    recommender: &Recommender,
    filter: Option<&str>,
    group_by: Option<&str>,
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
        statement,
        command,
    };
    let kept = LAST.with_borrow(|last| last.as_ref().filter(|(k, _)| *k == key).map(|(_, s)| s.clone()));
    if let Some(kept) = kept {
        return Ok(kept);
    }
    let selection = Selection {
        allowed: filter.map(|filter| allowed(recommender, filter, progress)).transpose()?,
        groups: group_by.map(|group_by| groups(recommender, group_by, progress)).transpose()?,
    };
    let selection = Rc::new(selection);
    LAST.set(Some((key, selection.clone())));
    Ok(selection)
}

/// The model's items query, in which `of` is looked up.
fn items_query<'a>(recommender: &'a Recommender, of: &'static str, value: &str) -> Result<&'a str> {
    let query = recommender.entry.config["items"].as_str().ok_or_else(|| {
        let hint = "A condition needs a model trained with items => 'SELECT item_id, … FROM …'; without, give a query \
                    for filter: 'SELECT item_id FROM … WHERE …'.";
        Error::argument(of, format!("\"{value}\", and the model was trained without items"), hint)
    })?;
    if recommender.entry.owner != caller() {
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
        format!("SELECT item_id FROM {} AS filter", as_subquery(filter))
    } else {
        let items = items_query(recommender, "filter", filter)?;
        format!("SELECT item_id FROM {} AS items WHERE (\n{filter}\n)", as_subquery(items))
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
        format!("SELECT item_id, group_name::pg_catalog.text FROM {} AS groups", as_subquery(group_by))
    } else {
        let items = items_query(recommender, "group_by", group_by)?;
        format!("SELECT item_id, (\n{group_by}\n)::pg_catalog.text AS group_name FROM {} AS items", as_subquery(items))
    };
    let ids = recommender.model.item_ids();
    let mut groups = crate::memory::filled(NO_GROUP, ids.len())?;
    let mut numbers: HashMap<String, u32> = HashMap::new();
    each_row("group_by", &query, progress, |row| {
        if let (Some(item), Some(name)) = (ids.find(&row.id(0)?.to_text()), row.text(1)?) {
            let next = numbers.len() as u32;
            groups[item as usize] = match numbers.get(name) {
                Some(&number) => number,
                None => *numbers.entry(name.to_owned()).or_insert(next),
            };
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
    mut visit: impl FnMut(&crate::pg::source::Row) -> Result<()>,
) -> Result<()> {
    // SAFETY: a variable of this backend, as SET TRANSACTION READ ONLY sets it; an error that is raised in between ends the
    // transaction or subtransaction, which sets it back.
    let before = unsafe { std::mem::replace(&mut *std::ptr::addr_of_mut!(pg_sys::XactReadOnly), true) };
    let result = (|| {
        progress.report(&format!("reading {what}"), 0, 0);
        let wanted = [required("item_id", Kind::Id), optional("group_name", Kind::Text)];
        let mut rows = Source::open_named(what, query, &wanted)?;
        while rows.fetch(FETCH, &mut visit)? > 0 {
            progress.check()?;
        }
        rows.close()
    })();
    // SAFETY: as above.
    unsafe { *std::ptr::addr_of_mut!(pg_sys::XactReadOnly) = before };
    result
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
