//! What a training is given and gives back, and what several algorithms need for it.

use ndarray::{Array2, ArrayView2};
use serde_json::{Map, Value};

use inner_products::quantized;
use interactions::{Features, Interactions};
use onnx::graph::{Axis, GraphBuilder};
use onnx::proto::data_type;
use onnx::stored::DataWriter;
use runtime::error::{Error, Result};
use runtime::progress::Progress;

/// Items from which a compressed copy of their factors is written.
const MIN_QUANTIZED: usize = if cfg!(test) { 64 } else { quantized::MIN_ITEMS };

/// What an algorithm's trainer is given.
#[derive(Clone, Copy)]
pub struct Training<'a> {
    pub interactions: &'a Interactions,
    /// A row for each item of `interactions`.
    pub item_features: Option<&'a Features>,
    /// A row for each user of `interactions`.
    pub user_features: Option<&'a Features>,
    /// What an earlier model of almost the same interactions learned, for algorithms that can go on from there.
    pub previous: Option<&'a Previous>,
    pub threads: usize,
    pub progress: &'a dyn Progress,
}

impl<'a> Training<'a> {
    /// On interactions alone, from the start.
    pub fn new(interactions: &'a Interactions, threads: usize, progress: &'a dyn Progress) -> Self {
        Self { interactions, item_features: None, user_features: None, previous: None, threads, progress }
    }

    /// Adds the compressed copy of `factors` [items, d] to a data file, under `name`, where it pays.
    pub fn write_quantized(&self, data: &mut DataWriter, name: &str, factors: ArrayView2<f32>) -> Result<()> {
        quantized::write(data, name, factors, MIN_QUANTIZED, self.threads, self.progress)
    }
}

/// What training starts from instead of chance.
#[derive(Clone, Debug, Default)]
pub struct Previous {
    /// A row for each item, in the order of the new items' ids; a new item's are 0.
    pub item_factors: Array2<f32>,
}

/// What it gives back, not yet packed.
pub struct Parts {
    /// Options in effect.
    pub options: Value,
    pub graph: GraphBuilder,
    /// Tensors for the data file, besides those of every model.
    pub data: DataWriter,
    /// More for the metadata.
    pub figures: Map<String, Value>,
    /// Each item's score for users of whom nothing is known.
    pub popularity: Vec<f32>,
}

/// The error of a training whose numbers became infinite or NaN.
pub fn diverged(hint: &str) -> Error {
    Error::invalid("the training diverged", hint)
}

/// Users of each item.
pub fn user_counts(interactions: &Interactions) -> Vec<f32> {
    let mut counts = vec![0u32; interactions.items()];
    interactions.by_user.indices.iter().for_each(|&item| counts[item as usize] += 1);
    counts.into_iter().map(|n| n as f32).collect()
}

/// A graph with the inputs and the output that every recommender's has.
pub fn history_graph(algorithm: &str, items: usize) -> GraphBuilder {
    let mut graph = GraphBuilder::new(algorithm);
    graph.input("item_index", data_type::INT64, &[Axis::Named("n")]);
    graph.input("weight", data_type::FLOAT, &[Axis::Named("n")]);
    graph.output("scores", data_type::FLOAT, &[Axis::Fixed(items)]);
    graph
}
