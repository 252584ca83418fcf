//! A plain evaluator of the few operators that the graphs here have, for tests.

use std::collections::HashMap;

use prost::Message;

use onnx::graph::GraphBuilder;
use onnx::proto::{ModelProto, data_type};
use onnx::tensor::{Tensor, Values};

#[derive(Clone)]
struct Array {
    shape: Vec<usize>,
    x: Vec<f64>,
}

impl Array {
    fn broadcast(&self, shape: &[usize], at: usize) -> f64 {
        let mut rest = at;
        let (mut index, mut stride) = (0, 1);
        for (axis, &n) in shape.iter().enumerate().rev() {
            let place = rest % n;
            rest /= n;
            if let Some(own) = (axis + self.shape.len()).checked_sub(shape.len()) {
                index += stride * if self.shape[own] == 1 { 0 } else { place };
                stride *= self.shape[own];
            }
        }
        self.x[index]
    }

    fn with(&self, other: &Self, f: impl Fn(f64, f64) -> f64) -> Self {
        let shape = if self.x.len() >= other.x.len() { &self.shape } else { &other.shape };
        let n = shape.iter().product();
        Self {
            shape: shape.clone(),
            x: (0..n).map(|i| f(self.broadcast(shape, i), other.broadcast(shape, i))).collect(),
        }
    }

    fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        Self { shape: self.shape.clone(), x: self.x.iter().map(|&x| f(x)).collect() }
    }

    fn times(&self, other: &Self) -> Self {
        let (rows, k, n) = (self.shape[0], self.shape[1], other.shape[1]);
        assert_eq!(k, other.shape[0]);
        let x = (0..rows * n).map(|at| (0..k).map(|i| self.x[at / n * k + i] * other.x[i * n + at % n]).sum());
        Self { shape: vec![rows, n], x: x.collect() }
    }
}

/// The output `rows` [n, fields].
pub fn evaluate(graph: &GraphBuilder, inputs: Vec<(&'static str, Tensor)>) -> Tensor {
    let model = ModelProto::decode(&graph.clone().encode().unwrap()[..]).unwrap();
    let graph = model.graph.unwrap();
    let mut values: HashMap<String, Array> = HashMap::new();
    for t in graph.initializer {
        let x = match t.data_type {
            data_type::FLOAT => {
                bytemuck::pod_collect_to_vec::<u8, f32>(&t.raw_data).into_iter().map(f64::from).collect()
            }
            data_type::DOUBLE => bytemuck::pod_collect_to_vec::<u8, f64>(&t.raw_data),
            _ => bytemuck::pod_collect_to_vec::<u8, i64>(&t.raw_data).into_iter().map(|x| x as f64).collect(),
        };
        values.insert(t.name, Array { shape: t.dims.iter().map(|&n| n as usize).collect(), x });
    }
    let declared: Vec<String> = graph.input.iter().map(|input| input.name.clone()).collect();
    for (name, tensor) in inputs {
        assert!(declared.iter().any(|d| d == name), "{name}");
        let x = match tensor.values {
            Values::F32(x) => x.into_iter().map(f64::from).collect(),
            Values::I32(x) => x.into_iter().map(f64::from).collect(),
            _ => panic!("an input of another type"),
        };
        values.insert(name.into(), Array { shape: tensor.shape, x });
    }
    for node in graph.node {
        let of: Vec<&Array> = node.input.iter().map(|name| &values[name]).collect();
        let axis_one = || assert_eq!(node.attribute[0].i, 1);
        let results = match node.op_type.as_str() {
            "Split" => {
                axis_one();
                let (rows, width) = (of[0].shape[0], of[0].shape[1]);
                let mut start = 0;
                let part = |&n: &f64| {
                    let range = start..start + n as usize;
                    start = range.end;
                    let x = (0..rows).flat_map(|r| of[0].x[r * width..][range.clone()].to_vec()).collect();
                    Array { shape: vec![rows, range.len()], x }
                };
                of[1].x.iter().map(part).collect()
            }
            "Concat" => {
                axis_one();
                let rows = of[0].shape[0];
                let row = |r: usize| of.iter().flat_map(move |a| a.x[r * a.shape[1]..][..a.shape[1]].to_vec());
                let x = (0..rows).flat_map(row).collect();
                vec![Array { shape: vec![rows, of.iter().map(|a| a.shape[1]).sum()], x }]
            }
            "Gemm" => vec![of[0].times(of[1]).with(of[2], |a, b| a + b)],
            "MatMul" => vec![of[0].times(of[1])],
            "Relu" => vec![of[0].map(|x| x.max(0.0))],
            "Tanh" => vec![of[0].map(f64::tanh)],
            "Exp" => vec![of[0].map(f64::exp)],
            "Clip" => vec![of[0].map(|x| x.clamp(of[1].x[0], of[2].x[0]))],
            "Mul" => vec![of[0].with(of[1], |a, b| a * b)],
            "Add" => vec![of[0].with(of[1], |a, b| a + b)],
            "LessOrEqual" => vec![of[0].with(of[1], |a, b| f64::from(u8::from(a <= b)))],
            "Cast" => vec![of[0].clone()],
            "Gather" => {
                let width: usize = of[0].shape[1..].iter().product();
                let x = of[1].x.iter().flat_map(|&i| of[0].x[i as usize * width..][..width].to_vec()).collect();
                vec![Array { shape: [&of[1].shape[..], &of[0].shape[1..]].concat(), x }]
            }
            other => panic!("no operator {other}"),
        };
        values.extend(node.output.into_iter().zip(results));
    }
    let Array { shape, x } = values.remove("rows").unwrap();
    Tensor { shape, values: Values::F64(x) }
}
