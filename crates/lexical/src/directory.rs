//! tantivy's view of files that the caller has mapped: read-only, without locks.

use std::collections::BTreeMap;
use std::io;
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use stable_deref_trait::StableDeref;
use tantivy::directory::error::{DeleteError, LockError, OpenReadError, OpenWriteError};
use tantivy::directory::{DirectoryLock, FileHandle, Lock, OwnedBytes, WatchCallback, WatchHandle, WritePtr};
use tantivy::{Directory, HasLen};

/// Files by name. Everything that would write fails.
#[derive(Clone, Debug)]
pub struct MappedFiles(Arc<BTreeMap<String, Bytes>>);

impl MappedFiles {
    pub fn new(files: BTreeMap<String, Bytes>) -> Self {
        Self(Arc::new(files))
    }

    fn get(&self, path: &Path) -> Result<&Bytes, OpenReadError> {
        let file = path.to_str().and_then(|name| self.0.get(name));
        file.ok_or_else(|| OpenReadError::FileDoesNotExist(path.to_path_buf()))
    }
}

/// Bytes of a file, lent to tantivy.
#[derive(Clone)]
struct Lent(Bytes);

impl Deref for Lent {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

// SAFETY: `Bytes` points to shared memory, which neither moves with it nor changes.
unsafe impl StableDeref for Lent {}

#[derive(Debug)]
struct File(Bytes);

impl HasLen for File {
    fn len(&self) -> usize {
        self.0.len()
    }
}

impl FileHandle for File {
    fn read_bytes(&self, range: Range<usize>) -> io::Result<OwnedBytes> {
        if range.start > range.end || range.end > self.0.len() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        Ok(OwnedBytes::new(Lent(self.0.slice(range))))
    }
}

fn read_only() -> io::Error {
    io::Error::from(io::ErrorKind::ReadOnlyFilesystem)
}

impl Directory for MappedFiles {
    fn get_file_handle(&self, path: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
        Ok(Arc::new(File(self.get(path)?.clone())))
    }

    fn exists(&self, path: &Path) -> Result<bool, OpenReadError> {
        Ok(self.get(path).is_ok())
    }

    fn atomic_read(&self, path: &Path) -> Result<Vec<u8>, OpenReadError> {
        Ok(self.get(path)?.to_vec())
    }

    fn delete(&self, path: &Path) -> Result<(), DeleteError> {
        Err(DeleteError::IoError { io_error: Arc::new(read_only()), filepath: path.to_path_buf() })
    }

    fn open_write(&self, path: &Path) -> Result<WritePtr, OpenWriteError> {
        Err(OpenWriteError::IoError { io_error: Arc::new(read_only()), filepath: path.to_path_buf() })
    }

    fn atomic_write(&self, _path: &Path, _data: &[u8]) -> io::Result<()> {
        Err(read_only())
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }

    fn acquire_lock(&self, _lock: &Lock) -> Result<DirectoryLock, LockError> {
        Err(LockError::IoError(Arc::new(read_only())))
    }

    fn watch(&self, _callback: WatchCallback) -> tantivy::Result<WatchHandle> {
        Ok(WatchHandle::empty())
    }
}
