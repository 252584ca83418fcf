//! A graph optimised once for this processor, its weights laid out as the kernels want them, in files that every process
//! maps: loading it takes a quarter of the time, and the weights take no private memory.
//!
//! ONNX Runtime writes both: the optimised graph, and beside it one file of weights, prepacked ones included. What it
//! writes holds for its own version and this processor only, so the folder's name has both.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

const GRAPH: &str = "model.onnx";
const WEIGHTS: &str = "weights";

/// Weights smaller than this stay in the graph.
const SMALLEST_SHARED: &str = "1024";

/// The graph prepared from `<folder>/<file>`, made by `prepare` if it is not there: `prepare` gets the path of the graph
/// to write and the session's configuration entries that make ONNX Runtime write it.
pub fn graph(folder: &Path, prepare: impl FnOnce(&Path, &[(&str, &str)]) -> Result<()>) -> Result<PathBuf> {
    let key = key();
    let prepared = folder.join(&key);
    let path = prepared.join(GRAPH);
    if path.is_file() {
        return Ok(path);
    }
    let aside = folder.join(format!("{key}.{}", std::process::id()));
    let made = make(&aside, prepare).and_then(|()| match fs::rename(&aside, &prepared) {
        Ok(()) => Ok(()),
        // Another process was first.
        Err(_) if path.is_file() => Ok(()),
        Err(source) => Err(Error::File { action: "rename", path: aside.display().to_string(), source }),
    });
    if aside.exists() {
        remove(&aside)?;
    }
    made.map(|()| path)
}

fn make(aside: &Path, prepare: impl FnOnce(&Path, &[(&str, &str)]) -> Result<()>) -> Result<()> {
    if aside.exists() {
        remove(aside)?;
    }
    fs::create_dir(aside).map_err(failed("create", aside))?;
    let entries = [
        ("session.optimized_model_external_initializers_file_name", WEIGHTS),
        ("session.optimized_model_external_initializers_min_size_in_bytes", SMALLEST_SHARED),
        ("session.save_external_prepacked_constant_initializers", "1"),
    ];
    prepare(&aside.join(GRAPH), &entries)?;
    // A graph whose weights did not reach the disk must not survive a crash under its final name.
    for entry in fs::read_dir(aside).map_err(failed("read", aside))? {
        let path = entry.map_err(failed("read", aside))?.path();
        File::open(&path).and_then(|f| f.sync_all()).map_err(failed("sync", &path))?;
    }
    File::open(aside).and_then(|f| f.sync_all()).map_err(failed("sync", aside))
}

/// ONNX Runtime's build and this processor's instruction sets.
fn key() -> String {
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut hash = DefaultHasher::new();
    ort::info().hash(&mut hash);
    std::env::consts::ARCH.hash(&mut hash);
    for line in processor.lines().take_while(|l| !l.is_empty()) {
        // x86 says "flags", Arm "Features"; the model name tells apart what those leave out.
        if ["flags", "Features", "model name", "CPU part"].iter().any(|name| line.starts_with(name)) {
            line.hash(&mut hash);
        }
    }
    format!("prepared-{:016x}", hash.finish())
}

fn remove(folder: &Path) -> Result<()> {
    fs::remove_dir_all(folder).map_err(failed("remove", folder))
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> Error + 'a {
    move |source| Error::File { action, path: path.display().to_string(), source }
}
