//! A plain evaluator of the few operators that the graphs here have, for tests.

use std::collections::HashMap;

use ndarray::{Array2, ArrayD, Axis, Ix2, Slice, Zip, concatenate};
use prost::Message;

use onnx::graph::GraphBuilder;
use onnx::proto::{ModelProto, data_type};
use onnx::tensor::Tensor;

fn matrix(array: &ArrayD<f64>) -> Array2<f64> {
    array.clone().into_dimensionality::<Ix2>().unwrap()
}

fn times(a: &ArrayD<f64>, b: &ArrayD<f64>) -> ArrayD<f64> {
    matrix(a).dot(&matrix(b)).into_dyn()
}

/// `f` of both, of which one may be repeated along the other's rows.
fn with(a: &ArrayD<f64>, b: &ArrayD<f64>, f: impl Fn(f64, f64) -> f64) -> ArrayD<f64> {
    let shape = if a.len() >= b.len() { a.shape() } else { b.shape() };
    let (a, b) = (a.broadcast(shape).unwrap(), b.broadcast(shape).unwrap());
    Zip::from(a).and(b).map_collect(|&a, &b| f(a, b))
}

/// The output `rows` [n, fields].
pub fn evaluate(graph: &GraphBuilder, inputs: Vec<(&'static str, Tensor)>) -> ArrayD<f64> {
    let model = ModelProto::decode(&graph.clone().encode().unwrap()[..]).unwrap();
    let graph = model.graph.unwrap();
    let mut values: HashMap<String, ArrayD<f64>> = HashMap::new();
    for t in graph.initializer {
        let x = match t.data_type {
            data_type::FLOAT => {
                bytemuck::pod_collect_to_vec::<u8, f32>(&t.raw_data).into_iter().map(f64::from).collect()
            }
            data_type::DOUBLE => bytemuck::pod_collect_to_vec::<u8, f64>(&t.raw_data),
            _ => bytemuck::pod_collect_to_vec::<u8, i64>(&t.raw_data).into_iter().map(|x| x as f64).collect(),
        };
        let shape: Vec<usize> = t.dims.iter().map(|&n| n as usize).collect();
        values.insert(t.name, ArrayD::from_shape_vec(shape, x).unwrap());
    }
    let declared: Vec<String> = graph.input.iter().map(|input| input.name.clone()).collect();
    for (name, tensor) in inputs {
        assert!(declared.iter().any(|d| d == name), "{name}");
        let x = match tensor {
            Tensor::F32(x) => x.mapv(f64::from),
            Tensor::I32(x) => x.mapv(f64::from),
            _ => panic!("an input of another type"),
        };
        values.insert(name.into(), x);
    }
    for node in graph.node {
        let of: Vec<&ArrayD<f64>> = node.input.iter().map(|name| &values[name]).collect();
        let axis_one = || assert_eq!(node.attribute[0].i, 1);
        let results = match node.op_type.as_str() {
            "Split" => {
                axis_one();
                let mut start = 0;
                let part = |&n: &f64| {
                    let range = start..start + n as usize;
                    start = range.end;
                    of[0].slice_axis(Axis(1), Slice::from(range)).to_owned()
                };
                of[1].iter().map(part).collect()
            }
            "Concat" => {
                axis_one();
                let views: Vec<_> = of.iter().map(|array| array.view()).collect();
                vec![concatenate(Axis(1), &views).unwrap()]
            }
            "Gemm" => vec![with(&times(of[0], of[1]), of[2], |a, b| a + b)],
            "MatMul" => vec![times(of[0], of[1])],
            "Relu" => vec![of[0].mapv(|x| x.max(0.0))],
            "Tanh" => vec![of[0].mapv(f64::tanh)],
            "Exp" => vec![of[0].mapv(f64::exp)],
            "Clip" => {
                let [least, most] = [of[1], of[2]].map(|end| end.first().copied().unwrap());
                vec![of[0].mapv(|x| x.clamp(least, most))]
            }
            "Mul" => vec![with(of[0], of[1], |a, b| a * b)],
            "Add" => vec![with(of[0], of[1], |a, b| a + b)],
            "LessOrEqual" => vec![with(of[0], of[1], |a, b| f64::from(u8::from(a <= b)))],
            "Cast" => vec![of[0].clone()],
            "Gather" => {
                let places: Vec<usize> = of[1].iter().map(|&i| i as usize).collect();
                let shape = [of[1].shape(), &of[0].shape()[1..]].concat();
                vec![of[0].select(Axis(0), &places).into_shape_with_order(shape).unwrap()]
            }
            other => panic!("no operator {other}"),
        };
        values.extend(node.output.into_iter().zip(results));
    }
    values.remove("rows").unwrap()
}
