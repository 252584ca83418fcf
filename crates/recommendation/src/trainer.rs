//! What every algorithm's training is given and gives back, and what several of them need.

use serde_json::{Map, Value};

use super::model::Model;
use interactions::{Features, Interactions};
use onnx::graph::{Axis, GraphBuilder};
use onnx::proto::data_type;
use onnx::stored::DataWriter;
use runtime::error::Result;
use runtime::memory;
use runtime::progress::Progress;

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
}

/// What training starts from instead of chance.
#[derive(Clone, Debug, Default)]
pub struct Previous {
    /// [items, width], in the order of the new items' ids; a new item's are 0.
    pub item_factors: Vec<f32>,
    pub width: usize,
}

impl Previous {
    /// What `model` learned of the items of `interactions`; `None` where its algorithm always begins anew.
    pub fn of(model: &Model, interactions: &Interactions) -> Result<Option<Self>> {
        let Some((factors, width)) = model.item_factors() else { return Ok(None) };
        let mut item_factors = memory::filled(0.0, interactions.items() * width)?;
        for (id, to) in interactions.item_ids.iter().zip(item_factors.chunks_exact_mut(width.max(1))) {
            if let Some(known) = model.item_ids().find(id)
                && let Some(from) = factors.get(known as usize * width..(known as usize + 1) * width)
            {
                to.copy_from_slice(from);
            }
        }
        Ok(Some(Self { item_factors, width }))
    }
}

/// What it gives back.
pub struct Parts {
    /// Options in effect.
    pub options: Value,
    pub graph: GraphBuilder,
    /// Tensors for the data file, besides those of every model.
    pub data: DataWriter,
    /// More for the metadata.
    pub figures: Map<String, Value>,
    /// Each item's score for whoever nothing is known of.
    pub popularity: Vec<f32>,
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
