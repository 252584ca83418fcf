//! The interface of the methods: what one learns from, what it learned, and how rows are drawn from that.

use serde_json::{Map, Value};

use crate::frame::{Field, Frame, Values};
use onnx::graph::GraphBuilder;
use onnx::stored::{DataWriter, Files};
use onnx::tensor::Tensor;
use runtime::error::Result;
use runtime::options::Options;
use runtime::progress::Progress;

/// A method: it learns the distribution of rows and makes new ones.
pub trait Synthesizer: Sync {
    fn name(&self) -> &'static str;

    /// Learns from the rows of a task.
    fn train(&self, task: &Task, options: &mut Options) -> Result<Parts>;

    /// Opens what [`train`](Self::train) stored. `fields` are those of the training task, as released.
    fn open(&self, files: &Files, fields: &[Field]) -> Result<Box<dyn Generator>>;

    /// Whether its values are drawn from training rows, so that a field may have any number of categories.
    fn draws_donors(&self) -> bool {
        false
    }

    /// Whether its rows are whole rows of the source.
    fn copies_rows(&self) -> bool {
        false
    }

    /// Whether it is differentially private.
    fn is_private(&self) -> bool {
        false
    }

    /// Whether ONNX Runtime runs its graph to make rows. The others draw from the data file.
    fn runs_graph(&self) -> bool {
        false
    }
}

/// Rows that are made together: what a block holds depends on the seed and the block's number alone.
pub const BLOCK: usize = 8192;

/// What a method learns from.
#[derive(Clone, Copy)]
pub struct Task<'a> {
    pub fields: &'a [Field],
    pub rows: &'a Frame,
    /// The field that the rows will be used to learn.
    pub label: Option<usize>,
    pub seed: u64,
    /// What noise that protects rows is drawn from, instead of the seed.
    pub secret: Option<[u8; 32]>,
    pub threads: usize,
    pub progress: &'a dyn Progress,
}

/// What it learned.
pub struct Parts {
    /// Random numbers in, rows out: one output `rows`, float64 [n, fields], with −1 for a category and NaN for a number that
    /// is NULL.
    pub graph: GraphBuilder,
    /// Tensors for the data file.
    pub data: DataWriter,
    /// More for the metadata.
    pub figures: Map<String, Value>,
    /// What may be told of each field, where a promise of privacy forbids to tell what was read.
    pub released: Option<Vec<Released>>,
}

/// What a private method may tell of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Released {
    /// The codes of the source whose names may be told: the method's code i stands for `codes[i]`.
    Category { codes: Vec<u32> },
    /// The bounds in effect.
    Number { low: f64, high: f64 },
}

/// A block of rows to be made.
pub struct Draw<'a> {
    pub rows: usize,
    /// Of this block alone.
    pub seed: u64,
    /// Fields whose values are given, one for each row: only such as [`Generator::takes`] is true for.
    pub given: &'a [(usize, Values)],
    pub threads: usize,
    pub progress: &'a dyn Progress,
}

/// Runs the stored graph: inputs by name, and the names of the outputs wanted.
pub type RunGraph<'a> = dyn FnMut(Vec<(&'static str, Tensor)>, &[&str]) -> Result<Vec<Tensor>> + 'a;

/// A trained method, opened for making rows.
pub trait Generator {
    /// The rows of a block, a column for each field. Numbers need not keep to their grid, nor rows to constraints.
    fn sample(&self, draw: &Draw, graph: &mut RunGraph) -> Result<Frame>;

    /// Whether rows can be drawn that have given values in these fields, as often as such rows go with them.
    fn takes(&self, _fields: &[usize]) -> bool {
        false
    }
}
