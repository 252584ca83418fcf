//! Mult-VAE as an ONNX graph: encodes a history by its mean and scores every item.

use super::fold_in::LEAST_LENGTH;
use super::parameters::Parameters;
use super::train::Trained;
use crate::training::history_graph;
use kernels::matrix::flat;
use onnx::graph::{GraphBuilder, int_attribute};
use onnx::proto::data_type;

pub fn write(parameters: &Parameters, trained: &Trained) -> GraphBuilder {
    let (hidden, factors) = (parameters.hidden, parameters.factors);
    let mut g = history_graph("mult_vae", trained.item_factors.nrows());
    let zero = g.float("zero", 0.0);
    let item_factors = g.matrix("item_factors", trained.item_factors.view());
    let history_factors = g.matrix("history_factors", trained.history_factors.view());

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

    // x̃, of length 1.
    let squares = g.node("Mul", &[&confidence, &confidence]);
    let length = g.node_with("ReduceSum", &[&squares], vec![int_attribute("keepdims", 0)]);
    let length = g.node("Sqrt", &[&length]);
    let least = g.float("least_length", LEAST_LENGTH);
    let length = g.node("Max", &[&length, &least]);
    let input = g.node("Div", &[&confidence, &length]);

    let rows = g.node_with("Gather", &[&history_factors, &index], axis());
    let x = g.node("MatMul", &[&input, &rows]);
    let bias = g.floats("history_bias", &[hidden], &trained.history_bias);
    let x = g.node("Add", &[&x, &bias]);
    let x = g.node("Tanh", &[&x]);
    let weight = g.floats("encoder_weight", &[hidden, factors], flat(trained.encoder.weight.view()));
    let bias = g.floats("encoder_bias", &[factors], &trained.encoder.bias);
    let x = g.node("MatMul", &[&x, &weight]);
    let x = g.node("Add", &[&x, &bias]);
    let weight = g.floats("decoder_weight", &[factors, hidden - 1], flat(trained.decoder.weight.view()));
    let bias = g.floats("decoder_bias", &[hidden - 1], &trained.decoder.bias);
    let x = g.node("MatMul", &[&x, &weight]);
    let x = g.node("Add", &[&x, &bias]);
    let x = g.node("Tanh", &[&x]);
    let one = g.floats("bias_factor", &[1], &[1.0]);
    let user = g.node_with("Concat", &[&x, &one], axis());
    g.node_to("MatMul", &[&item_factors, &user], Vec::new(), &["scores"]);
    g
}
