//! Item graphs in ONNX: gathers the history's rows, scatters them into the scores.

use super::Neighbours;
use crate::weighting::Weighting;
use onnx::graph::{GraphBuilder, int_attribute, string_attribute};
use onnx::proto::data_type;

/// Names of two values: the history's items, and the confidence of each.
pub struct Confidences {
    /// int64 [n + 1]
    pub index: String,
    /// float32 [n + 1]
    pub confidence: String,
}

/// From the graph's inputs to confidences. An item of weight 0 in front changes nothing, and spares every operator the empty
/// history.
pub fn confidences(g: &mut GraphBuilder, weighting: Weighting) -> Confidences {
    let zero = g.float("zero", 0.0);
    let no_item = g.int64s("no_item", &[1], &[0]);
    let no_weight = g.floats("no_weight", &[1], &[0.0]);
    let index = g.node_with("Concat", &[&no_item, "item_index"], axis());
    let weight = g.node_with("Concat", &[&no_weight, "weight"], axis());
    let weight = g.node("Max", &[&weight, &zero]);
    let positive = g.node("Greater", &[&weight, &zero]);
    let observed = g.node_with("Cast", &[&positive], vec![int_attribute("to", data_type::FLOAT.into())]);
    let confidence = weighting.write(g, &weight, &observed);
    Confidences { index, confidence }
}

/// Writes the output `scores`: what the item graph gives, added to `base` [items] where there is one.
pub fn scatter_scores(g: &mut GraphBuilder, history: &Confidences, found: &Neighbours, base: Option<&str>) {
    let items = found.items.nrows();
    let neighbours = g.matrix("neighbours", found.items.view());
    let similarities = g.matrix("similarities", found.weights.view());
    let column = g.int64s("column", &[2], &[-1, 1]);
    let flat = g.int64s("flat", &[1], &[-1]);
    let confidence = g.node("Reshape", &[&history.confidence, &column]);
    let rows = g.node_with("Gather", &[&neighbours, &history.index], axis());
    let rows = g.node("Reshape", &[&rows, &flat]);
    let gains = g.node_with("Gather", &[&similarities, &history.index], axis());
    let gains = g.node("Mul", &[&gains, &confidence]);
    let gains = g.node("Reshape", &[&gains, &flat]);
    let base = match base {
        Some(base) => base.to_owned(),
        None => {
            let shape = g.int64s("shape", &[1], &[items as i64]);
            let nothing = g.float("nothing", 0.0);
            g.node("Expand", &[&nothing, &shape])
        }
    };
    let attributes = vec![int_attribute("axis", 0), string_attribute("reduction", "add")];
    g.node_to("ScatterElements", &[&base, &rows, &gains], attributes, &["scores"]);
}

fn axis() -> Vec<onnx::proto::AttributeProto> {
    vec![int_attribute("axis", 0)]
}
