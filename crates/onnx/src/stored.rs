//! The two files of a model: writes the data file, and reads tensors of both in place.

use std::collections::HashMap;
use std::rc::Rc;

use bytemuck::Pod;
use bytes::Bytes;
use ndarray::{Array2, ArrayView2, aview2};
use prost::Message;
use safetensors::{Dtype, SafeTensors};
use serde_json::json;

use crate::IdTable;
use crate::proto::{ModelProto, data_type};
use kernels::{Csr, CsrView};
use runtime::error::{Error, Result};
use runtime::mapped::Mapped;
use runtime::memory;

/// An element type of both formats.
pub trait Element: Pod + Send + Sync + 'static {
    const DTYPE: Dtype;
    /// `TensorProto.DataType`; 0 if graphs of this engine do not use it.
    const ONNX: i32 = 0;
}
impl Element for f64 {
    const DTYPE: Dtype = Dtype::F64;
    const ONNX: i32 = data_type::DOUBLE;
}
impl Element for f32 {
    const DTYPE: Dtype = Dtype::F32;
    const ONNX: i32 = data_type::FLOAT;
}
impl Element for i32 {
    const DTYPE: Dtype = Dtype::I32;
    const ONNX: i32 = data_type::INT32;
}
impl Element for i64 {
    const DTYPE: Dtype = Dtype::I64;
    const ONNX: i32 = data_type::INT64;
}
impl Element for u8 {
    const DTYPE: Dtype = Dtype::U8;
}
impl Element for u32 {
    const DTYPE: Dtype = Dtype::U32;
}
impl Element for u64 {
    const DTYPE: Dtype = Dtype::U64;
}

/// Collects the tensors of a data file.
#[derive(Clone, Default)]
pub struct DataWriter(Vec<(String, Tensor)>);

#[derive(Clone)]
struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Bytes,
}

/// Owned values of a tensor.
struct Owned<T>(Vec<T>);

impl<T: Pod> AsRef<[u8]> for Owned<T> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

impl DataWriter {
    pub fn tensor<T: Element>(&mut self, name: &str, shape: &[usize], values: impl AsRef<[T]>) {
        self.owned(name, shape, values.as_ref().to_vec());
    }

    /// [`tensor`](Self::tensor) without a copy, for large tensors.
    pub fn owned<T: Element>(&mut self, name: &str, shape: &[usize], values: Vec<T>) {
        let bytes = Bytes::from_owner(Owned(values));
        self.0.push((name.into(), Tensor { dtype: T::DTYPE, shape: shape.to_vec(), bytes }));
    }

    /// A dense matrix, without a copy.
    ///
    /// # Panics
    /// Where it is not all of what it was allocated with, rows one after the other.
    pub fn dense<T: Element>(&mut self, name: &str, matrix: Array2<T>) {
        let shape = [matrix.nrows(), matrix.ncols()];
        assert!(matrix.is_standard_layout(), "a matrix is stored by rows");
        let (values, first) = matrix.into_raw_vec_and_offset();
        assert!(first.unwrap_or(0) == 0 && values.len() == shape[0] * shape[1], "a matrix is stored whole");
        self.owned(name, &shape, values);
    }

    pub fn ids(&mut self, name: &str, ids: &IdTable) {
        let (offsets, bytes) = ids.parts();
        self.tensor(&format!("{name}.offsets"), &[offsets.len()], offsets);
        self.tensor(&format!("{name}.bytes"), &[bytes.len()], bytes);
    }

    pub fn matrix(&mut self, name: &str, matrix: Csr) {
        self.owned(&format!("{name}.indptr"), &[matrix.indptr.len()], matrix.indptr);
        self.owned(&format!("{name}.items"), &[matrix.indices.len()], matrix.indices);
        self.owned(&format!("{name}.weights"), &[matrix.values.len()], matrix.values);
    }

    /// Adds the tensors of another model's file, with `prefix` in front of their names. [`Files::under`] reads them.
    pub fn inline(&mut self, prefix: &str, other: Self) {
        self.0.extend(other.0.into_iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)));
    }

    /// The bytes of the file. Each tensor is freed once it is written, to limit peak memory.
    pub fn finish(mut self) -> Result<Vec<u8>> {
        // The widest elements first: then every tensor is aligned, as the header is.
        self.0.sort_by(|(a, x), (b, y)| y.dtype.bitsize().cmp(&x.dtype.bitsize()).then(a.cmp(b)));
        let mut end = 0;
        let mut header = serde_json::Map::new();
        for (name, Tensor { dtype, shape, bytes }) in &self.0 {
            let start = end;
            end += bytes.len();
            let dtype = format!("{dtype:?}");
            header.insert(name.clone(), json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, end] }));
        }
        let mut header = serde_json::Value::Object(header).to_string();
        header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
        let mut file = Vec::new();
        memory::reserve(&mut file, 8 + header.len() + end)?;
        file.extend((header.len() as u64).to_le_bytes());
        file.extend(header.as_bytes());
        for (_, tensor) in self.0 {
            file.extend_from_slice(&tensor.bytes);
        }
        Ok(file)
    }
}

