//! Inspects an ONNX file and checks whether it may be stored, from the protobuf alone, before ONNX Runtime reads it.

use bytes::Bytes;
use prost::Message;

use crate::proto::{
    AttributeProto, DimensionValue, EXTERNAL, FunctionProto, GraphProto, ModelProto, NodeProto, SparseTensorProto,
    TensorProto, ValueInfoProto,
};
use runtime::error::{Error, Result};

/// Operator sets that ONNX Runtime implements; others would require custom operators.
const KNOWN_DOMAINS: [&str; 4] = ["", "ai.onnx", "ai.onnx.ml", "com.microsoft"];

/// Maximum nesting of subgraphs (If, Loop, Scan). No exporter nests deeper.
const MAX_NESTING: usize = 32;

/// An operator of com.microsoft that loads precompiled code.
const CONTEXT_OPERATOR: &str = "EPContext";

/// Maximum dimensions and elements of a tensor.
const MAX_DIMENSIONS: usize = 16;
const MAX_ELEMENTS: u64 = 1 << 31;

/// Numbers of 4 bits: two in a byte, eight in the 32-bit field of a tensor that is not stored raw.
const MAX_ELEMENTS_PER_VALUE: u64 = 8;

/// One input or output of a graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    pub name: String,
    /// `TensorProto.DataType`; 0 if it is not a dense tensor.
    pub element_type: i32,
    pub shape: Vec<Dimension>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Dimension {
    Fixed(i64),
    Named(String),
}

/// The interface of a graph: inputs, outputs, and metadata.
#[derive(Clone, Debug, Default)]
pub struct Signature {
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    /// Number of values in all initializers.
    pub parameters: u64,
    pub opset: i64,
    pub producer: String,
    pub metadata: Vec<(String, String)>,
    /// Whether activations are quantized by the range of a whole tensor, so that a row's result depends on the others of its run.
    pub depends_on_batch: bool,
}

/// Operators that quantize a whole tensor of activations.
const QUANTIZE_A_TENSOR: [&str; 4] =
    ["DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "DynamicQuantizeGRU"];

impl Signature {
    /// Decodes and checks `onnx`. Rejects invalid files, references to other files, and custom operators.
    pub fn read(onnx: Bytes) -> Result<Self> {
        let model = ModelProto::decode(onnx).map_err(|e| Error::NotOnnx(e.to_string()))?;
        let graph = model.graph.as_ref().ok_or_else(|| Error::NotOnnx("graph is missing".into()))?;
        if graph.node.is_empty() || graph.output.is_empty() {
            return Err(Error::NotOnnx("graph has no nodes or no outputs".into()));
        }
        let opset = model
            .opset_import
            .iter()
            .find(|o| matches!(o.domain.as_str(), "" | "ai.onnx"))
            .map(|o| o.version)
            .ok_or_else(|| Error::NotOnnx("opset version is missing".into()))?;

        let local_functions: Vec<&str> = model.functions.iter().map(|f| f.domain.as_str()).collect();
        let check = Check { local_functions };
        check.graph(graph, 0)?;
        for function in &model.functions {
            check.nodes(&function.node, 0)?;
            function.attribute_proto.iter().try_for_each(|a| check.attribute(a, 0))?;
        }

        let initializers: Vec<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
        Ok(Self {
            // Up to IR version 3 initializers are listed as inputs too; they need no value.
            inputs: graph.input.iter().filter(|i| !initializers.contains(&i.name.as_str())).map(port).collect(),
            outputs: graph.output.iter().map(port).collect(),
            parameters: graph.initializer.iter().map(|t| t.dims.iter().product::<i64>().max(0) as u64).sum(),
            opset,
            producer: format!("{} {}", model.producer_name, model.producer_version).trim().to_owned(),
            depends_on_batch: nodes_of(graph, &model.functions)
                .any(|node| QUANTIZE_A_TENSOR.contains(&node.op_type.as_str())),
            metadata: model.metadata_props.into_iter().map(|p| (p.key, p.value)).collect(),
        })
    }

    pub fn input(&self, name: &str) -> Option<&Port> {
        self.inputs.iter().find(|p| p.name == name)
    }

    pub fn output(&self, name: &str) -> Option<&Port> {
        self.outputs.iter().find(|p| p.name == name)
    }
}

impl Port {
    /// As `float[batch,384]`.
    pub fn describe(&self) -> String {
        format!("{}[{}]", super::type_name(self.element_type), self.describe_shape())
    }

    pub fn describe_shape(&self) -> String {
        let dimension = |d: &Dimension| match d {
            Dimension::Fixed(n) => n.to_string(),
            Dimension::Named(name) if name.is_empty() => "?".into(),
            Dimension::Named(name) => name.clone(),
        };
        self.shape.iter().map(dimension).collect::<Vec<_>>().join(",")
    }

    /// Whether a tensor of this shape fits: as many dimensions, the fixed ones equal.
    pub fn accepts(&self, shape: &[usize]) -> bool {
        self.shape.len() == shape.len()
            && self.shape.iter().zip(shape).all(|(want, &got)| match want {
                Dimension::Fixed(n) => *n == got as i64,
                Dimension::Named(_) => true,
            })
    }
}

/// The nodes of the graph and of its functions, without those of subgraphs.
fn nodes_of<'a>(graph: &'a GraphProto, functions: &'a [FunctionProto]) -> impl Iterator<Item = &'a NodeProto> {
    graph.node.iter().chain(functions.iter().flat_map(|function| &function.node))
}

fn port(value: &ValueInfoProto) -> Port {
    let tensor = value.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
    let dims = tensor.and_then(|t| t.shape.as_ref()).map(|s| s.dim.as_slice()).unwrap_or_default();
    Port {
        name: value.name.clone(),
        element_type: tensor.map_or(0, |t| t.elem_type),
        shape: dims
            .iter()
            .map(|d| match &d.value {
                Some(DimensionValue::Fixed(n)) => Dimension::Fixed(*n),
                Some(DimensionValue::Named(name)) => Dimension::Named(name.clone()),
                None => Dimension::Named(String::new()),
            })
            .collect(),
    }
}

struct Check<'a> {
    local_functions: Vec<&'a str>,
}

