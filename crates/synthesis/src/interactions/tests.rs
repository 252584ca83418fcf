use serde_json::json;

use super::neighbors::NearestRows;
use super::registry::AUGMENTATIONS;
use super::scored::{MultVae, Recommender};
use super::*;
use interactions::{Id, Interactions, InteractionsBuilder};
use recommendation::{Model, Training, algorithm, train};
use runtime::error::Error;
use runtime::progress::Unwatched;

/// Users and items of two kinds; users from 40 on have two items, items from 40 on have two users, everybody turned item 0 or 1 down
/// who does not have it.
fn sparse() -> Interactions {
    let mut builder = InteractionsBuilder::new();
    for (user, item) in (0..60i64).flat_map(|u| (0..50i64).map(move |i| (u, i))).filter(|(u, i)| u % 2 == i % 2) {
        let chance = runtime::draw::mix((user * 50 + item) as u64) % 10;
        let few = (user >= 40 || item >= 40) && (item + user / 2) % 20 >= 2;
        if chance < 6 && !few {
            builder
                .push(Id::Text(&format!("{user:02}")), Id::Text(&format!("{item:02}")), 1.0 + (chance % 3) as f32, None)
                .unwrap();
        } else if item < 2 {
            builder.push(Id::Text(&format!("{user:02}")), Id::Text(&format!("{item:02}")), -1.0, None).unwrap();
        }
    }
    builder.finish().unwrap()
}

fn plan(method: &'static dyn Augmentation, options: Value) -> Plan {
    let mut reader = Options::new(method.name(), &options).unwrap();
    let plan = Plan::read(method, &mut reader).unwrap();
    reader.finish().unwrap();
    plan
}

fn small() -> Value {
    json!({"factors": 8, "hidden": 32, "epochs": 300, "batch_size": 20, "learning_rate": 0.01})
}

fn model(data: &Interactions) -> Model {
    let training = Training::new(data, 2, &Unwatched);
    let files = train(&training, algorithm("item_knn").unwrap(), &json!({})).unwrap();
    Model::open("m", files.onnx.into(), files.data.into()).unwrap()
}

/// By every method, with `options`.
fn made(data: &Interactions, options: &Value, n: usize, seed: u64, threads: usize) -> Vec<(&'static str, Vec<Pair>)> {
    let model = model(data);
    let task = Task { interactions: data, model: Some(&model), seed, threads, progress: &Unwatched };
    AUGMENTATIONS
        .map(|method| {
            let mut options = options.clone();
            if method.name() == "mult_vae" {
                options["training"] = small();
            }
            (method.name(), augment(&plan(method, options), &task, n).unwrap())
        })
        .into()
}

#[test]
fn new_pairs_are_of_the_user_s_kind_and_weigh_less_than_any_real_one() {
    let data = sparse();
    for (method, pairs) in made(&data, &json!({"temperature": 0.5}), 100, 3, 2) {
        assert_eq!(pairs.len(), 100, "{method}");
        let fitting = pairs.iter().filter(|pair| pair.user % 2 == pair.item % 2).count();
        // By chance half would, give or take five; sparse users' lists are mostly noise.
        assert!(fitting >= 65, "{method}: {fitting}");
        assert!(pairs.windows(2).all(|two| (two[0].user, two[0].item) < (two[1].user, two[1].item)), "{method}");
        for pair in &pairs {
            let (items, weights) = data.by_user.row(pair.user as usize);
            assert!(items.binary_search(&pair.item).is_err(), "{method} {pair:?}");
            assert!(data.rejected.row(pair.user as usize).0.binary_search(&pair.item).is_err(), "{method} {pair:?}");
            assert!(pair.weight > 0.0 && weights.iter().all(|&w| pair.weight <= 0.3 * w), "{method} {pair:?}");
        }
    }
}

#[test]
fn sparse_users_and_cold_items_get_them_and_others_none() {
    let data = sparse();
    let by_item = data.by_user.transpose(&Unwatched).unwrap();
    // Of each user, or item, that gets any: real ones and new ones.
    let counts = |matrix: &Csr, rows: Vec<u32>| -> Vec<(usize, usize)> {
        let mut new = std::collections::BTreeMap::new();
        rows.into_iter().for_each(|row| *new.entry(row).or_insert(0) += 1);
        new.into_iter().map(|(row, n)| (matrix.row(row as usize).0.len(), n)).collect()
    };
    for (method, pairs) in made(&data, &json!({"max_history": 6, "items": 0}), 50, 3, 2) {
        let counts = counts(&data.by_user, pairs.iter().map(|pair| pair.user).collect());
        assert!(counts.len() > 15 && counts.iter().all(|&(real, new)| real + new <= 6), "{method}: {counts:?}");
    }
    for (method, pairs) in made(&data, &json!({"max_users": 6, "items": 1}), 25, 3, 2) {
        let counts = counts(&by_item, pairs.iter().map(|pair| pair.item).collect());
        assert!(counts.len() > 5 && counts.iter().all(|&(real, new)| real + new <= 6), "{method}: {counts:?}");
    }
}

