//! Folders that are complete or do not exist, after concurrent creation and crashes.
//!
//! A folder is written under a temporary name, its files are hashed into a manifest, everything is synced, and one rename puts it in place.
//! When it is opened, each file is compared with the manifest: by inode, size and change times, which every write changes, and by SHA-256 if
//! one of them differs (the folder was copied, restored or written to). A folder that does not match is recreated.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::progress::Progress;

const MANIFEST: &str = "manifest";

/// Bytes hashed between two checks for cancel requests: some milliseconds.
const HASHED_AT_ONCE: usize = 4 << 20;

/// SHA-256 in hexadecimal by file name.
pub type Hashes = BTreeMap<String, String>;

/// The manifest's entry for a file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Seal {
    sha256: String,
    identity: Identity,
}

/// Changes with every write to the file, and differs for every copy.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Identity {
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Identity {
    fn of(file: &Metadata) -> Self {
        Self {
            inode: file.ino(),
            size: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }
}

/// Ensures that `folder` exists and is intact. Otherwise `make` fills a new folder, which replaces it.
///
/// `expected` are the hashes of its files, if known beforehand. `Err(Error::Damaged)` if the files that `make` wrote have other hashes.
pub fn ensure(
    folder: &Path,
    expected: Option<&Hashes>,
    progress: &dyn Progress,
    make: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    if is_intact(folder, expected, progress)? {
        return Ok(());
    }
    let parent = folder.parent().unwrap_or(Path::new("."));
    create_folders(parent)?;
    sweep(parent);
    let aside = beside(folder, "");
    delete(&aside)?;
    let made = create_folders(&aside)
        .and_then(|()| make(&aside))
        .and_then(|()| seal(&aside, expected, progress))
        .and_then(|()| put_in_place(&aside, folder, expected, progress));
    // Nothing is left of it where the rename was done.
    delete(&aside)?;
    made
}

/// Whether `folder` exists and is intact, for a process that only reads it.
pub fn is_whole(folder: &Path, progress: &dyn Progress) -> Result<bool> {
    is_intact(folder, None, progress)
}

/// Removes a folder if it exists, atomically. Processes that have its files mapped keep the mapping.
pub fn remove(folder: &Path) -> Result<()> {
    let gone = beside(folder, ".removed");
    delete(&gone)?;
    match fs::rename(folder, &gone) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(failed("remove", folder)(e)),
        Ok(()) => delete(&gone),
    }
}

/// Removes a folder that no other process uses, file by file.
pub fn delete(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("remove", folder)(e)),
        _ => Ok(()),
    }
}

/// The size of the files in `folder`, without subfolders.
pub fn size(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter_map(|f| f.metadata().ok()).filter(Metadata::is_file).map(|m| m.len()).sum()
}

/// Converts an I/O error into an error that names the path.
pub fn failed<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> Error + 'a {
    move |source| Error::File { action, path: path.display().to_string(), source }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn is_intact(folder: &Path, expected: Option<&Hashes>, progress: &dyn Progress) -> Result<bool> {
    let Some(seals) = read_manifest(folder) else { return Ok(false) };
    if expected.is_some_and(|expected| !holds(&seals, expected)) {
        return Ok(false);
    }
    let mut moved = false;
    for (name, seal) in &seals {
        let path = folder.join(name);
        match fs::symlink_metadata(&path) {
            Ok(file) if file.is_file() && file.len() == seal.identity.size => {
                if Identity::of(&file) != seal.identity {
                    match hash(&path, progress) {
                        Ok(sha256) if sha256 == seal.sha256 => moved = true,
                        Err(Error::Canceled) => return Err(Error::Canceled),
                        _ => return Ok(false),
                    }
                }
            }
            _ => return Ok(false),
        }
    }
    if moved {
        let hashes: Hashes = seals.into_iter().map(|(name, seal)| (name, seal.sha256)).collect();
        // Where the new manifest cannot be written, the next to come hashes again.
        let _ = write_manifest(folder, &hashes);
    }
    Ok(true)
}

