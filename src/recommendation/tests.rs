//! One contract that every algorithm keeps.

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::interactions::{Id, Interactions, InteractionsBuilder};
use crate::progress::Unwatched;

fn interactions(rows: impl IntoIterator<Item = (i64, i64, f32)>) -> Interactions {
    let mut builder = InteractionsBuilder::new();
    for (user, item, weight) in rows {
        // Two digits each, so that ids sort as numbers do.
        builder.push(Id::Text(&format!("u{user:03}")), Id::Text(&format!("i{item:03}")), weight, None).unwrap();
    }
    builder.finish().unwrap()
}

/// Users like the items of their own parity; user `u` has not yet seen item `u`.
fn checkerboard(n: i64) -> Vec<(i64, i64, f32)> {
    (0..n).flat_map(|u| (0..n).filter(move |i| i % 2 == u % 2 && *i != u).map(move |i| (u, i, 1.0))).collect()
}

/// Uneven users, items and weights, from a fixed recipe.
fn uneven() -> Vec<(i64, i64, f32)> {
    (0..3000i64)
        .map(|r| {
            let x = crate::linalg::mix(r as u64);
            let user = (x % 97) * (x >> 7 & 1) + x % 13;
            (user as i64, ((x >> 20) % 211 * ((x >> 40) % 211) / 211) as i64, 1.0 + ((x >> 50) % 4) as f32)
        })
        .collect()
}

fn options(algorithm: Algorithm) -> Value {
    match algorithm {
        Algorithm::Ials => json!({"factors": 20, "iterations": 8}),
        Algorithm::Hybrid => {
            let ials = json!({"algorithm": "ials", "options": options(Algorithm::Ials)});
            json!({"components": [ials, "item_knn"], "k": 5})
        }
        Algorithm::NeuMf => json!({"factors": 8, "epochs": 10, "batch_size": 256, "learning_rate": 0.01}),
        _ => json!({}),
    }
}

fn training(interactions: &Interactions, threads: usize) -> Training<'_> {
    Training { interactions, item_features: None, user_features: None, threads, progress: &Unwatched }
}

fn trained_on(data: &Interactions, algorithm: Algorithm) -> Trained {
    train(&training(data, 2), algorithm, &options(algorithm)).unwrap()
}

fn open(trained: &Trained) -> Model {
    Model::open("m", Bytes::copy_from_slice(&trained.onnx), Bytes::copy_from_slice(&trained.data)).unwrap()
}

fn model(rows: Vec<(i64, i64, f32)>, algorithm: Algorithm) -> Model {
    open(&trained_on(&interactions(rows), algorithm))
}

fn recommend(model: &Model, who: Who, k: usize, seen: bool) -> Vec<Recommendation> {
    model.recommend(who, k, Exclude { seen, items: &[] }, &Unwatched).unwrap()
}

fn items(list: &[Recommendation]) -> Vec<u32> {
    list.iter().map(|r| r.item).collect()
}

#[test]
fn blocks_are_recovered() {
    for algorithm in [Algorithm::ItemKnn, Algorithm::Ials, Algorithm::Ease, Algorithm::NeuMf] {
        let m = model(checkerboard(50), algorithm);
        for user in 0..50 {
            let list = recommend(&m, Who::User(user), 1, true);
            assert_eq!((list[0].item, list[0].reason), (user, Reason::Trained), "{algorithm:?}");
            let all = recommend(&m, Who::User(user), 25, false);
            assert!(all.iter().all(|r| r.item % 2 == user % 2), "{algorithm:?}");
            let alike = m.similar_items(user, 24, &Unwatched).unwrap();
            assert!(alike.iter().all(|s| s.item % 2 == user % 2 && s.item != user), "{algorithm:?}");
            assert!(alike.windows(2).all(|w| w[0].score >= w[1].score));
        }
    }
}

#[test]
fn a_batch_gives_the_lists_of_its_users_alone() {
    for algorithm in Algorithm::ALL {
        let m = model(uneven(), algorithm);
        let users = m.user_ids().len() as u32;
        for (k, seen, threads) in [(10, true, 1), (7, false, 3), (1000, true, 2), (0, true, 2)] {
            let lists = m.recommend_block(0..users, k, seen, threads, &Unwatched).unwrap();
            for (user, list) in (0..users).zip(&lists) {
                assert_eq!(*list, recommend(&m, Who::User(user), k, seen), "{algorithm:?} user {user} k {k}");
            }
        }
    }
}

