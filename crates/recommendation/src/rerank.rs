//! From a ranked pool to a list: limits by group, and diversity.
//!
//! Diversity is maximal marginal relevance (Carbonell, Goldstein, "The use of MMR, diversity-based reranking for reordering
//! documents and producing summaries", SIGIR 1998): the list is filled place by place with the item of the pool that has the greatest
//! `(1 − δ) · relevance(i) − δ · max_{j in the list} similarity(i, j)`, where relevance is the score scaled to 0 … 1 over the pool.
//! O(k · pool) similarities, O(pool) memory.

use super::request::Request;
use runtime::error::Result;
use runtime::progress::Progress;

/// Items ranked for each place of a diverse list.
const POOL_PER_PLACE: usize = 10;
/// The pool of a short list.
const LEAST_POOL: usize = 100;
/// Items in the pool of a long list that it has no place for.
const MOST_OVER: usize = 1000;
/// What a pool grows by when its groups leave places open.
const GROWTH: usize = 4;
/// Similarities between two looks at progress.
const CHECK_EVERY: usize = 4096;

/// How many items are to be ranked first for a list of `k`.
pub fn pool(request: &Request, k: usize) -> usize {
    if k == 0 {
        0
    } else if request.diversity > 0.0 {
        k.saturating_mul(POOL_PER_PLACE).min(k.saturating_add(MOST_OVER)).max(LEAST_POOL)
    } else if request.groups.is_some() {
        k.saturating_mul(2)
    } else {
        k
    }
}

/// The list of at most `k` from the first `pool` ranked items; `rank` gives a longer ranking where their groups leave places open.
pub fn list(
    request: &Request,
    k: usize,
    mut pool: usize,
    mut ranked: Vec<(f32, u32)>,
    mut rank: impl FnMut(usize) -> Result<Vec<(f32, u32)>>,
    similarity: impl Fn(u32, u32) -> Result<f32>,
    progress: &dyn Progress,
) -> Result<Vec<(f32, u32)>> {
    // A ranking shorter than asked for is all there is.
    while request.groups.is_some() && ranked.len() == pool && places(request, &ranked) < k {
        pool = pool.saturating_mul(GROWTH);
        ranked = rank(pool)?;
    }
    if request.diversity > 0.0 {
        return diverse(request, k, &ranked, similarity, progress);
    }
    let mut places = request.places();
    ranked.retain(|&(_, item)| places.take(item));
    ranked.truncate(k);
    Ok(ranked)
}

/// How many of the ranked items a list may hold together: the order of choosing does not matter.
fn places(request: &Request, ranked: &[(f32, u32)]) -> usize {
    let mut places = request.places();
    ranked.iter().filter(|&&(_, item)| places.take(item)).count()
}

