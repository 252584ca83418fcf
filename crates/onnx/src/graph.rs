//! Writes ONNX graphs.
//!
//! The bytes of every large initializer start at a multiple of 64 from the start of the file, so that serving can read a mapped file in place.
//! Protobuf has no alignment: gaps are filled with spaces in the documentation string of the preceding message, which readers ignore.

use std::collections::HashSet;

use bytemuck::Pod;
use bytes::Bytes;
use ndarray::ArrayView2;
use prost::Message;
use prost::encoding::encoded_len_varint;

use super::proto::*;
use super::stored::Element;
use kernels::matrix::flat;
use runtime::error::{Error, Result};

/// The version of the standard operators: ScatterElements sums since 16, ReduceSum takes its axes as an input since 13.
pub const OPSET: i64 = 17;
/// The version of the file format for this opset.
const IR_VERSION: i64 = 8;
const ALIGNMENT: usize = 64;
/// Initializers at least this large are aligned.
const ALIGNED_FROM: usize = 1024;

/// The size of one axis of an input or output.
#[derive(Clone, Copy)]
pub enum Axis<'a> {
    Fixed(usize),
    Named(&'a str),
}

/// Builds a graph. Nodes must be added in an order in which they can run.
#[derive(Clone, Default)]
pub struct GraphBuilder {
    graph: GraphProto,
    metadata: Vec<StringStringEntryProto>,
    /// Operators besides the standard ones.
    sets: Vec<OperatorSetIdProto>,
    /// Prefix of value names, so that those of a subgraph differ from the outer ones.
    prefix: String,
}

impl GraphBuilder {
    pub fn new(name: &str) -> Self {
        Self { graph: GraphProto { name: name.into(), ..Default::default() }, ..Default::default() }
    }

    pub fn input(&mut self, name: &str, element: i32, shape: &[Axis]) {
        self.graph.input.push(value_info(name, element, shape));
    }

    pub fn output(&mut self, name: &str, element: i32, shape: &[Axis]) {
        self.graph.output.push(value_info(name, element, shape));
    }

