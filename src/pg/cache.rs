//! A model's files on disk, made from the catalog when first needed: `<data directory>/pg_reco/<sha256>/<file>`.
//!
//! A version's folder is named after its content, so that every backend maps the same files and a new version never
//! changes an old one's. It is written aside, synced and renamed: it is there whole or not at all, whoever else writes
//! it at the same time. It can be deleted at any moment; the catalog has it all.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use pgrx::pg_sys;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::pg::catalog::{self, Entry, FileEntry};
use crate::progress::Progress;

/// The folder with the files of `entry`, made if it is not there whole.
pub fn folder(entry: &Entry, progress: &dyn Progress) -> Result<PathBuf> {
    let root = root();
    let folder = root.join(digest(&entry.files));
    if is_whole(&folder, &entry.files) {
        return Ok(folder);
    }
    fs::create_dir_all(&root).map_err(failed("create", &root))?;
    // SAFETY: a plain read.
    let aside = root.join(format!("{}.{}", digest(&entry.files), unsafe { pg_sys::MyProcPid }));
    remove(&aside)?;
    let made = make(entry, &aside, progress).and_then(|()| {
        // What stands there and is not whole was damaged from outside.
        if folder.exists() && !is_whole(&folder, &entry.files) {
            remove(&folder)?;
        }
        match fs::rename(&aside, &folder) {
            Ok(()) => Ok(()),
            // Another backend was first.
            Err(_) if is_whole(&folder, &entry.files) => Ok(()),
            Err(e) => Err(failed("rename", &aside)(e)),
        }
    });
    // Nothing is left where the rename was done.
    remove(&aside)?;
    made.map(|()| folder)
}

/// Takes the folder of a version away. Backends that have it mapped keep what they have.
pub fn forget(files: &[FileEntry]) -> Result<()> {
    remove(&root().join(digest(files)))
}

fn make(entry: &Entry, folder: &Path, progress: &dyn Progress) -> Result<()> {
    fs::create_dir(folder).map_err(failed("create", folder))?;
    for file in &entry.files {
        let path = folder.join(&file.name);
        let mut out = File::create(&path).map_err(failed("create", &path))?;
        let mut hash = Sha256::new();
        catalog::read_file(entry, file, progress, |part| {
            hash.update(part);
            out.write_all(part).map_err(failed("write", &path))
        })?;
        if catalog::hex(&hash.finalize()) != file.sha256 {
            return Err(catalog::damaged(entry, format!("{} does not have its SHA-256", file.name)));
        }
        out.sync_all().map_err(failed("sync", &path))?;
    }
    File::open(folder).and_then(|f| f.sync_all()).map_err(failed("sync", folder))
}

fn root() -> PathBuf {
    // SAFETY: PostgreSQL sets the data directory before it starts any backend.
    let data = unsafe { CStr::from_ptr(pg_sys::DataDir) };
    Path::new(&*data.to_string_lossy()).join("pg_reco")
}

fn digest(files: &[FileEntry]) -> String {
    let mut hash = Sha256::new();
    for file in files {
        hash.update(format!("{} {}\n", file.sha256, file.name));
    }
    catalog::hex(&hash.finalize())
}

fn is_whole(folder: &Path, files: &[FileEntry]) -> bool {
    files.iter().all(|f| fs::metadata(folder.join(&f.name)).is_ok_and(|m| m.is_file() && m.len() == f.size))
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("remove", folder)(e)),
        _ => Ok(()),
    }
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> Error + 'a {
    move |source| Error::File { action, path: path.display().to_string(), source }
}
