//! The graphs of a version: the stored one, and those that are made of it for CUDA. All are files of the cache.

use std::fs;
use std::path::{Path, PathBuf};

use super::cache;
use super::catalog::{DATA_FILE, Entry, ONNX_FILE};
use onnx::half_precision;
use runtime::error::{Error, Result};
use runtime::progress::Progress;
use runtime::sealed::{self, failed};

/// Beside the graph in half precision: why there is none.
const REFUSED: &str = "refused";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GraphKind {
    /// The version's own.
    Stored,
    /// In half precision.
    Half,
    /// A recommender's, by which a device makes lists.
    Product,
}

impl GraphKind {
    /// The folder of what is made, within that of the version. A name is given up when its content changes.
    fn folder(self) -> &'static str {
        match self {
            Self::Stored => ".",
            Self::Half => "half",
            Self::Product => "product",
        }
    }
}

#[derive(Clone)]
pub struct GraphFile {
    pub entry: Entry,
    pub kind: GraphKind,
}

impl GraphFile {
    pub fn new(entry: &Entry, kind: GraphKind) -> Self {
        Self { entry: entry.clone(), kind }
    }

    /// The file, made unless it exists and is intact. `None` if this version has no such graph.
    pub fn find(&self, progress: &dyn Progress) -> Result<Option<PathBuf>> {
        let version = cache::folder(&self.entry, progress)?;
        let folder = match self.kind {
            GraphKind::Stored => return Ok(Some(version.join(ONNX_FILE))),
            made => version.join(made.folder()),
        };
        sealed::ensure(&folder, None, progress, |aside| {
            cache::discard_at_abort(aside);
            let (name, content) = match self.make(&version, progress)? {
                Ok(graph) => (ONNX_FILE, graph),
                Err(reason) => (REFUSED, reason.into_bytes()),
            };
            let path = aside.join(name);
            fs::write(&path, content).map_err(failed("write", &path))
        })?;
        let graph = folder.join(ONNX_FILE);
        Ok(graph.exists().then_some(graph))
    }

    /// The graph, or why there is none.
    fn make(&self, version: &Path, progress: &dyn Progress) -> Result<std::result::Result<Vec<u8>, String>> {
        let stored = cache::map(&version.join(ONNX_FILE))?;
        match self.kind {
            GraphKind::Stored => Err(Error::Internal("a stored graph is not made".into())),
            GraphKind::Half => half_precision::converted(stored, progress),
            GraphKind::Product => {
                let data = cache::map(&version.join(DATA_FILE))?;
                let model = recommendation::Model::open(&self.entry.name, stored, data)?;
                Ok(model.product_graph(progress)?.ok_or_else(|| "its scores are no inner products".into()))
            }
        }
    }
}