#[test]
fn a_list_has_k_items_while_items_remain_and_none_twice() {
    for algorithm in Algorithm::ALL {
        let m = model(uneven(), algorithm);
        let all = m.item_ids().len();
        for k in [0, 1, 10, all, all + 1, usize::MAX] {
            let mut list = items(&recommend(&m, Who::User(3), k, false));
            assert_eq!(list.len(), k.min(all), "{algorithm:?}");
            list.sort_unstable();
            list.dedup();
            assert_eq!(list.len(), k.min(all), "{algorithm:?}");
            let seen = m.history(3).unwrap().0.len();
            assert_eq!(recommend(&m, Who::User(3), k, true).len(), k.min(all - seen), "{algorithm:?}");
        }
    }
}

#[test]
fn a_new_user_gets_popular_items() {
    for algorithm in Algorithm::ALL {
        let m = model(uneven(), algorithm);
        let popular = model(uneven(), Algorithm::Popularity);
        let expected = items(&recommend(&popular, Who::User(0), 10, false));
        for weights in [&[][..], &[0.0]] {
            let list = recommend(&m, Who::History { items: &[5][..weights.len()], weights }, 10, true);
            assert_eq!(items(&list), expected, "{algorithm:?}");
            assert!(list.iter().all(|r| r.reason == Reason::Popularity));
        }
    }
}

#[test]
fn a_history_given_now_ranks_as_the_same_history_did_in_training() {
    // A trained user of neumf has an embedding of their own, which a history given now cannot have: see the next test.
    for algorithm in Algorithm::ALL.into_iter().filter(|&a| a != Algorithm::NeuMf) {
        let m = model(uneven(), algorithm);
        for user in 0..m.user_ids().len() as u32 {
            let (history, weights) = m.history(user).unwrap();
            let stored = recommend(&m, Who::User(user), 10, true);
            let folded = recommend(&m, Who::History { items: history, weights }, 10, true);
            for (a, b) in stored.iter().zip(&folded) {
                assert!((a.score - b.score).abs() <= 1e-3 * a.score.abs().max(0.01), "{algorithm:?}: {a:?} {b:?}");
            }
            assert!(folded.iter().all(|r| r.reason != Reason::Trained));
        }
    }
}

#[test]
fn a_history_folded_into_neumf_ranks_much_as_it_did_in_training() {
    let m = model(checkerboard(50), Algorithm::NeuMf);
    for user in 0..50 {
        let (history, weights) = m.history(user).unwrap();
        let folded = recommend(&m, Who::History { items: history, weights }, 25, false);
        assert!(folded.iter().all(|r| r.reason == Reason::FoldedIn));
        // By popularity, or by chance, half of them would be of the user's own block.
        let own = folded.iter().filter(|r| r.item % 2 == user % 2).count();
        assert!(own >= 23, "user {user}: {own} of 25");
        let stored = items(&recommend(&m, Who::User(user), 25, false));
        let both = folded.iter().filter(|r| stored.contains(&r.item)).count();
        assert!(both >= 22, "user {user}: {both} of 25");
    }
}

#[test]
fn what_is_excluded_is_never_recommended() {
    for algorithm in Algorithm::ALL {
        let m = model(uneven(), algorithm);
        let denied = [9, 1, 50, 2];
        for user in 0..20 {
            let exclude = Exclude { seen: true, items: &denied };
            let list = m.recommend(Who::User(user), 1000, exclude, &Unwatched).unwrap();
            let (seen, _) = m.history(user).unwrap();
            assert!(list.iter().all(|r| !denied.contains(&r.item) && !seen.contains(&r.item)), "{algorithm:?}");
        }
    }
}

