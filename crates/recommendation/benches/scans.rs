//! The best 20 of many items by the inner product of factors, beside a loop with a sort and beside ndarray's products with a selection; one
//! thread each.
//!
//! The factors are iALS's, of Gowalla where it is there and of purchases drawn here: random ones would not do, since the bounds of ours live on
//! what trained factors are like.
#![allow(clippy::unwrap_used, reason = "a benchmark ends at the first error, as a test does")]

#[path = "../../../benches/kernels/compare.rs"]
mod compare;
#[path = "../../../benches/kernels/datasets.rs"]
mod datasets;

use std::ops::Range;

use bytes::Bytes;
use compare::{Comparison, assert_close};
use criterion::{Criterion, criterion_group, criterion_main};
use interactions::{Id, Interactions, InteractionsBuilder};
use kernels::dot::score_rows;
use ndarray::{ArrayView1, ArrayView2, Axis};
use onnx::stored::Files;
use recommendation::{Model, Recommendation, Request, TopK, Training, Who, algorithm, train};
use runtime::draw::{below, uniform};
use runtime::parallel::available_threads;
use runtime::progress::Unwatched;
use serde_json::json;

const ITEMS: usize = 100_000;
const USERS: usize = 4000;
const PURCHASES_PER_USER: usize = 250;
const FACTORS: usize = 64;
const K: usize = 20;
/// Users whose lists are made one after the other, so that no single user's luck counts.
const ALONE: u32 = 8;
/// Users whose lists are made together.
const TOGETHER: u32 = 64;

type List = Vec<(f32, u32)>;

/// Each user buys what is popular, half of it in one of 50 departments.
fn generated() -> Interactions {
    let mut builder = InteractionsBuilder::new();
    for user in 0..USERS {
        for purchase in 0..PURCHASES_PER_USER {
            let place = (user * PURCHASES_PER_USER + purchase) as u64;
            // A tenth of the items has a fifth of the purchases.
            let popular = (f64::from(uniform(1, place)).abs().powf(1.5) * ITEMS as f64) as usize;
            let item = if below(2, place, 2) > 0 { popular / 50 * 50 + user % 50 } else { popular };
            builder.push(Id::Int(user as i64), Id::Int(item.min(ITEMS - 1) as i64), 1.0, None).unwrap();
        }
    }
    (0..ITEMS).for_each(|item| builder.know_item(Id::Int(item as i64)).unwrap());
    builder.finish().unwrap()
}

/// The LightGCN paper's training pairs: a line is a user and its items.
fn gowalla() -> Option<Interactions> {
    let text = datasets::read("gowalla/train.txt.gz")?;
    let mut builder = InteractionsBuilder::new();
    for line in text.lines() {
        let mut numbers = line.split_ascii_whitespace().map(|number| number.parse().unwrap());
        let user = Id::Int(numbers.next()?);
        numbers.for_each(|item| builder.push(user, Id::Int(item), 1.0, None).unwrap());
    }
    Some(builder.finish().unwrap())
}

/// The graph and the data file of iALS.
fn trained(interactions: &Interactions) -> (Bytes, Bytes) {
    let training = Training::new(interactions, available_threads(), &Unwatched);
    let options = json!({"factors": FACTORS, "iterations": 4});
    let trained = train(&training, algorithm("ials").unwrap(), &options).unwrap();
    (trained.onnx.into(), trained.data.into())
}

/// Scores everything and sorts it.
fn naive(factors: &[f32], user: &[f32]) -> List {
    let scores = factors.chunks_exact(user.len()).map(|row| row.iter().zip(user).map(|(x, y)| x * y).sum::<f32>());
    let mut list: List = scores.zip(0..).collect();
    list.sort_by(|a, b| b.0.total_cmp(&a.0));
    list.truncate(K);
    list
}

/// The best of scores by a selection, and only these are sorted.
fn selected(scores: ArrayView1<f32>) -> List {
    let mut list: List = scores.iter().copied().zip(0..).collect();
    list.select_nth_unstable_by(K, |a, b| b.0.total_cmp(&a.0));
    list.truncate(K);
    list.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    list
}

/// What a model without the compressed copy of its factors does: the kernel and the bounded heap, a block at a time.
fn scanned(factors: ArrayView2<f32>, user: &[f32]) -> List {
    const BLOCK: usize = 512;
    let mut top = TopK::new(K);
    let mut scores = [0.0; BLOCK];
    for (block, rows) in factors.axis_chunks_iter(Axis(0), BLOCK).enumerate() {
        let scores = &mut scores[..rows.nrows()];
        score_rows(rows, user, scores);
        for (&score, item) in scores.iter().zip((block * BLOCK) as u32..) {
            if score > top.threshold() {
                top.push(score, item);
            }
        }
    }
    top.into_sorted()
}

