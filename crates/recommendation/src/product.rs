//! Lists by a graph of one product and two selections, for a device on which that is faster than [`super::scan`].
//!
//! Of a model whose scores are inner products, the graph scores all items for some users and keeps the best of each. They are scored again
//! here as `scan` scores them, so that a list has the same scores and the same order on any device. Where what the device left out might belong
//! into a list, `scan` makes it.

use ndarray::{Array, Array2, ArrayView2, Ix2};

use super::ranker::{Product, Query};
use inner_products::TopK;
use inner_products::{ItemSet, Scored};
use kernels::dot::dot;
use kernels::matrix::{flat, rows_mut};
use onnx::graph::{Axis, GraphBuilder, int_attribute};
use onnx::proto::data_type;
use onnx::runner::{Inputs, Ran, Runner};
use onnx::tensor::Tensor;
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::progress::Progress;

/// Items of which the best are kept before those of all are: a device selects from many short rows in parallel, from a long one step by step.
const GROUP: usize = 2048;
/// Scores of one run: 256 MB.
const MAX_SCORES: usize = 1 << 26;
/// Users of one run.
const MAX_USERS: usize = 512;
/// A list that needs more items than this from the device is made here.
const MAX_KEPT: usize = 1024;
/// More items are kept than a list needs: what follows them shows how exact the device's scores are.
const SLACK: usize = 8;
/// Where fewer than one in so many items may be listed, they are looked up one by one.
const SHARE: usize = 16;

/// Names of the graph's inputs and outputs.
mod names {
    /// float32 [users, d]
    pub const USERS: &str = "users";
    /// bool []: whether scores are divided by the lengths of the items' factors
    pub const BY_COSINE: &str = "by_cosine";
    /// float32 [1] or [groups · GROUP]: is added to the scores, −∞ for what must not be listed
    pub const ALLOWED: &str = "allowed";
    /// int64 [1]: items kept of a group, and of all
    pub const KEPT_OF_GROUP: &str = "kept_of_group";
    pub const KEPT: &str = "kept";
    /// float32 and int64 [users, kept]
    pub const SCORES: &str = "scores";
    pub const ITEMS: &str = "items";
}

/// The graph: `scores = users · item_factorsᵀ`, the best of each group of items, the best of those.
pub fn graph(product: &dyn Product, progress: &dyn Progress) -> Result<Vec<u8>> {
    let factors = product.item_factors();
    let (items, d) = factors.dim();
    let groups = items.div_ceil(GROUP).max(1);
    let padded = groups * GROUP;
    let mut all = memory::matrix(padded, d, 0f32)?;
    all.slice_mut(ndarray::s![..items, ..]).assign(&factors);
    let compared = product.compared().unwrap_or(d);
    let inverse_length = |row: ndarray::ArrayView1<f32>| {
        let row = row.slice(ndarray::s![..compared]);
        let length = row.dot(&row).sqrt();
        if length > 0.0 { 1.0 / length } else { 0.0 }
    };
    let mut inverse_lengths = memory::filled(0f32, padded)?;
    for (n, (to, row)) in inverse_lengths.iter_mut().zip(all.rows()).enumerate() {
        if n % GROUP == 0 {
            progress.check()?;
        }
        *to = inverse_length(row);
    }
    let mut padding = memory::filled(0f32, padded)?;
    padding[items..].fill(f32::NEG_INFINITY);
    let first: Vec<i64> = (0..groups).map(|group| (group * GROUP) as i64).collect();

    let mut g = GraphBuilder::new("product");
    g.input(names::USERS, data_type::FLOAT, &[Axis::Named("users"), Axis::Fixed(d)]);
    g.input(names::BY_COSINE, data_type::BOOL, &[]);
    g.input(names::ALLOWED, data_type::FLOAT, &[Axis::Named("listed")]);
    g.input(names::KEPT_OF_GROUP, data_type::INT64, &[Axis::Fixed(1)]);
    g.input(names::KEPT, data_type::INT64, &[Axis::Fixed(1)]);
    let all = g.matrix("item_factors", all.view());
    let inverse_lengths = g.floats("inverse_lengths", &[padded], &inverse_lengths);
    let padding = g.floats("padding", &[padded], &padding);
    let first = g.int64s("first", &[1, groups, 1], &first);
    let one = g.float("one", 1.0);
    let grouped = g.int64s("grouped", &[3], &[0, groups as i64, GROUP as i64]);
    let row = g.int64s("row", &[2], &[0, -1]);

    let scores = g.node_with("Gemm", &[names::USERS, &all], vec![int_attribute("transB", 1)]);
    let scale = g.node("Where", &[names::BY_COSINE, &inverse_lengths, &one]);
    let scores = g.node("Mul", &[&scores, &scale]);
    let allowed = g.node("Add", &[names::ALLOWED, &padding]);
    let scores = g.node("Add", &[&scores, &allowed]);
    let scores = g.node("Reshape", &[&scores, &grouped]);
    let axis = |axis: i64| vec![int_attribute("axis", axis)];
    g.node_to("TopK", &[&scores, names::KEPT_OF_GROUP], axis(2), &["group_scores", "group_places"]);
    let found = g.node("Add", &["group_places", &first]);
    let found = g.node("Reshape", &[&found, &row]);
    let scores = g.node("Reshape", &["group_scores", &row]);
    g.node_to("TopK", &[&scores, names::KEPT], axis(1), &[names::SCORES, "places"]);
    g.node_to("GatherElements", &[&found, "places"], axis(1), &[names::ITEMS]);
    let kept = [Axis::Named("users"), Axis::Named("kept")];
    g.output(names::SCORES, data_type::FLOAT, &kept);
    g.output(names::ITEMS, data_type::INT64, &kept);
    g.encode()
}

