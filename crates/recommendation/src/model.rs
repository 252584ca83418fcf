//! A trained model, opened for serving from two mapped files.

use std::ops::Range;

use bytes::Bytes;
use ndarray::{Array2, ArrayView2};

use super::algorithm::Algorithm;
use super::product;
use super::ranker::{Contribution, Query, Ranker};
use super::registry;
use super::request::Request;
use super::rerank;
use super::training::Previous;
use inner_products::{ItemSet, Scored};
use interactions::{Features, Interactions};
use onnx::IdTable;
use onnx::runner::Runner;
use onnx::stored::{Files, MappedCsr};
use runtime::error::{Error, Result};
use runtime::mapped::Mapped;
use runtime::parallel::for_each_chunk;
use runtime::progress::{Progress, Unwatched};

/// Users whose items are ranked together in [`Model::recommend_block`].
const TILE: usize = 64;

/// Why an item stands in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The user's trained state.
    Trained,
    /// A history folded in now.
    FoldedIn,
    /// Nothing personal was left to rank by.
    Popularity,
}

impl Reason {
    pub fn name(self) -> &'static str {
        match self {
            Self::Trained => "trained",
            Self::FoldedIn => "folded_in",
            Self::Popularity => "popularity",
        }
    }
}

/// One place of a list. Scores compare within one reason: those of `Popularity` count users.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recommendation {
    pub item: u32,
    pub score: f32,
    pub reason: Reason,
}

/// Whom to recommend to.
#[derive(Clone, Copy, Debug)]
pub enum Who<'a> {
    /// A user of the training, with the factors and the history of then.
    User(u32),
    /// A history given now, folded in.
    History { items: &'a [u32], weights: &'a [f32] },
}

/// An opened model. Opening costs no more than reading the two headers; factors and ids stay in the map.
pub struct Model {
    name: String,
    algorithm: &'static dyn Algorithm,
    options: serde_json::Value,
    user_ids: IdTable,
    item_ids: IdTable,
    history: MappedCsr,
    popularity_order: Mapped<u32>,
    popularity_scores: Mapped<f32>,
    ranker: Box<dyn Ranker>,
}

impl Model {
    /// `name` is for messages. A file that contradicts itself is `Error::DamagedModel`, here or at the first use of the damaged part.
    pub fn open(name: &str, onnx: Bytes, data: Bytes) -> Result<Self> {
        let files = Files::open(name, onnx, &data)?;
        let algorithm = files.metadata("pg_reco.algorithm")?;
        let algorithm =
            registry::algorithm(algorithm).map_err(|_| files.damaged(format!("its algorithm is \"{algorithm}\"")))?;
        let options: serde_json::Value = serde_json::from_str(files.metadata("pg_reco.options")?)
            .map_err(|e| files.damaged(format!("its options cannot be read: {e}")))?;
        let (user_ids, item_ids) = (files.ids("user_ids")?, files.ids("item_ids")?);
        let (users, items) = (user_ids.len(), item_ids.len());
        let history = files.matrix("history", users, items)?;
        let ([ordered], popularity_order) = files.tensor("popularity.order")?;
        let ([scored], popularity_scores) = files.tensor("popularity.scores")?;
        if ordered != items || scored != items || u32::try_from(items.max(users)).is_err() {
            return Err(files.damaged("its popularity does not fit its items"));
        }
        let ranker = algorithm.open(&files, &options, users, items)?;
        let name = name.into();
        Ok(Self { name, algorithm, options, user_ids, item_ids, history, popularity_order, popularity_scores, ranker })
    }