    pub fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) -> String {
        self.initializer(name, data_type::FLOAT, shape, values)
    }

    pub fn float(&mut self, name: &str, value: f32) -> String {
        self.floats(name, &[], &[value])
    }

    pub fn doubles(&mut self, name: &str, shape: &[usize], values: &[f64]) -> String {
        self.initializer(name, data_type::DOUBLE, shape, values)
    }

    pub fn int32s(&mut self, name: &str, shape: &[usize], values: &[i32]) -> String {
        self.initializer(name, data_type::INT32, shape, values)
    }

    pub fn int64s(&mut self, name: &str, shape: &[usize], values: &[i64]) -> String {
        self.initializer(name, data_type::INT64, shape, values)
    }

    pub fn bytes(&mut self, name: &str, shape: &[usize], values: &[u8]) -> String {
        self.initializer(name, data_type::UINT8, shape, values)
    }

    /// A matrix of an element type that graphs of this engine use.
    pub fn matrix<T: Element>(&mut self, name: &str, values: ArrayView2<T>) -> String {
        self.initializer(name, T::ONNX, &[values.nrows(), values.ncols()], flat(values))
    }

    fn initializer<T: Pod>(&mut self, name: &str, element: i32, shape: &[usize], values: &[T]) -> String {
        debug_assert_eq!(shape.iter().product::<usize>(), values.len());
        let name = format!("{}{name}", self.prefix);
        self.graph.initializer.push(TensorProto {
            dims: shape.iter().map(|&n| n as i64).collect(),
            data_type: element,
            name: name.clone(),
            raw_data: Bytes::copy_from_slice(bytemuck::cast_slice(values)),
            ..Default::default()
        });
        name
    }

    /// Adds a node with one output, and returns that output's name.
    pub fn node(&mut self, op: &str, inputs: &[&str]) -> String {
        self.node_with(op, inputs, Vec::new())
    }

    pub fn node_with(&mut self, op: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        let output = format!("{}v{}", self.prefix, self.graph.node.len());
        self.node_to(op, inputs, attributes, &[&output]);
        output
    }

    pub fn node_to(&mut self, op: &str, inputs: &[&str], attributes: Vec<AttributeProto>, outputs: &[&str]) {
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|&s| s.into()).collect(),
            output: outputs.iter().map(|&s| s.into()).collect(),
            name: format!("{}{}_{op}", self.prefix, self.graph.node.len()),
            op_type: op.into(),
            attribute: attributes,
            ..Default::default()
        });
    }

    /// [`node_to`](Self::node_to) for an operator of another set: its domain and version.
    pub fn node_in(
        &mut self,
        set: (&str, i64),
        op: &str,
        inputs: &[&str],
        attributes: Vec<AttributeProto>,
        outputs: &[&str],
    ) {
        self.node_to(op, inputs, attributes, outputs);
        self.graph.node.last_mut().into_iter().for_each(|node| node.domain = set.0.into());
        if !self.sets.iter().any(|known| known.domain == set.0) {
            self.sets.push(OperatorSetIdProto { domain: set.0.into(), version: set.1 });
        }
    }

    /// A builder for a subgraph, which may read the values of this graph.
    pub fn subgraph(&self, name: &str) -> Self {
        Self { prefix: format!("{}{name}_", self.prefix), ..Self::new(name) }
    }

    /// The graph as the attribute `name` of a node.
    pub fn into_attribute(self, name: &str) -> AttributeProto {
        AttributeProto { name: name.into(), g: Some(self.graph), r#type: attribute_type::GRAPH, ..Default::default() }
    }

    /// Inlines another graph, with `prefix` in front of all its names except inputs: these must exist in this graph under the same names. Returns
    /// the new names of its outputs, in order. The metadata of the other graph is dropped.
    pub fn inline(&mut self, prefix: &str, other: Self) -> Vec<String> {
        let mut other = other.graph;
        let shared: HashSet<String> = std::mem::take(&mut other.input).into_iter().map(|input| input.name).collect();
        let rename = |name: &mut String| {
            // An input that is left out has an empty name.
            if !name.is_empty() && !shared.contains(name) {
                name.insert_str(0, prefix);
            }
        };
        rename_all(&mut other, &rename);
        self.graph.node.append(&mut other.node);
        self.graph.initializer.append(&mut other.initializer);
        self.graph.sparse_initializer.append(&mut other.sparse_initializer);
        other.output.into_iter().map(|output| output.name).collect()
    }

    /// Adds another graph beside this one, with `prefix` in front of all its names, including inputs, outputs and axes.
    pub fn beside(&mut self, prefix: &str, other: Self) {
        let mut other = other.graph;
        let (mut inputs, mut outputs) = (std::mem::take(&mut other.input), other.output.clone());
        for value in inputs.iter_mut().chain(&mut outputs) {
            value.name.insert_str(0, prefix);
            let shape = value.r#type.iter_mut().filter_map(|kind| kind.tensor_type.as_mut()?.shape.as_mut());
            for dimension in shape.flat_map(|shape| &mut shape.dim) {
                if let Some(DimensionValue::Named(name)) = &mut dimension.value {
                    name.insert_str(0, prefix);
                }
            }
        }
        // Without inputs of its own it shares none of this one's names.
        self.inline(prefix, Self { graph: other, ..Self::default() });
        self.graph.input.append(&mut inputs);
        self.graph.output.append(&mut outputs);
    }

    /// Sets an entry of the file's metadata (`metadata_props`).
    pub fn metadata(&mut self, key: &str, value: String) {
        self.metadata.push(StringStringEntryProto { key: key.into(), value });
    }

    /// The bytes of the ONNX file.
    pub fn encode(mut self) -> Result<Vec<u8>> {
        // Small ones first: the first large one then has a message before it whose padding is only a few bytes.
        self.graph.initializer.sort_by_key(|t| t.raw_data.len() >= ALIGNED_FROM);
        let mut model = ModelProto {
            ir_version: IR_VERSION,
            opset_import: [vec![OperatorSetIdProto { domain: String::new(), version: OPSET }], self.sets].concat(),
            producer_name: "pg_reco".into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            metadata_props: self.metadata,
            ..Default::default()
        };
        let before_graph = model.encoded_len_before_graph();
        align(&mut self.graph, before_graph);
        model.graph = Some(self.graph);
        let len = model.encoded_len();
        if len > i32::MAX as usize {
            return Err(Error::TooLarge {
                what: "ONNX file of the model".into(),
                needed: format!("{} MB", len >> 20),
                limit: "2 GB, the maximum of a protobuf file".into(),
                hint: "Train with fewer factors or neighbours, or with fewer items.".into(),
            });
        }
        Ok(model.encode_to_vec())
    }
}

