//! Whether a new version may take the place of the one in use: both are asked for what users chose since that one was
//! trained.
//!
//! Of each user's interactions that the version in use has not seen, half are held out, at least one. The version in use is
//! given the rest of the user's history as of now, as it is when it serves; a candidate is trained on everything but what is
//! held out. Both rank the catalogue for the same users, and NDCG at `k` is compared.

use bytes::Bytes;
use serde_json::Value;

use super::model::{Model, Who};
use super::quality::Metric;
use super::request::Request;
use super::training::Training;
use super::{Algorithm, train};
use runtime::draw::mix;
use runtime::error::Result;
use runtime::memory;

/// Users asked for at most: more would change the third digit.
const USERS: usize = 5000;

/// NDCG of both.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judged {
    pub users: usize,
    pub current: f64,
    pub candidate: f64,
}

/// `None` where there is nothing new to judge by.
pub fn judge(
    current: &Model,
    training: &Training,
    algorithm: &dyn Algorithm,
    options: &Value,
    k: usize,
) -> Result<Option<Judged>> {
    let (interactions, progress) = (training.interactions, training.progress);
    let known_item: Vec<Option<u32>> = interactions.item_ids.iter().map(|id| current.item_ids().find(id)).collect();
    let mut held = memory::filled(false, interactions.by_user.entries())?;
    let mut users = Vec::new();
    for user in 0..interactions.users() as u32 {
        if user % 1024 == 0 {
            progress.check()?;
        }
        let seen = match current.user_ids().find(interactions.user_ids.get(user).unwrap_or_default()) {
            Some(known) => current.history(known)?.0,
            None => &[],
        };
        let first = interactions.by_user.indptr[user as usize] as usize;
        let (items, _) = interactions.by_user.row(user as usize);
        let is_new = |item: u32| known_item[item as usize].is_none_or(|i| seen.binary_search(&i).is_err());
        let mut new: Vec<(u64, usize)> = (0..items.len())
            .filter(|&n| is_new(items[n]))
            .map(|n| (mix(mix(u64::from(user)) ^ u64::from(items[n])), n))
            .collect();
        // Something must be left to train on.
        let count = new.len().div_ceil(2).min(items.len() - 1);
        if count > 0 && !new.is_empty() {
            new.sort_unstable();
            new[..count].iter().for_each(|&(_, n)| held[first + n] = true);
            users.push(user);
        }
    }
    users.sort_by_key(|&user| mix(u64::from(user)));
    users.truncate(USERS);
    if users.is_empty() {
        return Ok(None);
    }

    let rest = interactions.keep(|_, entry| !held[entry], progress)?;
    let trained = train(&Training { interactions: &rest, ..*training }, algorithm, options)?;
    let candidate = Model::open("candidate", Bytes::from(trained.onnx), Bytes::from(trained.data))?;
    let ndcg = |ranked: Vec<u32>, relevant: &[u32]| {
        let places = ranked.iter().enumerate().filter(|(_, item)| relevant.contains(item)).map(|(place, _)| place);
        Metric::Ndcg.of(places, relevant.len(), k)
    };
    let (mut of_current, mut of_candidate) = (0.0, 0.0);
    for (n, &user) in users.iter().enumerate() {
        progress.report("users compared", n, users.len());
        let (all, _) = interactions.by_user.row(user as usize);
        let (kept, weights) = rest.by_user.row(user as usize);
        let relevant: Vec<u32> = all.iter().copied().filter(|item| kept.binary_search(item).is_err()).collect();
        let request = Request { exclude_seen: true, ..Request::new(k) };

        let list = candidate.recommend(Who::User(user), &request, progress)?;
        of_candidate += ndcg(list.into_iter().map(|r| r.item).collect(), &relevant);

        let mut history: Vec<(u32, f32)> =
            kept.iter().zip(weights).filter_map(|(&item, &w)| Some((known_item[item as usize]?, w))).collect();
        history.sort_unstable_by_key(|&(item, _)| item);
        let (items, weights): (Vec<u32>, Vec<f32>) = history.into_iter().unzip();
        let list = current.recommend(Who::History { items: &items, weights: &weights }, &request, progress)?;
        let ranked = list.into_iter().map(|r| {
            let id = current.item_ids().get(r.item).unwrap_or_default();
            // No item has this number: one that is gone is no hit.
            interactions.item_ids.find(id).unwrap_or(u32::MAX)
        });
        of_current += ndcg(ranked.collect(), &relevant);
    }
    let mean = |sum: f64| sum / users.len() as f64;
    Ok(Some(Judged { users: users.len(), current: mean(of_current), candidate: mean(of_candidate) }))
}
