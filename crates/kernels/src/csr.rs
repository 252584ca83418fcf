//! Sparse matrices by rows.

use runtime::error::Result;
use runtime::memory;
use runtime::progress::Progress;

/// Entries handled between two checks of [`Progress`].
pub const CHECK_EVERY: u64 = 1 << 18;

/// A sparse matrix [rows, columns] by rows: row `r` holds `indices[indptr[r]..indptr[r + 1]]`, ascending, with `values`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Csr {
    /// [rows + 1], from 0 to the number of entries.
    pub indptr: Vec<u64>,
    pub indices: Vec<u32>,
    pub values: Vec<f32>,
    pub columns: usize,
}

/// [`Csr`] in borrowed memory, which may be a map of a file.
#[derive(Clone, Copy, Debug)]
pub struct CsrView<'a> {
    pub indptr: &'a [u64],
    pub indices: &'a [u32],
    pub values: &'a [f32],
    pub columns: usize,
}

impl Csr {
    pub fn rows(&self) -> usize {
        self.indptr.len().saturating_sub(1)
    }

    pub fn entries(&self) -> usize {
        self.indices.len()
    }

    /// Columns and values of a row, columns ascending.
    pub fn row(&self, row: usize) -> (&[u32], &[f32]) {
        let range = self.indptr[row] as usize..self.indptr[row + 1] as usize;
        (&self.indices[range.clone()], &self.values[range])
    }

    pub fn view(&self) -> CsrView<'_> {
        CsrView { indptr: &self.indptr, indices: &self.indices, values: &self.values, columns: self.columns }
    }

    /// See [`CsrView::transpose`].
    pub fn transpose(&self, progress: &dyn Progress) -> Result<Csr> {
        self.view().transpose(progress)
    }
}

impl<'a> CsrView<'a> {
    /// The same matrix by columns, of a whole matrix. O(entries), with a check of `progress` every few milliseconds.
    pub fn transpose(&self, progress: &dyn Progress) -> Result<Csr> {
        let mut indptr = vec![0u64; self.columns + 1];
        for &column in self.indices {
            indptr[column as usize + 1] += 1;
        }
        for c in 0..self.columns {
            indptr[c + 1] += indptr[c];
        }
        let mut next = indptr.clone();
        let mut indices = memory::filled(0u32, self.indices.len())?;
        let mut values = memory::filled(0f32, self.indices.len())?;
        let mut next_check = 0;
        let rows = self.indptr.len().saturating_sub(1);
        for row in 0..rows {
            if self.indptr[row] >= next_check {
                progress.check()?;
                next_check = self.indptr[row] + CHECK_EVERY;
            }
            let range = self.indptr[row] as usize..self.indptr[row + 1] as usize;
            for (&column, &value) in self.indices[range.clone()].iter().zip(&self.values[range]) {
                let to = &mut next[column as usize];
                indices[*to as usize] = row as u32;
                values[*to as usize] = value;
                *to += 1;
            }
        }
        Ok(Csr { indptr, indices, values, columns: rows })
    }

    /// Columns and values of a row; `None` when the row does not exist or the matrix contradicts itself.
    pub fn row(&self, row: usize) -> Option<(&'a [u32], &'a [f32])> {
        let start = usize::try_from(*self.indptr.get(row)?).ok()?;
        let end = usize::try_from(*self.indptr.get(row + 1)?).ok()?;
        let indices = self.indices.get(start..end)?;
        // One comparison for all, since they ascend; a damaged file may break that, so readers check each they use.
        if indices.last().is_some_and(|&last| last as usize >= self.columns) {
            return None;
        }
        Some((indices, self.values.get(start..end)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::progress::Unwatched;

    #[test]
    fn transposing_twice_gives_the_matrix_back() {
        let m = Csr {
            indptr: vec![0, 2, 2, 5],
            indices: vec![0, 3, 0, 1, 3],
            values: vec![1.0, 2.0, 3.0, 4.0, 5.0],
            columns: 5,
        };
        let t = m.transpose(&Unwatched).unwrap();
        assert_eq!(t.row(0), (&[0, 2][..], &[1.0, 3.0][..]));
        assert_eq!(t.row(3), (&[0, 2][..], &[2.0, 5.0][..]));
        assert_eq!(t.row(4), (&[][..], &[][..]));
        assert_eq!(t.transpose(&Unwatched).unwrap(), m);
    }

    #[test]
    fn a_view_that_contradicts_itself_has_no_such_row() {
        let m = CsrView { indptr: &[0, 2, 1, 9], indices: &[0, 3, 7], values: &[1.0; 3], columns: 4 };
        assert!(m.row(0).is_some());
        assert!(m.row(1).is_none() && m.row(2).is_none() && m.row(3).is_none() && m.row(9).is_none());
    }
}