/// The best `k` (score, item) of each query by `device`, which runs [`graph`]; `None` for a list that is to be made by `scan`. All queries have
/// the same `allowed`.
pub fn rank(
    device: &mut dyn Runner,
    product: &dyn Product,
    queries: &[Query],
    k: usize,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Vec<Option<Vec<(f32, u32)>>>> {
    let (items, d) = product.item_factors().dim();
    let allowed = queries.first().and_then(|query| query.allowed);
    let mut lists = vec![None; queries.len()];
    if allowed.is_some_and(|allowed| allowed.len() < items / SHARE) {
        return Ok(lists);
    }
    let wanted = |query: &Query| k.saturating_add(query.excluded.len()).saturating_add(SLACK);
    let mut asked = Vec::new();
    for (q, query) in queries.iter().enumerate().filter(|(_, query)| wanted(query) <= MAX_KEPT) {
        match product.user(query, progress)? {
            Some(user) => asked.push((q, user)),
            None => lists[q] = Some(Vec::new()),
        }
    }
    let allowed = mask(items, allowed)?;
    let parts = || asked.chunks((MAX_SCORES / allowed.len().max(items)).clamp(1, MAX_USERS));
    let runs = parts().map(|part| {
        let mut users = memory::matrix(part.len(), d, 0f32)?;
        rows_mut(users.view_mut()).zip(part).for_each(|(row, (_, user))| row.copy_from_slice(user));
        let kept = part.iter().map(|(q, _)| wanted(&queries[*q])).max().unwrap_or(1);
        inputs(users, false, allowed.clone(), kept, items)
    });
    let runs = runs.collect::<Result<Vec<Inputs>>>()?;
    let found = device.run_each(runs, &[names::SCORES, names::ITEMS], threads, progress)?;
    for (part, ran) in parts().zip(found) {
        let found = Found::read(ran, part.len())?;
        for (row, (q, user)) in part.iter().enumerate() {
            let score = |factors: &[f32]| Some(dot(factors, user));
            lists[*q] = best(product, found.row(row), k, |item| queries[*q].excludes(item), score)?;
        }
    }
    Ok(lists)
}

/// The `k` items of the greatest cosine to `item` by `device`, best first, without itself; `None` if they are to be found by `scan`.
pub fn similar(
    device: &mut dyn Runner,
    product: &dyn Product,
    item: u32,
    k: usize,
    progress: &dyn Progress,
) -> Result<Option<Vec<Scored>>> {
    let factors = product.item_factors();
    let (items, d) = factors.dim();
    let kept = k.saturating_add(1 + SLACK);
    let Some(compared) = product.compared().filter(|_| kept <= MAX_KEPT) else { return Ok(None) };
    let own = row(factors, i64::from(item))?;
    let direction = &own[..compared];
    let length = dot(direction, direction).sqrt();
    if length == 0.0 {
        return Ok(None);
    }
    let mut users = memory::matrix(1, d, 0f32)?;
    users.iter_mut().zip(direction).for_each(|(to, &x)| *to = x / length);
    let run = inputs(users, true, mask(items, None)?, kept, items)?;
    let mut ran = device.run_each(vec![run], &[names::SCORES, names::ITEMS], 1, progress)?;
    let found = Found::read(ran.pop().ok_or_else(unexpected)?, 1)?;
    let score = |other: &[f32]| {
        let other = &other[..compared];
        let product = length * dot(other, other).sqrt();
        // Rows without interactions have no direction.
        (product > 0.0).then(|| dot(direction, other) / product)
    };
    let list = best(product, found.row(0), k, |other| other == item, score)?;
    Ok(list.map(|list| list.into_iter().map(|(score, item)| Scored { item, score }).collect()))
}

/// The input that leaves out what is not allowed.
fn mask(items: usize, allowed: Option<&ItemSet>) -> Result<Array<f32, ndarray::Ix1>> {
    let Some(allowed) = allowed else { return Ok(Array::zeros(1)) };
    let mut mask = memory::filled(f32::NEG_INFINITY, items.div_ceil(GROUP).max(1) * GROUP)?;
    allowed.iter().filter(|&item| (item as usize) < items).for_each(|item| mask[item as usize] = 0.0);
    Ok(Array::from_vec(mask))
}

fn inputs(
    users: Array2<f32>,
    by_cosine: bool,
    allowed: Array<f32, ndarray::Ix1>,
    kept: usize,
    items: usize,
) -> Result<Inputs<'static>> {
    let kept = kept.clamp(1, items.max(1));
    let number = |n: usize| Tensor::from(Array::from_vec(vec![n as i64]));
    Ok(vec![
        (names::USERS, users.into()),
        (names::BY_COSINE, Array::from_elem((), by_cosine).into()),
        (names::ALLOWED, allowed.into()),
        (names::KEPT_OF_GROUP, number(kept.min(GROUP))),
        (names::KEPT, number(kept)),
    ])
}

