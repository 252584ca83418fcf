//! What every algorithm offers once its model is opened.

use std::borrow::Cow;

use ndarray::{Array2, ArrayView2, ArrayViewMut2};

use inner_products::{ItemSet, Listed, Scored};
use interactions::Features;
use kernels::matrix::flat_mut;
use runtime::error::{Error, Result};
use runtime::progress::Progress;

/// Whom to rank for.
#[derive(Clone, Copy)]
pub struct Query<'a> {
    /// The stored user this history was trained with; `None` for a history given now.
    pub user: Option<u32>,
    /// All below the number of items.
    pub items: &'a [u32],
    /// One for each item, finite; below 0 for negative feedback.
    pub weights: &'a [f32],
    /// Ascending: items not to be ranked.
    pub excluded: &'a [u32],
    /// The only items to be ranked; all where there is none.
    pub allowed: Option<&'a ItemSet>,
}

impl Query<'_> {
    /// What may be listed.
    pub fn listed(&self) -> Listed<'_> {
        Listed { excluded: self.excluded, allowed: self.allowed }
    }

    #[inline]
    pub fn excludes(&self, item: u32) -> bool {
        self.listed().excludes(item)
    }
}

/// What each query may list.
pub fn listed<'a>(queries: &'a [Query]) -> Vec<Listed<'a>> {
    queries.iter().map(Query::listed).collect()
}

/// An item of the user's own history, and how much of a score it carried.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Contribution {
    pub item: u32,
    pub share: f32,
}

/// A ranker whose scores are inner products.
pub trait Product: Sync {
    /// [items, d]
    fn item_factors(&self) -> ArrayView2<'_, f32>;

    /// How many of the d columns `similar_items` compares; `None` where it compares others.
    fn compared(&self) -> Option<usize>;

    /// The factors [d] of whom a query is for; `None` where nothing is known of them.
    fn user<'a>(&'a self, query: &Query, progress: &dyn Progress) -> Result<Option<Cow<'a, [f32]>>>;
}

/// Ranks items for one history, or for a tile of them.
pub trait Ranker: Send + Sync {
    /// The best `k` (score, item), best first, ties by item. Fewer when the algorithm has nothing to say about the rest.
    fn rank(&self, query: &Query, k: usize, progress: &dyn Progress) -> Result<Vec<(f32, u32)>>;

    /// [`rank`](Self::rank) for each of a few dozen queries, with the same results. Runs on a helper thread, within about 10 ms.
    fn rank_tile(&self, queries: &[Query], k: usize) -> Result<Vec<Vec<(f32, u32)>>> {
        queries.iter().map(|query| self.rank(query, k, &runtime::progress::Unwatched)).collect()
    }

    /// How many users [`rank_tile`](Self::rank_tile) can take within about 10 ms, and no more than some dozens.
    fn users_per_tile(&self) -> usize {
        usize::MAX
    }

    /// The score of every item [items], 0 where the algorithm has nothing to say. Those of `rank` are among them.
    fn score_all(&self, query: &Query, scores: &mut [f32], progress: &dyn Progress) -> Result<()>;

    /// [`score_all`](Self::score_all) for each of a few queries, with the same results: `scores` is [queries, items].
    fn score_tile(&self, queries: &[Query], scores: ArrayViewMut2<f32>) -> Result<()> {
        let items = scores.ncols();
        let rows = flat_mut(scores).chunks_exact_mut(items.max(1));
        queries.iter().zip(rows).try_for_each(|(query, row)| self.score_all(query, row, &runtime::progress::Unwatched))
    }

    /// The `k` items most like `item`, best first, without itself.
    fn similar_items(&self, item: u32, k: usize, progress: &dyn Progress) -> Result<Vec<Scored>>;

    /// How alike two items are, from −1 to 1: what [`similar_items`](Self::similar_items) sorts by, or its sign and order.
    fn similarity(&self, one: u32, other: u32) -> Result<f32>;

    /// The stored users most like `user`, best first, without themselves.
    fn similar_users(&self, _user: u32, _k: usize, _progress: &dyn Progress) -> Result<Option<Vec<Scored>>> {
        Ok(None)
    }

    /// What each item of the history carried of `item`'s score. By default what the score loses when that item is left out
    /// of the history, which is then folded in; linear models override this with their exact shares.
    fn explain(&self, query: &Query, item: u32, items: usize, progress: &dyn Progress) -> Result<Vec<Contribution>> {
        let mut scores = runtime::memory::filled(0f32, items)?;
        let mut score = |history: &[u32], weights: &[f32]| {
            let query = Query { user: None, items: history, weights, ..*query };
            self.score_all(&query, &mut scores, progress)?;
            scores.get(item as usize).copied().ok_or_else(|| Error::Internal("an item without a score".into()))
        };
        let whole = score(query.items, query.weights)?;
        let mut shares = Vec::with_capacity(query.items.len());
        for left_out in 0..query.items.len() {
            let without = |n: usize| n != left_out;
            let history: Vec<u32> = (0..query.items.len()).filter(|&n| without(n)).map(|n| query.items[n]).collect();
            let weights: Vec<f32> = (0..query.items.len()).filter(|&n| without(n)).map(|n| query.weights[n]).collect();
            shares.push(Contribution { item: query.items[left_out], share: whole - score(&history, &weights)? });
        }
        Ok(shares)
    }

    /// This ranker as one of inner products, if it is one.
    fn product(&self) -> Option<&dyn Product> {
        None
    }

    /// What was learned of each item, a row each: to go on from in another training.
    fn item_factors(&self) -> Option<ArrayView2<'_, f32>> {
        None
    }

    /// The factors that items with these features would have, a row each; `None` where none were learned from features.
    fn item_factors_from_features(&self, _features: &Features) -> Result<Option<Array2<f32>>> {
        Ok(None)
    }
}
