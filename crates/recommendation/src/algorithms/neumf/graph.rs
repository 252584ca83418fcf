//! NeuMF as an ONNX graph: folds a history in and scores every item.

use ndarray::s;

use super::fold_in::FoldIn;
use super::parameters::Parameters;
use super::trained::Trained;
use crate::training::history_graph;
use kernels::matrix::flat;
use onnx::graph::{GraphBuilder, int_attribute};
use onnx::proto::data_type;

pub fn write(parameters: &Parameters, trained: &Trained, folding: &FoldIn) -> GraphBuilder {
    let (f, h) = (parameters.factors, parameters.hidden(0));
    let d = f + h;
    let mut g = history_graph("neumf", trained.item_gmf.nrows());
    let (zero, one) = (g.float("zero", 0.0), g.float("one", 1.0));
    let item_gmf = g.matrix("item_gmf", trained.item_gmf.view());
    let item_mlp = g.matrix("item_mlp", trained.item_mlp.view());

    // An item of weight 0 in front changes nothing, and spares every operator the empty history.
    let no_item = g.int64s("no_item", &[1], &[0]);
    let no_weight = g.floats("no_weight", &[1], &[0.0]);
    let axis = |axis| vec![int_attribute("axis", axis)];
    let index = g.node_with("Concat", &[&no_item, "item_index"], axis(0));
    let weight = g.node_with("Concat", &[&no_weight, "weight"], axis(0));
    let positive = g.node("Greater", &[&weight, &zero]);
    let observed = g.node_with("Cast", &[&positive], vec![int_attribute("to", data_type::FLOAT.into())]);

    // The mean of the history's items, taken to the user's state by the fitted map.
    let n = g.node_with("ReduceSum", &[&observed], vec![int_attribute("keepdims", 0)]);
    let n = g.node("Max", &[&n, &one]);
    let gmf = g.node_with("Gather", &[&item_gmf, &index], axis(0));
    let mlp = g.node_with("Gather", &[&item_mlp, &index], axis(0));
    let both = g.node_with("Concat", &[&gmf, &mlp], axis(1));
    let sum = g.node("MatMul", &[&observed, &both]);
    let mean = g.node("Div", &[&sum, &n]);
    let columns = |from: usize, to: usize| folding.weight.slice(s![.., from..to]).as_standard_layout().into_owned();
    let fold_gmf = g.matrix("fold_in_gmf", columns(0, f).view());
    let fold_mlp = g.matrix("fold_in_mlp", columns(f, d).view());
    let bias_gmf = g.floats("fold_in_gmf_bias", &[f], &folding.bias[..f]);
    let bias_mlp = g.floats("fold_in_mlp_bias", &[h], &folding.bias[f..]);
    let user_gmf = g.node("MatMul", &[&mean, &fold_gmf]);
    let user_gmf = g.node("Add", &[&user_gmf, &bias_gmf]);
    let user_mlp = g.node("MatMul", &[&mean, &fold_mlp]);
    let user_mlp = g.node("Add", &[&user_mlp, &bias_mlp]);

    let product = g.node("MatMul", &[&item_gmf, &user_gmf]);
    let x = g.node("Add", &[&item_mlp, &user_mlp]);
    let mut x = g.node("Relu", &[&x]);
    for (l, layer) in trained.layers.iter().enumerate() {
        let last = l + 1 == trained.layers.len();
        // The last has one output: as a vector it leaves one number an item.
        let shape = if last { vec![layer.inputs()] } else { vec![layer.inputs(), layer.outputs()] };
        let weight = g.floats(&format!("layer_{}_weight", l + 2), &shape, flat(layer.weight.view()));
        let shape = if last { vec![] } else { vec![layer.outputs()] };
        let bias = g.floats(&format!("layer_{}_bias", l + 2), &shape, &layer.bias);
        x = g.node("MatMul", &[&x, &weight]);
        x = g.node("Add", &[&x, &bias]);
        if !last {
            x = g.node("Relu", &[&x]);
        }
    }
    g.node_to("Add", &[&product, &x], Vec::new(), &["scores"]);
    g
}
