//! The ids of a model: canonical texts, sorted bytewise; an id's index is its rank.

use bytes::Bytes;

use runtime::mapped::Mapped;

/// Sorted ids in two flat arrays, in the format of a model's file. Opening a table costs O(1), finding an id O(log n).
#[derive(Clone, Debug)]
pub struct IdTable {
    /// [n + 1]: id `i` is `bytes[offsets[i]..offsets[i + 1]]`, UTF-8.
    offsets: Mapped<i64>,
    bytes: Bytes,
}

impl IdTable {
    /// `texts` in ascending order of their bytes, each once.
    pub fn from_sorted<S: AsRef<str>>(texts: &[S]) -> Self {
        debug_assert!(texts.windows(2).all(|w| w[0].as_ref().as_bytes() < w[1].as_ref().as_bytes()));
        let mut offsets = Vec::with_capacity(texts.len() + 1);
        let mut bytes = Vec::with_capacity(texts.iter().map(|t| t.as_ref().len()).sum());
        offsets.push(0);
        for text in texts {
            bytes.extend_from_slice(text.as_ref().as_bytes());
            offsets.push(bytes.len() as i64);
        }
        Self::from_parts(offsets, bytes)
    }

    /// The arrays that [`parts`](Self::parts) gives.
    pub fn from_parts(offsets: Vec<i64>, bytes: Vec<u8>) -> Self {
        Self { offsets: offsets.into(), bytes: bytes.into() }
    }

    /// A table in mapped memory; `None` if the arrays are inconsistent.
    pub fn from_mapped(offsets: Mapped<i64>, bytes: Bytes) -> Option<Self> {
        (offsets.first() == Some(&0) && offsets.last().copied() == i64::try_from(bytes.len()).ok())
            .then_some(Self { offsets, bytes })
    }

    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The id at an index; `None` past the end, or if a damaged file has invalid UTF-8 there.
    pub fn get(&self, index: u32) -> Option<&str> {
        std::str::from_utf8(self.raw(index as usize)?).ok()
    }

    /// The index of an id.
    pub fn find(&self, id: &str) -> Option<u32> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.raw(middle)?.cmp(id.as_bytes()) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return u32::try_from(middle).ok(),
            }
        }
        None
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len() as u32).map_while(|i| self.get(i))
    }

    /// The two arrays, for writing.
    pub fn parts(&self) -> (&[i64], &[u8]) {
        (&self.offsets, &self.bytes)
    }

    fn raw(&self, index: usize) -> Option<&[u8]> {
        let start = usize::try_from(*self.offsets.get(index)?).ok()?;
        let end = usize::try_from(*self.offsets.get(index + 1)?).ok()?;
        self.bytes.get(start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_is_found_at_its_index_and_no_other_is() {
        let ids = ["", "10", "9", "a", "é", "商品"];
        let table = IdTable::from_sorted(&ids);
        assert_eq!(table.len(), ids.len());
        for (i, id) in ids.iter().enumerate() {
            assert_eq!(table.find(id), Some(i as u32));
            assert_eq!(table.get(i as u32), Some(*id));
        }
        assert_eq!(table.find("1"), None);
        assert_eq!(table.find("zz"), None);
        assert_eq!(table.get(6), None);
        assert_eq!(table.iter().collect::<Vec<_>>(), ids);
        assert_eq!(IdTable::from_sorted::<&str>(&[]).find("x"), None);
    }

    #[test]
    fn a_damaged_table_finds_nothing_instead_of_failing() {
        let table =
            IdTable::from_mapped(vec![0i64, 99, -3, 4].into(), Bytes::from_static(b"\xff\xff\xff\xff")).unwrap();
        assert_eq!(table.find("a"), None);
        assert!((0..4).all(|i| table.get(i).is_none()));
        assert!(IdTable::from_mapped(vec![0i64, 5].into(), Bytes::from_static(b"abc")).is_none());
        assert!(IdTable::from_mapped(Vec::new().into(), Bytes::new()).is_none());
    }
}
