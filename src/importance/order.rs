//! Rows in the order of their scores, sorted with a look at the progress every few milliseconds.

use crate::error::Result;
use crate::memory;
use crate::progress::Progress;

/// 1 for the highest score; equal ones in the order of the rows.
pub fn ranks(scores: &[f64], progress: &dyn Progress) -> Result<Vec<u64>> {
    let (mut order, mut lowered) = (Vec::new(), Vec::new());
    memory::reserve(&mut order, scores.len())?;
    memory::reserve(&mut lowered, scores.len())?;
    order.extend(0..scores.len() as u32);
    lowered.extend(scores.iter().map(|score| -score));
    sort_watched(&mut order, &lowered, progress)?;
    let mut ranks = memory::filled(0, scores.len())?;
    order.into_iter().zip(1..).for_each(|(row, rank)| ranks[row as usize] = rank);
    Ok(ranks)
}

/// Sorted in parts of a few milliseconds, which are then merged two by two, with a look at `progress` in between.
pub(super) fn sort_watched(order: &mut Vec<u32>, scores: &[f64], progress: &dyn Progress) -> Result<()> {
    const PART: usize = 1 << 16;
    let before = |a: u32, b: u32| scores[a as usize].total_cmp(&scores[b as usize]).then(a.cmp(&b));
    for part in order.chunks_mut(PART) {
        progress.check()?;
        part.sort_unstable_by(|&a, &b| before(a, b));
    }
    let mut merged: Vec<u32> = Vec::new();
    memory::reserve(&mut merged, order.len())?;
    let mut width = PART;
    while width < order.len() {
        merged.clear();
        for pair in order.chunks(2 * width) {
            let (mut a, mut b) = pair.split_at(width.min(pair.len()));
            while let (Some(&first), Some(&second)) = (a.first(), b.first()) {
                let take_first = before(first, second).is_lt();
                merged.push(if take_first { first } else { second });
                if take_first {
                    a = &a[1..]
                } else {
                    b = &b[1..]
                }
                if merged.len().is_multiple_of(PART) {
                    progress.check()?;
                }
            }
            merged.extend_from_slice(a);
            merged.extend_from_slice(b);
        }
        std::mem::swap(order, &mut merged);
        width *= 2;
    }
    Ok(())
}
