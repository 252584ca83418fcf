//! Rows of features, one for each id.

use std::sync::Arc;

use ahash::AHashMap;

use crate::Id;
use runtime::error::{Error, Result};
use runtime::memory;
use tabular::{Column, ColumnKind, Table, Value};

/// Collects the features of items or users, one row each.
#[derive(Clone, Debug)]
pub struct FeatureTable {
    table: Table,
    ids: Vec<Arc<str>>,
    rows: AHashMap<Arc<str>, u32>,
}

impl FeatureTable {
    pub fn new(columns: Vec<(String, ColumnKind)>) -> Self {
        Self { table: Table::new(columns), ids: Vec::new(), rows: AHashMap::default() }
    }

    /// Adds a row, with a value for each column. Errors are a duplicate id, a number or vector that is not finite, and a vector of another length
    /// than those before. After an error the table must not be used.
    pub fn push(&mut self, id: Id, values: &[Value]) -> Result<()> {
        let id: Arc<str> = id.to_text().into();
        if self.rows.insert(id.clone(), self.ids.len() as u32).is_some() {
            let hint = "A query of features must return one row for each id. Aggregate it, or use SELECT DISTINCT ON.";
            return Err(Error::invalid(format!("duplicate id \"{id}\" in query of features"), hint));
        }
        self.table.push(values, || format!("\"{id}\""))?;
        memory::push(&mut self.ids, id)
    }

    pub fn rows(&self) -> usize {
        self.ids.len()
    }

    /// Ids in the order of the rows.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.ids.iter().map(|id| &**id)
    }

    pub fn row_of(&self, id: &str) -> Option<usize> {
        self.rows.get(id).map(|&row| row as usize)
    }

    pub(super) fn columns(&self) -> impl Iterator<Item = (&str, &Column)> {
        self.table.columns().map(|(name, _, column)| (name, column))
    }
}
