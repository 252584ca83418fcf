//! What every algorithm offers once its model is opened.

use super::Scored;
use crate::error::Result;
use crate::progress::Progress;

/// Whom to rank for.
#[derive(Clone, Copy)]
pub struct Query<'a> {
    /// The stored user this history was trained with; `None` for a history given now.
    pub user: Option<u32>,
    /// All below the number of items.
    pub items: &'a [u32],
    /// One for each item, finite, 0 or greater.
    pub weights: &'a [f32],
    /// Ascending: items not to be ranked.
    pub excluded: &'a [u32],
}

impl Query<'_> {
    pub fn excludes(&self, item: u32) -> bool {
        self.excluded.binary_search(&item).is_ok()
    }
}

/// Ranks items for one history, or for a tile of them.
pub trait Ranker: Send + Sync {
    /// The best `k` (score, item), best first, ties by item. Fewer when the algorithm has nothing to say about the rest.
    fn rank(&self, query: &Query, k: usize, progress: &dyn Progress) -> Result<Vec<(f32, u32)>>;

    /// [`rank`](Self::rank) for each of a few dozen queries, with the same results. Runs on a helper thread, within about 10 ms.
    fn rank_tile(&self, queries: &[Query], k: usize) -> Result<Vec<Vec<(f32, u32)>>> {
        queries.iter().map(|query| self.rank(query, k, &crate::progress::Unwatched)).collect()
    }

    /// The `k` items most like `item`, best first, without itself.
    fn similar_items(&self, item: u32, k: usize, progress: &dyn Progress) -> Result<Vec<Scored>>;
}
