//! Runs the few operators that the graph is made of, for tests: slowly, and independent of drawing.

use std::collections::HashMap;

use bytes::Bytes;
use prost::Message;

use onnx::proto::{GraphProto, ModelProto, NodeProto, data_type};

/// Doubles hold whole numbers exactly as well.
type Array = (Vec<usize>, Vec<f64>);

/// The output of a graph for one input.
pub fn run(onnx: &Bytes, input: &str, values: Array, output: &str) -> Vec<f64> {
    let graph = ModelProto::decode(onnx.clone()).unwrap().graph.unwrap();
    let mut known = HashMap::from([(input.to_owned(), values)]);
    nodes(&graph, &mut known);
    known.remove(output).unwrap().1
}

fn nodes(graph: &GraphProto, known: &mut HashMap<String, Array>) {
    for tensor in &graph.initializer {
        let shape = tensor.dims.iter().map(|&n| n as usize).collect();
        let raw = &tensor.raw_data;
        let values = match tensor.data_type {
            data_type::DOUBLE => bytemuck::pod_collect_to_vec::<u8, f64>(raw),
            data_type::INT32 => bytemuck::pod_collect_to_vec::<u8, i32>(raw).into_iter().map(f64::from).collect(),
            data_type::INT64 => bytemuck::pod_collect_to_vec::<u8, i64>(raw).into_iter().map(|x| x as f64).collect(),
            data_type::UINT8 => raw.iter().map(|&x| f64::from(x)).collect(),
            other => panic!("element type {other}"),
        };
        known.insert(tensor.name.clone(), (shape, values));
    }
    for node in &graph.node {
        let value = evaluate(node, known);
        known.insert(node.output[0].clone(), value);
    }
}

fn evaluate(node: &NodeProto, known: &mut HashMap<String, Array>) -> Array {
    if node.op_type == "Loop" {
        let body = node.attribute[0].g.as_ref().unwrap();
        let steps = known[&node.input[0]].1[0] as usize;
        let mut state = known[&node.input[2]].clone();
        for step in 0..steps {
            known.insert(body.input[0].name.clone(), (vec![], vec![step as f64]));
            known.insert(body.input[1].name.clone(), (vec![], vec![1.0]));
            known.insert(body.input[2].name.clone(), state);
            nodes(body, known);
            state = known[&body.output[1].name].clone();
        }
        return state;
    }
    let input = |i: usize| &known[&node.input[i]];
    let attribute = |name: &str| node.attribute.iter().find(|a| a.name == name).map(|a| a.i);
    let each = |f: &dyn Fn(f64) -> f64| (input(0).0.clone(), input(0).1.iter().map(|&x| f(x)).collect());
    // One side may be a single number, or the two a row and a column.
    let pair = |f: &dyn Fn(f64, f64) -> f64| -> Array {
        let ((a_shape, a), (b_shape, b)) = (input(0), input(1));
        if a_shape.len() == 2 && a_shape[0] == 1 && b_shape[1] == 1 {
            let values = b.iter().flat_map(|&y| a.iter().map(move |&x| (x, y))).map(|(x, y)| f(x, y)).collect();
            return (vec![b_shape[0], a_shape[1]], values);
        }
        let shape = if b.len() == 1 { a_shape } else { b_shape };
        let n = a.len().max(b.len());
        (shape.clone(), (0..n).map(|i| f(a[i % a.len()], b[i % b.len()])).collect())
    };
    match node.op_type.as_str() {
        "Add" => pair(&|x, y| x + y),
        "Sub" => pair(&|x, y| x - y),
        "Mul" => pair(&|x, y| x * y),
        "Less" => pair(&|x, y| f64::from(x < y)),
        "Equal" => pair(&|x, y| f64::from(x == y)),
        "Abs" => each(&f64::abs),
        "Floor" => each(&f64::floor),
        "Cast" | "Identity" => each(&|x| x),
        "Where" => {
            let values = input(0).1.iter().zip(&input(1).1).zip(&input(2).1);
            (input(0).0.clone(), values.map(|((&c, &x), &y)| if c == 1.0 { x } else { y }).collect())
        }
        "Gather" if attribute("axis") == Some(1) => {
            let (width, column) = (input(0).0[1], input(1).1[0] as usize);
            (vec![input(0).0[0]], input(0).1.iter().skip(column).step_by(width).copied().collect())
        }
        "Gather" => (input(1).0.clone(), input(1).1.iter().map(|&i| input(0).1[i as usize]).collect()),
        "GatherElements" => {
            let width = input(0).0[1];
            let values = input(1).1.iter().enumerate().map(|(row, &i)| input(0).1[row * width + i as usize]);
            (input(1).0.clone(), values.collect())
        }
        "Unsqueeze" => (vec![input(0).1.len(), 1], input(0).1.clone()),
        "Squeeze" => (vec![input(0).1.len()], input(0).1.clone()),
        "Concat" => {
            let rows = input(0).0[0];
            let values = (0..rows).flat_map(|row| node.input.iter().map(move |name| (name, row)));
            (vec![rows, node.input.len()], values.map(|(name, row)| known[name].1[row]).collect())
        }
        "ReduceSum" => {
            let width = input(0).0[1];
            let rows = input(0).0[0];
            (vec![rows], (0..rows).map(|row| input(0).1[row * width..][..width].iter().sum()).collect())
        }
        other => panic!("operator {other}"),
    }
}
