//! Sorting with a check for cancel requests every few milliseconds, unlike that of the standard library.

use std::cmp::Ordering;

use crate::error::Result;
use crate::memory;

/// Elements sorted or merged between two checks: some milliseconds.
const PART: usize = 1 << 16;

/// Sorts `items` in parts and merges them pairwise. Returns the error of `check`, if any. More than one part needs memory for a copy of all
/// elements. Not stable.
pub fn sort_watched<T: Copy>(
    items: &mut Vec<T>,
    check: &dyn Fn() -> Result<()>,
    compare: impl Fn(&T, &T) -> Ordering,
) -> Result<()> {
    for part in items.chunks_mut(PART) {
        check()?;
        part.sort_unstable_by(&compare);
    }
    let mut merged = Vec::new();
    if items.len() > PART {
        memory::reserve(&mut merged, items.len())?;
    }
    let mut width = PART;
    while width < items.len() {
        merged.clear();
        for pair in items.chunks(2 * width) {
            let (mut a, mut b) = pair.split_at(width.min(pair.len()));
            while let (Some(first), Some(second)) = (a.first(), b.first()) {
                if merged.len().is_multiple_of(PART) {
                    check()?;
                }
                if compare(first, second).is_le() {
                    merged.push(*first);
                    a = &a[1..];
                } else {
                    merged.push(*second);
                    b = &b[1..];
                }
            }
            for part in a.chunks(PART).chain(b.chunks(PART)) {
                check()?;
                merged.extend_from_slice(part);
            }
        }
        std::mem::swap(items, &mut merged);
        width *= 2;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::draw::below;
    use crate::error::Error;

    #[test]
    fn any_number_of_parts_is_sorted_as_the_standard_library_does() {
        for n in [0, 1, PART - 1, PART, PART + 1, 2 * PART, 3 * PART + 5, 5 * PART] {
            let mut items: Vec<(u64, u64)> = (0..n as u64).map(|i| (below(1, i, 50_000) as u64, i)).collect();
            let mut expected = items.clone();
            expected.sort_unstable();
            sort_watched(&mut items, &|| Ok(()), Ord::cmp).unwrap();
            assert_eq!(items, expected);
        }
    }

    #[test]
    fn it_stops_when_told_in_parts_and_in_merging() {
        let items: Vec<u64> = (0..4 * PART as u64).rev().collect();
        for last in 0..8 {
            let looks = Cell::new(0);
            let check = || {
                looks.set(looks.get() + 1);
                if looks.get() > last { Err(Error::Canceled) } else { Ok(()) }
            };
            let stopped = sort_watched(&mut items.clone(), &check, Ord::cmp);
            assert!(matches!(stopped, Err(Error::Canceled)), "{last}");
        }
    }
}
