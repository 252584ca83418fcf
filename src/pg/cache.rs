//! A model's files on disk, made from the catalog when first needed: `<data directory>/pg_reco/<hash>/<file>`.
//!
//! A version's folder is named after its content, so that every backend maps the same files and a new version never
//! changes an old one's: by half of a SHA-256, since a base backup takes no path of more than 99 bytes. It can be deleted
//! or damaged at any moment; the catalog has it all (see [`sealed`]).

use std::ffi::CStr;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use pgrx::pg_sys;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::pg::catalog::{self, Entry, FileEntry};
use crate::progress::Progress;
use crate::sealed::{self, Hashes, failed, hex};

/// The folder with the files of `entry`, made if it is not there intact.
pub fn folder(entry: &Entry, progress: &dyn Progress) -> Result<PathBuf> {
    let folder = path(&entry.files);
    let expected: Hashes = entry.files.iter().map(|f| (f.name.clone(), f.sha256.clone())).collect();
    sealed::ensure(&folder, Some(&expected), progress, |aside| {
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
    Ok(folder)
}

/// The folder for `files`, whether it is there or not.
pub fn path(files: &[FileEntry]) -> PathBuf {
    // SAFETY: PostgreSQL sets the data directory before it starts any backend.
    let data = unsafe { CStr::from_ptr(pg_sys::DataDir) };
    let mut hash = Sha256::new();
    for file in files {
        hash.update(format!("{} {}\n", file.sha256, file.name));
    }
    Path::new(&*data.to_string_lossy()).join("pg_reco").join(hex(&hash.finalize()[..16]))
}
