//! A blend as an ONNX graph: its components' graphs side by side, their scores scaled and summed.

use crate::training::history_graph;
use onnx::graph::{GraphBuilder, int_attribute};
use onnx::proto::data_type;
use runtime::error::{Error, Result};

/// A deviation no greater than this, and than this share of the mean, is a rounding error: all items are scored the same.
pub const LEAST_SCALE: f32 = 1e-20;
pub const LEAST_SHARE: f32 = 1e-5;

/// The graph in the making.
pub struct Blend {
    graph: GraphBuilder,
    least_scale: String,
    least_share: String,
    sum: Option<String>,
}

impl Blend {
    pub fn new(items: usize) -> Self {
        let mut graph = history_graph("hybrid", items);
        let least_scale = graph.float("least_scale", LEAST_SCALE);
        let least_share = graph.float("least_share", LEAST_SHARE);
        Self { graph, least_scale, least_share, sum: None }
    }

    /// Adds a component: its scores times `weight`, divided by their standard deviation.
    pub fn add(&mut self, prefix: &str, component: GraphBuilder, weight: f32) {
        let g = &mut self.graph;
        let Some(scores) = g.inline(prefix, component).into_iter().next() else { return };
        let whole = || vec![int_attribute("keepdims", 0)];
        let mean = g.node_with("ReduceMean", &[&scores], whole());
        let deviations = g.node("Sub", &[&scores, &mean]);
        let squares = g.node("Mul", &[&deviations, &deviations]);
        let variance = g.node_with("ReduceMean", &[&squares], whole());
        let scale = g.node("Sqrt", &[&variance]);
        let size = g.node("Abs", &[&mean]);
        let least = g.node("Mul", &[&size, &self.least_share]);
        let least = g.node("Add", &[&least, &self.least_scale]);
        let differs = g.node("Greater", &[&scale, &least]);
        let heard = g.node_with("Cast", &[&differs], vec![int_attribute("to", data_type::FLOAT.into())]);
        let weight = g.float(&format!("{prefix}blend_weight"), weight);
        let weight = g.node("Mul", &[&heard, &weight]);
        let scale = g.node("Max", &[&scale, &least]);
        let factor = g.node("Div", &[&weight, &scale]);
        let scaled = g.node("Mul", &[&scores, &factor]);
        self.sum = Some(match self.sum.take() {
            None => scaled,
            Some(sum) => g.node("Add", &[&sum, &scaled]),
        });
    }

    pub fn finish(mut self) -> Result<GraphBuilder> {
        let sum = self.sum.ok_or_else(|| Error::Internal("a blend without components".into()))?;
        self.graph.node_to("Identity", &[&sum], Vec::new(), &["scores"]);
        Ok(self.graph)
    }
}
