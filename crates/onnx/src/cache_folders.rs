//! The cache of model files, and which databases need which folders.
//!
//! ```text
//! <root>/<hash>/…                    the files of a version, named after their content: databases share them
//! <root>/<hash>/prepared-<key>/…     its graph, prepared for one ONNX Runtime and processor
//! <root>/databases/<oid>/<hash>      a mark: the database's catalog refers to that content
//! <root>/databases/<oid>/catalog     the path of the catalog table's file, to see whether it still exists
//! ```
//!
//! A mark is written before the folder, so that a folder that is being created is not removed as unneeded. All of it can be lost at any time,
//! and then only costs creating a folder again: no lock is taken, and the loser of a race recreates the folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::prepared;
use runtime::error::Result;
use runtime::progress::Progress;
use runtime::sealed;
use runtime::sealed::failed;

const DATABASES: &str = "databases";
const CATALOG: &str = "catalog";

/// Process ids are reused: an unfinished folder older than this was left by a terminated process.
const MAX_CREATION: Duration = Duration::from_secs(24 * 3600);

/// The oid of a database.
pub type Database = u32;

pub struct CacheFolders {
    root: PathBuf,
}

/// A folder of the cache.
#[derive(Debug, PartialEq)]
pub struct Content {
    pub name: String,
    pub bytes: u64,
    /// The databases that need it.
    pub databases: BTreeSet<Database>,
    /// Folders with its graph prepared.
    pub prepared: BTreeSet<String>,
}

/// Something that a sweep removed.
#[derive(Debug, PartialEq)]
pub struct Swept {
    /// Path relative to the root of the cache.
    pub folder: String,
    pub bytes: u64,
    pub why: &'static str,
}

impl CacheFolders {
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Records that `database` needs the folder `name`. `catalog` is the path of its catalog table's file.
    pub fn mark(&self, database: Database, catalog: &str, name: &str) -> Result<()> {
        let folder = self.marks(database);
        sealed::create_folders(&folder)?;
        let record = folder.join(CATALOG);
        if fs::read(&record).ok().as_deref() != Some(catalog.as_bytes()) {
            if record.is_dir() {
                delete(&record)?;
            }
            // Written atomically: a partial path would look like a dropped catalog.
            let aside = record.with_extension(std::process::id().to_string());
            fs::write(&aside, catalog).and_then(|()| fs::rename(&aside, &record)).map_err(failed("write", &record))?;
        }
        let mark = folder.join(name);
        match fs::symlink_metadata(&mark) {
            Ok(_) => Ok(()),
            Err(_) => fs::write(&mark, "").map_err(failed("write", &mark)),
        }
    }

    /// Removes the mark of `database`, and the folder if no other database has one.
    pub fn release(&self, database: Database, name: &str) -> Result<()> {
        delete(&self.marks(database).join(name))?;
        if self.is_marked(name) {
            return Ok(());
        }
        sealed::remove(&self.root.join(name))
    }

    /// Sets the marks of `database` to the folders that its catalog refers to.
    pub fn align(&self, database: Database, catalog: &str, named: &BTreeSet<String>) -> Result<()> {
        for name in named.iter().filter(|name| self.root.join(name).exists()) {
            self.mark(database, catalog, name)?;
        }
        for name in names(&self.marks(database)) {
            let mark = self.marks(database).join(&name);
            if is_left_behind(&mark) || is_hash(&name) && !named.contains(&name) {
                delete(&mark)?;
            }
        }
        Ok(())
    }

    /// Removes the marks of databases that no longer need anything. `needs` gets the oid of a database and the path of its catalog table's file.
    pub fn forget(&self, needs: impl Fn(Database, &str) -> bool) -> Result<()> {
        for database in self.databases() {
            if !self.needs(database, &needs) {
                delete(&self.marks(database))?;
            }
        }
        Ok(())
    }

    /// Removes what is not needed: folders without a mark, unfinished folders of terminated processes, and prepared graphs other than
    /// `prepared`. Removes at most `limit` folders.
    pub fn sweep(&self, prepared: &str, limit: usize, progress: &dyn Progress) -> Result<Vec<Swept>> {
        let mut swept = Vec::new();
        for name in names(&self.root) {
            let folder = self.root.join(&name);
            if is_left_behind(&folder) {
                swept.push(self.take(&folder, "unfinished", delete)?);
            } else if is_hash(&name) && (self.is_marked(&name) || is_worked_on(&folder)) {
                self.sweep_within(&folder, prepared, &mut swept)?;
            } else if is_hash(&name) {
                swept.push(self.take(&folder, "not needed by any database", sealed::remove)?);
            }
            if swept.len() >= limit {
                break;
            }
            progress.check()?;
        }
        Ok(swept)
    }