#[test]
fn one_user_with_one_item_is_enough() {
    for algorithm in Algorithm::ALL {
        let m = model(vec![(0, 0, 2.0)], algorithm);
        assert_eq!(items(&recommend(&m, Who::User(0), 5, false)), [0], "{algorithm:?}");
        assert!(recommend(&m, Who::User(0), 5, true).is_empty());
        let many_items = model((0..300).map(|i| (0, i, 1.0)).collect(), algorithm);
        assert_eq!(recommend(&many_items, Who::User(0), 5, false).len(), 5);
        let many_users = model((0..300).map(|u| (u, 0, 1.0)).collect(), algorithm);
        assert_eq!(recommend(&many_users, Who::User(299), 5, false).len(), 1);
    }
}

#[test]
fn an_item_without_weight_exists_and_is_recommended_last() {
    for algorithm in Algorithm::ALL {
        let mut rows = checkerboard(10);
        rows.push((0, 99, 0.0));
        let m = model(rows, algorithm);
        let list = recommend(&m, Who::User(1), 100, false);
        assert_eq!(list.len(), 11, "{algorithm:?}");
        assert!(list.iter().any(|r| r.item == 10));
        assert!(list[0].item != 10);
    }
}

#[test]
fn neither_threads_nor_the_order_of_rows_change_a_byte() {
    let forward = interactions(uneven());
    let backward = interactions(uneven().into_iter().rev());
    for algorithm in Algorithm::ALL {
        let expected = train(&training(&forward, 1), algorithm, &options(algorithm)).unwrap();
        for (data, threads) in [(&forward, 2), (&forward, 7), (&backward, 3)] {
            let other = train(&training(data, threads), algorithm, &options(algorithm)).unwrap();
            assert!(other.onnx == expected.onnx && other.data == expected.data, "{algorithm:?} {threads}");
        }
    }
}

#[test]
fn a_damaged_file_is_an_error_or_a_list_and_never_a_crash() {
    let data = interactions(uneven());
    for algorithm in Algorithm::ALL {
        let whole = trained_on(&data, algorithm);
        let try_all = |onnx: Vec<u8>, data: Vec<u8>| {
            let Ok(m) = Model::open("m", onnx.into(), data.into()) else { return false };
            for user in [0, 5, 96, 10_000] {
                let _ = m.recommend(Who::User(user), 10, Exclude { seen: true, items: &[3] }, &Unwatched);
                let _ = m.similar_items(user, 5, &Unwatched);
            }
            let _ =
                m.recommend(Who::History { items: &[1, 2], weights: &[1.0, 1.0] }, 10, Exclude::default(), &Unwatched);
            let _ = m.recommend_block(0..70, 10, true, 1, &Unwatched);
            let _ = (m.user_ids().find("u005"), m.item_ids().get(3), m.item_ids().find("x"));
            true
        };
        assert!(try_all(whole.onnx.clone(), whole.data.clone()));
        for part in 0..40 {
            let cut = |bytes: &[u8]| bytes[..bytes.len() * part / 40].to_vec();
            assert!(!try_all(cut(&whole.onnx), whole.data.clone()), "{algorithm:?}: graph cut at {part}/40");
            assert!(!try_all(whole.onnx.clone(), cut(&whole.data)), "{algorithm:?}: data cut at {part}/40");
        }
        for flip in 0..400u64 {
            let flipped = |bytes: &[u8], first: usize| {
                let mut bytes = bytes.to_vec();
                let x = crate::linalg::mix(flip);
                // Half of them in the headers, where the damage is greatest.
                let range = if flip % 2 == 0 { bytes.len() } else { first.min(bytes.len()) };
                bytes[x as usize % range] ^= 1 << (x >> 60 & 7);
                bytes
            };
            try_all(flipped(&whole.onnx, 600), whole.data.clone());
            try_all(whole.onnx.clone(), flipped(&whole.data, 3000));
        }
    }
}

#[test]
fn an_opened_model_reads_its_factors_in_place() {
    let whole = trained_on(&interactions(uneven()), Algorithm::Ials);
    // A page-aligned copy, as a memory map is.
    let mut map = memmap2::MmapMut::map_anon(whole.onnx.len()).unwrap();
    map.copy_from_slice(&whole.onnx);
    let onnx = Bytes::from_owner(map);
    let data = Bytes::from(whole.data.clone());
    let files = store::Files::open("m", onnx, &data).unwrap();
    let (_, factors) = files.initializer::<f32, 2>("item_factors").unwrap();
    assert!(factors.is_shared());
    assert_eq!(factors.as_ptr() as usize % 64, 0);
}

