//! Graphs in half precision: weights and values of 16 bits instead of 32, which a GPU multiplies many times as fast.
//!
//! Inputs and outputs stay as they are. Every value between them becomes a 16-bit float, so only operators are accepted of which CUDA's kernels
//! take them and add up in 32 bits where that matters. Whether the results are near enough is for the caller to find out.

use std::collections::HashSet;

use bytes::Bytes;
use half::f16;
use prost::Message;

use crate::graph::int_attribute;
use crate::proto::*;
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::progress::Progress;

/// Operators of the standard whose inputs and outputs may all be 16-bit floats.
const OPERATORS: [&str; 71] = [
    "Abs",
    "Add",
    "And",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "Ceil",
    "Clip",
    "Concat",
    "Constant",
    "ConstantOfShape",
    "Conv",
    "Div",
    "Equal",
    "Erf",
    "Exp",
    "Expand",
    "Flatten",
    "Floor",
    "Gather",
    "GatherElements",
    "GatherND",
    "Gelu",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "Greater",
    "GreaterOrEqual",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "InstanceNormalization",
    "LayerNormalization",
    "LeakyRelu",
    "Less",
    "LessOrEqual",
    "Log",
    "LogSoftmax",
    "MatMul",
    "Max",
    "MaxPool",
    "Min",
    "Mul",
    "Neg",
    "Not",
    "Or",
    "PRelu",
    "Pad",
    "Pow",
    "Reciprocal",
    "ReduceL2",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceSum",
    "Relu",
    "Reshape",
    "Shape",
    "Sigmoid",
    "Slice",
    "Softmax",
    "Split",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Tanh",
    "Tile",
    "Transpose",
    "Unsqueeze",
    "Where",
    "Xor",
];

/// Microsoft's operator of 4-bit weights, whose scales and inputs may be 16-bit floats.
const MATMUL_4_BIT: (&str, &str) = ("com.microsoft", "MatMulNBits");

/// Values converted between two checks for cancel requests: some milliseconds.
const BLOCK: usize = 1 << 20;

/// The graph `onnx` in half precision, or why there is none.
pub fn converted(onnx: Bytes, progress: &dyn Progress) -> Result<std::result::Result<Vec<u8>, String>> {
    let model = ModelProto::decode(onnx).map_err(|e| Error::Internal(format!("a stored graph is invalid: {e}")))?;
    match convert(model, progress)? {
        Ok(model) => {
            let mut file = Vec::new();
            memory::reserve(&mut file, model.encoded_len())?;
            model.encode(&mut file).map_err(|e| Error::Internal(e.to_string()))?;
            Ok(Ok(file))
        }
        Err(refused) => Ok(Err(refused)),
    }
}

fn convert(mut model: ModelProto, progress: &dyn Progress) -> Result<std::result::Result<ModelProto, String>> {
    let Some(graph) = &mut model.graph else { return Ok(Err("it is empty".into())) };
    if !model.functions.is_empty() || !graph.sparse_initializer.is_empty() {
        return Ok(Err("it has functions or sparse weights".into()));
    }
    let is_known = |node: &NodeProto| {
        (matches!(&*node.domain, "" | "ai.onnx") && OPERATORS.contains(&&*node.op_type))
            || (&*node.domain, &*node.op_type) == MATMUL_4_BIT
    };
    if let Some(node) = graph.node.iter().find(|node| !is_known(node)) {
        return Ok(Err(format!("operator {} is not converted", node.op_type)));
    }
    for tensor in &mut graph.initializer {
        shorten(tensor, progress)?;
    }
    for node in &mut graph.node {
        for attribute in &mut node.attribute {
            match (&*node.op_type, &*attribute.name) {
                ("Cast", "to") if attribute.i == i64::from(data_type::FLOAT) => attribute.i = data_type::FLOAT16.into(),
                ("Constant", "value_float" | "value_floats") => {
                    let (dims, values) = match &*attribute.name {
                        "value_float" => (Vec::new(), vec![attribute.f]),
                        _ => (vec![attribute.floats.len() as i64], std::mem::take(&mut attribute.floats)),
                    };
                    *attribute = tensor_attribute(dims, &values);
                }
                _ => {}
            }
            if let Some(tensor) = &mut attribute.t {
                shorten(tensor, progress)?;
            }
        }
        // Without a value it makes 32-bit zeros.
        if node.op_type == "ConstantOfShape" && node.attribute.is_empty() {
            node.attribute.push(tensor_attribute(vec![1], &[0.0]));
        }
    }
    bridge(graph);
    Ok(Ok(model))
}

