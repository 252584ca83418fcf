//! What a blend promises besides the contract of all algorithms.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::{Model, Request, Trained, Training, Who, train};
use interactions::{Id, Interactions, InteractionsBuilder};
use runtime::draw::mix;
use runtime::error::{Error, Result};
use runtime::progress::Unwatched;

/// Users who like every fourth item, and some noise.
fn interactions() -> Interactions {
    let mut builder = InteractionsBuilder::new();
    for user in 0..200i64 {
        for n in 0..15i64 {
            let x = mix((user * 15 + n) as u64);
            let item = if x.is_multiple_of(3) { (x >> 8) as i64 % 80 } else { (x >> 8) as i64 % 20 * 4 + user % 4 };
            builder.push(Id::Int(1000 + user), Id::Int(100 + item), 1.0, None).unwrap();
        }
    }
    builder.finish().unwrap()
}

fn trained(data: &Interactions, algorithm: &str, options: &Value) -> Result<Trained> {
    train(&Training::new(data, 2, &Unwatched), crate::algorithm(algorithm)?, options)
}

fn open(trained: &Trained) -> Model {
    Model::open("m", Bytes::copy_from_slice(&trained.onnx), Bytes::copy_from_slice(&trained.data)).unwrap()
}

fn ials(seed: u64) -> Value {
    json!({"factors": 8, "iterations": 4, "seed": seed})
}

#[test]
fn scores_are_the_weighted_sum_of_the_components_scaled_scores() {
    let data = interactions();
    let components = json!([
        {"algorithm": "ials", "options": ials(5), "weight": 3},
        {"algorithm": "item_knn", "weight": 1},
        {"algorithm": "item_knn", "options": {"similarity": "cosine"}, "weight": 0},
    ]);
    let blend = trained(&data, "hybrid", &json!({ "components": components })).unwrap();
    assert!(blend.metadata.get("validation").is_none());
    assert_eq!(blend.metadata["components"][0]["weight"], 0.75);
    assert_eq!(blend.metadata["options"]["components"][0]["options"]["weighting"], "log");
    let blend = open(&blend);
    let one = open(&trained(&data, "ials", &ials(5)).unwrap());
    let other = open(&trained(&data, "item_knn", &Value::Null).unwrap());
    for user in 0..data.users() as u32 {
        let scores = |model: &Model| model.score_all(Who::User(user), &Unwatched).unwrap();
        let deviation = |scores: &[f32]| {
            let n = scores.len() as f32;
            let mean = scores.iter().sum::<f32>() / n;
            (scores.iter().map(|s| (s - mean) * (s - mean)).sum::<f32>() / n).sqrt()
        };
        let (blended, one, other) = (scores(&blend), scores(&one), scores(&other));
        for ((blended, a), b) in blended.iter().zip(&one).zip(&other) {
            let expected = 0.75 * a / deviation(&one) + 0.25 * b / deviation(&other);
            assert!((blended - expected).abs() < 1e-4, "{blended} {expected}");
        }
    }
    let alike = blend.similar_items(3, 10, &Unwatched).unwrap();
    assert!(alike.len() == 10 && alike.windows(2).all(|w| w[0].score >= w[1].score));
    assert!(alike.iter().all(|s| s.item != 3 && s.score.abs() <= 1.0), "{alike:?}");
    assert_eq!(blend.similar_users(3, 10, &Unwatched).unwrap().len(), 10);
}

#[test]
fn fitted_weights_are_no_worse_than_the_best_component() {
    let data = interactions();
    for metric in ["ndcg", "recall"] {
        let components = json!([{"algorithm": "ials", "options": ials(1)}, "item_knn"]);
        let options = json!({"components": components, "metric": metric, "k": 5, "holdout": 0.2});
        let metadata = trained(&data, "hybrid", &options).unwrap().metadata;
        let weights: Vec<f64> = (0..2).map(|c| metadata["components"][c]["weight"].as_f64().unwrap()).collect();
        assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-5, "{weights:?}");
        let figure = |name: &str| metadata["validation"][name].as_f64().unwrap();
        assert!(figure("blend") >= figure("best_component") && figure("best_component") > 0.0);
        assert!(figure("users") > 150.0 && metadata["components"][1][metric].is_f64());
    }
}

#[test]
fn a_component_of_no_use_is_not_in_the_model() {
    let data = interactions();
    // One neighbour each against the same with many.
    let poor = json!({"algorithm": "item_knn", "options": {"neighbours": 1}, "weight": 0});
    let options = json!({"components": [poor, {"algorithm": "item_knn", "weight": 2}]});
    let model = trained(&data, "hybrid", &options).unwrap();
    let text = String::from_utf8_lossy(&model.onnx);
    assert!(text.contains("1.neighbours") && !text.contains("0.neighbours"));
    let lists = |trained: &Trained| {
        let list = |user| open(trained).recommend(Who::User(user), &Request::new(10), &Unwatched).unwrap();
        (0..20).map(|user| list(user).into_iter().map(|r| r.item).collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    assert_eq!(lists(&model), lists(&trained(&data, "item_knn", &Value::Null).unwrap()));
}

#[test]
fn scores_that_do_not_differ_say_nothing() {
    use super::ranker::scale;
    assert!((scale(&[1.0, 3.0].repeat(9001)) - 1.0).abs() < 1e-5);
    assert!((scale(&[-801.0, -799.0].repeat(9001)) - 1.0).abs() < 1e-3);
    for same in [&[][..], &[0.0; 5], &[7.3; 10_001], &[f32::NAN; 3]] {
        assert_eq!(scale(same), f32::INFINITY);
    }
}

#[test]
fn the_seed_reaches_the_components_that_have_none() {
    let data = interactions();
    let train = |seed: u64, component: Value| {
        let options = json!({"components": [component], "seed": seed});
        trained(&data, "hybrid", &options).unwrap().metadata["options"]["components"][0]["options"]["seed"].clone()
    };
    assert_eq!(train(9, json!("ials")), 9);
    assert_eq!(train(9, json!({"algorithm": "ials", "options": ials(4)})), 4);
}

#[test]
fn mistakes_are_named_before_anything_is_trained() {
    let data = interactions();
    let fails = |components: Value| trained(&data, "hybrid", &json!({ "components": components })).err().unwrap();
    for components in [json!([]), json!("ials"), json!(["ials", "ials", "ials", "ials", "ials", "ials"])] {
        assert!(fails(components).to_string().starts_with("invalid value for option \"components\": "));
    }
    assert_eq!(fails(json!(["ials", "popularity"])).to_string(), "popularity cannot be a component of hybrid");
    assert_eq!(fails(json!(["ials", "hybrid"])).to_string(), "hybrid cannot be a component of hybrid");
    assert!(matches!(fails(json!(["als"])), Error::UnknownName { .. }));
    assert!(matches!(fails(json!([7])), Error::Invalid { .. }));
    assert!(matches!(fails(json!([{"algorithm": "ials", "weight": -1}])), Error::Invalid { .. }));
    assert!(matches!(fails(json!([{"algorithm": "ials", "weight": 0}])), Error::Invalid { .. }));
    assert!(matches!(fails(json!([{"algorithm": "ials", "weight": 1}, "item_knn"])), Error::Invalid { .. }));
    let wrong = fails(json!([{"algorithm": "ials", "option": {}}]));
    assert!(matches!(wrong, Error::UnknownOption { option, .. } if option == "option"));
    let wrong = fails(json!(["ials", {"algorithm": "item_knn", "options": {"factors": 3}}]));
    assert!(matches!(wrong, Error::UnknownOption { option, of, .. } if option == "factors" && of == "item_knn"));
}
