//! Matrices as the kernels read them: rows one after the other, without gaps.

use std::slice::{ChunksExact, ChunksExactMut};

use ndarray::{ArrayView2, ArrayViewMut2};

/// The rows of a matrix as one slice.
///
/// # Panics
/// Where they do not lie one after the other. A copy would hide that a caller passes columns or a transposed matrix.
#[inline]
pub fn flat<'a, T>(matrix: ArrayView2<'a, T>) -> &'a [T] {
    assert!(matrix.is_standard_layout(), "a kernel reads rows one after the other");
    matrix.to_slice().unwrap_or_default()
}

/// [`flat`] for writing.
///
/// # Panics
/// As [`flat`].
#[inline]
pub fn flat_mut<'a, T>(matrix: ArrayViewMut2<'a, T>) -> &'a mut [T] {
    assert!(matrix.is_standard_layout(), "a kernel writes rows one after the other");
    matrix.into_slice().unwrap_or_default()
}

/// The rows of a matrix as slices; none where they are empty.
///
/// # Panics
/// As [`flat`].
#[inline]
pub fn rows<'a, T>(matrix: ArrayView2<'a, T>) -> ChunksExact<'a, T> {
    let width = matrix.ncols().max(1);
    flat(matrix).chunks_exact(width)
}

/// [`rows`] for writing.
///
/// # Panics
/// As [`flat`].
#[inline]
pub fn rows_mut<'a, T>(matrix: ArrayViewMut2<'a, T>) -> ChunksExactMut<'a, T> {
    let width = matrix.ncols().max(1);
    flat_mut(matrix).chunks_exact_mut(width)
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array, s};

    use super::*;

    #[test]
    fn rows_are_read_in_order_and_columns_are_refused() {
        let mut m = array![[1, 2, 3], [4, 5, 6]];
        assert_eq!(flat(m.view()), [1, 2, 3, 4, 5, 6]);
        assert_eq!(flat(m.slice(s![1.., ..])), [4, 5, 6]);
        flat_mut(m.slice_mut(s![..1, ..]))[2] = 9;
        assert_eq!(m[[0, 2]], 9);
        assert!(flat(m.slice(s![2.., ..])).is_empty());
        assert!(std::panic::catch_unwind(|| flat(m.slice(s![.., ..2])).len()).is_err());
        assert!(std::panic::catch_unwind(|| flat(m.t()).len()).is_err());
    }

    #[test]
    fn rows_are_slices_that_can_be_written() {
        let mut m = array![[1, 2], [3, 4], [5, 6]];
        rows_mut(m.view_mut()).for_each(|row| row.reverse());
        assert_eq!(rows(m.view()).collect::<Vec<_>>(), [[2, 1], [4, 3], [6, 5]]);
        assert_eq!(rows(Array2::<f32>::default((3, 0)).view()).count(), 0);
    }
}
