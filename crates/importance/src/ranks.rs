//! Ranking rows by score.

use runtime::error::Result;
use runtime::memory;
use runtime::progress::Progress;
use runtime::sorting::sort_watched;

/// Ranks from 1 for the highest score; ties in the order of the rows.
pub fn ranks(scores: &[f64], progress: &dyn Progress) -> Result<Vec<u64>> {
    let mut lowered = Vec::new();
    memory::reserve(&mut lowered, scores.len())?;
    lowered.extend(scores.iter().map(|score| -score));
    let mut ranks = memory::filled(0, scores.len())?;
    ascending(&lowered, progress)?.into_iter().zip(1..).for_each(|(row, rank)| ranks[row as usize] = rank);
    Ok(ranks)
}

/// The rows by ascending score; ties in the order of the rows.
pub(crate) fn ascending(scores: &[f64], progress: &dyn Progress) -> Result<Vec<u32>> {
    let mut order = Vec::new();
    memory::reserve(&mut order, scores.len())?;
    order.extend(0..scores.len() as u32);
    sort_watched(&mut order, &|| progress.check(), |&a, &b| {
        scores[a as usize].total_cmp(&scores[b as usize]).then(a.cmp(&b))
    })?;
    Ok(order)
}
