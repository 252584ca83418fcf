//! What runs a graph: a model worker or, where there is none for it, a session of this process.

use std::path::Path;

use super::graph_file::GraphFile;
use super::remote::Remote;
use embedding::text_graph::TextRunner;
use onnx::session::{self, Session, SessionOptions};
use runtime::error::Result;
use runtime::progress::Progress;

/// Runs the graph in the file `source` on the CPU.
pub fn on_cpu(
    graph: &GraphFile,
    source: &Path,
    options: &SessionOptions,
    progress: &dyn Progress,
) -> Result<Box<dyn TextRunner>> {
    if let Some(remote) = Remote::on_cpu(graph, source, options, progress)? {
        return Ok(Box::new(remote));
    }
    let name = &graph.entry.name;
    let prepared = session::prepare(name, source, options, progress)?;
    Ok(Box::new(Session::on_cpu(name, &prepared, options, progress)?))
}

/// The same on CUDA. `Error::CudaMissing` if it is not available.
pub fn on_cuda(
    graph: &GraphFile,
    source: &Path,
    options: &SessionOptions,
    progress: &dyn Progress,
) -> Result<Box<dyn TextRunner>> {
    match Remote::on_cuda(graph, source, options, progress)? {
        Some(remote) => Ok(Box::new(remote)),
        None => Ok(Box::new(Session::on_cuda(&graph.entry.name, source, options, progress)?)),
    }
}