    /// Removes unneeded parts of a folder that is kept.
    fn sweep_within(&self, folder: &Path, prepared: &str, swept: &mut Vec<Swept>) -> Result<()> {
        for name in names(folder) {
            let inner = folder.join(&name);
            if is_left_behind(&inner) {
                swept.push(self.take(&inner, "unfinished", delete)?);
            } else if prepared::is_prepared(&name) && !name.starts_with(prepared) {
                swept.push(self.take(&inner, "prepared for another ONNX Runtime or processor", sealed::remove)?);
            }
        }
        Ok(())
    }

    fn take(&self, folder: &Path, why: &'static str, remove: impl Fn(&Path) -> Result<()>) -> Result<Swept> {
        let bytes = size(folder);
        remove(folder)?;
        let below = folder.strip_prefix(&self.root).unwrap_or(folder);
        Ok(Swept { folder: below.to_string_lossy().into_owned(), bytes, why })
    }

    /// The contents of the cache. `needs` is as in [`forget`](Self::forget).
    pub fn contents(&self, needs: impl Fn(Database, &str) -> bool) -> Vec<Content> {
        let mut marked: BTreeMap<String, BTreeSet<Database>> = BTreeMap::new();
        for database in self.databases().filter(|&database| self.needs(database, &needs)) {
            for name in names(&self.marks(database)) {
                marked.entry(name).or_default().insert(database);
            }
        }
        let folders = names(&self.root).filter(|name| is_hash(name) || process(&self.root.join(name)).is_some());
        let content = folders.map(|name| {
            let folder = self.root.join(&name);
            Content {
                bytes: size(&folder),
                databases: marked.remove(&name).unwrap_or_default(),
                prepared: names(&folder).filter(|inner| prepared::is_prepared(inner)).collect(),
                name,
            }
        });
        content.collect()
    }

    fn marks(&self, database: Database) -> PathBuf {
        self.root.join(DATABASES).join(database.to_string())
    }

    fn databases(&self) -> impl Iterator<Item = Database> {
        names(&self.root.join(DATABASES)).filter_map(|name| name.parse().ok())
    }

    fn needs(&self, database: Database, needs: impl Fn(Database, &str) -> bool) -> bool {
        needs(database, &fs::read_to_string(self.marks(database).join(CATALOG)).unwrap_or_default())
    }

    /// Looked up again for each folder, just before it is removed.
    fn is_marked(&self, name: &str) -> bool {
        self.databases().any(|database| fs::symlink_metadata(self.marks(database).join(name)).is_ok())
    }
}

/// The entries of a folder, sorted; none if it cannot be read.
fn names(folder: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names: BTreeSet<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.into_iter()
}

/// Whether this is the name of a folder with a version's files. Early releases used longer names.
fn is_hash(name: &str) -> bool {
    [32, 64].contains(&name.len()) && name.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The process that is creating or removing `path`, from its name.
fn process(path: &Path) -> Option<i32> {
    path.extension()?.to_str()?.parse().ok().filter(|&process| process > 0)
}

/// Whether `path` was left unfinished by a terminated process.
fn is_left_behind(path: &Path) -> bool {
    let age = || fs::symlink_metadata(path).and_then(|m| m.modified()).ok()?.elapsed().ok();
    process(path).is_some_and(|process| !sealed::is_alive(process) || age().is_some_and(|age| age > MAX_CREATION))
}

/// Whether a process is currently creating something in a folder.
fn is_worked_on(folder: &Path) -> bool {
    names(folder).map(|name| folder.join(name)).any(|inner| process(&inner).is_some() && !is_left_behind(&inner))
}

/// The size of all files in a folder and its subfolders.
fn size(folder: &Path) -> u64 {
    let below = |name: String| {
        let path = folder.join(name);
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => size(&path),
            Ok(found) => found.len(),
            Err(_) => 0,
        }
    };
    names(folder).map(below).sum()
}

/// Removes a file or folder that may no longer exist.
fn delete(path: &Path) -> Result<()> {
    let gone = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match gone {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