#[test]
fn the_scores_of_all_items_are_those_of_the_list() {
    for algorithm in Algorithm::ALL {
        let m = model(uneven(), algorithm);
        for user in [0, 3, 50] {
            let scores = m.score_all(Who::User(user), &Unwatched).unwrap();
            assert_eq!(scores.len(), m.item_ids().len());
            for r in recommend(&m, Who::User(user), 20, true).iter().filter(|r| r.reason == Reason::Trained) {
                let score = scores[r.item as usize];
                assert!((score - r.score).abs() <= 1e-4 * r.score.abs().max(0.1), "{algorithm:?}: {r:?} {score}");
            }
        }
    }
}

#[test]
fn an_explanation_names_the_history_and_its_own_block_carries_the_score() {
    for algorithm in Algorithm::ALL.into_iter().filter(|&a| a != Algorithm::Popularity) {
        let m = model(checkerboard(20), algorithm);
        let mut history = m.history(4).unwrap().0.to_vec();
        history[0] = 1; // one item of the other kind
        history.sort_unstable();
        let weights = vec![1.0; history.len()];
        let who = Who::History { items: &history, weights: &weights };
        let shares = m.explain(who, 4, &Unwatched).unwrap();
        assert_eq!(shares.iter().map(|s| s.item).collect::<std::collections::BTreeSet<_>>().len(), history.len());
        assert!(shares.windows(2).all(|w| w[0].share >= w[1].share), "{algorithm:?}");
        let other = shares.iter().find(|s| s.item == 1).unwrap();
        assert!(shares[0].share > 0.0 && other.share < shares[0].share, "{algorithm:?} {shares:?}");
    }
}

#[test]
fn what_was_turned_down_is_not_recommended() {
    for algorithm in Algorithm::ALL {
        let mut rows = checkerboard(20);
        rows.push((4, 4, -1.0));
        let m = model(rows, algorithm);
        let list = recommend(&m, Who::User(4), 20, true);
        assert!(!items(&list).contains(&4), "{algorithm:?}");
        let alone = recommend(&m, Who::History { items: &[4], weights: &[-1.0] }, 20, true);
        assert_eq!(alone.len(), 19, "{algorithm:?}");
        assert!(!items(&alone).contains(&4), "{algorithm:?}");
    }
}

#[test]
fn histories_that_cannot_be_are_refused() {
    for algorithm in Algorithm::ALL {
        let m = model(checkerboard(10), algorithm);
        for (items, weights) in
            [(&[1, 10][..], &[1.0, 1.0][..]), (&[1], &[]), (&[1], &[f32::NAN]), (&[1], &[f32::INFINITY])]
        {
            let result = m.recommend(Who::History { items, weights }, 3, Exclude::default(), &Unwatched);
            assert!(matches!(result, Err(Error::InvalidArgument { .. })), "{algorithm:?}: {result:?}");
        }
        assert!(m.similar_items(10, 3, &Unwatched).is_err());
    }
}

#[test]
fn unknown_names_are_errors_that_list_the_known() {
    let error = Algorithm::from_name("als").unwrap_err();
    assert!(error.hint().unwrap().contains("popularity, item_knn, ials, ease"));
    let data = interactions(checkerboard(4));
    for algorithm in Algorithm::ALL {
        let error = train(&training(&data, 1), algorithm, &json!({"facters": 8})).err().unwrap();
        assert!(matches!(error, Error::UnknownOption { .. }), "{algorithm:?}");
    }
}

#[test]
fn training_stops_when_it_is_told_to() {
    struct Stop;
    impl crate::progress::Progress for Stop {
        fn check(&self) -> Result<()> {
            Err(Error::Canceled)
        }
    }
    let data = interactions(uneven());
    for algorithm in Algorithm::ALL {
        let result = train(&Training { progress: &Stop, ..training(&data, 2) }, algorithm, &options(algorithm));
        assert!(matches!(result, Err(Error::Canceled)), "{algorithm:?}");
    }
}
