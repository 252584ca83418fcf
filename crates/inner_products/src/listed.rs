//! Which items may stand in a list, and what stands in one.

/// Some of the items.
#[derive(Clone, Debug, Default)]
pub struct ItemSet {
    /// A bit for each item.
    bits: Vec<u64>,
    /// Bits that are set.
    len: usize,
}

impl ItemSet {
    pub fn new(items: usize) -> Self {
        Self { bits: vec![0; items.div_ceil(64)], len: 0 }
    }

    /// All of the first `items`.
    pub fn all(items: usize) -> Self {
        let mut bits = vec![u64::MAX; items.div_ceil(64)];
        if let Some(last) = bits.last_mut() {
            *last >>= items.next_multiple_of(64) - items;
        }
        Self { bits, len: items }
    }

    pub fn insert(&mut self, item: u32) {
        if let Some(word) = self.bits.get_mut(item as usize / 64) {
            self.len += usize::from(*word >> (item % 64) & 1 == 0);
            *word |= 1 << (item % 64);
        }
    }

    pub fn remove(&mut self, item: u32) {
        if let Some(word) = self.bits.get_mut(item as usize / 64) {
            self.len -= usize::from(*word >> (item % 64) & 1 == 1);
            *word &= !(1 << (item % 64));
        }
    }

    /// The `items` from `first` on, a multiple of 64, numbered from 0.
    pub fn part(&self, first: usize, items: usize) -> Self {
        debug_assert!(first.is_multiple_of(64));
        let words = first / 64..(first + items).div_ceil(64);
        let mut bits = self.bits.get(words).unwrap_or_default().to_vec();
        bits.resize(items.div_ceil(64), 0);
        if let Some(last) = bits.last_mut() {
            *last &= u64::MAX >> (items.next_multiple_of(64) - items);
        }
        let len = bits.iter().map(|word| word.count_ones() as usize).sum();
        Self { bits, len }
    }

    #[inline]
    pub fn contains(&self, item: u32) -> bool {
        self.bits.get(item as usize / 64).is_some_and(|word| word >> (item % 64) & 1 == 1)
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0u32..).step_by(64).zip(&self.bits).flat_map(|(first, &word)| {
            let mut left = word;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros())?;
                left &= left - 1;
                Some(first + bit)
            })
        })
    }
}

/// Which items may be listed.
#[derive(Clone, Copy, Default)]
pub struct Listed<'a> {
    /// Ascending: items that may not.
    pub excluded: &'a [u32],
    /// The only items that may; all where there is none.
    pub allowed: Option<&'a ItemSet>,
}

impl Listed<'_> {
    #[inline]
    pub fn excludes(&self, item: u32) -> bool {
        self.allowed.is_some_and(|allowed| !allowed.contains(item)) || self.excluded.binary_search(&item).is_ok()
    }
}

/// An item with its similarity to another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    pub item: u32,
    pub score: f32,
}
