//! Dense tensors, the inputs and outputs of a graph, and their JSON form (nested arrays).

use ndarray::{Array, Array2, ArrayD, ArrayViewD, Dimension};
use serde_json::Value;

use crate::proto::data_type;
use runtime::error::{Error, Result};

/// Maximum number of values of a tensor in JSON. They are read and written without a check for cancel requests, in some tenths of a second.
pub const MAX_JSON_VALUES: usize = 1 << 21;

/// An array of one of the element types that are read and written here.
#[derive(Clone, Debug, PartialEq)]
pub enum Tensor {
    F32(ArrayD<f32>),
    F64(ArrayD<f64>),
    I32(ArrayD<i32>),
    I64(ArrayD<i64>),
    Bool(ArrayD<bool>),
    Text(ArrayD<String>),
}

/// Evaluates an expression for the array of whatever type a tensor holds.
macro_rules! for_array {
    ($tensor:expr, $array:ident => $result:expr) => {
        match $tensor {
            Tensor::F32($array) => $result,
            Tensor::F64($array) => $result,
            Tensor::I32($array) => $result,
            Tensor::I64($array) => $result,
            Tensor::Bool($array) => $result,
            Tensor::Text($array) => $result,
        }
    };
}

macro_rules! from_arrays {
    ($($element:ty => $variant:ident),*) => {
        $(impl<D: Dimension> From<Array<$element, D>> for Tensor {
            fn from(array: Array<$element, D>) -> Self {
                Self::$variant(array.into_dyn())
            }
        })*
    };
}
from_arrays!(f32 => F32, f64 => F64, i32 => I32, i64 => I64, bool => Bool, String => Text);

impl Tensor {
    pub fn shape(&self) -> &[usize] {
        for_array!(self, array => array.shape())
    }

    /// The number of values.
    pub fn len(&self) -> usize {
        for_array!(self, array => array.len())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
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
        fn array<T>(
            leaves: Vec<&Value>,
            shape: Vec<usize>,
            read: impl Fn(&Value) -> std::result::Result<T, String>,
        ) -> std::result::Result<ArrayD<T>, String> {
            let values = leaves.into_iter().map(read).collect::<std::result::Result<_, _>>()?;
            ArrayD::from_shape_vec(shape, values).map_err(|e| format!("has no shape: {e}"))
        }
        let number = |v: &Value| v.as_f64().ok_or_else(|| format!("contains {v}, which is not a number"));
        let integer = |v: &Value| v.as_i64().ok_or_else(|| format!("contains {v}, which is not a 64-bit integer"));
        Ok(match element_type {
            data_type::FLOAT => Self::F32(array(leaves, shape, |v| number(v).map(|x| x as f32))?),
            data_type::DOUBLE => Self::F64(array(leaves, shape, number)?),
            data_type::INT64 => Self::I64(array(leaves, shape, integer)?),
            data_type::INT32 => {
                let narrow = |v: &Value| {
                    integer(v)?
                        .try_into()
                        .map_err(|_| format!("contains {v}, which is out of range for a 32-bit integer"))
                };
                Self::I32(array(leaves, shape, narrow)?)
            }
            data_type::BOOL => {
                let boolean = |v: &Value| v.as_bool().ok_or_else(|| format!("contains {v}, which is not a boolean"));
                Self::Bool(array(leaves, shape, boolean)?)
            }
            data_type::STRING => {
                let text = |v: &Value| {
                    v.as_str().map(str::to_owned).ok_or_else(|| format!("contains {v}, which is not a string"))
                };
                Self::Text(array(leaves, shape, text)?)
            }
            other => {
                return Err(format!("has element type {}, which cannot be read from JSON", super::type_name(other)));
            }
        })
    }

    /// Nested arrays, as deep as the tensor has dimensions.
    pub fn to_json(&self) -> Value {
        fn nest<T>(array: ArrayViewD<T>, leaf: fn(&T) -> Value) -> Value {
            match array.ndim() {
                0 => array.first().map_or(Value::Null, leaf),
                1 => array.iter().map(leaf).collect(),
                _ => array.outer_iter().map(|inner| nest(inner, leaf)).collect(),
            }
        }
        match self {
            // serde_json turns what JSON cannot say (NaN, infinity) into null.
            Self::F32(array) => nest(array.view(), |&x| x.into()),
            Self::F64(array) => nest(array.view(), |&x| x.into()),
            Self::I32(array) => nest(array.view(), |&x| x.into()),
            Self::I64(array) => nest(array.view(), |&x| x.into()),
            Self::Bool(array) => nest(array.view(), |&x| x.into()),
            Self::Text(array) => nest(array.view(), |x| x.as_str().into()),
        }
    }

    /// The matrix of a float tensor with `rows` rows.
    pub fn into_rows(self, rows: usize) -> Result<Array2<f32>> {
        match self {
            Self::F32(array) if array.ndim() == 2 && array.shape()[0] == rows => Ok(array.into_dimensionality()?),
            other => {
                Err(Error::Internal(format!("model returned a tensor of shape {:?} for {rows} rows", other.shape())))
            }
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
    use ndarray::{arr0, array};
    use serde_json::json;

    #[test]
    fn nested_arrays_become_a_tensor_and_come_back() {
        let value = json!([[1.0, 2.5, 3.0], [4.0, 5.0, 6.0]]);
        let tensor = Tensor::from_json(&value, data_type::FLOAT).unwrap();
        assert_eq!(tensor, array![[1f32, 2.5, 3.0], [4.0, 5.0, 6.0]].into());
        assert_eq!(tensor.to_json(), value);
    }

    #[test]
    fn a_scalar_and_an_empty_array_are_tensors() {
        assert_eq!(Tensor::from_json(&json!(7), data_type::INT64).unwrap(), arr0(7i64).into());
        let empty = Tensor::from_json(&json!([]), data_type::FLOAT).unwrap();
        assert_eq!(empty, Array::from_vec(Vec::<f32>::new()).into());
        for value in [json!(7), json!([]), json!([[], []])] {
            assert_eq!(Tensor::from_json(&value, data_type::INT64).unwrap().to_json(), value);
        }
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
