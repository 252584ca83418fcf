//! Runs the few operators that the graph is made of, for tests: slowly, and independent of drawing.

use std::collections::HashMap;

use bytes::Bytes;
use ndarray::{Array1, Array2, ArrayD, Axis, Ix2, Zip, arr0, concatenate};
use prost::Message;

use onnx::proto::{GraphProto, ModelProto, NodeProto, data_type};

/// Doubles hold whole numbers exactly as well.
type Array = ArrayD<f64>;

/// The output of a graph for one input.
pub fn run(onnx: &Bytes, input: &str, values: Array, output: &str) -> Array {
    let graph = ModelProto::decode(onnx.clone()).unwrap().graph.unwrap();
    let mut known = HashMap::from([(input.to_owned(), values)]);
    nodes(&graph, &mut known);
    known.remove(output).unwrap()
}

fn nodes(graph: &GraphProto, known: &mut HashMap<String, Array>) {
    for tensor in &graph.initializer {
        let shape: Vec<usize> = tensor.dims.iter().map(|&n| n as usize).collect();
        let raw = &tensor.raw_data;
        let values = match tensor.data_type {
            data_type::DOUBLE => bytemuck::pod_collect_to_vec::<u8, f64>(raw),
            data_type::INT32 => bytemuck::pod_collect_to_vec::<u8, i32>(raw).into_iter().map(f64::from).collect(),
            data_type::INT64 => bytemuck::pod_collect_to_vec::<u8, i64>(raw).into_iter().map(|x| x as f64).collect(),
            data_type::UINT8 => raw.iter().map(|&x| f64::from(x)).collect(),
            other => panic!("element type {other}"),
        };
        known.insert(tensor.name.clone(), Array::from_shape_vec(shape, values).unwrap());
    }
    for node in &graph.node {
        let value = evaluate(node, known);
        known.insert(node.output[0].clone(), value);
    }
}

fn evaluate(node: &NodeProto, known: &mut HashMap<String, Array>) -> Array {
    if node.op_type == "Loop" {
        let body = node.attribute[0].g.as_ref().unwrap();
        let steps = *known[&node.input[0]].first().unwrap() as usize;
        let mut state = known[&node.input[2]].clone();
        for step in 0..steps {
            known.insert(body.input[0].name.clone(), arr0(step as f64).into_dyn());
            known.insert(body.input[1].name.clone(), arr0(1.0).into_dyn());
            known.insert(body.input[2].name.clone(), state);
            nodes(body, known);
            state = known[&body.output[1].name].clone();
        }
        return state;
    }
    let input = |i: usize| &known[&node.input[i]];
    let matrix = |i: usize| -> Array2<f64> { input(i).clone().into_dimensionality::<Ix2>().unwrap() };
    let attribute = |name: &str| node.attribute.iter().find(|a| a.name == name).map(|a| a.i);
    let each = |f: &dyn Fn(f64) -> f64| input(0).mapv(f);
    // One side may be a single number, or the two a row and a column.
    let pair = |f: &dyn Fn(f64, f64) -> f64| -> Array {
        let (a, b) = (input(0), input(1));
        let wide = if a.ndim() >= b.ndim() { a.shape() } else { b.shape() };
        let axis = |array: &Array, axis: usize| {
            (axis + array.ndim()).checked_sub(wide.len()).map_or(1, |axis| array.shape()[axis])
        };
        let shape: Vec<usize> = (0..wide.len()).map(|i| axis(a, i).max(axis(b, i))).collect();
        let (a, b) = (a.broadcast(&shape[..]).unwrap(), b.broadcast(&shape[..]).unwrap());
        Zip::from(a).and(b).map_collect(|&x, &y| f(x, y))
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
            let (yes, no) = (input(1).iter(), input(2).iter());
            let values = input(0).iter().zip(yes).zip(no).map(|((&c, &x), &y)| if c == 1.0 { x } else { y }).collect();
            Array::from_shape_vec(input(0).shape(), values).unwrap()
        }
        "Gather" if attribute("axis") == Some(1) => {
            matrix(0).column(*input(1).first().unwrap() as usize).to_owned().into_dyn()
        }
        "Gather" => {
            let values = input(0).as_slice().unwrap();
            input(1).mapv(|i| values[i as usize])
        }
        "GatherElements" => {
            let (of, places) = (matrix(0), matrix(1));
            Array2::from_shape_fn(places.dim(), |(row, c)| of[[row, places[[row, c]] as usize]]).into_dyn()
        }
        "Unsqueeze" => input(0).clone().insert_axis(Axis(1)),
        "Squeeze" => input(0).clone().remove_axis(Axis(1)),
        "Concat" => {
            let views: Vec<_> = node.input.iter().map(|name| known[name].view()).collect();
            concatenate(Axis(1), &views).unwrap()
        }
        "ReduceSum" => matrix(0).rows().into_iter().map(|row| row.iter().sum()).collect::<Array1<f64>>().into_dyn(),
        other => panic!("operator {other}"),
    }
}
