//! What lies in the cache of models' files, and which databases need it.
//!
//! ```text
//! <root>/<hash>/…                    the files of a version, named after their content: databases share them
//! <root>/<hash>/prepared-<key>/…     its graph as one ONNX Runtime on one processor wants it
//! <root>/databases/<oid>/<hash>      a mark: the database's catalog names that content
//! <root>/databases/<oid>/catalog     the path of the catalog's table, by which others see whether it is still there
//! ```
//!
//! A mark is made before the folder, so that nobody takes a folder in the making for one that is not needed. All of it can
//! be lost at any moment and costs no more than making a folder again: no lock is taken, and who loses a race makes it anew.

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

/// What a process of today's number has begun may be that of one before it: nothing takes so long to make.
const LONGEST_MAKING: Duration = Duration::from_secs(24 * 3600);

/// The number of a database.
pub type Database = u32;

pub struct CacheFolders {
    root: PathBuf,
}

/// A folder of the cache.
#[derive(Debug, PartialEq)]
pub struct Content {
    pub name: String,
    pub bytes: u64,
    /// That need it.
    pub databases: BTreeSet<Database>,
    /// Folders with its graph prepared.
    pub prepared: BTreeSet<String>,
}

/// What a sweep took away.
#[derive(Debug, PartialEq)]
pub struct Swept {
    /// Below the cache's root.
    pub folder: String,
    pub bytes: u64,
    pub why: &'static str,
}

impl CacheFolders {
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Notes that `database` needs the folder `name`. `catalog` is the path of its catalog's table.
    pub fn mark(&self, database: Database, catalog: &str, name: &str) -> Result<()> {
        let folder = self.marks(database);
        sealed::create_folders(&folder)?;
        let record = folder.join(CATALOG);
        if fs::read(&record).ok().as_deref() != Some(catalog.as_bytes()) {
            if record.is_dir() {
                delete(&record)?;
            }
            // Whole or not at all: what is half written would look like a catalog that is gone.
            let aside = record.with_extension(std::process::id().to_string());
            fs::write(&aside, catalog).and_then(|()| fs::rename(&aside, &record)).map_err(failed("write", &record))?;
        }
        let mark = folder.join(name);
        match fs::symlink_metadata(&mark) {
            Ok(_) => Ok(()),
            Err(_) => fs::write(&mark, "").map_err(failed("write", &mark)),
        }
    }

    /// Takes the mark of `database` away and, where no other has one, the folder.
    pub fn release(&self, database: Database, name: &str) -> Result<()> {
        delete(&self.marks(database).join(name))?;
        if self.is_marked(name) {
            return Ok(());
        }
        sealed::remove(&self.root.join(name))
    }

    /// Makes the marks of `database` those of the folders that its catalog names.
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

    /// Removes the marks of databases that need nothing any more. `needs` is told the number of one and the path of its
    /// catalog's table.
    pub fn forget(&self, needs: impl Fn(Database, &str) -> bool) -> Result<()> {
        for database in self.databases() {
            if !self.needs(database, &needs) {
                delete(&self.marks(database))?;
            }
        }
        Ok(())
    }

    /// Removes what nobody needs: folders without a mark, what was begun by processes that are no more, and prepared graphs
    /// other than `prepared`. At most `limit` folders.
    pub fn sweep(&self, prepared: &str, limit: usize, progress: &dyn Progress) -> Result<Vec<Swept>> {
        let mut swept = Vec::new();
        for name in names(&self.root) {
            let folder = self.root.join(&name);
            if is_left_behind(&folder) {
                swept.push(self.take(&folder, "begun and never finished", delete)?);
            } else if is_hash(&name) && (self.is_marked(&name) || is_worked_on(&folder)) {
                self.sweep_within(&folder, prepared, &mut swept)?;
            } else if is_hash(&name) {
                swept.push(self.take(&folder, "no database names it", sealed::remove)?);
            }
            if swept.len() >= limit {
                break;
            }
            progress.check()?;
        }
        Ok(swept)
    }

    /// What goes of a folder that stays.
    fn sweep_within(&self, folder: &Path, prepared: &str, swept: &mut Vec<Swept>) -> Result<()> {
        for name in names(folder) {
            let inner = folder.join(&name);
            if is_left_behind(&inner) {
                swept.push(self.take(&inner, "begun and never finished", delete)?);
            } else if prepared::is_prepared(&name) && name != prepared {
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

    /// What is there. `needs` is that of [`forget`](Self::forget).
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

    /// Looked up for each folder anew, just before it is removed.
    fn is_marked(&self, name: &str) -> bool {
        self.databases().any(|database| fs::symlink_metadata(self.marks(database).join(name)).is_ok())
    }
}

/// What is in a folder, in order; nothing where it cannot be read.
fn names(folder: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names: BTreeSet<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.into_iter()
}

/// Whether this is the name of a folder with a version's files; longer ones are from the first versions.
fn is_hash(name: &str) -> bool {
    [32, 64].contains(&name.len()) && name.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The process that is making or removing what stands at `path`, by its name.
fn process(path: &Path) -> Option<i32> {
    path.extension()?.to_str()?.parse().ok().filter(|&process| process > 0)
}

/// Whether a process began what stands at `path` and is no more.
fn is_left_behind(path: &Path) -> bool {
    let age = || fs::symlink_metadata(path).and_then(|m| m.modified()).ok()?.elapsed().ok();
    process(path).is_some_and(|process| !sealed::is_alive(process) || age().is_some_and(|age| age > LONGEST_MAKING))
}

/// Whether some process is making something in a folder at this moment.
fn is_worked_on(folder: &Path) -> bool {
    names(folder).map(|name| folder.join(name)).any(|inner| process(&inner).is_some() && !is_left_behind(&inner))
}

/// Bytes of all files in and below a folder.
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

/// Removes a file or a folder that may be gone already.
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
