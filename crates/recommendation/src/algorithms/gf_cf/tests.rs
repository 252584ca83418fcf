use nalgebra::DMatrix;
use serde_json::json;

use super::*;
use crate::{Model, Who, algorithm};
use interactions::{Id, Interactions, InteractionsBuilder};
use runtime::progress::Unwatched;

fn interactions() -> Interactions {
    let mut builder = InteractionsBuilder::new();
    for r in 0..900 {
        let x = runtime::draw::mix(r);
        let (user, item) = (x % 60, (x >> 20) % 45 * ((x >> 40) % 45) / 45);
        builder.push(Id::Int(100 + user as i64), Id::Int(100 + item as i64), 1.0 + (x >> 62) as f32, None).unwrap();
    }
    builder.know_item(Id::Int(99)).unwrap();
    builder.finish().unwrap()
}

fn model(data: &Interactions, options: &Value) -> Model {
    let training = Training::new(data, 2, &Unwatched);
    let trained = crate::train(&training, algorithm("gf_cf").unwrap(), options).unwrap();
    Model::open("m", trained.onnx.into(), trained.data.into()).unwrap()
}

/// The formula at the top of `mod.rs`, with dense matrices in `f64`; the diagonal of `P` is left out where it stands alone.
fn dense(data: &Interactions, options: &Value, factors: usize) -> DMatrix<f64> {
    let value = |name: &str| options[name].as_f64().unwrap();
    let (users, items) = (data.users(), data.items());
    let mut r = DMatrix::<f64>::zeros(users, items);
    for user in 0..users {
        let (columns, weights) = data.by_user.row(user);
        columns.iter().zip(weights).for_each(|(&i, &w)| r[(user, i as usize)] = f64::from(w).ln_1p() / 2f64.ln());
    }
    let power = |d: f64, e: f64| if d > 0.0 { d.powf(e) } else { 0.0 };
    let of_user: Vec<f64> = (0..users).map(|u| r.row(u).sum()).collect();
    let of_item: Vec<f64> = (0..items).map(|i| r.column(i).sum()).collect();
    let n = DMatrix::from_fn(users, items, |u, i| r[(u, i)] * power(of_user[u], -0.5) * power(of_item[i], -0.5));
    let p = n.transpose() * &n;
    let svd = n.svd(false, true);
    let mut order: Vec<usize> = (0..svd.singular_values.len()).collect();
    order.sort_by(|&a, &b| svd.singular_values[b].total_cmp(&svd.singular_values[a]));
    let vt = svd.v_t.unwrap();
    let v = DMatrix::from_fn(items, factors, |i, k| vt[(order[k], i)]);
    let s2 =
        DMatrix::from_fn(factors, factors, |i, j| if i == j { svd.singular_values[order[i]].powi(2) } else { 0.0 });
    let (alpha, tau) = (value("low_pass_weight"), value("sharpening"));
    let one = DMatrix::<f64>::identity(factors, factors);
    let low = &v * (alpha * (&one - tau * &s2) - tau * &s2 * &s2) * v.transpose();
    let mut filter = p;
    filter.fill_diagonal(0.0);
    let filter = filter + low;
    let (a, b) = (value("input_exponent"), value("output_exponent"));
    let weights = DMatrix::from_fn(items, items, |i, j| filter[(i, j)] * power(of_item[i], -a) * power(of_item[j], b));
    r * weights
}

#[test]
fn scores_are_those_of_the_formula() {
    let data = interactions();
    for (alpha, tau, a, b) in [(0.3, 0.5, 0.5, 0.5), (0.3, 0.0, 0.0, 0.0), (0.0, 0.0, 0.5, 0.2), (0.0, 0.7, 0.4, 0.1)] {
        // Eight wanted of the some forty there are: the last of them only converge slowly.
        let options = json!({
            "factors": 8, "iterations": 60, "low_pass_weight": alpha, "sharpening": tau,
            "input_exponent": a, "output_exponent": b, "neighbours": 500,
        });
        let (m, exact) = (model(&data, &options), dense(&data, &options, 8));
        let largest = exact.amax();
        for user in 0..data.users() {
            let scores = m.score_all(Who::User(user as u32), &Unwatched).unwrap();
            for (item, &score) in scores.iter().enumerate() {
                let miss = (f64::from(score) - exact[(user, item)]).abs();
                assert!(miss < 1e-4 * largest, "{user} {item}: {score} {}", exact[(user, item)]);
            }
        }
    }
}

#[test]
fn shares_add_up_to_the_score_and_similarity_is_the_same_both_ways() {
    let data = interactions();
    let m = model(&data, &json!({"factors": 16}));
    for (user, item) in [(0, 3), (7, 20), (30, 44)] {
        let shares = m.explain(Who::User(user), item, &Unwatched).unwrap();
        let score = m.score_all(Who::User(user), &Unwatched).unwrap()[item as usize];
        let sum: f32 = shares.iter().map(|share| share.share).sum();
        assert!((sum - score).abs() < 1e-5 * score.abs().max(1.0), "{user} {item}: {sum} {score}");
        for other in m.similar_items(item, 5, &Unwatched).unwrap() {
            let back = m.similar_items(other.item, 45, &Unwatched).unwrap();
            let same = back.iter().find(|s| s.item == item).unwrap();
            assert!((same.score - other.score).abs() < 1e-5, "{item} {other:?} {same:?}");
        }
    }
}