/// Casts inputs of 32-bit floats to 16 bits, and outputs back.
fn bridge(graph: &mut GraphProto) {
    let are_floats = |value: &&ValueInfoProto| {
        let tensor = value.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref());
        tensor.is_some_and(|tensor| tensor.elem_type == data_type::FLOAT)
    };
    // Older files list their weights among the inputs.
    let weights: HashSet<String> = graph.initializer.iter().map(|tensor| tensor.name.clone()).collect();
    let named = |values: &[ValueInfoProto]| -> HashSet<String> {
        values.iter().filter(are_floats).map(|value| value.name.clone()).collect()
    };
    graph.input.retain(|input| !weights.contains(&input.name));
    let (inputs, outputs) = (named(&graph.input), named(&graph.output));
    let half = |name: &str| format!("{name}/half");
    for name in graph.node.iter_mut().flat_map(|node| node.input.iter_mut().chain(&mut node.output)) {
        if inputs.contains(name) || outputs.contains(name) {
            *name = half(name);
        }
    }
    let cast = |from: String, to: String, element: i32| NodeProto {
        name: format!("cast/{to}"),
        input: vec![from],
        output: vec![to],
        op_type: "Cast".into(),
        attribute: vec![int_attribute("to", element.into())],
        ..Default::default()
    };
    let mut nodes: Vec<NodeProto> =
        inputs.iter().map(|name| cast(name.clone(), half(name), data_type::FLOAT16)).collect();
    nodes.append(&mut graph.node);
    nodes.extend(outputs.iter().map(|name| cast(half(name), name.clone(), data_type::FLOAT)));
    for tensor in &mut graph.initializer {
        if outputs.contains(&tensor.name) {
            tensor.name = half(&tensor.name);
        }
    }
    graph.node = nodes;
}

