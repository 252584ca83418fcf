//! A model's files on disk, made from the catalog when first needed: `<data directory>/pg_reco/<hash>/<file>`.
//!
//! A version's folder is named after its content, so that every backend maps the same files and a new version never
//! changes an old one's: by half of a SHA-256, since a base backup takes no path of more than 99 bytes. It can be deleted
//! or damaged at any moment; the catalog has it all (see [`sealed`]). Which databases need a folder is noted beside it (see
//! [`CacheFolders`]): what none needs is swept away.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::ffi::{CStr, OsStr};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use pgrx::{IntoDatum, direct_function_call, pg_sys};
use sha2::{Digest, Sha256};

use crate::cache_folders::{CacheFolders, Content, Database, Swept};
use crate::error::{Error, Result};
use crate::onnx::prepared;
use crate::pg::catalog::{self, Entry, FileEntry};
use crate::pg::{settings, transaction, versions};
use crate::progress::Progress;
use crate::sealed::{self, Hashes, failed, hex};

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

/// The folder for `files`, whether it is there or not.
pub fn path(files: &[FileEntry]) -> PathBuf {
    root().join(name(files))
}

/// The name of the folder for `files`.
pub fn name(files: &[FileEntry]) -> String {
    let mut hash = Sha256::new();
    for file in files {
        hash.update(format!("{} {}\n", file.sha256, file.name));
    }
    hex(&hash.finalize()[..16])
}

fn root() -> PathBuf {
    data_directory().join("pg_reco")
}

fn data_directory() -> &'static Path {
    // SAFETY: PostgreSQL sets the data directory before it starts any backend, and never again.
    let data = unsafe { CStr::from_ptr(pg_sys::DataDir) };
    Path::new(OsStr::from_bytes(data.to_bytes()))
}

fn folders() -> CacheFolders {
    CacheFolders::new(root())
}

fn this_database() -> Database {
    // SAFETY: a plain read.
    unsafe { pg_sys::MyDatabaseId }.to_u32()
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

/// Removes, when the transaction commits, the folders of versions that it has removed; not of those whose files another
/// version has too.
pub fn remove_at_commit(gone: &[Vec<FileEntry>]) -> Result<()> {
    let named = named()?;
    let gone = gone.iter().map(|files| name(files)).filter(|name| !named.contains(name));
    gone.for_each(transaction::remove_at_commit);
    Ok(())
}

/// This database does not need the folder `name` any more: it goes where no other does.
pub fn release(name: &str) -> Result<()> {
    folders().release(this_database(), name)
}

/// The folders that this database's catalog names.
fn named() -> Result<BTreeSet<String>> {
    Ok(versions::all()?.iter().map(|version| name(&version.files)).collect())
}

/// Removes everything in the cache that no database needs, and says what that was.
pub fn sweep(progress: &dyn Progress) -> Result<Vec<Swept>> {
    folders().align(this_database(), &catalog_path().unwrap_or_default(), &named()?)?;
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