/// What a run found: both [users, kept].
struct Found {
    scores: Array2<f32>,
    items: Array2<i64>,
}

impl Found {
    fn read((outputs, _): Ran, users: usize) -> Result<Self> {
        let Ok([Tensor::F32(scores), Tensor::I64(items)]) = <[Tensor; 2]>::try_from(outputs) else {
            return Err(unexpected());
        };
        let (scores, items) = (scores.into_dimensionality::<Ix2>()?, items.into_dimensionality::<Ix2>()?);
        if scores.dim() != items.dim() || scores.nrows() != users {
            return Err(unexpected());
        }
        Ok(Self { scores, items })
    }

    /// (score, item) pairs.
    fn row(&self, row: usize) -> impl ExactSizeIterator<Item = (f32, i64)> {
        self.scores.row(row).into_iter().copied().zip(self.items.row(row).into_iter().copied())
    }
}

/// The best `k` of what a device found, by `score`; `None` if an item that it left out may be among them.
fn best(
    product: &dyn Product,
    found: impl ExactSizeIterator<Item = (f32, i64)>,
    k: usize,
    excludes: impl Fn(u32) -> bool,
    score: impl Fn(&[f32]) -> Option<f32>,
) -> Result<Option<Vec<(f32, u32)>>> {
    let factors = product.item_factors();
    let mut are_all = found.len() >= factors.nrows();
    let mut top = TopK::new(k);
    let (mut least, mut error) = (f32::INFINITY, 0f32);
    for (given, item) in found {
        if given == f32::NEG_INFINITY {
            // Nothing else may be listed.
            are_all = true;
            break;
        }
        least = least.min(given);
        if let Some(score) = score(row(factors, item)?) {
            error = error.max((score - given).abs());
            if !excludes(item as u32) {
                top.push(score, item as u32);
            }
        }
    }
    let list = top.into_sorted();
    // What was left out has at most the device's least score: how far that may be from the true one, those that were not show.
    let is_sure = list.len() == k && list.last().is_none_or(|&(last, _)| last > least + 2.0 * error);
    Ok((are_all || is_sure).then_some(list))
}

fn row<'a>(factors: ArrayView2<'a, f32>, item: i64) -> Result<&'a [f32]> {
    let d = factors.ncols();
    usize::try_from(item).ok().and_then(|item| flat(factors).get(item * d..(item + 1) * d)).ok_or_else(unexpected)
}

fn unexpected() -> Error {
    Error::Internal("the graph of a product returned something else".into())
}