fn scores(lists: &[List]) -> Vec<f32> {
    lists.iter().flatten().map(|&(score, _)| score).collect()
}

/// The lists agree where their scores do, and where each item has the score that its factors give it.
fn check(what: &str, ours: &[List], other: &[List], factors: &[f32], users: &[f32]) {
    assert_close(what, &scores(ours), &scores(other), 1e-5);
    for lists in [ours, other] {
        let exact = lists.iter().zip(users.chunks(FACTORS)).flat_map(|(list, user)| {
            list.iter().map(move |&(_, item)| {
                let row = &factors[item as usize * FACTORS..][..FACTORS];
                row.iter().zip(user).map(|(x, y)| x * y).sum::<f32>()
            })
        });
        assert_close(what, &scores(lists), &exact.collect::<Vec<_>>(), 1e-5);
    }
}

fn scans(criterion: &mut Criterion) {
    if let Some(interactions) = gowalla() {
        scan(criterion, "Gowalla", &interactions);
    }
    scan(criterion, "generated", &generated());
}

fn scan(criterion: &mut Criterion, name: &str, interactions: &Interactions) {
    let (graph, data) = trained(interactions);
    let model = Model::open("benchmark", graph.clone(), data.clone()).unwrap();
    let matrix = model.item_factors().unwrap();
    let files = Files::open("benchmark", graph, &data).unwrap();
    let (shape, users) = files.tensor::<f32, 2>("user_factors").unwrap();
    let items = interactions.items();
    assert_eq!((matrix.dim(), shape), ((items, FACTORS), [interactions.users(), FACTORS]));
    let factors = matrix.to_slice().unwrap();
    let of = |some: Range<u32>| &users[some.start as usize * FACTORS..some.end as usize * FACTORS];
    let each =
        |users: Range<u32>, list: &dyn Fn(&[f32]) -> List| of(users).chunks(FACTORS).map(list).collect::<Vec<_>>();
    let request = Request::new(K);
    let listed = |list: Vec<Recommendation>| list.iter().map(|place| (place.score, place.item)).collect::<List>();

    let ours = |users: Range<u32>| {
        users.map(|user| listed(model.recommend(Who::User(user), &request, &Unwatched).unwrap())).collect::<Vec<_>>()
    };
    let plain = |users| each(users, &|user| scanned(matrix, user));
    let loops = |users| each(users, &|user| naive(factors, user));
    let library = |users| each(users, &|user| selected(matrix.dot(&ArrayView1::from(user)).view()));
    let some = 0..ALONE;
    for (what, lists) in
        [("factors alone", plain(some.clone())), ("a loop", loops(some.clone())), ("ndarray", library(some.clone()))]
    {
        check(what, &ours(some.clone()), &lists, factors, of(some.clone()));
    }
    Comparison::new(criterion, "best 20", &format!("{name}, {items} items, {FACTORS} factors, {ALONE} users in turn"))
        .side("ours", turns(interactions.users(), ALONE, ours))
        .side("ours, factors alone", turns(interactions.users(), ALONE, plain))
        .side("loop and sort", turns(interactions.users(), ALONE, loops))
        .side("ndarray and select_nth", turns(interactions.users(), ALONE, library))
        .finish();

    let ours = |users| {
        let lists = model.recommend_block(users, &request, 1, &Unwatched).unwrap();
        lists.into_iter().map(listed).collect::<Vec<_>>()
    };
    let library = |users: Range<u32>| {
        let users = ArrayView2::from_shape((users.len(), FACTORS), of(users)).unwrap();
        users.dot(&matrix.t()).rows().into_iter().map(selected).collect::<Vec<_>>()
    };
    let some = 0..TOGETHER;
    for (what, lists) in [("a loop", loops(some.clone())), ("ndarray", library(some.clone()))] {
        check(what, &ours(some.clone()), &lists, factors, of(some.clone()));
    }
    let size = format!("{name}, {items} items, {FACTORS} factors, {TOGETHER} users together");
    Comparison::new(criterion, "best 20", &size)
        .side("ours", turns(interactions.users(), TOGETHER, ours))
        .side("loop and sort", turns(interactions.users(), TOGETHER, loops))
        .side("ndarray and select_nth", turns(interactions.users(), TOGETHER, library))
        .finish();
}

/// Each call takes the next users, so that what the last ones left in the caches helps no side more than it would in service.
fn turns<T>(users: usize, at_once: u32, lists: impl Fn(Range<u32>) -> T) -> impl FnMut() -> T {
    let mut first = 0;
    move || {
        if first + at_once > users as u32 {
            first = 0;
        }
        first += at_once;
        lists(first - at_once..first)
    }
}

criterion_group!(benches, scans);
criterion_main!(benches);
