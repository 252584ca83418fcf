//! `reco.cache` and `reco.sweep_cache`: the cache of model files in the data directory.

use std::collections::BTreeMap;

use pgrx::prelude::*;

use crate::pg::errors;
use crate::pg::interrupts::Statement;
use crate::service::catalog::versions;
use crate::service::{cache, cache_folder};
use runtime::error::Result;

/// folder, bytes, model, version, databases, prepared here, prepared elsewhere
type Row = (String, i64, Option<String>, Option<i32>, Vec<pg_sys::Oid>, bool, i32);

#[pg_extern(sql = false)]
fn cache_folders()
-> errors::Result<TableIterator<'static, (String, i64, Option<String>, Option<i32>, Vec<pg_sys::Oid>, bool, i32)>> {
    Ok(TableIterator::new(rows()?))
}

/// One row for each folder and each version of this database whose files are in it.
fn rows() -> Result<Vec<Row>> {
    let mut by_folder: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for version in versions::all()? {
        for folder in cache_folder::names(&version.files) {
            by_folder.entry(folder).or_default().push((version.name.clone(), version.version));
        }
    }
    let here = cache::prepared_here();
    let mut rows = Vec::new();
    for content in cache::contents() {
        let databases: Vec<_> = content.databases.into_iter().map(pg_sys::Oid::from).collect();
        let prepared_here = content.prepared.contains(&here);
        let elsewhere = content.prepared.len() - usize::from(prepared_here);
        let held = by_folder.remove(&content.name).unwrap_or_default();
        // A folder that this database does not name has a row too.
        let held = if held.is_empty() { vec![None] } else { held.into_iter().map(Some).collect() };
        for version in held {
            let (model, version): (Option<String>, Option<i32>) = version.unzip();
            rows.push((
                content.name.clone(),
                content.bytes as i64,
                model,
                version,
                databases.clone(),
                prepared_here,
                elsewhere as i32,
            ));
        }
    }
    Ok(rows)
}

#[pg_extern(sql = false)]
fn sweep_cache() -> errors::Result<TableIterator<'static, (String, i64, String)>> {
    let swept = cache::sweep(&Statement::new("sweep_cache", ""))?;
    let rows = swept.into_iter().map(|swept| (swept.folder, swept.bytes as i64, swept.why.to_owned()));
    Ok(TableIterator::new(rows.collect::<Vec<_>>()))
}