    pub fn algorithm(&self) -> &'static dyn Algorithm {
        self.algorithm
    }

    /// The options it was trained with, defaults included.
    pub fn options(&self) -> &serde_json::Value {
        &self.options
    }

    pub fn user_ids(&self) -> &IdTable {
        &self.user_ids
    }

    pub fn item_ids(&self) -> &IdTable {
        &self.item_ids
    }

    /// [items]: what places the items that the algorithm has nothing to say about.
    pub fn popularity_scores(&self) -> &[f32] {
        &self.popularity_scores
    }

    fn damaged(&self, reason: &str) -> Error {
        Error::DamagedModel { model: self.name.clone(), reason: reason.into() }
    }

    /// The items, ascending, and weights that a user was trained on.
    pub fn history(&self, user: u32) -> Result<(&[u32], &[f32])> {
        let (items, weights) =
            self.history.view().row(user as usize).ok_or_else(|| self.damaged("a user's history cannot be read"))?;
        if items.iter().any(|&i| i as usize >= self.item_ids.len()) {
            return Err(self.damaged("a user's history names an item that does not exist"));
        }
        Ok((items, weights))
    }

    /// The best items, best first: those the algorithm ranks, then the most popular of the rest. A diverse list is in the order of
    /// [`rerank`]; its scores are the algorithm's all the same.
    ///
    /// Shorter than `k` only when no more items may stand in it. Runs on the calling thread.
    pub fn recommend(&self, who: Who, request: &Request, progress: &dyn Progress) -> Result<Vec<Recommendation>> {
        self.recommend_with(None, who, request, progress)
    }

    /// [`recommend`](Self::recommend) by a device that runs [`product_graph`](Self::product_graph), with the same results.
    pub fn recommend_on(
        &self,
        device: &mut dyn Runner,
        who: Who,
        request: &Request,
        progress: &dyn Progress,
    ) -> Result<Vec<Recommendation>> {
        self.recommend_with(Some(device), who, request, progress)
    }

    fn recommend_with(
        &self,
        device: Option<&mut dyn Runner>,
        who: Who,
        request: &Request,
        progress: &dyn Progress,
    ) -> Result<Vec<Recommendation>> {
        let (user, items, weights) = self.resolve(who)?;
        request.check(self.item_ids.len())?;
        let candidates = request.candidates(self.item_ids.len());
        let seen = if request.exclude_seen { seen(items, weights) } else { Vec::new() };
        let query = Query { user, items, weights, excluded: &seen, allowed: candidates.as_deref() };
        let (k, pool) = self.lengths(request, candidates.as_deref());
        let found = self.ranked_on(device, &[query], k, pool, 1, progress)?.pop().flatten();
        let ranked = match found {
            Some(ranked) => ranked,
            None => self.ranker.rank(&query, pool, progress)?,
        };
        self.list(request, &query, k, pool, ranked, progress)
    }

    /// [`recommend`](Self::recommend) for consecutive stored users, on `threads` threads; one list a user, in order.
    pub fn recommend_block(
        &self,
        users: Range<u32>,
        request: &Request,
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<Vec<Vec<Recommendation>>> {
        let users: Vec<u32> = users.collect();
        self.recommend_users(&users, request, threads, progress)
    }

    /// The same for any stored users.
    pub fn recommend_users(
        &self,
        users: &[u32],
        request: &Request,
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<Vec<Vec<Recommendation>>> {
        self.recommend_users_with(None, users, request, threads, progress)
    }

    /// [`recommend_block`](Self::recommend_block) by a device that runs [`product_graph`](Self::product_graph), with the same results.
    pub fn recommend_block_on(
        &self,
        device: &mut dyn Runner,
        users: Range<u32>,
        request: &Request,
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<Vec<Vec<Recommendation>>> {
        let users: Vec<u32> = users.collect();
        self.recommend_users_with(Some(device), &users, request, threads, progress)
    }

    fn recommend_users_with(
        &self,
        device: Option<&mut dyn Runner>,
        users: &[u32],
        request: &Request,
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<Vec<Vec<Recommendation>>> {
        request.check(self.item_ids.len())?;
        let candidates = request.candidates(self.item_ids.len());
        let (k, pool) = self.lengths(request, candidates.as_deref());
        let query = |&user: &u32| {
            let (items, weights) = self.history(user)?;
            let excluded = if request.exclude_seen { items } else { &[] };
            Ok(Query { user: Some(user), items, weights, excluded, allowed: candidates.as_deref() })
        };
        let queries: Vec<Query> = users.iter().map(query).collect::<Result<_>>()?;
        let found = self.ranked_on(device, &queries, k, pool, threads, progress)?;
        let mut lists = vec![Vec::new(); users.len()];
        // Small requests are shared out too; one diverse list takes as long as many others.
        let most = if request.diversity > 0.0 { 1 } else { self.ranker.users_per_tile().clamp(1, TILE) };
        let tile = users.len().div_ceil(threads.max(1)).clamp(1, most);
        for_each_chunk(
            &mut lists,
            tile,
            threads,
            progress,
            || (),
            |(), number, lists| {
                let (queries, found) = (&queries[number * tile..][..lists.len()], &found[number * tile..]);
                let missing = || queries.iter().zip(found).filter(|(_, found)| found.is_none());
                let mut rest =
                    self.ranker.rank_tile(&missing().map(|(q, _)| *q).collect::<Vec<_>>(), pool)?.into_iter();
                for ((list, query), found) in lists.iter_mut().zip(queries).zip(found) {
                    let ranked = found.clone().or_else(|| rest.next()).unwrap_or_default();
                    *list = self.list(request, query, k, pool, ranked, &Unwatched)?;
                }
                Ok(())
            },
        )?;
        Ok(lists)
    }

    /// The `k` items most like `item`, best first, without itself.
    pub fn similar_items(&self, item: u32, k: usize, progress: &dyn Progress) -> Result<Vec<Scored>> {
        self.check_item(item)?;
        self.ranker.similar_items(item, k.min(self.item_ids.len()), progress)
    }

    /// [`similar_items`](Self::similar_items) by a device that runs [`product_graph`](Self::product_graph), with the same results.
    pub fn similar_items_on(
        &self,
        device: &mut dyn Runner,
        item: u32,
        k: usize,
        progress: &dyn Progress,
    ) -> Result<Vec<Scored>> {
        self.check_item(item)?;
        let k = k.min(self.item_ids.len());
        if let Some(product) = self.ranker.product()
            && let Some(similar) = product::similar(device, product, item, k, progress)?
        {
            return Ok(similar);
        }
        self.ranker.similar_items(item, k, progress)
    }

    /// A graph by which a device makes lists; `None` where the scores are no inner products.
    pub fn product_graph(&self, progress: &dyn Progress) -> Result<Option<Vec<u8>>> {
        self.ranker.product().map(|product| product::graph(product, progress)).transpose()
    }

    /// Whether there is a [`product_graph`](Self::product_graph).
    pub fn has_product(&self) -> bool {
        self.ranker.product().is_some()
    }

    /// The rankings by `device`; `None` for those that remain to be made.
    fn ranked_on(
        &self,
        device: Option<&mut dyn Runner>,
        queries: &[Query],
        k: usize,
        pool: usize,
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<Vec<Option<Vec<(f32, u32)>>>> {
        match (device, self.ranker.product()) {
            _ if k == 0 => Ok(vec![Some(Vec::new()); queries.len()]),
            (Some(device), Some(product)) => product::rank(device, product, queries, pool, threads, progress),
            _ => Ok(vec![None; queries.len()]),
        }
    }

    /// The score of every item by the algorithm alone, what is excluded in a list included; 0 where it has nothing to say.
    pub fn score_all(&self, who: Who, progress: &dyn Progress) -> Result<Vec<f32>> {
        let (user, items, weights) = self.resolve(who)?;
        let mut scores = runtime::memory::filled(0f32, self.item_ids.len())?;
        let query = Query { user, items, weights, excluded: &[], allowed: None };
        self.ranker.score_all(&query, &mut scores, progress)?;
        Ok(scores)
    }

    /// What each item of the history carried of `item`'s score, the most first.
    pub fn explain(&self, who: Who, item: u32, progress: &dyn Progress) -> Result<Vec<Contribution>> {
        self.check_item(item)?;
        let (user, items, weights) = self.resolve(who)?;
        let query = Query { user, items, weights, excluded: &[], allowed: None };
        let mut shares = self.ranker.explain(&query, item, self.item_ids.len(), progress)?;
        shares.sort_by(|a, b| b.share.total_cmp(&a.share).then(a.item.cmp(&b.item)));
        Ok(shares)
    }

    /// A user's number, items and weights.
    fn resolve<'a>(&'a self, who: Who<'a>) -> Result<(Option<u32>, &'a [u32], &'a [f32])> {
        match who {
            Who::User(user) => {
                let (items, weights) = self.history(user)?;
                Ok((Some(user), items, weights))
            }
            Who::History { items, weights } => {
                self.check_history(items, weights)?;
                Ok((None, items, weights))
            }
        }
    }

    /// The stored users most like `user`, best first, without themselves.
    pub fn similar_users(&self, user: u32, k: usize, progress: &dyn Progress) -> Result<Vec<Scored>> {
        self.history(user)?;
        let found = self.ranker.similar_users(user, k.min(self.user_ids.len()), progress)?;
        found.ok_or_else(|| Error::Unsupported {
            algorithm: self.algorithm.name(),
            what: "similar users",
            hint: "Train a model with the algorithm ials.".into(),
        })
    }

    /// What was learned of each item, a row each, in the order of [`item_ids`](Self::item_ids).
    pub fn item_factors(&self) -> Option<ArrayView2<'_, f32>> {
        self.ranker.item_factors()
    }

    /// What it learned of the items of `interactions`, for another training to go on from; `None` where its algorithm always begins anew.
    pub fn previous(&self, interactions: &Interactions) -> Result<Option<Previous>> {
        let Some(factors) = self.item_factors() else { return Ok(None) };
        let mut item_factors = runtime::memory::matrix(interactions.items(), factors.ncols(), 0.0)?;
        for (id, mut to) in interactions.item_ids.iter().zip(item_factors.rows_mut()) {
            if let Some(known) = self.item_ids.find(id).filter(|&known| (known as usize) < factors.nrows()) {
                to.assign(&factors.row(known as usize));
            }
        }
        Ok(Some(Previous { item_factors }))
    }

    /// The factors that items with these features, encoded as those of the training, would have, a row each.
    pub fn item_factors_from_features(&self, features: &Features) -> Result<Option<Array2<f32>>> {
        self.ranker.item_factors_from_features(features)
    }

    fn check_item(&self, item: u32) -> Result<()> {
        if (item as usize) < self.item_ids.len() {
            return Ok(());
        }
        Err(Error::argument("item index", item, format!("Model \"{}\" has {} items.", self.name, self.item_ids.len())))
    }

    fn check_history(&self, items: &[u32], weights: &[f32]) -> Result<()> {
        if items.len() != weights.len() {
            let hint = "Give one weight for each item.";
            return Err(Error::invalid(format!("{} weights for {} items", weights.len(), items.len()), hint));
        }
        for (&item, &weight) in items.iter().zip(weights) {
            self.check_item(item)?;
            if !weight.is_finite() {
                let item = self.item_ids.get(item).unwrap_or_default();
                return Err(Error::invalid(
                    format!("weight of item \"{item}\" is not finite: {weight}"),
                    "Give finite numbers as weights.",
                ));
            }
        }
        Ok(())
    }

    /// How many items a list may have, and how many are to be ranked for it.
    fn lengths(&self, request: &Request, candidates: Option<&ItemSet>) -> (usize, usize) {
        let all = candidates.map_or(self.item_ids.len(), |set| set.len().min(self.item_ids.len()));
        let k = request.k.min(all);
        (k, rerank::pool(request, k).min(all))
    }

    /// The list of `k` from the first `pool` of a ranking, filled up with the most popular of the other items.
    fn list(
        &self,
        request: &Request,
        query: &Query,
        k: usize,
        pool: usize,
        ranked: Vec<(f32, u32)>,
        progress: &dyn Progress,
    ) -> Result<Vec<Recommendation>> {
        let longer = |pool: usize| self.ranker.rank(query, pool.min(self.item_ids.len()), progress);
        let similarity = |one, other| self.ranker.similarity(one, other);
        let ranked = rerank::list(request, k, pool, ranked, longer, similarity, progress)?;
        let reason = if query.user.is_some() { Reason::Trained } else { Reason::FoldedIn };
        let mut list: Vec<_> = ranked.into_iter().map(|(score, item)| Recommendation { item, score, reason }).collect();
        if list.len() < k {
            let mut places = request.places();
            let mut ranked: Vec<u32> = list.iter().map(|r| r.item).collect();
            ranked.iter().for_each(|&item| _ = places.take(item));
            ranked.sort_unstable();
            let rest = self.popularity_order.iter().filter_map(|&item| {
                // `None` only in a damaged file.
                let score = *self.popularity_scores.get(item as usize)?;
                let free = !query.excludes(item) && ranked.binary_search(&item).is_err() && places.take(item);
                free.then_some(Recommendation { item, score, reason: Reason::Popularity })
            });
            let missing = k - list.len();
            list.extend(rest.take(missing));
        }
        Ok(list)
    }
}

/// A history's items, ascending, each once. One of weight 0 was not interacted with.
fn seen(items: &[u32], weights: &[f32]) -> Vec<u32> {
    let mut seen: Vec<u32> = items.iter().zip(weights).filter(|&(_, &w)| w != 0.0).map(|(&item, _)| item).collect();
    seen.sort_unstable();
    seen.dedup();
    seen
}
