//! A model's files on disk, made from the catalog when first needed: `<data directory>/pg_reco/<hash>/<file>`.
//!
//! A version's folder is named after its content, so that every backend maps the same files and a new version never
//! changes an old one's: by half of a SHA-256, since a base backup takes no path of more than 99 bytes. It can be deleted
//! or damaged at any moment; the catalog has it all (see [`sealed`]). Which databases need a folder is noted beside it (see
//! [`CacheFolders`]): what none needs is swept away.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

use pgrx::{IntoDatum, direct_function_call, pg_sys};

use super::cache_folder::{data_directory, folders, name, path, this_database};
use super::catalog::{self, Entry, versions};
use crate::pg::settings;
use onnx::cache_folders::{Content, Database, Swept};
use onnx::prepared;
use runtime::error::{Error, Result};
use runtime::progress::Progress;
use runtime::sealed::{self, Hashes, failed};

/// Folders that go beside the making of one, at most: it takes long enough itself.
const SWEPT_BESIDE: usize = 16;

/// The folder with the files of `entry`, made if it is not there intact.
pub fn folder(entry: &Entry, progress: &dyn Progress) -> Result<PathBuf> {
    let folder = path(&entry.files);
    // Where nothing can be written, what is there can still be read.
    let _ = mark(&name(&entry.files));
    let made = Cell::new(false);
    let expected: Hashes = entry.files.iter().map(|f| (f.name.clone(), f.sha256.clone())).collect();
    sealed::ensure(&folder, Some(&expected), progress, |aside| {
        made.set(true);
        for file in &entry.files {
            let path = aside.join(&file.name);
            let mut out = File::create(&path).map_err(failed("create", &path))?;
            catalog::read_file(entry, file, progress, |part| out.write_all(part).map_err(failed("write", &path)))?;
        }
        Ok(())
    })
    .map_err(|error| match error {
        Error::Damaged(reason) => catalog::damaged(entry, reason),
        other => other,
    })?;
    if made.get() {
        // A sweep may have taken the mark for that of a version that was never committed.
        let _ = mark(&name(&entry.files));
        // Only tidying: the caller has what it came for. A cancel request stays pending.
        let _ = sweep_away(SWEPT_BESIDE, progress);
    }
    Ok(folder)
}

/// Notes that this database needs the folder `name`.
fn mark(name: &str) -> Result<()> {
    match catalog_path() {
        Some(catalog) => folders().mark(this_database(), &catalog, name),
        None => Ok(()),
    }
}

/// The path of the catalog's table below the data directory. The file is there, and not empty, as long as the extension is,
/// with a model: also other databases, and a standby, can see that.
fn catalog_path() -> Option<String> {
    // SAFETY: look-ups in the system cache; the function takes an oid and gives NULL where there is no such table.
    unsafe {
        let table = pg_sys::get_relname_relid(c"model".as_ptr(), pg_sys::get_namespace_oid(c"reco".as_ptr(), true));
        direct_function_call(pg_sys::pg_relation_filepath, &[table.into_datum()])
    }
}

/// Whether a database still has models, as far as another can tell.
fn needs(database: Database, catalog: &str) -> bool {
    if database == this_database() {
        return true;
    }
    // SAFETY: a look-up in the system cache, in a transaction.
    let exists = unsafe { !pg_sys::get_database_name(pg_sys::Oid::from(database)).is_null() };
    // A table that was dropped is cut to nothing at once and its file removed with the next checkpoint.
    exists && !catalog.is_empty() && fs::metadata(data_directory().join(catalog)).is_ok_and(|file| file.len() > 0)
}

/// Removes everything in the cache that no database needs, and says what that was.
pub fn sweep(progress: &dyn Progress) -> Result<Vec<Swept>> {
    folders().align(this_database(), &catalog_path().unwrap_or_default(), &versions::named()?)?;
    sweep_away(usize::MAX, progress)
}

fn sweep_away(limit: usize, progress: &dyn Progress) -> Result<Vec<Swept>> {
    let folders = folders();
    folders.forget(needs)?;
    folders.sweep(&prepared_here(), limit, progress)
}

/// What there is in the cache.
pub fn contents() -> Vec<Content> {
    folders().contents(needs)
}

/// The name of the folders with graphs prepared for this connection's ONNX Runtime.
pub fn prepared_here() -> String {
    prepared::key(&settings::session_options().environment.library)
}