impl ModelProto {
    /// Fields are written in the order of their tags: the version and the producer stand before the graph.
    fn encoded_len_before_graph(&self) -> usize {
        ModelProto {
            ir_version: self.ir_version,
            producer_name: self.producer_name.clone(),
            producer_version: self.producer_version.clone(),
            doc_string: self.doc_string.clone(),
            ..Default::default()
        }
        .encoded_len()
    }
}

/// Applies `rename` to the names of all values and nodes of a graph and its subgraphs.
fn rename_all(graph: &mut GraphProto, rename: &impl Fn(&mut String)) {
    for node in &mut graph.node {
        rename(&mut node.name);
        node.input.iter_mut().chain(&mut node.output).for_each(rename);
        for attribute in &mut node.attribute {
            attribute.g.iter_mut().chain(&mut attribute.graphs).for_each(|graph| rename_all(graph, rename));
        }
    }
    graph.initializer.iter_mut().for_each(|tensor| rename(&mut tensor.name));
    let sparse = graph.sparse_initializer.iter_mut().filter_map(|tensor| tensor.values.as_mut());
    sparse.for_each(|values| rename(&mut values.name));
    graph.input.iter_mut().chain(&mut graph.output).for_each(|value| rename(&mut value.name));
}

/// Length of a message field: tag (one byte, since all tags here are below 16), length, content.
fn field_len(content: usize) -> usize {
    1 + encoded_len_varint(content as u64) + content
}

/// Adds padding so that the bytes of each large initializer are aligned, given the length of the file before the graph.
fn align(graph: &mut GraphProto, before_graph: usize) {
    // The graph's own length takes part in the offsets, by the size of its varint: a second or third round settles it.
    for _ in 0..4 {
        let length_before = encoded_len_varint(graph.encoded_len() as u64);
        let mut offset = before_graph + 1 + length_before;
        offset += graph.node.iter().map(|n| field_len(n.encoded_len())).sum::<usize>();
        offset += if graph.name.is_empty() { 0 } else { field_len(graph.name.len()) };
        for i in 0..graph.initializer.len() {
            let tensor = &graph.initializer[i];
            let (len, raw) = (tensor.encoded_len(), tensor.raw_data.len());
            if raw >= ALIGNED_FROM {
                let after_raw = if tensor.doc_string.is_empty() { 0 } else { field_len(tensor.doc_string.len()) };
                let start = offset + 1 + encoded_len_varint(len as u64) + len - after_raw - raw;
                // A large tensor's own padding comes after its bytes and belongs to the next one: undo that first.
                offset = pad_before(graph, i, offset, start);
            }
            offset += field_len(graph.initializer[i].encoded_len());
        }
        if encoded_len_varint(graph.encoded_len() as u64) == length_before {
            return;
        }
    }
}

/// Pads the message before initializer `i`, whose bytes would begin at `start`. Returns the start of the initializer's field.
fn pad_before(graph: &mut GraphProto, i: usize, offset: usize, start: usize) -> usize {
    let before = i.checked_sub(1);
    let mut shifted = offset;
    for _ in 0..ALIGNMENT * 2 {
        if (start + shifted - offset).is_multiple_of(ALIGNMENT) {
            return shifted;
        }
        // One more space; the step is not always one byte, as lengths take one byte more at times.
        let (doc, len): (&mut String, usize) = match before {
            Some(b) => {
                let len = field_len(graph.initializer[b].encoded_len());
                (&mut graph.initializer[b].doc_string, len)
            }
            None => (&mut graph.name, 0),
        };
        doc.push(' ');
        shifted += match before {
            Some(b) => field_len(graph.initializer[b].encoded_len()) - len,
            None => 1,
        };
    }
    shifted
}