#[test]
fn the_seed_alone_decides_and_not_the_threads() {
    let data = sparse();
    let expected = made(&data, &json!({}), 80, 5, 1);
    assert_eq!(expected, made(&data, &json!({}), 80, 5, 3));
    let other = made(&data, &json!({}), 80, 6, 2);
    assert!(expected.iter().zip(&other).all(|(a, b)| a.1 != b.1));
}

#[test]
fn no_more_come_than_fit() {
    let data = sparse();
    for (method, pairs) in made(&data, &json!({"max_history": 4, "max_users": 4}), 1_000_000, 5, 2) {
        assert!(!pairs.is_empty() && pairs.len() < 200, "{method}: {}", pairs.len());
    }
    assert!(made(&data, &json!({}), 0, 5, 2).iter().all(|(_, pairs)| pairs.is_empty()));
    let mut builder = InteractionsBuilder::new();
    builder.push(Id::Int(1), Id::Int(2), 1.0, None).unwrap();
    assert!(made(&builder.finish().unwrap(), &json!({}), 10, 5, 2).iter().all(|(_, pairs)| pairs.is_empty()));
}

#[test]
fn the_nearest_users_items_are_weighed_by_their_cosines() {
    let mut builder = InteractionsBuilder::new();
    // User 0 shares two of two items with user 1, who has four, and one of them with user 2, who has two.
    for (user, item) in [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (1, 3), (2, 1), (2, 3), (3, 9)] {
        builder.push(Id::Int(user), Id::Int(item), 1.0, None).unwrap();
    }
    let data = builder.finish().unwrap();
    let task = Task { interactions: &data, model: None, seed: 1, threads: 1, progress: &Unwatched };
    let of = |k: usize| {
        let settings = Settings { neighbors: k, ..Settings::default() };
        NearestRows.open(&settings, &task).unwrap().of_users(&task, &[(0, 5)]).unwrap().remove(0)
    };
    let (near, far) = (2.0 / 8f32.sqrt(), 0.5f32);
    let close = |list: Vec<(f32, u32)>, expected: &[(f32, u32)]| {
        assert!(
            list.len() == expected.len()
                && list.iter().zip(expected).all(|(a, b)| a.1 == b.1 && (a.0 - b.0.ln()).abs() < 1e-6),
            "{list:?}"
        );
    };
    close(of(5), &[(near + far, 3), (near, 2)]);
    close(of(1), &[(near, 2), (near, 3)]);
}

#[test]
fn a_model_that_knows_none_of_the_items_makes_nothing_and_a_missing_one_is_an_error() {
    let data = sparse();
    let mut builder = InteractionsBuilder::new();
    builder.push(Id::Text("x"), Id::Text("y"), 1.0, None).unwrap();
    builder.push(Id::Text("x"), Id::Text("z"), 1.0, None).unwrap();
    let stranger = model(&builder.finish().unwrap());
    let task = Task { interactions: &data, model: Some(&stranger), seed: 1, threads: 2, progress: &Unwatched };
    let plan = plan(&Recommender, json!({}));
    assert!(augment(&plan, &task, 50).unwrap().is_empty());
    let error = augment(&plan, &Task { model: None, ..task }, 50).unwrap_err();
    assert!(error.to_string() == "method \"model\" needs a model" && error.hint().unwrap().contains("model => "));
}

#[test]
fn options_that_cannot_be_are_named() {
    let read = |method: &'static dyn Augmentation, options: Value| {
        let mut reader = Options::new(method.name(), &options)?;
        Plan::read(method, &mut reader).and_then(|_| reader.finish())
    };
    for wrong in [
        json!({"weight": 1}),
        json!({"weight": 0}),
        json!({"temperature": 0}),
        json!({"max_history": 0}),
        json!({"items": 2}),
    ] {
        assert!(read(&MultVae, wrong.clone()).is_err(), "{wrong}");
    }
    assert!(matches!(read(&Recommender, json!({"neighbors": 3})), Err(Error::UnknownOption { .. })));
    let data = sparse();
    let task = Task { interactions: &data, model: None, seed: 1, threads: 2, progress: &Unwatched };
    for (training, name) in [
        (json!(3), "invalid value for option \"training\": 3"),
        (json!({"facters": 1}), "unknown option \"facters\" of mult_vae"),
    ] {
        let error = augment(&plan(&MultVae, json!({"training": training})), &task, 5).unwrap_err();
        assert_eq!(error.to_string(), name);
    }
}