/// The tensors of an opened model. Sizes and types are checked here, values where they are used.
pub struct Files<'a> {
    /// For messages.
    pub model: &'a str,
    data: Bytes,
    tensors: Rc<SafeTensors<'a>>,
    graph: Rc<HashMap<String, (Vec<usize>, i32, Bytes)>>,
    metadata: Rc<HashMap<String, String>>,
    /// Prefix of tensor names in both files.
    prefix: String,
}

impl<'a> Files<'a> {
    /// The tensors' positions borrow from `data`.
    pub fn open(model: &'a str, onnx: Bytes, data: &'a Bytes) -> Result<Self> {
        let damaged = |reason: String| Error::DamagedModel { model: model.into(), reason };
        let proto = ModelProto::decode(onnx).map_err(|e| damaged(format!("invalid graph: {e}")))?;
        let tensors = SafeTensors::deserialize(data).map_err(|e| damaged(format!("invalid data file: {e}")))?;
        let graph = proto.graph.unwrap_or_default().initializer.into_iter().filter_map(|t| {
            let shape: Option<Vec<usize>> = t.dims.iter().map(|&n| usize::try_from(n).ok()).collect();
            Some((t.name, (shape?, t.data_type, t.raw_data)))
        });
        let metadata = proto.metadata_props.into_iter().map(|entry| (entry.key, entry.value));
        Ok(Self {
            model,
            data: data.clone(),
            tensors: Rc::new(tensors),
            graph: Rc::new(graph.collect()),
            metadata: Rc::new(metadata.collect()),
            prefix: String::new(),
        })
    }

    /// The same files for an inlined model whose tensor names begin with `prefix`.
    pub fn under(&self, prefix: &str) -> Self {
        Self {
            model: self.model,
            data: self.data.clone(),
            tensors: self.tensors.clone(),
            graph: self.graph.clone(),
            metadata: self.metadata.clone(),
            prefix: format!("{}{prefix}", self.prefix),
        }
    }

    pub fn damaged(&self, reason: impl Into<String>) -> Error {
        Error::DamagedModel { model: self.model.into(), reason: reason.into() }
    }

    /// An entry of the graph's `metadata_props`.
    pub fn metadata(&self, key: &str) -> Result<&str> {
        self.metadata
            .get(key)
            .map(String::as_str)
            .ok_or_else(|| self.damaged(format!("{key} is missing from the graph")))
    }

    /// An initializer of the graph: its shape, of `N` axes, and its values.
    pub fn initializer<T: Element, const N: usize>(&self, name: &str) -> Result<([usize; N], Mapped<T>)> {
        let name = &format!("{}{name}", self.prefix);
        let (shape, element, bytes) =
            self.graph.get(name).ok_or_else(|| self.damaged(format!("{name} is missing from the graph")))?;
        if *element != T::ONNX {
            return Err(self.damaged(format!("{name} has element type {element}")));
        }
        self.checked(name, shape, bytes.clone())
    }

    /// [`initializer`](Self::initializer) of two axes.
    pub fn initializer_matrix<T: Element>(&self, name: &str) -> Result<MappedMatrix<T>> {
        self.initializer(name).map(|(shape, values)| MappedMatrix { shape, values })
    }

    pub fn has_tensor(&self, name: &str) -> bool {
        self.tensors.tensor(&format!("{}{name}", self.prefix)).is_ok()
    }

    /// A tensor of the data file.
    pub fn tensor<T: Element, const N: usize>(&self, name: &str) -> Result<([usize; N], Mapped<T>)> {
        let name = &format!("{}{name}", self.prefix);
        let view =
            self.tensors.tensor(name).map_err(|_| self.damaged(format!("{name} is missing from the data file")))?;
        if view.dtype() != T::DTYPE {
            return Err(self.damaged(format!("{name} has element type {:?}", view.dtype())));
        }
        // An empty slice need not point into the file.
        let bytes = if view.data().is_empty() { Bytes::new() } else { self.data.slice_ref(view.data()) };
        self.checked(name, view.shape(), bytes)
    }

