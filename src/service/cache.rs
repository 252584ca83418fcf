//! Model files on disk, created from the catalog on first use: `<data directory>/pg_reco/<hash>/<file>`.
//!
//! The folder of a version is named after its content, so that all backends map the same files and a new version never changes those of an
//! old one. The name is half a SHA-256, since a base backup supports paths of at most 99 bytes. A folder can be deleted or damaged at any
//! time: it is recreated from the catalog (see [`sealed`]). The databases that need a folder are recorded beside it (see [`CacheFolders`]);
//! a folder that no database needs is removed.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use memmap2::Mmap;
use pgrx::{IntoDatum, direct_function_call, pg_sys};

use super::cache_folder::{data_directory, folders, name, of_part, path, this_database};
use super::catalog::{self, Entry, versions};
use crate::pg::{settings, transaction};
use onnx::cache_folders::{Content, Database, Swept};
use onnx::prepared;
use runtime::error::{Error, Result};
use runtime::progress::Progress;
use runtime::sealed::{self, Hashes, failed};

/// Folders that are removed while one is created, at most, since creating one takes long.
const SWEPT_BESIDE: usize = 16;

/// The folder with the files of `entry` that it shares with no other version, created unless it exists and is intact.
pub fn folder(entry: &Entry, progress: &dyn Progress) -> Result<PathBuf> {
    part(entry, "", progress)
}

/// All files of `entry`, mapped, by name.
pub fn map_all(entry: &Entry, progress: &dyn Progress) -> Result<Vec<(String, Bytes)>> {
    let parts: BTreeSet<&str> = entry.files.iter().map(|file| file.split().0).collect();
    let mut mapped = Vec::new();
    for of in parts {
        let folder = part(entry, of, progress)?;
        for file in of_part(&entry.files, of) {
            mapped.push((file.name.clone(), map(&folder.join(file.split().1))?));
        }
    }
    Ok(mapped)
}

/// The folder with the files of one part of `entry`.
fn part(entry: &Entry, part: &str, progress: &dyn Progress) -> Result<PathBuf> {
    let files = of_part(&entry.files, part);
    let (folder, name) = (path(&files), name(&files));
    // An existing folder can be used even if nothing can be written.
    let _ = mark(&name);
    let made = Cell::new(false);
    let expected: Hashes = files.iter().map(|f| (f.split().1.to_owned(), f.sha256.clone())).collect();
    sealed::ensure(&folder, Some(&expected), progress, |aside| {
        made.set(true);
        discard_at_abort(aside);
        for file in &files {
            let path = aside.join(file.split().1);
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
        let _ = mark(&name);
        // Only cleanup: the caller has its folder. A cancel request stays pending.
        let _ = sweep_away(SWEPT_BESIDE, progress);
    }
    Ok(folder)
}

/// Removes a folder that is being filled when the transaction aborts: an error or the end of the process in a query leaves it half made.
pub fn discard_at_abort(aside: &Path) {
    let aside = aside.to_owned();
    transaction::at_abort(move || drop(sealed::delete(&aside)));
}

/// Maps a file of the cache. Pages are shared with all processes that map it.
pub fn map(path: &Path) -> Result<Bytes> {
    let failed = failed("map", path);
    let file = File::open(path).map_err(&failed)?;
    // SAFETY: files of the cache are renamed into place whole and never written again.
    let map = unsafe { Mmap::map(&file) }.map_err(failed)?;
    Ok(Bytes::from_owner(map))
}

/// Records that this database needs the folder `name`.
fn mark(name: &str) -> Result<()> {
    match catalog_path() {
        Some(catalog) => folders().mark(this_database(), &catalog, name),
        None => Ok(()),
    }
}

/// The path of the catalog table's file, relative to the data directory. The file exists and is not empty as long as the extension exists and
/// has a model, which other databases and a standby can check.
fn catalog_path() -> Option<String> {
    // SAFETY: look-ups in the system cache; the function takes an oid and gives NULL where there is no such table.
    unsafe {
        let table = pg_sys::get_relname_relid(c"model".as_ptr(), pg_sys::get_namespace_oid(c"reco".as_ptr(), true));
        direct_function_call(pg_sys::pg_relation_filepath, &[table.into_datum()])
    }
}

/// Whether a database still has models, judged from outside of it.
fn needs(database: Database, catalog: &str) -> bool {
    if database == this_database() {
        return true;
    }
    // SAFETY: a look-up in the system cache, in a transaction.
    let exists = unsafe { !pg_sys::get_database_name(pg_sys::Oid::from(database)).is_null() };
    // The file of a dropped table is truncated at once and removed with the next checkpoint.
    exists && !catalog.is_empty() && fs::metadata(data_directory().join(catalog)).is_ok_and(|file| file.len() > 0)
}

/// Removes everything in the cache that no database needs, and returns what was removed.
pub fn sweep(progress: &dyn Progress) -> Result<Vec<Swept>> {
    folders().align(this_database(), &catalog_path().unwrap_or_default(), &versions::named()?)?;
    sweep_away(usize::MAX, progress)
}

fn sweep_away(limit: usize, progress: &dyn Progress) -> Result<Vec<Swept>> {
    let folders = folders();
    folders.forget(needs)?;
    folders.sweep(&prepared_here(), limit, progress)
}

/// The contents of the cache.
pub fn contents() -> Vec<Content> {
    folders().contents(needs)
}

/// The name of the folders with graphs prepared for this connection's ONNX Runtime.
pub fn prepared_here() -> String {
    prepared::key(&settings::session_options().environment.library)
}
