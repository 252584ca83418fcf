//! Matrices as the kernels read them: rows one after the other, without gaps.

use std::ops::Range;
use std::slice::{ChunksExact, ChunksExactMut};

use ndarray::{ArrayView2, ArrayViewMut2, Axis};

use runtime::error::Result;
use runtime::parallel::for_each_chunk;
use runtime::progress::Progress;

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

/// The rows of a matrix in consecutive runs from the first on, to be written at the same time.
pub fn split_rows<'a, T>(all: ArrayViewMut2<'a, T>, runs: &[Range<usize>]) -> Vec<ArrayViewMut2<'a, T>> {
    let mut parts = Vec::with_capacity(runs.len());
    let mut left = Some(all);
    for run in runs {
        let Some(all) = left.take() else { break };
        let (part, rest) = all.split_at(Axis(0), run.len());
        parts.push(part);
        left = Some(rest);
    }
    parts
}

/// Splits a matrix into blocks of `rows` rows and fills them on `threads` threads: [`for_each_chunk`] by whole rows.
pub fn for_each_rows<T: Send, S>(
    mut matrix: ArrayViewMut2<T>,
    rows: usize,
    threads: usize,
    progress: &dyn Progress,
    init: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize, ArrayViewMut2<T>) -> Result<()> + Sync,
) -> Result<()> {
    let mut blocks: Vec<_> = matrix.axis_chunks_iter_mut(Axis(0), rows.max(1)).collect();
    for_each_chunk(&mut blocks, 1, threads, progress, init, |state, number, blocks| {
        blocks.iter_mut().try_for_each(|block| work(state, number, block.view_mut()))
    })
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array, s};
    use runtime::progress::Unwatched;

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

    #[test]
    fn runs_of_rows_are_written_apart() {
        let mut m = Array2::<usize>::zeros((5, 2));
        let runs = [0..2, 2..2, 2..5];
        let parts = split_rows(m.view_mut(), &runs);
        parts.into_iter().zip(1..).for_each(|(mut part, number)| part.fill(number));
        assert_eq!(m.column(1).to_vec(), [1, 1, 3, 3, 3]);
    }

    #[test]
    fn every_block_of_rows_is_filled_once() {
        let mut m = Array2::<usize>::zeros((7, 2));
        for_each_rows(
            m.view_mut(),
            3,
            2,
            &Unwatched,
            || (),
            |(), number, mut block| {
                block.iter_mut().for_each(|x| *x += 1 + number);
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(m.column(0).to_vec(), [1, 1, 1, 2, 2, 2, 3]);
    }
}
