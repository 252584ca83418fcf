use bytes::Bytes;
use ndarray::{Array2, s};
use serde_json::{Value, json};

use super::*;
use crate::train as train_model;
use crate::{Model, Previous, Reason, Request, Who, algorithm};
use interactions::{Features, Id, Interactions, InteractionsBuilder};
use kernels::Csr;
use runtime::draw::mix;
use runtime::progress::Unwatched;

const GROUPS: u64 = 5;

fn number(seed: u64, below: u64) -> u64 {
    (mix(seed) >> 11) % below
}

/// Users who mostly like the items of their own group: user `u` of group `u % 5`, item `i` of group `i % 5`.
fn grouped(users: u64, items: u64, rows: u64, seed: u64) -> Vec<(u64, u64, f32)> {
    let pair = |r: u64| {
        let (user, place) = (number(seed ^ (r << 20), users), number(seed ^ (r << 20 | 1), items / GROUPS));
        let group = if number(seed ^ (r << 20 | 2), 10) == 0 { number(r, GROUPS) } else { user % GROUPS };
        (user, place * GROUPS + group, 1.0 + number(seed ^ (r << 20 | 3), 3) as f32)
    };
    (0..rows).map(pair).collect()
}

fn interactions(rows: &[(u64, u64, f32)], known_items: u64) -> Interactions {
    let mut builder = InteractionsBuilder::new();
    for i in 0..known_items {
        builder.know_item(Id::Text(&format!("i{i:04}"))).unwrap();
    }
    for &(user, item, weight) in rows {
        builder.push(Id::Text(&format!("u{user:04}")), Id::Text(&format!("i{item:04}")), weight, None).unwrap();
    }
    builder.finish().unwrap()
}

fn training(interactions: &Interactions) -> Training<'_> {
    Training::new(interactions, 2, &Unwatched)
}

fn model(training: &Training, options: &Value) -> (Model, f64) {
    let trained = train_model(training, algorithm("ials").unwrap(), options).unwrap();
    let loss = trained.metadata["loss"].as_f64().unwrap();
    (Model::open("m", Bytes::from(trained.onnx), Bytes::from(trained.data)).unwrap(), loss)
}

/// One attribute for each group, one for each item, and vectors that tell the group too.
fn group_features(items: u64) -> Features {
    let mut attributes = Csr { indptr: vec![0], columns: (GROUPS + items) as usize, ..Csr::default() };
    let mut vectors = Vec::new();
    for i in 0..items {
        attributes.indices.extend([(i % GROUPS) as u32, (GROUPS + i) as u32]);
        attributes.values.extend([1.0, 1.0]);
        attributes.indptr.push(attributes.indices.len() as u64);
        vectors.extend((0..3).map(|k| ((i % GROUPS + k) % 4) as f32 / 4.0));
    }
    let vectors = Array2::from_shape_vec((items as usize, 3), vectors).unwrap();
    Features { attributes, vectors, ..Features::default() }
}

#[test]
fn every_solver_reaches_the_same_loss() {
    let data = interactions(&grouped(200, 100, 4000, 1), 0);
    let loss = |solver: &str, block_size: u32| {
        let options = json!({"factors": 24, "iterations": 60, "solver": solver, "block_size": block_size});
        model(&training(&data), &options).1
    };
    let exact = loss("cholesky", 64);
    for (solver, block_size) in [("cg", 64), ("block", 16), ("block", 24), ("block", 500)] {
        let other = loss(solver, block_size);
        assert!((other / exact - 1.0).abs() < 2e-3, "{solver} {block_size}: {other} {exact}");
    }
}

#[test]
fn the_loss_falls_with_every_sweep_of_every_solver() {
    let mut rows = grouped(100, 50, 1500, 2);
    rows.iter_mut().step_by(9).for_each(|row| row.2 *= -1.0);
    let data = interactions(&rows, 55);
    let features = group_features(data.items() as u64);
    for solver in ["cg", "cholesky", "block"] {
        let loss = |iterations: u32| {
            let options = json!({"factors": 10, "iterations": iterations, "solver": solver});
            model(&Training { item_features: Some(&features), ..training(&data) }, &options).1
        };
        let losses: Vec<f64> = [1, 2, 4, 8, 16].map(loss).to_vec();
        assert!(losses.windows(2).all(|w| w[1] < w[0] * 1.0001), "{solver}: {losses:?}");
    }
}