fn holds(seals: &BTreeMap<String, Seal>, expected: &Hashes) -> bool {
    seals.len() == expected.len()
        && seals.iter().zip(expected).all(|((name, seal), (wanted, sha256))| name == wanted && seal.sha256 == *sha256)
}

fn read_manifest(folder: &Path) -> Option<BTreeMap<String, Seal>> {
    serde_json::from_slice(&fs::read(folder.join(MANIFEST)).ok()?).ok()
}

/// Hashes and syncs the files in `folder` and writes its manifest.
fn seal(folder: &Path, expected: Option<&Hashes>, progress: &dyn Progress) -> Result<()> {
    let mut hashes = Hashes::new();
    for entry in fs::read_dir(folder).map_err(failed("read", folder))? {
        let path = entry.map_err(failed("read", folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Nobody writes to it again; whoever tries by mistake is stopped.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).map_err(failed("protect", &path))?;
        File::open(&path).and_then(|f| f.sync_all()).map_err(failed("sync", &path))?;
        hashes.insert(name, hash(&path, progress)?);
    }
    if let Some((name, _)) = expected.into_iter().flatten().find(|(name, sha256)| hashes.get(*name) != Some(sha256)) {
        return Err(Error::Damaged(format!("SHA-256 of {name} does not match")));
    }
    write_manifest(folder, &hashes)?;
    File::open(folder).and_then(|f| f.sync_all()).map_err(failed("sync", folder))
}

fn write_manifest(folder: &Path, hashes: &Hashes) -> Result<()> {
    let mut seals = BTreeMap::new();
    for (name, sha256) in hashes {
        let path = folder.join(name);
        let file = fs::symlink_metadata(&path).map_err(failed("read", &path))?;
        seals.insert(name, Seal { sha256: sha256.clone(), identity: Identity::of(&file) });
    }
    let path = folder.join(MANIFEST);
    let aside = beside(&path, "");
    let text = serde_json::to_vec_pretty(&seals).map_err(|e| Error::Internal(e.to_string()))?;
    File::create(&aside)
        .and_then(|mut f| f.write_all(&text).and_then(|()| f.sync_all()))
        .and_then(|()| fs::rename(&aside, &path))
        .map_err(failed("write", &path))
}

fn put_in_place(aside: &Path, folder: &Path, expected: Option<&Hashes>, progress: &dyn Progress) -> Result<()> {
    match fs::rename(aside, folder) {
        Ok(()) => return sync_parent(folder),
        // Another process was first.
        Err(_) if is_intact(folder, expected, progress)? => return Ok(()),
        Err(_) => {}
    }
    // What stands there is damaged: out of the way with it, in one step too.
    let damaged = beside(folder, ".damaged");
    delete(&damaged)?;
    match fs::rename(folder, &damaged) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed("rename", folder)(e)),
        _ => {}
    }
    let renamed = match fs::rename(aside, folder) {
        Err(_) if is_intact(folder, expected, progress)? => Ok(()),
        other => other.map_err(failed("rename", aside)),
    };
    if damaged.is_dir() {
        delete(&damaged)?
    } else {
        drop(fs::remove_file(&damaged))
    }
    renamed.and_then(|()| sync_parent(folder))
}

fn sync_parent(folder: &Path) -> Result<()> {
    let parent = folder.parent().unwrap_or(Path::new("."));
    File::open(parent).and_then(|f| f.sync_all()).map_err(failed("sync", parent))
}

/// A path beside `path` that is unique to this process.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{name}{suffix}.{}", std::process::id()))
}

/// Removes what terminated processes have left beside a folder: names that end in their process id.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let path = entry.path();
        let process = path.extension().and_then(|e| e.to_str()).and_then(|e| e.parse::<i32>().ok());
        if process.is_some_and(|pid| pid > 0 && !is_alive(pid)) {
            // Someone else may be sweeping too.
            let _ = delete(&path);
        }
    }
}

/// Whether a process of this id exists and belongs to the same user.
pub fn is_alive(process: i32) -> bool {
    // SAFETY: signal 0 only asks whether the process is there.
    unsafe { libc::kill(process, 0) == 0 }
}

