//! One contract that every algorithm keeps.

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use interactions::{Features, Id, Interactions, InteractionsBuilder};
use kernels::Csr;
use runtime::error::{Error, Result};
use runtime::progress::Unwatched;

mod device;

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
            let x = runtime::draw::mix(r as u64);
            let user = (x % 97) * (x >> 7 & 1) + x % 13;
            (user as i64, ((x >> 20) % 211 * ((x >> 40) % 211) / 211) as i64, 1.0 + ((x >> 50) % 4) as f32)
        })
        .collect()
}

fn names() -> [&'static str; 11] {
    ALGORITHMS.map(|algorithm| algorithm.name())
}

fn train(training: &Training, algorithm: &str, options: &Value) -> Result<Trained> {
    super::train(training, super::algorithm(algorithm)?, options)
}

fn options(algorithm: &str) -> Value {
    match algorithm {
        "ials" => json!({"factors": 20, "iterations": 8}),
        "hybrid" => {
            let ials = json!({"algorithm": "ials", "options": options("ials")});
            let gf_cf = json!({"algorithm": "gf_cf", "options": options("gf_cf")});
            json!({"components": [ials, "item_knn", gf_cf], "k": 5})
        }
        "neumf" => json!({"factors": 8, "epochs": 10, "batch_size": 256, "learning_rate": 0.01}),
        "mult_vae" => {
            json!({"factors": 8, "hidden": 24, "epochs": 60, "batch_size": 32, "learning_rate": 0.01})
        }
        "bpr" => json!({"factors": 16, "iterations": 30}),
        "lightgcn" => {
            json!({"factors": 16, "batch_size": 128, "epochs": 10, "learning_rate": 0.01, "contrastive_weight": 0.05})
        }
        "two_tower" => {
            json!({"factors": 16, "hidden": 16, "epochs": 8, "batch_size": 128, "learning_rate": 0.02})
        }
        // The checkerboard has two directions; any more would be arbitrary.
        "gf_cf" => json!({"factors": 2, "iterations": 4}),
        _ => json!({}),
    }
}

/// Whether an item's number is even: what those algorithms that need features learn from.
fn parity(interactions: &Interactions) -> Features {
    let even = |id: &str| id.ends_with(['0', '2', '4', '6', '8']);
    let indices: Vec<u32> = interactions.item_ids.iter().map(|id| u32::from(even(id))).collect();
    let indptr = (0..=indices.len() as u64).collect();
    let attributes = Csr { indptr, values: vec![1.0; indices.len()], indices, columns: 2 };
    Features { attributes, ..Features::default() }
}

fn training<'a>(interactions: &'a Interactions, algorithm: &str, threads: usize) -> Training<'a> {
    let training = Training::new(interactions, threads, &Unwatched);
    // Lives as long as the tests, which are short.
    let item_features = || &*Box::leak(Box::new(parity(interactions)));
    Training { item_features: (algorithm == "two_tower").then(item_features), ..training }
}

fn trained_on(data: &Interactions, algorithm: &str) -> Trained {
    train(&training(data, algorithm, 2), algorithm, &options(algorithm)).unwrap()
}

fn open(trained: &Trained) -> Model {
    Model::open("m", Bytes::copy_from_slice(&trained.onnx), Bytes::copy_from_slice(&trained.data)).unwrap()
}

fn model(rows: Vec<(i64, i64, f32)>, algorithm: &str) -> Model {
    open(&trained_on(&interactions(rows), algorithm))
}

fn recommend(model: &Model, who: Who, k: usize, seen: bool) -> Vec<Recommendation> {
    model.recommend(who, &Request { exclude_seen: seen, ..Request::new(k) }, &Unwatched).unwrap()
}

fn items(list: &[Recommendation]) -> Vec<u32> {
    list.iter().map(|r| r.item).collect()
}