#[test]
fn an_item_without_interactions_is_placed_by_its_features() {
    let known = 60;
    let rows: Vec<_> = grouped(200, 50, 4000, 3);
    let data = interactions(&rows, known);
    let features = group_features(known);
    let options = json!({"factors": 16, "iterations": 12});
    let (plain, _) = model(&training(&data), &options);
    let (m, _) = model(&Training { item_features: Some(&features), ..training(&data) }, &options);
    let factors = m.item_factors().unwrap();
    assert!(plain.item_factors().unwrap().slice(s![50.., ..]).iter().all(|&y| y == 0.0));
    for user in 0..20u32 {
        let name = m.user_ids().get(user).unwrap();
        let group = name[1..].parse::<u64>().unwrap() % GROUPS;
        let scores = m.score_all(Who::User(user), &Unwatched).unwrap();
        let best = (50..60).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap();
        assert_eq!(best as u64 % GROUPS, group, "{name}: {:?}", &scores[50..]);
    }
    // Placed later, they get what they got in training.
    let placed = m.item_factors_from_features(&features).unwrap().unwrap();
    assert_eq!(placed.dim(), factors.dim());
    for (placed, trained) in placed.slice(s![50..60, ..]).iter().zip(factors.slice(s![50..60, ..])) {
        assert!((placed - trained).abs() < 1e-5, "{placed} {trained}");
    }
    assert!(plain.item_factors_from_features(&features).unwrap().is_none());
    let fewer = Features { vectors: Array2::default((0, 0)), ..features };
    assert!(m.item_factors_from_features(&fewer).is_err());
}

#[test]
fn an_item_without_features_or_interactions_stays_at_zero() {
    let data = interactions(&grouped(50, 20, 400, 4), 25);
    let mut features = group_features(25);
    features.attributes.indices.truncate(2 * 24);
    features.attributes.values.truncate(2 * 24);
    *features.attributes.indptr.last_mut().unwrap() = 2 * 24;
    features.vectors.slice_mut(s![24.., ..]).fill(0.0);
    let (m, _) = model(&Training { item_features: Some(&features), ..training(&data) }, &json!({"factors": 8}));
    let factors = m.item_factors().unwrap();
    assert!(factors.row(24).iter().all(|&y| y == 0.0));
    assert!(factors.row(23).iter().any(|&y| y != 0.0));
    assert!(factors.iter().all(|y| y.is_finite()));
}

#[test]
fn what_was_turned_down_pulls_its_neighbours_down() {
    let data = interactions(&grouped(200, 100, 4000, 5), 0);
    let (m, _) = model(&training(&data), &json!({"factors": 16}));
    let (items, weights) = ([0, 5, 11, 16], [1.0, 1.0, 1.0, 1.0]);
    let scores =
        |weights: &[f32]| m.score_all(Who::History { items: &items[..weights.len()], weights }, &Unwatched).unwrap();
    let (without, turned_down) = (scores(&weights[..2]), scores(&[1.0, 1.0, -3.0, -3.0]));
    let mean = |scores: &[f32]| (1..100).step_by(5).map(|i| scores[i]).sum::<f32>() / 20.0;
    assert!(mean(&turned_down) < mean(&without), "{} {}", mean(&turned_down), mean(&without));
    assert!(mean(&turned_down) < mean(&scores(&weights)));
}