/// Creates a folder and its parents, accessible to their owner only.
pub fn create_folders(folder: &Path) -> Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed("create", folder))
}

fn hash(path: &Path, progress: &dyn Progress) -> Result<String> {
    let mut file = File::open(path).map_err(failed("open", path))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; HASHED_AT_ONCE];
    loop {
        progress.check()?;
        match file.read(&mut buffer).map_err(failed("read", path))? {
            0 => return Ok(hex(&hash.finalize())),
            n => hash.update(&buffer[..n]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Unwatched;
    use std::cell::Cell;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("pg_reco-sealed-{name}-{}", std::process::id()));
            drop(fs::remove_dir_all(&folder));
            Self(folder)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    const CONTENT: &[u8] = b"what the file holds";

    fn expected() -> Hashes {
        Hashes::from([("file".to_owned(), hex(&Sha256::digest(CONTENT)))])
    }

    /// Ensures the folder and says whether it had to be made.
    fn made(folder: &Path) -> bool {
        let made = Cell::new(false);
        ensure(folder, Some(&expected()), &Unwatched, |aside| {
            made.set(true);
            fs::write(aside.join("file"), CONTENT).map_err(failed("write", aside))
        })
        .unwrap();
        assert_eq!(fs::read(folder.join("file")).unwrap(), CONTENT);
        made.get()
    }

    fn overwrite(path: &Path, bytes: &[u8]) {
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(path, bytes).unwrap();
    }

    #[test]
    fn a_folder_is_made_once_and_again_after_any_damage() {
        let scratch = Scratch::new("damage");
        let folder = scratch.0.join("content");
        let file = folder.join("file");
        assert!(made(&folder) && !made(&folder));
        overwrite(&file, b"what the file holdz");
        assert!(made(&folder) && !made(&folder));
        overwrite(&file, b"");
        assert!(made(&folder));
        fs::remove_file(&file).unwrap();
        assert!(made(&folder));
        fs::remove_file(folder.join(MANIFEST)).unwrap();
        assert!(made(&folder));
        fs::write(folder.join(MANIFEST), b"{}").unwrap();
        assert!(made(&folder));
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert!(made(&folder));
        fs::remove_dir_all(&folder).unwrap();
        fs::write(&folder, b"a file in its place").unwrap();
        assert!(made(&folder) && !made(&folder));
        assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 1, "something was left beside it");
    }

    #[test]
    fn a_copy_is_hashed_once_and_taken() {
        let scratch = Scratch::new("copy");
        let folder = scratch.0.join("content");
        assert!(made(&folder));
        overwrite(&folder.join("file"), CONTENT);
        let before = read_manifest(&folder);
        assert!(!made(&folder));
        assert_ne!(before, read_manifest(&folder));
    }

    #[test]
    fn a_folder_whose_files_have_other_hashes_is_never_put_in_place() {
        let scratch = Scratch::new("wrong");
        let folder = scratch.0.join("content");
        let result = ensure(&folder, Some(&expected()), &Unwatched, |aside| {
            fs::write(aside.join("file"), b"something else").map_err(failed("write", aside))
        });
        assert!(matches!(result, Err(Error::Damaged(reason)) if reason.contains("file")));
        assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 0);
    }

    #[test]
    fn a_removed_folder_leaves_nothing_and_may_be_gone_already() {
        let scratch = Scratch::new("remove");
        let folder = scratch.0.join("content");
        assert!(made(&folder));
        remove(&folder).unwrap();
        remove(&folder).unwrap();
        assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 0);
    }

    #[test]
    fn what_dead_processes_left_is_swept_away() {
        let scratch = Scratch::new("sweep");
        // No process has this number: it is above the greatest that Linux gives.
        let left = scratch.0.join("other.4194305");
        let alive = scratch.0.join(format!("other.{}", std::process::id()));
        fs::create_dir_all(&left).unwrap();
        fs::create_dir_all(&alive).unwrap();
        assert!(made(&scratch.0.join("content")));
        assert!(!left.exists() && alive.exists());
    }
}
