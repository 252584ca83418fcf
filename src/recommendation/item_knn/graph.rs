//! Item neighbours as an ONNX graph: gathers the history's rows, scatters them into the scores.

use super::Parameters;
use super::neighbours::Neighbours;
use crate::onnx::graph::{GraphBuilder, int_attribute, string_attribute};
use crate::onnx::proto::data_type;
use crate::recommendation::trainer::history_graph;

pub fn write(parameters: &Parameters, found: &Neighbours) -> GraphBuilder {
    let width = found.width;
    let items = found.items.len() / width;
    let mut g = history_graph("item_knn", items);
    let zero = g.float("zero", 0.0);
    let neighbours = g.int32s("neighbours", &[items, width], &found.items);
    let similarities = g.floats("similarities", &[items, width], &found.similarities);

    // An item of weight 0 in front changes nothing, and spares every operator the empty history.
    let no_item = g.int64s("no_item", &[1], &[0]);
    let no_weight = g.floats("no_weight", &[1], &[0.0]);
    let axis = || vec![int_attribute("axis", 0)];
    let index = g.node_with("Concat", &[&no_item, "item_index"], axis());
    let weight = g.node_with("Concat", &[&no_weight, "weight"], axis());
    let weight = g.node("Max", &[&weight, &zero]);
    let positive = g.node("Greater", &[&weight, &zero]);
    let observed = g.node_with("Cast", &[&positive], vec![int_attribute("to", data_type::FLOAT.into())]);
    let confidence = parameters.weighting.write(&mut g, &weight, &observed);

    let column = g.int64s("column", &[2], &[-1, 1]);
    let flat = g.int64s("flat", &[1], &[-1]);
    let shape = g.int64s("shape", &[1], &[items as i64]);
    let confidence = g.node("Reshape", &[&confidence, &column]);
    let rows = g.node_with("Gather", &[&neighbours, &index], axis());
    let rows = g.node("Reshape", &[&rows, &flat]);
    let gains = g.node_with("Gather", &[&similarities, &index], axis());
    let gains = g.node("Mul", &[&gains, &confidence]);
    let gains = g.node("Reshape", &[&gains, &flat]);
    let none = g.node("Expand", &[&zero, &shape]);
    let attributes = vec![int_attribute("axis", 0), string_attribute("reduction", "add")];
    g.node_to("ScatterElements", &[&none, &rows, &gains], attributes, &["scores"]);
    g
}
