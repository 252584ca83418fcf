//! The interface of the synthesizers: what one learns from, what it learned, and how rows are drawn.

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

/// Rows drawn together. The rows of a block depend only on the seed and the block's number.
pub const BLOCK: usize = 8192;

/// What a synthesizer learns from.
#[derive(Clone, Copy)]
pub struct Task<'a> {
    pub fields: &'a [Field],
    pub rows: &'a Frame,
    /// The field that the rows will be used to predict.
    pub label: Option<usize>,
    pub seed: u64,
    /// Key of a private synthesizer's noise, instead of the seed.
    pub secret: Option<[u8; 32]>,
    pub threads: usize,
    pub progress: &'a dyn Progress,
}

/// What a synthesizer learned.
pub struct Parts {
    /// From random numbers to rows: one output `rows`, float64 [n, fields], with −1 for a category that is NULL and NaN
    /// for a number that is.
    pub graph: GraphBuilder,
    /// Tensors for the data file.
    pub data: DataWriter,
    /// Further entries of the metadata.
    pub figures: Map<String, Value>,
    /// What may be disclosed of each field, where privacy forbids disclosing what was read.
    pub released: Option<Vec<Released>>,
}

/// What a private synthesizer may disclose of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Released {
    /// The codes of the source whose names may be disclosed: the synthesizer's code i stands for `codes[i]`.
    Category { codes: Vec<u32> },
    /// The bounds that were used.
    Number { low: f64, high: f64 },
}

/// A block of rows to draw.
pub struct Draw<'a> {
    pub rows: usize,
    /// The seed of this block.
    pub seed: u64,
    /// Given fields, with a value for each row. [`Generator::takes`] must be true for them.
    pub given: &'a [(usize, Values)],
    pub threads: usize,
    pub progress: &'a dyn Progress,
}

/// Runs the stored graph. Takes inputs by name and the names of the requested outputs.
pub type RunGraph<'a> = dyn FnMut(Vec<(&'static str, Tensor)>, &[&str]) -> Result<Vec<Tensor>> + 'a;

/// A trained synthesizer, opened for drawing rows.
pub trait Generator {
    /// Draws the rows of a block, a column for each field. Numbers may lie between the steps of their field, and rows
    /// may violate constraints: the caller corrects both.
    fn sample(&self, draw: &Draw, graph: &mut RunGraph) -> Result<Frame>;

    /// Whether it can draw rows from the distribution conditional on given values of these fields.
    fn takes(&self, _fields: &[usize]) -> bool {
        false
    }
}
