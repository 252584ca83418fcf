//! A model against held-out interactions, by ranking the whole catalogue for every user.

use super::metrics::{Metrics, RankedUser};
use crate::error::Result;
use crate::progress::Progress;
use crate::recommendation::{Model, Request};

/// Users whose lists are in memory at a time.
const BATCH: usize = 8192;

/// The metrics, and on how many users.
#[derive(Clone, Debug)]
pub struct Evaluation {
    pub users: usize,
    /// See [`Metrics`] for the definitions.
    pub values: Vec<(&'static str, f64)>,
}

/// Ranks for the users of `test` (a stored user's index and the items held out, each once) and compares.
pub fn evaluate_model(
    model: &Model,
    test: &[(u32, Vec<u32>)],
    k: usize,
    exclude_seen: bool,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Evaluation> {
    let mut metrics = Metrics::new(k, model.item_ids().len());
    let request = Request { exclude_seen, ..Request::new(k) };
    for (number, batch) in test.chunks(BATCH).enumerate() {
        progress.report("users evaluated", number * BATCH, test.len());
        let users: Vec<u32> = batch.iter().map(|(user, _)| *user).collect();
        let lists = model.recommend_users(&users, &request, threads, progress)?;
        for ((_, relevant), list) in batch.iter().zip(lists) {
            let ranked: Vec<u32> = list.into_iter().map(|r| r.item).collect();
            metrics.add(RankedUser { ranked: &ranked, relevant });
        }
    }
    progress.report("users evaluated", test.len(), test.len());
    Ok(Evaluation { users: metrics.users(), values: metrics.values() })
}
