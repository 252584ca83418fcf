//! Matrices as kernels and loops read them: the raw values, one row after the other.

use ndarray::ArrayRef2;

/// The values of a matrix in row-major order, as it was made. A transposed or cut one is refused: it must be read as a view.
pub fn values<T>(matrix: &ArrayRef2<T>) -> &[T] {
    assert!(matrix.is_standard_layout());
    matrix.as_slice().unwrap_or_default()
}

/// The same to write to.
pub fn values_mut<T>(matrix: &mut ArrayRef2<T>) -> &mut [T] {
    assert!(matrix.is_standard_layout());
    matrix.as_slice_mut().unwrap_or_default()
}

/// One row of it.
pub fn row<T>(matrix: &ArrayRef2<T>, row: usize) -> &[T] {
    let width = matrix.ncols();
    &values(matrix)[row * width..][..width]
}

/// The rows of such a matrix as slices; none where they are empty.
pub fn rows<T>(matrix: &ArrayRef2<T>) -> std::slice::ChunksExact<'_, T> {
    values(matrix).chunks_exact(matrix.ncols().max(1))
}

/// The same to write to.
pub fn rows_mut<T>(matrix: &mut ArrayRef2<T>) -> std::slice::ChunksExactMut<'_, T> {
    let width = matrix.ncols().max(1);
    values_mut(matrix).chunks_exact_mut(width)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array, s};

    #[test]
    fn rows_follow_each_other_and_are_written_in_place() {
        let mut matrix = array![[1, 2], [3, 4], [5, 6]];
        assert_eq!(values(&matrix), [1, 2, 3, 4, 5, 6]);
        assert_eq!((row(&matrix, 1), values(&matrix.slice(s![1.., ..]))), (&[3, 4][..], &[3, 4, 5, 6][..]));
        rows_mut(&mut matrix).for_each(|row| row.reverse());
        assert_eq!(rows(&matrix).collect::<Vec<_>>(), [[2, 1], [4, 3], [6, 5]]);
        assert_eq!(rows(&Array2::<f32>::default((3, 0))).count(), 0);
    }

    #[test]
    #[should_panic(expected = "standard_layout")]
    fn a_transposed_matrix_is_no_sequence_of_rows() {
        values(&array![[1, 2], [3, 4]].t());
    }
}
