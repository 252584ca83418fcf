//! Typed slices of a memory map (or of any shared bytes), without a copy where the alignment allows.

use bytemuck::Pod;
use bytes::Bytes;

/// A `[T]` in shared bytes, or in its own memory if the bytes are not aligned for `T`.
#[derive(Clone, Debug)]
pub struct Mapped<T>(Inner<T>);

#[derive(Clone, Debug)]
enum Inner<T> {
    Shared(Bytes),
    Owned(Vec<T>),
}

impl<T: Pod> Mapped<T> {
    /// `None` if the bytes are not a whole number of `T`s.
    pub fn new(bytes: Bytes) -> Option<Self> {
        if !bytes.len().is_multiple_of(size_of::<T>()) {
            return None;
        }
        Some(Self(match bytemuck::try_cast_slice::<u8, T>(&bytes) {
            Ok(_) => Inner::Shared(bytes),
            Err(_) => Inner::Owned(bytemuck::pod_collect_to_vec(&bytes)),
        }))
    }

    /// Whether it shares the bytes without a copy.
    pub fn is_shared(&self) -> bool {
        matches!(self.0, Inner::Shared(_))
    }
}

impl<T> From<Vec<T>> for Mapped<T> {
    fn from(values: Vec<T>) -> Self {
        Self(Inner::Owned(values))
    }
}

impl<T: Pod> std::ops::Deref for Mapped<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.0 {
            // Cannot fail: `new` did the same cast of the same bytes.
            Inner::Shared(bytes) => bytemuck::try_cast_slice(bytes).unwrap_or(&[]),
            Inner::Owned(values) => values,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unaligned_bytes_are_copied_and_read_the_same() {
        let bytes = Bytes::from(bytemuck::cast_slice::<f32, u8>(&[0.0, 1.5, -2.0]).to_vec());
        let aligned = Mapped::<f32>::new(bytes.clone()).unwrap();
        assert_eq!(*aligned, [0.0, 1.5, -2.0]);
        let shifted = Mapped::<f32>::new([&[0], &bytes[..]].concat()[1..].to_vec().into()).unwrap();
        assert_eq!(*shifted, *aligned);
        let mut odd = vec![0u8];
        odd.extend_from_slice(&bytes);
        assert_eq!(*Mapped::<f32>::new(Bytes::from(odd).slice(1..)).unwrap(), *aligned);
        assert!(Mapped::<f32>::new(bytes.slice(1..)).is_none());
    }
}