fn tensor_attribute(dims: Vec<i64>, values: &[f32]) -> AttributeProto {
    let tensor = TensorProto {
        dims,
        data_type: data_type::FLOAT16,
        raw_data: values.iter().flat_map(|&value| shortened(value).to_le_bytes()).collect::<Vec<u8>>().into(),
        ..Default::default()
    };
    AttributeProto { name: "value".into(), t: Some(tensor), r#type: attribute_type::TENSOR, ..Default::default() }
}

/// 32-bit floats as 16-bit ones.
fn shorten(tensor: &mut TensorProto, progress: &dyn Progress) -> Result<()> {
    if tensor.data_type != data_type::FLOAT {
        return Ok(());
    }
    let mut bytes = Vec::new();
    memory::reserve(&mut bytes, tensor.raw_data.len() / 2 + tensor.float_data.len() * 2)?;
    let mut push = |value: f32| bytes.extend(shortened(value).to_le_bytes());
    for block in tensor.raw_data.chunks(BLOCK * 4) {
        progress.check()?;
        block.chunks_exact(4).for_each(|b| push(f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
    }
    for block in std::mem::take(&mut tensor.float_data).chunks(BLOCK) {
        progress.check()?;
        block.iter().copied().for_each(&mut push);
    }
    tensor.data_type = data_type::FLOAT16;
    tensor.raw_data = bytes.into();
    Ok(())
}

/// The nearest 16-bit float that is finite where `value` is, and not 0 where it is not: what masks a score, or keeps a divisor from being 0,
/// must go on doing so.
fn shortened(value: f32) -> f16 {
    let near = f16::from_f32(value);
    if near.is_infinite() && value.is_finite() {
        return f16::MAX.copysign(near);
    }
    if near == f16::ZERO && value != 0.0 {
        return f16::MIN_POSITIVE_SUBNORMAL.copysign(near);
    }
    near
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Axis, GraphBuilder};
    use runtime::progress::Unwatched;

    fn linear() -> GraphBuilder {
        let mut g = GraphBuilder::new("linear");
        g.input("x", data_type::FLOAT, &[Axis::Named("n"), Axis::Fixed(2)]);
        g.input("mask", data_type::INT64, &[Axis::Named("n")]);
        let w = g.floats("w", &[2, 2], &[1.0, 1e-12, -1e9, 0.1]);
        g.node_to("MatMul", &["x", &w], Vec::new(), &["y"]);
        let cast = g.node_with("Cast", &["mask"], vec![int_attribute("to", data_type::FLOAT.into())]);
        g.node_to("Mul", &["y", &cast], Vec::new(), &["z"]);
        g.output("y", data_type::FLOAT, &[Axis::Named("n"), Axis::Fixed(2)]);
        g.output("z", data_type::FLOAT, &[Axis::Named("n"), Axis::Fixed(2)]);
        g
    }

    fn decoded(g: GraphBuilder) -> std::result::Result<GraphProto, String> {
        let file = converted(g.encode().unwrap().into(), &Unwatched).unwrap()?;
        Ok(ModelProto::decode(&*file).unwrap().graph.unwrap())
    }

    #[test]
    fn everything_between_inputs_and_outputs_has_16_bits() {
        let graph = decoded(linear()).unwrap();
        let [w] = graph.initializer.as_slice() else { panic!("one weight") };
        assert_eq!((w.data_type, w.raw_data.len()), (data_type::FLOAT16, 8));
        let nodes: Vec<(&str, &str, &str)> =
            graph.node.iter().map(|node| (&*node.op_type, &*node.input[0], &*node.output[0])).collect();
        assert_eq!(nodes[..3], [("Cast", "x", "x/half"), ("MatMul", "x/half", "y/half"), ("Cast", "mask", "v1")]);
        assert_eq!(graph.node[2].attribute[0].i, i64::from(data_type::FLOAT16));
        assert_eq!((&*graph.node[3].input[0], &*graph.node[3].output[0]), ("y/half", "z/half"));
        let mut back: Vec<(&str, &str, &str)> = nodes[4..].to_vec();
        back.sort_unstable();
        assert_eq!(back, [("Cast", "y/half", "y"), ("Cast", "z/half", "z")]);
        let types = graph.output.iter().map(|o| o.r#type.as_ref().unwrap().tensor_type.as_ref().unwrap().elem_type);
        assert!(types.eq([data_type::FLOAT; 2]));
    }

    #[test]
    fn what_16_bits_do_not_hold_stays_as_large_and_as_small_as_it_can() {
        assert_eq!(shortened(-1e9), f16::MIN);
        assert_eq!(shortened(1e-12).to_bits(), 1);
        assert_eq!(shortened(-1e-12).to_bits(), 0x8001);
        assert!(shortened(f32::NEG_INFINITY).is_infinite() && shortened(f32::NAN).is_nan());
        assert_eq!((shortened(0.0).to_bits(), shortened(1.5)), (0, f16::from_f32(1.5)));
    }

    #[test]
    fn constants_become_16_bits_whatever_their_form() {
        let mut g = linear();
        let float = AttributeProto { name: "value_float".into(), f: 2.0, r#type: 1, ..Default::default() };
        g.node_with("Constant", &[], vec![float]);
        let floats =
            AttributeProto { name: "value_floats".into(), floats: vec![1.0; 3], r#type: 6, ..Default::default() };
        g.node_with("Constant", &[], vec![floats]);
        g.node("ConstantOfShape", &["shape"]);
        let graph = decoded(g).unwrap();
        let tensors: Vec<&TensorProto> = graph
            .node
            .iter()
            .filter(|node| node.op_type.starts_with("Constant"))
            .map(|node| node.attribute[0].t.as_ref().unwrap())
            .collect();
        assert!(tensors.iter().all(|tensor| tensor.data_type == data_type::FLOAT16));
        assert_eq!(tensors.iter().map(|tensor| tensor.dims.clone()).collect::<Vec<_>>(), [vec![], vec![3], vec![1]]);
    }

    #[test]
    fn other_operators_are_refused_by_name() {
        let mut g = linear();
        g.node("QuantizeLinear", &["y", "w"]);
        assert_eq!(decoded(g).unwrap_err(), "operator QuantizeLinear is not converted");
        assert!(OPERATORS.is_sorted());
    }
}