fn value_info(name: &str, element: i32, shape: &[Axis]) -> ValueInfoProto {
    let dim = shape
        .iter()
        .map(|axis| DimensionProto {
            value: Some(match axis {
                Axis::Fixed(n) => DimensionValue::Fixed(*n as i64),
                Axis::Named(name) => DimensionValue::Named((*name).into()),
            }),
        })
        .collect();
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto {
            tensor_type: Some(TensorTypeProto { elem_type: element, shape: Some(TensorShapeProto { dim }) }),
        }),
    }
}

pub fn int_attribute(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.into(), i: value, r#type: attribute_type::INT, ..Default::default() }
}

pub fn ints_attribute(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { name: name.into(), ints: values.to_vec(), r#type: attribute_type::INTS, ..Default::default() }
}

pub fn floats_attribute(name: &str, values: &[f32]) -> AttributeProto {
    AttributeProto { name: name.into(), floats: values.to_vec(), r#type: attribute_type::FLOATS, ..Default::default() }
}

pub fn strings_attribute(name: &str, values: &[&str]) -> AttributeProto {
    let strings = values.iter().map(|value| Bytes::copy_from_slice(value.as_bytes())).collect();
    AttributeProto { name: name.into(), strings, r#type: attribute_type::STRINGS, ..Default::default() }
}

pub fn string_attribute(name: &str, value: &str) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        s: Bytes::copy_from_slice(value.as_bytes()),
        r#type: attribute_type::STRING,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `y = x + one`, `one` through the body of an `If`, where it is an outer value.
    fn plus_one() -> GraphBuilder {
        let mut g = GraphBuilder::new("plus");
        g.input("x", data_type::FLOAT, &[Axis::Named("n")]);
        g.output("y", data_type::FLOAT, &[Axis::Named("n")]);
        let one = g.float("one", 1.0);
        let mut body = g.subgraph("then");
        let inner = body.node("Add", &["x", &one]);
        body.output(&inner, data_type::FLOAT, &[Axis::Named("n")]);
        let yes = g.node("IsNaN", &[&one]);
        g.node_to("If", &[&yes, ""], vec![body.into_attribute("then_branch")], &["y"]);
        g
    }

    #[test]
    fn a_graph_taken_in_keeps_its_inputs_and_no_other_name() {
        let mut outer = GraphBuilder::new("outer");
        outer.input("x", data_type::FLOAT, &[Axis::Named("n")]);
        assert_eq!(outer.inline("0.", plus_one()), ["0.y"]);
        assert_eq!(outer.inline("1.", plus_one()), ["1.y"]);
        let names: Vec<&str> = outer.graph.initializer.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names, ["0.one", "1.one"]);
        let branch = &outer.graph.node[3];
        assert_eq!((&branch.input[..], &branch.output[..]), (&["1.v0".into(), String::new()][..], &["1.y".into()][..]));
        let body = branch.attribute[0].g.as_ref().unwrap();
        assert_eq!(body.node[0].input, ["x", "1.one"]);
        assert_eq!((&body.node[0].output[0], &body.output[0].name), (&"1.then_v0".into(), &"1.then_v0".into()));
        let mut nodes: Vec<&str> = outer.graph.node.iter().map(|n| n.name.as_str()).collect();
        nodes.sort_unstable();
        nodes.dedup();
        assert_eq!(nodes.len(), 4);
    }

    #[test]
    fn the_bytes_of_large_initializers_are_aligned_in_the_file() {
        for nodes in [0, 1, 5, 40] {
            for rows in [256, 257, 4095, 4096, 70_000] {
                let mut g = GraphBuilder::new("test");
                for i in 0..3 {
                    let values: Vec<f32> = (0..rows + i * 13).map(|x| x as f32).collect();
                    g.floats(&format!("t{i}"), &[values.len()], &values);
                }
                (0..nodes).for_each(|_| drop(g.node("Identity", &["t0"])));
                if nodes != 5 {
                    g.float("small", 1.0);
                }
                g.metadata("k", "v".into());
                let file = Bytes::from(g.encode().unwrap());
                let model = ModelProto::decode(file.clone()).unwrap();
                for tensor in model.graph.unwrap().initializer.iter().filter(|t| t.raw_data.len() > 1023) {
                    let offset = tensor.raw_data.as_ptr() as usize - file.as_ptr() as usize;
                    assert_eq!(offset % ALIGNMENT, 0, "{nodes} nodes, {rows} rows, {}", tensor.name);
                }
            }
        }
    }
}