fn diverse(
    request: &Request,
    k: usize,
    pool: &[(f32, u32)],
    similarity: impl Fn(u32, u32) -> Result<f32>,
    progress: &dyn Progress,
) -> Result<Vec<(f32, u32)>> {
    let (Some(&(best, _)), Some(&(worst, _))) = (pool.first(), pool.last()) else { return Ok(Vec::new()) };
    let (best, worst) = (f64::from(best), f64::from(worst));
    let relevance = |score: f32| if best > worst { (f64::from(score) - worst) / (best - worst) } else { 1.0 };
    let diversity = f64::from(request.diversity);
    // The pool's items that are left, best first, each with its greatest similarity to the list so far.
    let mut left: Vec<((f32, u32), f64)> = pool.iter().map(|&entry| (entry, f64::NEG_INFINITY)).collect();
    let (mut list, mut places, mut compared) = (Vec::new(), request.places(), 0);
    left.retain(|&((_, item), _)| places.is_open(item));
    while list.len() < k {
        let worth = |&((score, _), alike): &((f32, u32), f64)| {
            // The first place has nothing to be unlike.
            let alike = if alike == f64::NEG_INFINITY { 0.0 } else { alike };
            (1.0 - diversity) * relevance(score) - diversity * alike
        };
        let mut next: Option<(usize, f64)> = None;
        for (n, entry) in left.iter().enumerate() {
            let worth = worth(entry);
            // Of equals the better ranked, which comes first.
            if next.is_none_or(|(_, most)| worth > most) {
                next = Some((n, worth));
            }
        }
        let Some((n, _)) = next else { break };
        let ((score, chosen), _) = left.remove(n);
        list.push((score, chosen));
        places.take(chosen);
        left.retain(|&((_, item), _)| places.is_open(item));
        for ((_, item), alike) in &mut left {
            if compared % CHECK_EVERY == 0 {
                progress.check()?;
            }
            compared += 1;
            *alike = alike.max(similarity(*item, chosen)?.into());
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::super::request::Groups;
    use super::*;
    use runtime::progress::Unwatched;

    /// Items 0 and 1 are alike, so are 2 and 3.
    fn alike(a: u32, b: u32) -> Result<f32> {
        Ok(if a / 2 == b / 2 { 0.9 } else { 0.1 })
    }

    fn listed(request: Request, ranked: &[(f32, u32)]) -> Vec<u32> {
        let all = |pool: usize| Ok(ranked[..pool.min(ranked.len())].to_vec());
        let pool = pool(&request, request.k).min(3);
        let list = list(&request, request.k, pool, all(pool).unwrap(), all, alike, &Unwatched).unwrap();
        let scores: std::collections::HashMap<u32, f32> = ranked.iter().map(|&(s, i)| (i, s)).collect();
        assert!(list.iter().all(|(score, item)| scores[item] == *score));
        list.into_iter().map(|(_, item)| item).collect()
    }

    #[test]
    fn diversity_by_hand() {
        let ranked = [(5.0, 0), (4.5, 1), (3.0, 2), (1.0, 3)];
        let with = |diversity: f32| {
            let request = Request { diversity, ..Request::new(4) };
            let found = list(&request, 4, 4, ranked.to_vec(), |_| Ok(vec![]), alike, &Unwatched).unwrap();
            found.into_iter().map(|(_, item)| item).collect::<Vec<_>>()
        };
        assert_eq!(with(0.0), [0, 1, 2, 3]);
        // Relevance 1, 0.875, 0.5, 0. Second place at δ = 0.1: 1 has 0.7875 − 0.09, 2 has 0.45 − 0.01.
        assert_eq!(with(0.1), [0, 1, 2, 3]);
        // δ = 0.5: 1 has 0.4375 − 0.45 = −0.0125, 2 has 0.25 − 0.05 = 0.2; then 1 again −0.0125, 3 has 0 − 0.45.
        assert_eq!(with(0.5), [0, 2, 1, 3]);
        // δ = 1: likeness alone, ties by rank: 2 and 3 are as unlike 0; then 1 and 3 are as like the list.
        assert_eq!(with(1.0), [0, 2, 1, 3]);
    }

    #[test]
    fn equal_scores_keep_their_order_and_an_empty_pool_its_emptiness() {
        let request = Request { diversity: 0.3, ..Request::new(9) };
        assert_eq!(listed(request, &[(1.0, 0), (1.0, 2), (1.0, 4)]), [0, 2, 4]);
        assert!(listed(request, &[]).is_empty());
    }

    #[test]
    fn the_pool_grows_until_its_groups_fill_the_list() {
        let ranked: Vec<(f32, u32)> = (0..40).map(|i| (40.0 - i as f32, i)).collect();
        let group_of: Vec<u32> = (0..40).map(|i| if i < 30 { 0 } else { i }).collect();
        let groups = Some(Groups { group_of: &group_of, max_per_group: 2 });
        assert_eq!(listed(Request { groups, ..Request::new(4) }, &ranked), [0, 1, 30, 31]);
        assert_eq!(listed(Request { groups, ..Request::new(100) }, &ranked).len(), 12);
        // Unlike the first: 2; its own neighbour 1 is the best that is left of the group, which then is full.
        let diverse = listed(Request { groups, diversity: 0.9, ..Request::new(3) }, &ranked);
        assert_eq!(diverse.iter().filter(|&&item| item < 30).count(), 2);
    }
}
