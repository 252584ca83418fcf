//! What a lane runs: a session that other threads can end a run of.

use std::sync::Arc;

use onnx::runner::Inputs;
use onnx::session::{RunMemory, Session, Terminable};
use onnx::tensor::Tensor;
use runtime::error::Result;

/// A session that a lane runs, on the thread that calls it.
pub trait Lane: Send {
    /// Runs the graph. `running` gets a handle that ends the run.
    fn run(
        &mut self,
        inputs: Inputs,
        wanted: &[&str],
        memory: RunMemory,
        running: &dyn Fn(Arc<dyn End>),
    ) -> Result<Vec<Tensor>>;
}

/// A run that another thread can end.
pub trait End: Send + Sync {
    fn end(&self);
}

impl End for Terminable {
    fn end(&self) {
        Terminable::end(self);
    }
}

impl Lane for Session {
    fn run(
        &mut self,
        inputs: Inputs,
        wanted: &[&str],
        memory: RunMemory,
        running: &dyn Fn(Arc<dyn End>),
    ) -> Result<Vec<Tensor>> {
        let run = Arc::new(self.begin(wanted, memory)?);
        running(run.clone());
        self.run_here(inputs, wanted, &run)
    }
}
