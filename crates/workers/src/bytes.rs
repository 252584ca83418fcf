//! Numbers, texts and tensors as bytes, for another process of the same server.

use bytemuck::Pod;
use ndarray::{ArrayD, IxDyn};

use onnx::tensor::Tensor;
use runtime::error::{Error, Result};
use runtime::memory;

/// Arrays begin at multiples of this, so that they can be copied as what they are.
const ALIGNMENT: usize = 8;

/// More dimensions than any tensor has.
const MAX_DIMENSIONS: usize = 64;

#[derive(Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    pub fn finish(self) -> Vec<u8> {
        self.0
    }

    pub fn number(&mut self, number: usize) -> Result<()> {
        memory::extend(&mut self.0, &(number as u64).to_le_bytes())
    }

    pub fn text(&mut self, text: &str) -> Result<()> {
        self.array(text.as_bytes())
    }

    pub fn array<T: Pod>(&mut self, values: &[T]) -> Result<()> {
        self.number(values.len())?;
        memory::extend(&mut self.0, bytemuck::cast_slice(values))?;
        let padding = self.0.len().next_multiple_of(ALIGNMENT) - self.0.len();
        memory::extend(&mut self.0, &[0; ALIGNMENT][..padding])
    }

    pub fn tensor(&mut self, tensor: &Tensor) -> Result<()> {
        let shape: Vec<u64> = tensor.shape().iter().map(|&n| n as u64).collect();
        let (kind, bytes): (_, &mut dyn FnMut(&mut Self) -> Result<()>) = match tensor {
            Tensor::F32(array) => (0, &mut |to| to.elements(array)),
            Tensor::F64(array) => (1, &mut |to| to.elements(array)),
            Tensor::I32(array) => (2, &mut |to| to.elements(array)),
            Tensor::I64(array) => (3, &mut |to| to.elements(array)),
            Tensor::Bool(array) => (4, &mut |to| to.elements(&array.mapv(u8::from))),
            Tensor::Text(array) => (5, &mut |to| {
                to.number(array.len())?;
                array.iter().try_for_each(|text| to.text(text))
            }),
        };
        self.number(kind)?;
        self.array(&shape)?;
        bytes(self)
    }

    fn elements<T: Pod>(&mut self, array: &ArrayD<T>) -> Result<()> {
        match array.as_slice() {
            Some(values) => self.array(values),
            None => self.array(&array.iter().copied().collect::<Vec<_>>()),
        }
    }
}

/// Reads what a [`Writer`] has written. Anything else is an error.
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or_else(cut_off)?;
        self.0 = rest;
        Ok(taken)
    }

    pub fn number(&mut self) -> Result<usize> {
        let bytes = self.take(8)?.try_into().map_err(|_| cut_off())?;
        usize::try_from(u64::from_le_bytes(bytes)).map_err(|_| cut_off())
    }

    pub fn text(&mut self) -> Result<String> {
        String::from_utf8(self.array()?).map_err(|_| cut_off())
    }

    pub fn array<T: Pod>(&mut self) -> Result<Vec<T>> {
        let count = self.number()?;
        let size = count.checked_mul(size_of::<T>()).ok_or_else(cut_off)?;
        let bytes = self.take(size)?;
        self.take(size.next_multiple_of(ALIGNMENT) - size)?;
        let mut values = Vec::new();
        memory::reserve(&mut values, count)?;
        values.extend(bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned::<T>));
        Ok(values)
    }

    pub fn tensor(&mut self) -> Result<Tensor> {
        let kind = self.number()?;
        let shape = self.array::<u64>()?;
        if shape.len() > MAX_DIMENSIONS {
            return Err(cut_off());
        }
        let shape = IxDyn(&shape.iter().map(|&n| n as usize).collect::<Vec<_>>());
        fn shaped<T>(shape: IxDyn, values: Vec<T>) -> Result<ArrayD<T>> {
            ArrayD::from_shape_vec(shape, values).map_err(|_| cut_off())
        }
        Ok(match kind {
            0 => Tensor::F32(shaped(shape, self.array()?)?),
            1 => Tensor::F64(shaped(shape, self.array()?)?),
            2 => Tensor::I32(shaped(shape, self.array()?)?),
            3 => Tensor::I64(shaped(shape, self.array()?)?),
            4 => Tensor::Bool(shaped(shape, self.array::<u8>()?)?.mapv(|byte| byte != 0)),
            5 => {
                let count = self.number()?;
                let mut texts = Vec::new();
                for _ in 0..count {
                    memory::push(&mut texts, self.text()?)?;
                }
                Tensor::Text(shaped(shape, texts)?)
            }
            _ => return Err(cut_off()),
        })
    }
}

fn cut_off() -> Error {
    Error::Internal("a message between a session and a model worker is damaged".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{arr0, array};

    fn tensors() -> Vec<Tensor> {
        vec![
            array![[1f32, f32::NAN], [f32::INFINITY, -0.0]].into(),
            array![1f64].into(),
            array![[[7i32]], [[-7]]].into(),
            arr0(i64::MIN).into(),
            array![true, false, true].into(),
            array!["".to_owned(), "红色 👟".to_owned()].into(),
            ndarray::Array2::<f32>::zeros((0, 3)).into(),
        ]
    }

    #[test]
    fn what_is_written_is_read() {
        let mut writer = Writer::default();
        for tensor in &tensors() {
            writer.tensor(tensor).unwrap();
        }
        writer.text("ö").unwrap();
        writer.array(&[1u32, 2, 3]).unwrap();
        let bytes = writer.finish();
        let mut reader = Reader::new(&bytes);
        for tensor in tensors() {
            assert_eq!(format!("{:?}", reader.tensor().unwrap()), format!("{tensor:?}"));
        }
        assert_eq!(reader.text().unwrap(), "ö");
        assert_eq!(reader.array::<u32>().unwrap(), [1, 2, 3]);
        assert!(reader.number().is_err());
    }

    #[test]
    fn what_is_cut_off_or_changed_is_an_error_or_another_value() {
        let mut writer = Writer::default();
        tensors().iter().for_each(|tensor| writer.tensor(tensor).unwrap());
        let bytes = writer.finish();
        for end in 0..bytes.len() {
            let mut reader = Reader::new(&bytes[..end]);
            assert!((0..tensors().len()).any(|_| reader.tensor().is_err()), "{end}");
        }
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 0xff;
            let mut reader = Reader::new(&changed);
            while reader.tensor().is_ok() {}
        }
    }
}