impl Check<'_> {
    fn graph(&self, graph: &GraphProto, depth: usize) -> Result<()> {
        graph.initializer.iter().try_for_each(tensor)?;
        graph.sparse_initializer.iter().try_for_each(sparse)?;
        graph.input.iter().chain(&graph.output).try_for_each(shape)?;
        self.nodes(&graph.node, depth)
    }

    fn nodes(&self, nodes: &[NodeProto], depth: usize) -> Result<()> {
        if depth > MAX_NESTING {
            return Err(Error::RefusedOnnx {
                reason: format!("subgraphs are nested more than {MAX_NESTING} levels deep"),
                hint: "Export the model with less nesting.".into(),
            });
        }
        for node in nodes {
            let domain = node.domain.as_str();
            if !KNOWN_DOMAINS.contains(&domain) && !self.local_functions.contains(&domain) {
                return Err(Error::RefusedOnnx {
                    reason: format!("operator {} of domain \"{domain}\" requires custom operators", node.op_type),
                    hint: "Export the model with the standard ONNX operators only.".into(),
                });
            }
            if node.op_type == CONTEXT_OPERATOR {
                return Err(Error::RefusedOnnx {
                    reason: format!("operator {CONTEXT_OPERATOR} refers to a file with precompiled code"),
                    hint: "Export the model without precompiling it.".into(),
                });
            }
            node.attribute.iter().try_for_each(|a| self.attribute(a, depth))?;
        }
        Ok(())
    }

    fn attribute(&self, attribute: &AttributeProto, depth: usize) -> Result<()> {
        attribute.t.iter().chain(&attribute.tensors).try_for_each(tensor)?;
        attribute.sparse_tensor.iter().chain(&attribute.sparse_tensors).try_for_each(sparse)?;
        attribute.g.iter().chain(&attribute.graphs).try_for_each(|g| self.graph(g, depth + 1))
    }
}

fn tensor(tensor: &TensorProto) -> Result<()> {
    if tensor.data_location == EXTERNAL || !tensor.external_data.is_empty() {
        return Err(Error::RefusedOnnx {
            reason: format!("tensor \"{}\" is stored in an external file", tensor.name),
            hint: "Save the model as one file: onnx.save(onnx.load(path), one_file).".into(),
        });
    }
    let values = tensor.raw_data.len()
        + tensor.float_data.len()
        + tensor.int32_data.len()
        + tensor.string_data.len()
        + tensor.int64_data.len()
        + tensor.double_data.len()
        + tensor.uint64_data.len();
    match elements(&tensor.dims) {
        Some(n) if n <= (values as u64).saturating_mul(MAX_ELEMENTS_PER_VALUE) => Ok(()),
        _ => Err(invalid_shape(&format!("tensor \"{}\"", tensor.name), &tensor.dims)),
    }
}

fn sparse(tensor: &SparseTensorProto) -> Result<()> {
    tensor.values.iter().chain(&tensor.indices).try_for_each(self::tensor)?;
    match elements(&tensor.dims) {
        Some(n) if n <= MAX_ELEMENTS => Ok(()),
        _ => Err(invalid_shape("sparse tensor", &tensor.dims)),
    }
}

/// Checks the shape of an input or output; dimensions that are not fixed count as one.
fn shape(value: &ValueInfoProto) -> Result<()> {
    let port = port(value);
    let fixed: Vec<i64> =
        port.shape.iter().filter_map(|d| if let Dimension::Fixed(n) = d { Some(*n) } else { None }).collect();
    // Some exporters write -1 for a dimension of any length.
    let known: Vec<i64> = fixed.iter().copied().filter(|&n| n != -1).collect();
    match elements(&known) {
        Some(n) if n <= MAX_ELEMENTS && port.shape.len() <= MAX_DIMENSIONS => Ok(()),
        _ => Err(invalid_shape(&format!("\"{}\"", port.name), &fixed)),
    }
}

/// The number of elements of a tensor; `None` for an invalid shape.
fn elements(dims: &[i64]) -> Option<u64> {
    if dims.len() > MAX_DIMENSIONS {
        return None;
    }
    dims.iter().try_fold(1u64, |n, &d| n.checked_mul(u64::try_from(d).ok()?))
}

fn invalid_shape(what: &str, dims: &[i64]) -> Error {
    let shown: Vec<String> = dims.iter().take(MAX_DIMENSIONS).map(i64::to_string).collect();
    Error::RefusedOnnx {
        reason: format!("{what} has invalid shape [{}]", shown.join(",")),
        hint: "The file may be corrupted. Export the model again.".into(),
    }
}
