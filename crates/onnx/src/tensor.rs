//! Dense tensors, the inputs and outputs of a graph, and their JSON form (nested arrays).

use serde_json::Value;

use crate::proto::data_type;
use runtime::error::{Error, Result};

/// Maximum number of values of a tensor in JSON. They are read and written without a check for cancel requests, in some tenths of a second.
pub const MAX_JSON_VALUES: usize = 1 << 21;

/// Values in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    F32(Vec<f32>),
    F64(Vec<f64>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    Bool(Vec<bool>),
    Text(Vec<String>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    pub shape: Vec<usize>,
    pub values: Values,
}

impl Values {
    pub fn len(&self) -> usize {
        match self {
            Self::F32(v) => v.len(),
            Self::F64(v) => v.len(),
            Self::I32(v) => v.len(),
            Self::I64(v) => v.len(),
            Self::Bool(v) => v.len(),
            Self::Text(v) => v.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn json(&self, i: usize) -> Value {
        match self {
            // serde_json turns what JSON cannot say (NaN, infinity) into null.
            Self::F32(v) => Value::from(v[i]),
            Self::F64(v) => Value::from(v[i]),
            Self::I32(v) => Value::from(v[i]),
            Self::I64(v) => Value::from(v[i]),
            Self::Bool(v) => Value::from(v[i]),
            Self::Text(v) => Value::from(v[i].as_str()),
        }
    }
}

impl Tensor {
    pub fn f32(shape: impl Into<Vec<usize>>, values: Vec<f32>) -> Self {
        Self { shape: shape.into(), values: Values::F32(values) }
    }

    pub fn i64(shape: impl Into<Vec<usize>>, values: Vec<i64>) -> Self {
        Self { shape: shape.into(), values: Values::I64(values) }
    }

    pub fn i32(shape: impl Into<Vec<usize>>, values: Vec<i32>) -> Self {
        Self { shape: shape.into(), values: Values::I32(values) }
    }

    /// Converts nested JSON arrays of one depth and equal lengths to a tensor of the ONNX element type `element_type`
    /// (`TensorProto.DataType`). A single number is a tensor without dimensions. The error completes "input x …".
    pub fn from_json(value: &Value, element_type: i32) -> std::result::Result<Self, String> {
        let mut shape = Vec::new();
        let mut level = value;
        while let Value::Array(items) = level {
            shape.push(items.len());
            match items.first() {
                Some(first) => level = first,
                None => break,
            }
        }
        // An upper bound: arrays of different lengths are rejected below.
        let values = shape.iter().fold(1usize, |values, &n| values.saturating_mul(n));
        if values > MAX_JSON_VALUES {
            return Err(format!("has {values} values, but at most {MAX_JSON_VALUES} are allowed"));
        }
        let mut leaves = Vec::new();
        collect_leaves(value, &shape, &mut leaves)?;
        let number = |v: &Value| v.as_f64().ok_or_else(|| format!("contains {v}, which is not a number"));
        let integer = |v: &Value| v.as_i64().ok_or_else(|| format!("contains {v}, which is not a 64-bit integer"));
        let values = match element_type {
            data_type::FLOAT => Values::F32(
                leaves.into_iter().map(|v| number(v).map(|x| x as f32)).collect::<std::result::Result<_, _>>()?,
            ),
            data_type::DOUBLE => Values::F64(leaves.into_iter().map(number).collect::<std::result::Result<_, _>>()?),
            data_type::INT64 => Values::I64(leaves.into_iter().map(integer).collect::<std::result::Result<_, _>>()?),
            data_type::INT32 => {
                let narrow = |v: &Value| {
                    integer(v)?
                        .try_into()
                        .map_err(|_| format!("contains {v}, which is out of range for a 32-bit integer"))
                };
                Values::I32(leaves.into_iter().map(narrow).collect::<std::result::Result<_, _>>()?)
            }
            data_type::BOOL => {
                let boolean = |v: &Value| v.as_bool().ok_or_else(|| format!("contains {v}, which is not a boolean"));
                Values::Bool(leaves.into_iter().map(boolean).collect::<std::result::Result<_, _>>()?)
            }
            data_type::STRING => {
                let text = |v: &Value| {
                    v.as_str().map(str::to_owned).ok_or_else(|| format!("contains {v}, which is not a string"))
                };
                Values::Text(leaves.into_iter().map(text).collect::<std::result::Result<_, _>>()?)
            }
            other => {
                return Err(format!("has element type {}, which cannot be read from JSON", super::type_name(other)));
            }
        };
        Ok(Self { shape, values })
    }

    /// Nested arrays, as deep as the tensor has dimensions.
    pub fn to_json(&self) -> Value {
        fn nest(values: &Values, shape: &[usize], start: usize) -> Value {
            match shape.split_first() {
                None => values.json(start),
                Some((&n, inner)) => {
                    let stride: usize = inner.iter().product();
                    Value::Array((0..n).map(|i| nest(values, inner, start + i * stride)).collect())
                }
            }
        }
        nest(&self.values, &self.shape, 0)
    }

    /// The values of a float tensor with `rows` rows, with their number per row.
    pub fn into_rows(self, rows: usize) -> Result<(Vec<f32>, usize)> {
        let shape = self.shape;
        match self.values {
            Values::F32(values) if shape.len() == 2 && shape[0] == rows => Ok((values, shape[1])),
            _ => Err(Error::Internal(format!("model returned a tensor of shape {shape:?} for {rows} rows"))),
        }
    }
}

fn collect_leaves<'a>(
    value: &'a Value,
    shape: &[usize],
    leaves: &mut Vec<&'a Value>,
) -> std::result::Result<(), String> {
    match (value, shape.split_first()) {
        (Value::Array(items), Some((&n, inner))) if items.len() == n => {
            items.iter().try_for_each(|item| collect_leaves(item, inner, leaves))
        }
        (Value::Array(_), _) | (_, Some(_)) => Err("has rows of different lengths or depths".into()),
        (leaf, None) => {
            leaves.push(leaf);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nested_arrays_become_a_tensor_and_come_back() {
        let value = json!([[1.0, 2.5, 3.0], [4.0, 5.0, 6.0]]);
        let tensor = Tensor::from_json(&value, data_type::FLOAT).unwrap();
        assert_eq!(tensor.shape, [2, 3]);
        assert_eq!(tensor.to_json(), value);
    }

    #[test]
    fn a_scalar_and_an_empty_array_are_tensors() {
        assert_eq!(Tensor::from_json(&json!(7), data_type::INT64).unwrap(), Tensor::i64([], vec![7]));
        assert_eq!(Tensor::from_json(&json!([]), data_type::FLOAT).unwrap(), Tensor::f32([0], vec![]));
    }

    #[test]
    fn more_values_than_can_be_read_at_once_are_refused() {
        let row = serde_json::Value::from(vec![0; 1 << 11]);
        let large = |rows: usize| serde_json::Value::from(vec![row.clone(); rows]);
        assert!(Tensor::from_json(&large(1 << 10), data_type::INT64).is_ok());
        let error = Tensor::from_json(&large((1 << 10) + 1), data_type::INT64).unwrap_err();
        assert_eq!(error, "has 2099200 values, but at most 2097152 are allowed");
    }

    #[test]
    fn ragged_or_wrongly_typed_values_are_refused() {
        for (value, kind) in [
            (json!([[1], [2, 3]]), data_type::INT64),
            (json!([[1], 2]), data_type::INT64),
            (json!(["a"]), data_type::FLOAT),
            (json!([1.5]), data_type::INT64),
            (json!([3_000_000_000i64]), data_type::INT32),
            (json!([null]), data_type::FLOAT),
        ] {
            assert!(Tensor::from_json(&value, kind).is_err(), "{value}");
        }
    }
}
