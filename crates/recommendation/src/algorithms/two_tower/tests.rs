use serde_json::json;

use super::*;
use crate::{Model, Reason, Request, Trained, Who, algorithm, train};
use interactions::{FeatureTable, Id, Interactions, InteractionsBuilder};
use runtime::progress::Unwatched;
use tabular::{ColumnKind, Value};

const KINDS: [&str; 3] = ["茶", "coffee", "cocoa"];

/// Users and items of three kinds; users like the items of their own kind, items from 54 on nobody has had yet.
fn shop() -> (Interactions, Features, Features) {
    let mut builder = InteractionsBuilder::new();
    let mut items = FeatureTable::new(vec![("kind".into(), ColumnKind::Category), ("v".into(), ColumnKind::Vector)]);
    let mut users = FeatureTable::new(vec![("likes".into(), ColumnKind::Category)]);
    let id = |prefix: char, n: usize| format!("{prefix}{n:02}");
    for n in 0..60usize {
        let vector: Vec<f32> = (0..4).map(|k| runtime::draw::uniform(n as u64, k)).collect();
        items.push(Id::Text(&id('i', n)), &[Value::Category(KINDS[n % 3]), Value::Vector(&vector)]).unwrap();
        builder.know_item(Id::Text(&id('i', n))).unwrap();
        users.push(Id::Text(&id('u', n)), &[Value::Category(KINDS[n % 3])]).unwrap();
        builder.know_user(Id::Text(&id('u', n))).unwrap();
        for item in (0..54).filter(|item| item % 3 == n % 3 && (item * 7 + n) % 4 != 0 && n < 57) {
            builder.push(Id::Text(&id('u', n)), Id::Text(&id('i', item)), 1.0, None).unwrap();
        }
    }
    let data = builder.finish().unwrap();
    let encoded = |table: &FeatureTable, ids| Encoder::fit(table, &|| Ok(())).unwrap().encode(table, ids).unwrap();
    let (items, users) = (encoded(&items, &data.item_ids), encoded(&users, &data.user_ids));
    (data, items, users)
}

fn trained(data: &Interactions, items: Option<&Features>, users: Option<&Features>) -> Result<Trained> {
    let options = json!({"factors": 16, "hidden": 32, "epochs": 12, "batch_size": 64, "learning_rate": 0.01});
    let training = Training { item_features: items, user_features: users, ..Training::new(data, 2, &Unwatched) };
    train(&training, algorithm("two_tower")?, &options)
}

fn kinds(model: &Model, who: Who, k: usize, seen: bool) -> Vec<(u32, Reason)> {
    let list = model.recommend(who, &Request { exclude_seen: seen, ..Request::new(k) }, &Unwatched).unwrap();
    list.into_iter().map(|r| (r.item % 3, r.reason)).collect()
}

#[test]
fn items_and_users_who_were_not_there_in_training_are_served_by_their_features() {
    let (data, items, users) = shop();
    let files = trained(&data, Some(&items), Some(&users)).unwrap();
    let m = Model::open("m", files.onnx.into(), files.data.into()).unwrap();
    for user in 0..60 {
        // Those from 57 on have no history: their features alone say what they like.
        let list = kinds(&m, Who::User(user), 10, false);
        assert!(list.iter().all(|&(kind, reason)| kind == user % 3 && reason == Reason::Trained), "{user}: {list:?}");
        let scores = m.score_all(Who::User(user), &Unwatched).unwrap();
        let new = |kind: u32| scores[54 + kind as usize].max(scores[57 + kind as usize]);
        assert!((0..3).all(|kind| kind == user % 3 || new(kind) < new(user % 3)), "{user}: {:?}", &scores[54..]);
    }
    let history = kinds(&m, Who::History { items: &[1, 4], weights: &[1.0, 1.0] }, 10, true);
    assert!(history.iter().all(|&(kind, reason)| kind == 1 && reason == Reason::FoldedIn), "{history:?}");
    // A new item in a history counts too.
    let history = kinds(&m, Who::History { items: &[56], weights: &[1.0] }, 10, true);
    assert!(history.iter().filter(|&&(kind, _)| kind == 2).count() >= 9, "{history:?}");
}

#[test]
fn items_can_be_embedded_later_from_what_the_model_stores() {
    let (data, items, users) = shop();
    let files = trained(&data, Some(&items), Some(&users)).unwrap();
    let (onnx, stored) = (Bytes::from(files.onnx), Bytes::from(files.data));
    let encoder = item_encoder("m", onnx.clone(), &stored).unwrap().unwrap();
    assert_eq!(Some(&encoder), items.encoder.as_deref());
    let mut table = FeatureTable::new(vec![("kind".into(), ColumnKind::Category)]);
    for (n, kind) in KINDS.iter().enumerate() {
        table.push(Id::Int(n as i64), &[Value::Category(kind)]).unwrap();
    }
    let ids = onnx::IdTable::from_sorted(&["0", "1", "2"]);
    let features = encoder.encode(&table, &ids).unwrap();
    let factors = embed_items("m", onnx.clone(), &stored, &features).unwrap();
    let files = Files::open("m", onnx.clone(), &stored).unwrap();
    let known = files.tensor_matrix::<f32>("user_factors").unwrap();
    for user in 0..57 {
        let score = |item: usize| known.view().row(user).dot(&factors.row(item));
        assert!((0..3).all(|kind| kind == user % 3 || score(kind) < score(user % 3)), "{user}");
    }
    assert!(embed_items("m", onnx, &stored, &Features::default()).is_err());
}

#[test]
fn without_features_of_items_the_error_says_where_they_are_given() {
    let (data, items, _) = shop();
    let empty =
        Features { attributes: kernels::Csr { indptr: vec![0; 61], ..Default::default() }, ..Features::default() };
    for features in [None, Some(&empty)] {
        let error = trained(&data, features, None).err().unwrap();
        assert_eq!(error.to_string(), "two_tower needs features of items");
        assert!(error.hint().unwrap().contains("items => "));
    }
    let without_encoder = Features { encoder: None, ..items };
    let files = trained(&data, Some(&without_encoder), None).unwrap();
    assert!(item_encoder("m", files.onnx.into(), &files.data.into()).unwrap().is_none());
}
