//! What has changed in a source since an index was made of it: the rows that stay where they are, and those that go into a new segment.
//!
//! Segments are merged as in a log-structured merge tree (O'Neil and others, Acta Informatica 33, 1996): where there are several of a size,
//! their rows go into the new segment as well. So a row is written again a number of times that grows with the logarithm of the index.

use super::digest::RowDigest;
use super::model::Model;
use super::segment::{Kept, duplicate};
use inner_products::ItemSet;
use runtime::error::Result;

/// A segment whose deleted rows are more than one in so many is written again.
const DELETED: usize = 2;
/// Segments of about a size that are merged.
const MERGED: usize = 4;

/// A source as it is read, compared with an index.
pub struct Update<'a> {
    previous: &'a Model,
    /// [segments]
    is_kept: Vec<bool>,
    /// Whether vectors can be taken over.
    has_same_vectors: bool,
    /// Rows of the index that the source still has, and those of them that have not changed.
    seen: ItemSet,
    unchanged: ItemSet,
}

/// What an index has of a row of the source.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Met {
    /// The same, and it stays there.
    Same,
    /// It is to be written. Its vector may be there.
    Write { vector_of: Option<u32> },
}

impl<'a> Update<'a> {
    /// All rows are written again if nothing `is_kept`. `has_same_vectors` if passages have the same vectors as before.
    pub fn new(previous: &'a Model, is_kept: bool, has_same_vectors: bool) -> Self {
        let sizes = previous.sizes();
        let dissolved = dissolved(&sizes);
        Self {
            previous,
            is_kept: dissolved.into_iter().map(|dissolved| is_kept && !dissolved).collect(),
            has_same_vectors,
            seen: ItemSet::new(previous.len()),
            unchanged: ItemSet::new(previous.len()),
        }
    }

    pub fn meet(&mut self, id: &str, digest: RowDigest) -> Result<Met> {
        let Some(row) = self.previous.find(id) else { return Ok(Met::Write { vector_of: None }) };
        if self.seen.contains(row) {
            return Err(duplicate(id));
        }
        self.seen.insert(row);
        let (segment, before) = self.previous.digest(row)?;
        if self.is_kept[segment] && before == digest {
            self.unchanged.insert(row);
            return Ok(Met::Same);
        }
        let has_vector = self.has_same_vectors && digest.passage != 0 && before.passage == digest.passage;
        Ok(Met::Write { vector_of: has_vector.then_some(row) })
    }

    /// The vector that a row had.
    pub fn vector(&self, row: u32) -> Result<Option<&'a [f32]>> {
        self.previous.vector(row)
    }

    /// Rows that the source no longer has.
    pub fn gone(&self) -> usize {
        self.previous.count() - self.seen.len()
    }

    /// The segments that stay, without what is no longer in the source or was written again.
    pub fn kept(&self) -> Vec<Kept> {
        let segments = self.previous.segments().iter().zip(&self.is_kept).filter(|(_, is_kept)| **is_kept);
        let of_segment = segments.map(|(segment, _)| {
            let unchanged = self.unchanged.part(segment.first_row as usize, segment.len());
            let deleted: Vec<u32> = (0..segment.len() as u32).filter(|&row| !unchanged.contains(row)).collect();
            (Kept { id: segment.id, deleted }, segment.len())
        });
        of_segment.filter(|(kept, rows)| kept.deleted.len() < *rows).map(|(kept, _)| kept).collect()
    }
}

/// Which segments to write again, by (rows, rows that are left of them).
fn dissolved(sizes: &[(usize, usize)]) -> Vec<bool> {
    let tier = |left: usize| left.max(1).ilog2() / 2;
    let of_tier = |wanted: u32| sizes.iter().filter(|(_, left)| tier(*left) == wanted).count();
    sizes.iter().map(|&(rows, left)| (rows - left) * DELETED > rows || of_tier(tier(left)) >= MERGED).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_of_a_size_are_merged_and_what_is_mostly_deleted_is_written_again() {
        assert_eq!(dissolved(&[(90_000, 90_000), (10, 10), (9, 9), (11, 11)]), [false; 4]);
        assert_eq!(dissolved(&[(90_000, 90_000), (10, 10), (9, 9), (11, 11), (8, 8)]), [false, true, true, true, true]);
        assert_eq!(dissolved(&[(1000, 400), (50, 49)]), [true, false]);
    }

    #[test]
    fn a_row_is_written_a_few_times_and_segments_stay_few() {
        let (mut sizes, mut written) = (vec![(100_000, 100_000)], 0);
        for _ in 0..2000 {
            let dissolved = dissolved(&sizes);
            let again: usize = sizes.iter().zip(&dissolved).filter(|(_, d)| **d).map(|((_, left), _)| left).sum();
            let mut kept: Vec<(usize, usize)> =
                sizes.iter().zip(&dissolved).filter(|(_, d)| !**d).map(|(size, _)| *size).collect();
            kept.push((10 + again, 10 + again));
            (sizes, written) = (kept, written + again);
        }
        assert!(sizes.len() <= 30 && written < 2000 * 10 * 12, "{} segments, {written} rows", sizes.len());
    }
}