#[test]
fn blocks_are_recovered() {
    for algorithm in names().into_iter().filter(|&a| !matches!(a, "popularity" | "hybrid")) {
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
    for algorithm in names() {
        let m = model(uneven(), algorithm);
        let users = m.user_ids().len() as u32;
        for (k, seen, threads) in [(10, true, 1), (7, false, 3), (1000, true, 2), (0, true, 2)] {
            let lists = m
                .recommend_block(0..users, &Request { exclude_seen: seen, ..Request::new(k) }, threads, &Unwatched)
                .unwrap();
            for (user, list) in (0..users).zip(&lists) {
                assert_eq!(*list, recommend(&m, Who::User(user), k, seen), "{algorithm:?} user {user} k {k}");
            }
        }
    }
}

#[test]
fn a_list_has_k_items_while_items_remain_and_none_twice() {
    for algorithm in names() {
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
    for algorithm in names() {
        let m = model(uneven(), algorithm);
        let popular = model(uneven(), "popularity");
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
    for algorithm in names().into_iter().filter(|&a| a != "neumf") {
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
    let m = model(checkerboard(50), "neumf");
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
fn users_with_factors_of_their_own_get_mostly_what_their_history_folded_in_gets() {
    // Six kinds of users and items; a third of each kind's pairs are missing, and one pair in forty is of another kind.
    let pairs = (0..120i64).flat_map(|u| (0..120i64).map(move |i| (u, i)));
    let chosen = pairs.filter(|&(u, i)| {
        let x = runtime::draw::mix((u * 120 + i) as u64);
        if u % 6 == i % 6 { !x.is_multiple_of(3) } else { x.is_multiple_of(40) }
    });
    let rows: Vec<_> = chosen.map(|(u, i)| (u, i, 1.0)).collect();
    let popular = model(rows.clone(), "popularity");
    {
        let algorithm = "lightgcn";
        let options =
            json!({"factors": 16, "batch_size": 128, "epochs": 20, "learning_rate": 0.01, "contrastive_weight": 0});
        let data = interactions(rows.clone());
        let m = open(&train(&training(&data, algorithm, 2), algorithm, &options).unwrap());
        let (mut folded_in, mut by_popularity) = (0, 0);
        for user in 0..120 {
            let (history, weights) = m.history(user).unwrap();
            let stored = items(&recommend(&m, Who::User(user), 6, true));
            let common = |list: Vec<Recommendation>| items(&list).iter().filter(|i| stored.contains(i)).count();
            folded_in += common(recommend(&m, Who::History { items: history, weights }, 6, true));
            by_popularity += common(recommend(&popular, Who::User(user), 6, true));
        }
        assert!(folded_in > 120 * 6 * 2 / 3, "{algorithm:?}: {folded_in} of 720");
        assert!(folded_in > 3 * by_popularity, "{algorithm:?}: {folded_in} {by_popularity}");
    }
}

#[test]
fn what_is_excluded_is_never_recommended() {
    for algorithm in names() {
        let m = model(uneven(), algorithm);
        let denied = [9, 1, 50, 2];
        for user in 0..20 {
            let request = Request { exclude_seen: true, denied: &denied, ..Request::new(1000) };
            let list = m.recommend(Who::User(user), &request, &Unwatched).unwrap();
            let (seen, _) = m.history(user).unwrap();
            assert!(list.iter().all(|r| !denied.contains(&r.item) && !seen.contains(&r.item)), "{algorithm:?}");
        }
    }
}

/// Requests of every kind, over 211 items.
fn with_requests(check: impl Fn(&Request)) {
    let group_of: Vec<u32> = (0..211).map(|item| if item % 5 == 0 { Groups::NONE } else { item % 7 }).collect();
    let set = |keep: &dyn Fn(u32) -> bool| {
        let mut set = ItemSet::new(211);
        (0..211).filter(|&item| keep(item)).for_each(|item| set.insert(item));
        set
    };
    let (most, few, none) = (set(&|item| item % 10 != 3), set(&|item| item % 40 == 1), set(&|_| false));
    for allowed in [None, Some(&most), Some(&few), Some(&none)] {
        for denied in [&[][..], &[7, 200, 1, 7, 9999]] {
            for max_per_group in [None, Some(0), Some(1), Some(3), Some(1000)] {
                for diversity in [0.0, 0.4, 1.0] {
                    for (k, exclude_seen) in [(6, true), (0, true), (usize::MAX, false)] {
                        let groups = max_per_group.map(|max_per_group| Groups { group_of: &group_of, max_per_group });
                        check(&Request { k, exclude_seen, denied, allowed, diversity, groups });
                    }
                }
            }
        }
    }
}

/// The items that may stand in a list for a user with this history, and how many of them may do so together.
fn permitted(model: &Model, request: &Request, history: &[u32]) -> (Vec<u32>, usize) {
    let all = 0..model.item_ids().len() as u32;
    let allowed = |item: &u32| {
        request.allowed.is_none_or(|set| set.contains(*item))
            && !request.denied.contains(item)
            && !(request.exclude_seen && history.contains(item))
    };
    let items: Vec<u32> = all.filter(allowed).collect();
    let mut taken = std::collections::BTreeMap::new();
    for &item in &items {
        let group = request.groups.map_or(Groups::NONE, |groups| groups.group_of[item as usize]);
        *taken.entry(group).or_insert(0usize) += 1;
    }
    let most = request.groups.map_or(usize::MAX, |groups| groups.max_per_group);
    let together = taken.iter().map(|(&group, &n)| if group == Groups::NONE { n } else { n.min(most) }).sum();
    (items, together)
}

#[test]
fn a_list_keeps_to_its_request_and_is_as_long_as_that_allows() {
    for algorithm in names() {
        let mut rows = uneven();
        rows.extend((0..211).map(|item| (0, item, 1.0)));
        let m = model(rows, algorithm);
        assert_eq!(m.item_ids().len(), 211);
        let shorter = (&[4u32, 9, 14][..], &[1.0f32, 2.0, 1.0][..]);
        with_requests(|request| {
            for who in [Who::User(3), Who::History { items: shorter.0, weights: shorter.1 }] {
                let history = if let Who::User(user) = who { m.history(user).unwrap().0 } else { shorter.0 };
                let list = m.recommend(who, request, &Unwatched).unwrap();
                let (permitted, together) = permitted(&m, request, history);
                assert_eq!(list.len(), request.k.min(together), "{algorithm:?} {request:?}");
                let mut found = items(&list);
                assert!(found.iter().all(|item| permitted.contains(item)), "{algorithm:?} {request:?}");
                if let Some(groups) = request.groups {
                    let of = |group: u32| found.iter().filter(|&&i| groups.group_of[i as usize] == group).count();
                    assert!((0..7).all(|group| of(group) <= groups.max_per_group), "{algorithm:?} {request:?}");
                }
                found.sort_unstable();
                found.dedup();
                assert_eq!(found.len(), list.len(), "{algorithm:?} {request:?}");
            }
        });
    }
}

#[test]
fn a_batch_keeps_to_its_request_as_its_users_alone_do() {
    for algorithm in names() {
        let mut rows = uneven();
        rows.extend((0..211).map(|item| (0, item, 1.0)));
        let m = model(rows, algorithm);
        with_requests(|request| {
            let lists = m.recommend_users(&[0, 3, 60, 3, 5], request, 2, &Unwatched).unwrap();
            for (user, list) in [0, 3, 60, 3, 5].into_iter().zip(lists) {
                assert_eq!(
                    list,
                    m.recommend(Who::User(user), request, &Unwatched).unwrap(),
                    "{algorithm:?} {request:?}"
                );
            }
        });
    }
}

#[test]
fn a_diverse_list_begins_with_the_best_and_names_items_less_alike() {
    let m = model(checkerboard(40), "ials");
    // Some of both kinds: the lists of one kind come first, and diversity mixes them.
    let who = Who::History { items: &[0, 2, 4, 6, 1], weights: &[1.0; 5] };
    let listed = |diversity: f32| {
        let request = Request { exclude_seen: true, diversity, ..Request::new(8) };
        m.recommend(who, &request, &Unwatched).unwrap()
    };
    let (plain, diverse) = (listed(0.0), listed(0.7));
    let odd = |list: &[Recommendation]| list.iter().position(|r| r.item % 2 == 1);
    assert_eq!(plain[0], diverse[0]);
    assert!(odd(&diverse) < odd(&plain), "{plain:?} {diverse:?}");
    // The score stays the algorithm's.
    let scores = m.score_all(who, &Unwatched).unwrap();
    assert!(diverse.iter().all(|r| (scores[r.item as usize] - r.score).abs() < 1e-5));
}

#[test]
fn the_histories_of_new_users_are_folded_in_and_filled_up_with_popular_items() {
    for algorithm in names().into_iter().filter(|&a| a != "popularity") {
        let m = model(checkerboard(50), algorithm);
        for history in [&[4u32][..], &[4, 8, 20]] {
            let who = Who::History { items: history, weights: &vec![1.0; history.len()] };
            let list = recommend(&m, who, 50, true);
            assert_eq!(list.len(), 50 - history.len(), "{algorithm:?}");
            let fitting = list[..10].iter().filter(|r| r.reason == Reason::FoldedIn && r.item % 2 == 0).count();
            assert!(fitting > 6, "{algorithm:?} {list:?}");
            let folded = list.iter().take_while(|r| r.reason == Reason::FoldedIn).count();
            assert!(list[folded..].iter().all(|r| r.reason == Reason::Popularity), "{algorithm:?}");
        }
    }
}

#[test]
fn one_user_with_one_item_is_enough() {
    for algorithm in names() {
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
    for algorithm in names() {
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
    for algorithm in names() {
        let expected = train(&training(&forward, algorithm, 1), algorithm, &options(algorithm)).unwrap();
        for (data, threads) in [(&forward, 2), (&forward, 7), (&backward, 3)] {
            let other = train(&training(data, algorithm, threads), algorithm, &options(algorithm)).unwrap();
            assert!(other.onnx == expected.onnx && other.data == expected.data, "{algorithm:?} {threads}");
        }
    }
}

#[test]
fn a_damaged_file_is_an_error_or_a_list_and_never_a_crash() {
    let data = interactions(uneven());
    for algorithm in names() {
        let whole = trained_on(&data, algorithm);
        let try_all = |onnx: Vec<u8>, data: Vec<u8>| {
            let Ok(m) = Model::open("m", onnx.into(), data.into()) else { return false };
            let request = Request { exclude_seen: true, denied: &[3], ..Request::new(10) };
            for user in [0, 5, 96, 10_000] {
                let _ = m.recommend(Who::User(user), &request, &Unwatched);
                let _ = m.similar_items(user, 5, &Unwatched);
            }
            let _ = m.recommend(Who::History { items: &[1, 2], weights: &[1.0, 1.0] }, &Request::new(10), &Unwatched);
            let _ = m.recommend_block(0..70, &request, 1, &Unwatched);
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
                let x = runtime::draw::mix(flip);
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
    let whole = trained_on(&interactions(uneven()), "ials");
    // A page-aligned copy, as a memory map is.
    let mut map = memmap2::MmapMut::map_anon(whole.onnx.len()).unwrap();
    map.copy_from_slice(&whole.onnx);
    let onnx = Bytes::from_owner(map);
    let data = Bytes::from(whole.data.clone());
    let files = onnx::stored::Files::open("m", onnx, &data).unwrap();
    let (_, factors) = files.initializer::<f32, 2>("item_factors").unwrap();
    assert!(factors.is_shared());
    assert_eq!(factors.as_ptr() as usize % 64, 0);
}

#[test]
fn the_scores_of_all_items_are_those_of_the_list() {
    for algorithm in names() {
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
    for algorithm in names().into_iter().filter(|&a| a != "popularity") {
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
    for algorithm in names() {
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
    for algorithm in names() {
        let m = model(checkerboard(10), algorithm);
        for (items, weights) in
            [(&[1, 10][..], &[1.0, 1.0][..]), (&[1], &[]), (&[1], &[f32::NAN]), (&[1], &[f32::INFINITY])]
        {
            let result = m.recommend(Who::History { items, weights }, &Request::new(3), &Unwatched);
            assert!(matches!(result, Err(Error::Invalid { .. })), "{algorithm:?}: {result:?}");
        }
        assert!(m.similar_items(10, 3, &Unwatched).is_err());
    }
}

#[test]
fn popularity_fades_by_half_in_each_half_life() {
    const DAY: i64 = 24 * 3600 * 1_000_000;
    let mut builder = InteractionsBuilder::new();
    // "old" has three users of 20 days ago, "new" one of now and one of 10 days ago.
    let rows = [("a", "old", -20), ("b", "old", -20), ("c", "old", -20), ("a", "new", 0), ("b", "new", -10)];
    for (user, item, days) in rows {
        builder.push(Id::Text(user), Id::Text(item), 2.0, Some(700 * DAY + days * DAY)).unwrap();
    }
    let data = builder.finish().unwrap();
    let scores = |options: Value| {
        let trained = train(&training(&data, "popularity", 1), "popularity", &options).unwrap();
        let list = recommend(&open(&trained), Who::User(0), 2, false);
        list.iter().map(|r| (["new", "old"][r.item as usize], r.score)).collect::<Vec<_>>()
    };
    assert_eq!(scores(json!({})), [("old", 3.0), ("new", 2.0)]);
    assert_eq!(scores(json!({"half_life": null})), [("old", 3.0), ("new", 2.0)]);
    assert_eq!(scores(json!({"half_life": 10})), [("new", 1.5), ("old", 0.75)]);
    assert_eq!(scores(json!({"half_life": 20, "count": "weight"})), [("new", 2.0 + 2f32.sqrt()), ("old", 3.0)]);
    // A time so far back that its weight is 0.
    assert_eq!(scores(json!({"half_life": 0.001})), [("new", 1.0), ("old", 0.0)]);

    let timeless = interactions(checkerboard(4));
    let error = train(&training(&timeless, "popularity", 1), "popularity", &json!({"half_life": 10})).err().unwrap();
    assert!(matches!(&error, Error::MissingColumn { column, .. } if column == "ts"), "{error}");
    builder = InteractionsBuilder::new();
    builder.push(Id::Text("a"), Id::Text("x"), 1.0, Some(DAY)).unwrap();
    builder.push(Id::Text("b"), Id::Text("x"), 1.0, None).unwrap();
    let error = train(&training(&builder.finish().unwrap(), "popularity", 1), "popularity", &json!({"half_life": 10}));
    assert!(error.is_err_and(|e| e.to_string().contains("half_life")));
    for wrong in [json!(0), json!(-1), json!("week")] {
        assert!(train(&training(&data, "popularity", 1), "popularity", &json!({"half_life": wrong})).is_err());
    }
}

#[test]
fn unknown_names_are_errors_that_list_the_known() {
    let error = algorithm("als").unwrap_err();
    assert!(error.hint().unwrap().contains(&names().join(", ")));
    let data = interactions(checkerboard(4));
    for algorithm in names() {
        let error = train(&training(&data, algorithm, 1), algorithm, &json!({"facters": 8})).err().unwrap();
        assert!(matches!(error, Error::UnknownOption { .. }), "{algorithm:?}");
    }
}

#[test]
fn training_stops_when_it_is_told_to() {
    struct Stop;
    impl runtime::progress::Progress for Stop {
        fn check(&self) -> Result<()> {
            Err(Error::Canceled)
        }
    }
    let data = interactions(uneven());
    for algorithm in names() {
        let result =
            train(&Training { progress: &Stop, ..training(&data, algorithm, 2) }, algorithm, &options(algorithm));
        assert!(matches!(result, Err(Error::Canceled)), "{algorithm:?}");
    }
}

/// The share of items of the users' own parity among the five best that they have not had.
fn own_parity(trained: &Trained) -> f64 {
    let model = open(trained);
    let number = |id: Option<&str>| id.unwrap()[1..].parse::<u32>().unwrap();
    let users = 0..model.user_ids().len() as u32;
    let lists = users.map(|user| {
        let list = model.recommend(Who::User(user), &Request::new(5), &Unwatched).unwrap();
        let own =
            list.iter().filter(|r| number(model.item_ids().get(r.item)) % 2 == number(model.user_ids().get(user)) % 2);
        own.count() as f64 / list.len().max(1) as f64
    });
    let lists: Vec<f64> = lists.collect();
    lists.iter().sum::<f64>() / lists.len() as f64
}

#[test]
fn interactions_of_little_weight_count_little() {
    let drawn = |u: i64, i: i64, salt: u64| runtime::draw::mix((u * 100 + i) as u64 ^ salt << 32);
    let rows = |noise: f32| {
        let pairs = (0..40).flat_map(|u| (0..40).map(move |i| (u, i)));
        let rows = pairs.filter_map(move |(u, i)| match (u % 2 == i % 2, drawn(u, i, 1) % 10) {
            (true, 0..4) => Some((u, i, 1.0)),
            (false, 0..4) => Some((u, i, noise)),
            _ => None,
        });
        interactions(rows)
    };
    for algorithm in names().into_iter().filter(|&algorithm| algorithm != "popularity") {
        let [equal, weighted] = [1.0, 0.02].map(|noise| own_parity(&trained_on(&rows(noise), algorithm)));
        // What LightGCN propagates over counts every pair alike; only the steps are weighted.
        let least = if algorithm == "lightgcn" { 0.0 } else { 0.1 };
        assert!(weighted > equal + least, "{}: {equal} {weighted}", algorithm);
    }
}