    /// [`tensor`](Self::tensor) of two axes.
    pub fn tensor_matrix<T: Element>(&self, name: &str) -> Result<MappedMatrix<T>> {
        self.tensor(name).map(|(shape, values)| MappedMatrix { shape, values })
    }

    fn checked<T: Element, const N: usize>(
        &self,
        name: &str,
        shape: &[usize],
        bytes: Bytes,
    ) -> Result<([usize; N], Mapped<T>)> {
        let axes: Option<[usize; N]> = shape.try_into().ok();
        let size = shape.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
        match (axes, Mapped::<T>::new(bytes)) {
            (Some(axes), Some(values)) if size == Some(values.len()) => Ok((axes, values)),
            _ => Err(self.damaged(format!("shape {shape:?} of {name} does not match its size"))),
        }
    }

    pub fn ids(&self, name: &str) -> Result<IdTable> {
        let ([_], offsets) = self.tensor(&format!("{name}.offsets"))?;
        let view = format!("{name}.bytes");
        let ([_], bytes) = self.tensor::<u8, 1>(&view)?;
        let bytes = if bytes.is_empty() { Bytes::new() } else { self.data.slice_ref(&bytes) };
        IdTable::from_mapped(offsets, bytes).ok_or_else(|| self.damaged(format!("{name} is inconsistent")))
    }

    pub fn matrix(&self, name: &str, rows: usize, columns: usize) -> Result<MappedCsr> {
        let ([length], indptr) = self.tensor(&format!("{name}.indptr"))?;
        let ([entries], indices) = self.tensor(&format!("{name}.items"))?;
        let ([weights], values) = self.tensor(&format!("{name}.weights"))?;
        if length != rows + 1 || entries != weights || indptr.last() != Some(&(entries as u64)) {
            return Err(self.damaged(format!("{name} is inconsistent")));
        }
        Ok(MappedCsr { indptr, indices, values, columns })
    }
}

/// A dense matrix in either file, read in place.
#[derive(Clone, Debug)]
pub struct MappedMatrix<T> {
    shape: [usize; 2],
    values: Mapped<T>,
}

impl<T: Pod> MappedMatrix<T> {
    /// Without rows, in place of one that a file lacks.
    pub fn empty(columns: usize) -> Self {
        Self { shape: [0, columns], values: Vec::new().into() }
    }

    /// Rows and columns.
    pub fn dim(&self) -> (usize, usize) {
        self.shape.into()
    }

    pub fn view(&self) -> ArrayView2<'_, T> {
        // Cannot fail: `Files` compared the shape with the number of values.
        ArrayView2::from_shape(self.shape, &self.values).unwrap_or_else(|_| aview2::<T, 0>(&[]))
    }

    /// `None` past the last row.
    pub fn row(&self, row: usize) -> Option<&[T]> {
        let columns = self.shape[1];
        self.values.get(row.checked_mul(columns)?..row.checked_add(1)?.checked_mul(columns)?)
    }
}

/// A [`Csr`] in the data file.
pub struct MappedCsr {
    indptr: Mapped<u64>,
    indices: Mapped<u32>,
    values: Mapped<f32>,
    columns: usize,
}

impl MappedCsr {
    pub fn view(&self) -> CsrView<'_> {
        CsrView { indptr: &self.indptr, indices: &self.indices, values: &self.values, columns: self.columns }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;
    use crate::graph::GraphBuilder;

    #[test]
    fn matrices_are_read_back_from_both_files_in_their_shape() {
        let (a, b) = (array![[1f32, 2.0, 3.0], [4.0, 5.0, 6.0]], array![[7i64], [8]]);
        let mut graph = GraphBuilder::new("m");
        graph.matrix("a", a.view());
        let mut data = DataWriter::default();
        data.dense("b", b.clone());
        data.dense("empty", Array2::<f32>::default((0, 4)));
        let data = Bytes::from(data.finish().unwrap());
        let files = Files::open("m", graph.encode().unwrap().into(), &data).unwrap();
        let found = files.initializer_matrix::<f32>("a").unwrap();
        assert!(found.view() == a && found.row(1) == Some(&[4.0, 5.0, 6.0]) && found.row(2).is_none());
        assert_eq!(files.tensor_matrix::<i64>("b").unwrap().view(), b);
        assert!(files.tensor_matrix::<f32>("b").is_err());
        let empty = files.tensor_matrix::<f32>("empty").unwrap();
        assert!(empty.dim() == (0, 4) && empty.view().is_empty() && empty.dim() == MappedMatrix::<f32>::empty(4).dim());
    }
}
