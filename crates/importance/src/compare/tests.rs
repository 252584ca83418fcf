use serde_json::json;

use super::*;
use crate::Task;
use ::interactions::{Id, Interactions, InteractionsBuilder};
use recommendation::{Training, algorithm};
use runtime::error::{Error, Result};
use runtime::options::Options;
use runtime::progress::Unwatched;
use tabular::{ColumnKind, Encoder, EncoderOptions, Labels, Samples, Table, Value};

/// Users who like items of one parity, and every fourth interaction noise.
fn shop() -> (Interactions, Vec<f32>) {
    let mut builder = InteractionsBuilder::new();
    for user in 0..80i64 {
        for n in 0..12i64 {
            let right = (user * 7 + n * n * 3) % 20 * 2 + user % 2;
            let item = if n % 4 == 3 { (user * 31 + n * 17) % 40 } else { right };
            builder.push(Id::Int(user), Id::Int(item), 1.0, None).unwrap();
        }
    }
    let data = builder.finish().unwrap();
    let mut weights = Vec::new();
    for user in 0..data.users() {
        let number = |id: Option<&str>| id.unwrap().parse::<i64>().unwrap();
        let parity = number(data.user_ids.get(user as u32)) % 2;
        let own = data.by_user.row(user).0.iter().map(|&item| number(data.item_ids.get(item)) % 2 == parity);
        weights.extend(own.map(|right| if right { 1.0 } else { 0.0 }));
    }
    (data, weights)
}

/// To be found are the items of a user's own parity that it has not had.
fn compare(weights: &[f32], data: &Interactions, repeats: &Repeats) -> Result<Vec<Comparison>> {
    let number = |id: Option<&str>| id.unwrap().parse::<i64>().unwrap();
    let test = (0..data.users() as u32).map(|user| {
        let had = data.by_user.row(user as usize).0;
        let right = |&item: &u32| number(data.item_ids.get(item)) % 2 == number(data.user_ids.get(user)) % 2;
        (user, (0..data.items() as u32).filter(right).filter(|item| !had.contains(item)).collect())
    });
    let training = Training::new(data, 2, &Unwatched);
    compare_recommenders(
        &training,
        weights,
        Some(&test.collect()),
        algorithm("item_knn").unwrap(),
        &json!({}),
        5,
        repeats,
    )
}

#[test]
fn leaving_noise_out_helps_and_equal_weights_change_nothing() {
    let (data, weights) = shop();
    let repeats = Repeats::new(5, 1, 0.2, 0.95).unwrap();
    let found = compare(&weights, &data, &repeats).unwrap();
    assert_eq!(found.iter().map(|line| line.metric).collect::<Vec<_>>(), ["ndcg", "recall", "hit_rate"]);
    let (low, high) = found[0].interval.unwrap();
    let difference = found[0].weighted - found[0].unweighted;
    assert!(low < difference && difference < high && difference > 0.0, "{found:?}");
    for line in compare(&vec![1.0; weights.len()], &data, &repeats).unwrap() {
        assert_eq!((line.unweighted, line.interval), (line.weighted, Some((0.0, 0.0))));
    }
    assert_eq!(found, compare(&weights, &data, &repeats).unwrap());
}

#[test]
fn weights_that_cannot_be_used_and_odd_repeats_are_errors() {
    let (data, weights) = shop();
    let repeats = Repeats::new(1, 0, 0.2, 0.95).unwrap();
    assert_eq!(compare(&weights, &data, &repeats).unwrap()[0].interval, None);
    for bad in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let error = compare(&vec![bad; weights.len()], &data, &repeats).unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }));
    }
    for (seeds, held_out, confidence) in [(0, 0.2, 0.9), (5, 0.0, 0.9), (5, 0.2, 1.0), (5, f64::NAN, 0.9)] {
        assert!(Repeats::new(seeds, 0, held_out, confidence).is_err());
    }
}

/// A number tells the class; of the first half every third label is wrong.
fn rows() -> (Samples, Vec<f32>) {
    let mut table = Table::new(vec![("x".into(), ColumnKind::Number), ("label".into(), ColumnKind::Category)]);
    let mut weights = Vec::new();
    for row in 0..900u64 {
        let x = runtime::draw::uniform(1, row);
        let wrong = row % 3 == 0;
        table
            .push(
                &[Value::Number(x.into()), Value::Category(if (x > 0.0) != wrong { "up" } else { "down" })],
                String::new,
            )
            .unwrap();
        weights.push(if wrong { 0.0 } else { 1.0 });
    }
    let encoder = Encoder::fit(&table, &["label"], &EncoderOptions::default(), &Unwatched).unwrap();
    let labels = Labels::fit("label", table.column("label").unwrap().1, None).unwrap();
    (Samples { features: encoder.encode(&table, &Unwatched).unwrap(), labels }, weights)
}

#[test]
fn without_the_wrong_labels_trees_are_better_and_threads_change_nothing() {
    let (samples, weights) = rows();
    let repeats = Repeats::new(4, 1, 0.3, 0.95).unwrap();
    let compare = |weights: &[f32], threads| {
        let task = Task { samples: &samples, validation: None, seed: 0, threads, progress: &Unwatched };
        let json = json!({"rounds": 20});
        let mut options = Options::new("boosting", &json).unwrap();
        compare_rows(&task, weights, &mut options, &repeats).unwrap()
    };
    let found = compare(&weights, 2);
    assert_eq!(found.iter().map(|line| line.metric).collect::<Vec<_>>(), ["auc", "accuracy", "f1", "log_loss"]);
    assert!(found[1].weighted >= found[1].unweighted && found[1].weighted > 0.6, "{found:?}");
    assert_eq!(found, compare(&weights, 1));
    for line in compare(&vec![1.0; weights.len()], 2) {
        assert_eq!(line.interval, Some((0.0, 0.0)));
    }
}
