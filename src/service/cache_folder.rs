//! The location of a model's files in the cache: a folder for each version, and one for each part that versions share. Folders are not transactional: they are removed at commit or abort.

use std::collections::BTreeSet;
use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use pgrx::pg_sys;
use sha2::{Digest, Sha256};

use crate::pg::transaction;
use onnx::cache_folders::{CacheFolders, Database};
use runtime::error::Result;
use runtime::sealed::hex;

/// A file of a version.
#[derive(Clone, Debug)]
pub struct FileEntry {
    /// Within a part that versions share: the part, a slash, and the name within it.
    pub name: String,
    pub sha256: String,
    pub size: u64,
    /// The version that the catalog keeps its content with.
    pub stored_in: i32,
}

impl FileEntry {
    /// The part that it belongs to, empty for what is the version's own, and its name within.
    pub fn split(&self) -> (&str, &str) {
        self.name.split_once('/').unwrap_or(("", &self.name))
    }
}

/// The files of the part `part`.
pub fn of_part<'a>(files: &'a [FileEntry], part: &str) -> Vec<&'a FileEntry> {
    files.iter().filter(|file| file.split().0 == part).collect()
}

/// The folder for the files of a part, which may not exist.
pub fn path(files: &[&FileEntry]) -> PathBuf {
    root().join(name(files))
}

/// The names of all folders for the files of a version.
pub fn names(files: &[FileEntry]) -> BTreeSet<String> {
    let parts: BTreeSet<&str> = files.iter().map(|file| file.split().0).collect();
    parts.into_iter().map(|part| name(&of_part(files, part))).collect()
}

/// The name of the folder for the files of a part.
pub fn name(files: &[&FileEntry]) -> String {
    let mut hash = Sha256::new();
    for file in files {
        hash.update(format!("{} {}\n", file.sha256, file.split().1));
    }
    hex(&hash.finalize()[..16])
}

fn root() -> PathBuf {
    data_directory().join("pg_reco")
}

pub fn data_directory() -> &'static Path {
    // SAFETY: PostgreSQL sets the data directory before it starts any backend, and never again.
    let data = unsafe { CStr::from_ptr(pg_sys::DataDir) };
    Path::new(OsStr::from_bytes(data.to_bytes()))
}

pub fn folders() -> CacheFolders {
    CacheFolders::new(root())
}

pub fn this_database() -> Database {
    // SAFETY: a plain read.
    unsafe { pg_sys::MyDatabaseId }.to_u32()
}

/// Records that this database no longer needs the folder `name`, and removes it if no other does.
pub fn release(name: &str) -> Result<()> {
    folders().release(this_database(), name)
}

/// Removes the folder at commit. Until then others may read it.
pub fn remove_at_commit(name: String) {
    transaction::at_commit(move || remove(&name));
}

/// Removes the folder at abort.
pub fn remove_at_abort(name: String) {
    transaction::at_abort(move || remove(&name));
}

/// Removes the folder, ignoring errors since the transaction has ended. A backend that is using the folder recreates it.
fn remove(name: &str) {
    let _ = release(name);
}
