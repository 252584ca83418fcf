//! Model files: writing, checking, preparing and running ONNX graphs, and the data file beside them.

pub mod cache_folders;
pub mod environment;
pub mod graph;
pub mod half_precision;
mod ids;
pub mod inspect;
pub mod lanes;
mod pinned;
pub mod prepared;
pub mod proto;
pub mod runner;
pub mod session;
pub mod stored;
pub mod tensor;

pub use ids::IdTable;

/// The name ONNX gives an element type (`TensorProto.DataType`).
pub fn type_name(element_type: i32) -> &'static str {
    const NAMES: [&str; 17] = [
        "undefined",
        "float",
        "uint8",
        "int8",
        "uint16",
        "int16",
        "int32",
        "int64",
        "string",
        "bool",
        "float16",
        "double",
        "uint32",
        "uint64",
        "complex64",
        "complex128",
        "bfloat16",
    ];
    usize::try_from(element_type).ok().and_then(|i| NAMES.get(i).copied()).unwrap_or("unknown")
}
