//! iALS as an ONNX graph: folds a history in and scores every item.
//!
//! The normal equations of [`super::solve`], without features, are solved inside the graph by conjugate gradients in a `Loop`, to convergence.

use ndarray::ArrayView2;

use super::parameters::Parameters;
use crate::training::history_graph;
use onnx::graph::{Axis, GraphBuilder, int_attribute};
use onnx::proto::data_type;

/// The loop ends when the preconditioned residual's energy has fallen by this factor.
const TOLERANCE: f32 = 1e-13;

/// `item_factors` [items, d] in the eigenbasis of their Gram matrix, whose diagonal is `item_gram` [d].
pub fn write(parameters: &Parameters, item_factors: ArrayView2<f32>, item_gram: &[f32]) -> GraphBuilder {
    let (items, d) = item_factors.dim();
    let mut g = history_graph("ials", items);
    let zero = g.float("zero", 0.0);
    let y_all = g.matrix("item_factors", item_factors);
    let gram = g.floats("item_gram", &[d], item_gram);

    // An item of weight 0 in front changes nothing, and spares every operator the empty history.
    let no_item = g.int64s("no_item", &[1], &[0]);
    let no_weight = g.floats("no_weight", &[1], &[0.0]);
    let index = g.node_with("Concat", &[&no_item, "item_index"], vec![int_attribute("axis", 0)]);
    let weight = g.node_with("Concat", &[&no_weight, "weight"], vec![int_attribute("axis", 0)]);
    // What was turned down counts with the confidence of its weight, towards 0.
    let magnitude = g.node("Abs", &[&weight]);
    let cast = || vec![int_attribute("to", data_type::FLOAT.into())];
    let chosen = g.node("Greater", &[&weight, &zero]);
    let chosen = g.node_with("Cast", &[&chosen], cast());
    let observed = g.node("Greater", &[&magnitude, &zero]);
    let observed = g.node_with("Cast", &[&observed], cast());
    let confidence = parameters.weighting.write(&mut g, &magnitude, &observed);

    // D = α₀ Λ + λ (n + α₀ |I|)^ν
    let keep = vec![int_attribute("keepdims", 0)];
    let n = g.node_with("ReduceSum", &[&observed], keep.clone());
    let unobserved = g.float("unobserved_weight", parameters.unobserved_weight);
    let all = g.float("unobserved_total", parameters.unobserved_weight * items as f32);
    let exponent = g.float("frequency_exponent", parameters.frequency_exponent);
    let regularization = g.float("regularization", parameters.regularization);
    let count = g.node("Add", &[&n, &all]);
    let scaled = g.node("Pow", &[&count, &exponent]);
    let lambda = g.node("Mul", &[&scaled, &regularization]);
    let dense = g.node("Mul", &[&gram, &unobserved]);
    let dense = g.node("Add", &[&dense, &lambda]);

    let y = g.node_with("Gather", &[&y_all, &index], vec![int_attribute("axis", 0)]);
    let wanted = g.node("Mul", &[&confidence, &chosen]);
    let b = g.node("MatMul", &[&wanted, &y]);
    let squares = g.node("Mul", &[&y, &y]);
    let diagonal = g.node("MatMul", &[&confidence, &squares]);
    let diagonal = g.node("Add", &[&diagonal, &dense]);
    let x = g.node("Mul", &[&b, &zero]);
    let z = g.node("Div", &[&b, &diagonal]);
    let energy = g.node("MatMul", &[&b, &z]);
    let tolerance = g.float("tolerance", TOLERANCE);
    let goal = g.node("Mul", &[&energy, &tolerance]);
    let steps = g.int64s("steps", &[], &[4 * d.max(8) as i64]);
    let any = g.node("Greater", &[&energy, &zero]);

    let mut body = g.subgraph("cg");
    let vector = [Axis::Fixed(d)];
    body.input("cg_step", data_type::INT64, &[]);
    body.input("cg_continue", data_type::BOOL, &[]);
    body.input("cg_x", data_type::FLOAT, &vector);
    body.input("cg_r", data_type::FLOAT, &vector);
    body.input("cg_p", data_type::FLOAT, &vector);
    body.input("cg_rz", data_type::FLOAT, &[]);
    let product = body.node("MatMul", &[&y, "cg_p"]);
    let product = body.node("Mul", &[&product, &confidence]);
    let sparse = body.node("MatMul", &[&product, &y]);
    let own = body.node("Mul", &[&dense, "cg_p"]);
    let q = body.node("Add", &[&sparse, &own]);
    let curvature = body.node("MatMul", &["cg_p", &q]);
    let length = body.node("Div", &["cg_rz", &curvature]);
    let step = body.node("Mul", &[&length, "cg_p"]);
    body.node_to("Add", &["cg_x", &step], Vec::new(), &["cg_x_out"]);
    let step = body.node("Mul", &[&length, &q]);
    body.node_to("Sub", &["cg_r", &step], Vec::new(), &["cg_r_out"]);
    let z_next = body.node("Div", &["cg_r_out", &diagonal]);
    body.node_to("MatMul", &["cg_r_out", &z_next], Vec::new(), &["cg_rz_out"]);
    let beta = body.node("Div", &["cg_rz_out", "cg_rz"]);
    let kept = body.node("Mul", &[&beta, "cg_p"]);
    body.node_to("Add", &[&z_next, &kept], Vec::new(), &["cg_p_out"]);
    body.node_to("Greater", &["cg_rz_out", &goal], Vec::new(), &["cg_continue_out"]);
    body.output("cg_continue_out", data_type::BOOL, &[]);
    body.output("cg_x_out", data_type::FLOAT, &vector);
    body.output("cg_r_out", data_type::FLOAT, &vector);
    body.output("cg_p_out", data_type::FLOAT, &vector);
    body.output("cg_rz_out", data_type::FLOAT, &[]);
    let inputs = [&steps, &any, &x, &b, &z, &energy].map(String::as_str);
    g.node_to("Loop", &inputs, vec![body.into_attribute("body")], &["user_factors", "residual", "direction", "rz"]);
    g.node_to("MatMul", &[&y_all, "user_factors"], Vec::new(), &["scores"]);
    g
}
