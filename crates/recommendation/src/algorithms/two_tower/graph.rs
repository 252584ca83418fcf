//! The user tower and the items' vectors as an ONNX graph: folds a history in and scores every item.

use ndarray::s;

use super::parameters::Parameters;
use super::train::Trained;
use crate::training::history_graph;
use kernels::matrix::flat;
use onnx::graph::{GraphBuilder, int_attribute};

pub fn write(parameters: &Parameters, trained: &Trained) -> GraphBuilder {
    let (width, hidden) = (parameters.width(), parameters.hidden);
    let mut g = history_graph("two_tower", trained.item_factors.nrows());
    let (zero, one) = (g.float("zero", 0.0), g.float("one", 1.0));
    let item_factors = g.matrix("item_factors", trained.item_factors.view());
    let history_factors = g.matrix("history_factors", trained.history_factors.view());

    // An item of weight 0 in front changes nothing, and spares every operator the empty history.
    let no_item = g.int64s("no_item", &[1], &[0]);
    let no_weight = g.floats("no_weight", &[1], &[0.0]);
    let axis = || vec![int_attribute("axis", 0)];
    let index = g.node_with("Concat", &[&no_item, "item_index"], axis());
    let weight = g.node_with("Concat", &[&no_weight, "weight"], axis());

    // The mean of the history by confidence.
    let weight = g.node("Max", &[&weight, &zero]);
    let sum = g.node("Add", &[&weight, &one]);
    let log = g.node("Log", &[&sum]);
    let scale = g.float("log_scale", std::f32::consts::LOG2_E);
    let confidence = g.node("Mul", &[&log, &scale]);
    let keep = || vec![int_attribute("keepdims", 0)];
    let total = g.node_with("ReduceSum", &[&confidence], keep());
    let least = g.float("least_confidence", f32::MIN_POSITIVE);
    let total = g.node("Max", &[&total, &least]);
    let rows = g.node_with("Gather", &[&history_factors, &index], axis());
    let sum = g.node("MatMul", &[&confidence, &rows]);
    let mean = g.node("Div", &[&sum, &total]);

    // The user tower of someone of whom only a history is known.
    let [first, second] = trained.user_tower.layers();
    let weight = g.floats("user_first_weight", &[width, hidden], flat(first.weight.slice(s![..width, ..])));
    let bias = g.floats("user_first_bias", &[hidden], &first.bias);
    let x = g.node("MatMul", &[&mean, &weight]);
    let x = g.node("Add", &[&x, &bias]);
    let x = g.node("Relu", &[&x]);
    let weight = g.floats("user_second_weight", &[hidden, width], flat(second.weight.view()));
    let bias = g.floats("user_second_bias", &[width], &second.bias);
    let x = g.node("MatMul", &[&x, &weight]);
    let x = g.node("Add", &[&x, &bias]);
    let x = g.node("Add", &[&x, &mean]);
    let squares = g.node("Mul", &[&x, &x]);
    let length = g.node_with("ReduceSum", &[&squares], keep());
    let length = g.node("Sqrt", &[&length]);
    let least = g.float("least_length", 1e-6);
    let length = g.node("Max", &[&length, &least]);
    let x = g.node("Div", &[&x, &length]);
    let popularity = g.floats("popularity_factor", &[1], &[1.0]);
    let user = g.node_with("Concat", &[&x, &popularity], axis());
    g.node_to("MatMul", &[&item_factors, &user], Vec::new(), &["scores"]);
    g
}
