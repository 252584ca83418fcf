use serde_json::json;

use super::*;
use crate::{Model, Request, Trained, Who, algorithm, train};
use interactions::{Id, Interactions, InteractionsBuilder};
use runtime::progress::Unwatched;

/// Users of three kinds, who have most of their kind's items.
fn kinds() -> Interactions {
    let mut builder = InteractionsBuilder::new();
    for (user, item) in (0..60i64).flat_map(|u| (0..45i64).map(move |i| (u, i))) {
        if user % 3 == item % 3 && !runtime::draw::mix((user * 45 + item) as u64).is_multiple_of(4) {
            builder.push(Id::Text(&format!("{user:02}")), Id::Text(&format!("{item:02}")), 1.0, None).unwrap();
        }
    }
    builder.finish().unwrap()
}

fn trained(data: &Interactions, options: Value) -> Result<Trained> {
    train(&Training::new(data, 2, &Unwatched), algorithm("mult_vae")?, &options)
}

#[test]
fn a_user_s_distribution_is_over_the_items_of_their_kind() {
    let options = json!({"factors": 8, "hidden": 16, "epochs": 200, "batch_size": 32, "learning_rate": 0.01});
    let files = trained(&kinds(), options).unwrap();
    let loss = files.metadata["loss"].as_f64().unwrap();
    let m = Model::open("m", files.onnx.into(), files.data.into()).unwrap();
    for user in 0..60 {
        let scores = m.score_all(Who::User(user), &Unwatched).unwrap();
        let total: f32 = scores.iter().map(|s| s.exp()).sum();
        let own: f32 = (0..45).filter(|i| i % 3 == user as usize % 3).map(|i| scores[i].exp()).sum();
        assert!(own / total > 0.95, "user {user}: {}", own / total);
    }
    // 11 choices among 15 items: ln 15 each, were the kind known.
    assert!((11.0 * 15f64.ln()..12.0 * 15f64.ln() + 5.0).contains(&loss), "{loss}");
    let list =
        m.recommend(Who::History { items: &[1, 4], weights: &[1.0, 1.0] }, &Request::new(5), &Unwatched).unwrap();
    assert!(list.iter().all(|r| r.item % 3 == 1), "{list:?}");
    let alike = m.similar_users(7, 19, &Unwatched).unwrap();
    assert!(alike.iter().all(|other| other.item % 3 == 1), "{alike:?}");
}

#[test]
fn a_heavy_pull_towards_the_prior_leaves_popularity() {
    let data = kinds();
    let options =
        json!({"factors": 8, "hidden": 16, "epochs": 60, "batch_size": 32, "learning_rate": 0.01, "beta": 100});
    let files = trained(&data, options).unwrap();
    let m = Model::open("m", files.onnx.into(), files.data.into()).unwrap();
    let (one, other) = (m.score_all(Who::User(0), &Unwatched).unwrap(), m.score_all(Who::User(1), &Unwatched).unwrap());
    assert!(one.iter().zip(&other).all(|(a, b)| (a - b).abs() < 0.2), "{one:?} {other:?}");
}

#[test]
fn a_rate_that_is_too_great_is_an_error_that_says_so() {
    let error = trained(&kinds(), json!({"learning_rate": 1.0, "epochs": 3, "alpha": 1e6, "weighting": "linear"}));
    if let Err(error) = error {
        assert!(error.hint().unwrap().contains("learning_rate"), "{error}");
    }
    assert!(trained(&kinds(), json!({"hidden": 1})).is_err());
    assert!(trained(&kinds(), json!({"dropout": 1})).is_err());
}