#[test]
fn a_history_with_negative_weights_is_folded_in_as_it_was_trained() {
    let mut rows = grouped(100, 50, 1500, 6);
    rows.iter_mut().step_by(4).for_each(|row| row.2 *= -1.0);
    let data = interactions(&rows, 0);
    assert!(data.rejected.entries() > 100);
    for solver in ["cg", "cholesky", "block"] {
        let (m, _) = model(&training(&data), &json!({"factors": 20, "iterations": 6, "solver": solver}));
        for user in 0..m.user_ids().len() as u32 {
            let (items, weights) = m.history(user).unwrap();
            let stored = m.score_all(Who::User(user), &Unwatched).unwrap();
            let folded = m.score_all(Who::History { items, weights }, &Unwatched).unwrap();
            for (a, b) in stored.iter().zip(&folded) {
                assert!((a - b).abs() < 1e-3, "{solver} user {user}: {a} {b}");
            }
        }
    }
}

#[test]
fn the_shares_of_an_explanation_add_up_to_the_score() {
    let data = interactions(&grouped(100, 50, 1500, 7), 0);
    let (m, _) = model(&training(&data), &json!({"factors": 20, "iterations": 6}));
    let (items, weights) = ([0, 5, 7, 22, 30], [1.0, 3.0, 2.0, -2.0, 1.0]);
    let who = Who::History { items: &items, weights: &weights };
    let scores = m.score_all(who, &Unwatched).unwrap();
    for item in 0..50 {
        let shares = m.explain(who, item, &Unwatched).unwrap();
        let sum: f32 = shares.iter().map(|s| s.share).sum();
        let score = scores[item as usize];
        assert!((sum - score).abs() < 1e-4 * score.abs().max(1.0), "{item}: {sum} {score}");
        assert_eq!(shares.iter().find(|s| s.item == 22).unwrap().share, 0.0);
    }
}

#[test]
fn training_goes_on_from_an_earlier_model() {
    let rows = grouped(400, 200, 12_000, 8);
    let earlier = interactions(&rows[..11_400], 0);
    let (options, more) = (json!({"factors": 16, "iterations": 15}), json!({"factors": 16, "iterations": 2}));
    let (m, _) = model(&training(&earlier), &options);
    let mut rows = rows;
    rows.extend((0..40).map(|u| (u, 200, 1.0)));
    let data = interactions(&rows, 0);
    let (full, loss) = model(&training(&data), &options);

    let factors = m.item_factors().unwrap();
    let mut previous = Previous { item_factors: Array2::zeros((data.items(), factors.ncols())) };
    for (item, id) in data.item_ids.iter().enumerate() {
        if let Some(old) = m.item_ids().find(id) {
            previous.item_factors.row_mut(item).assign(&factors.row(old as usize));
        }
    }
    let (warm, warm_loss) = model(&Training { previous: Some(&previous), ..training(&data) }, &more);
    let (_, cold_loss) = model(&training(&data), &more);
    assert!(warm_loss < loss * 1.01, "{warm_loss} {loss}");
    assert!(warm_loss - loss < 0.1 * (cold_loss - loss), "{warm_loss} {cold_loss} {loss}");
    // The new item is known to those it belongs to.
    let new = data.item_ids.find("i0200").unwrap();
    let score = |m: &Model, user: &str| {
        m.score_all(Who::User(m.user_ids().find(user).unwrap()), &Unwatched).unwrap()[new as usize]
    };
    assert!(score(&warm, "u0003") > score(&warm, "u0103") && score(&full, "u0003") > score(&full, "u0103"));
    // Of another width: what fits is used, the rest starts by chance.
    for factors in [8, 24] {
        let options = json!({"factors": factors, "iterations": 2});
        let (_, warm) = model(&Training { previous: Some(&previous), ..training(&data) }, &options);
        assert!(warm < model(&training(&data), &options).1);
    }
}

#[test]
fn whoever_only_turned_something_down_gets_what_is_popular() {
    let mut rows = grouped(50, 20, 400, 9);
    rows.push((77, 3, -1.0));
    let data = interactions(&rows, 0);
    let (m, _) = model(&training(&data), &json!({"factors": 8}));
    let user = m.user_ids().find("u0077").unwrap();
    let list = m.recommend(Who::User(user), &Request { exclude_seen: true, ..Request::new(5) }, &Unwatched).unwrap();
    assert!(list.len() == 5 && list.iter().all(|r| r.reason == Reason::Popularity && r.item != 3));
}
