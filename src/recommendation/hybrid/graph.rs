//! A blend as an ONNX graph: its components' graphs side by side, their scores scaled and summed.

use crate::error::Result;
use crate::onnx::graph::{GraphBuilder, int_attribute};
use crate::recommendation::trainer::history_graph;

/// Scores all smaller than this are none.
pub const LEAST_SCALE: f32 = 1e-20;

/// The graph in the making.
pub struct Blend {
    graph: GraphBuilder,
    least: String,
    sum: Option<String>,
}

impl Blend {
    pub fn new(items: usize) -> Self {
        let mut graph = history_graph("hybrid", items);
        let least = graph.float("least_scale", LEAST_SCALE);
        Self { graph, least, sum: None }
    }

    /// Adds a component: `weight · scores / √mean(scores²)`.
    pub fn add(&mut self, prefix: &str, component: GraphBuilder, weight: f32) {
        let g = &mut self.graph;
        let Some(scores) = g.inline(prefix, component).into_iter().next() else { return };
        let weight = g.float(&format!("{prefix}blend_weight"), weight);
        let squares = g.node("Mul", &[&scores, &scores]);
        let mean = g.node_with("ReduceMean", &[&squares], vec![int_attribute("keepdims", 0)]);
        let scale = g.node("Sqrt", &[&mean]);
        let scale = g.node("Max", &[&scale, &self.least]);
        let factor = g.node("Div", &[&weight, &scale]);
        let scaled = g.node("Mul", &[&scores, &factor]);
        self.sum = Some(match self.sum.take() {
            None => scaled,
            Some(sum) => g.node("Add", &[&sum, &scaled]),
        });
    }

    pub fn finish(mut self) -> Result<GraphBuilder> {
        let sum = self.sum.ok_or_else(|| crate::error::Error::Internal("a blend without components".into()))?;
        self.graph.node_to("Identity", &[&sum], Vec::new(), &["scores"]);
        Ok(self.graph)
    }
}
