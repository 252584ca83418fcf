use std::cell::Cell;
use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use kernels::Csr;
use runtime::draw::{below, mix};
use runtime::error::{Error, Result};
use runtime::options::Options;
use runtime::progress::{Progress, Unwatched};

fn matrix(users: usize, items: usize, chosen: impl Fn(usize, usize) -> bool) -> Csr {
    let mut m = Csr { indptr: vec![0], columns: items, ..Csr::default() };
    for user in 0..users {
        m.indices.extend((0..items as u32).filter(|&item| chosen(user, item as usize)));
        m.indptr.push(m.indices.len() as u64);
    }
    m.values = vec![1.0; m.indices.len()];
    m
}

fn random(users: usize, items: usize, one_of: u64) -> Csr {
    matrix(users, items, |u, i| mix((u * items + i) as u64).is_multiple_of(one_of))
}

/// Users and items of two colours; one pair in ten is of two colours.
fn checkerboard() -> (Csr, Vec<bool>) {
    let m = matrix(80, 60, |u, i| {
        let chance = mix((u * 60 + i) as u64) % 100;
        if u % 2 == i % 2 { chance < 40 } else { chance < 4 }
    });
    let strange = pairs(&m).map(|(u, i)| u % 2 != i % 2).collect();
    (m, strange)
}

fn pairs(m: &Csr) -> impl Iterator<Item = (usize, usize)> {
    (0..m.rows()).flat_map(|u| m.row(u).0.iter().map(move |&i| (u, i as usize)))
}

fn names() -> impl Iterator<Item = &'static str> {
    Method::ALL.iter().map(|method| method.name())
}

fn scores(method: &str, m: &Csr, held_out: Option<&[(u32, u32)]>, options: Value, threads: usize) -> Result<Vec<f64>> {
    let method = Method::from_name(method)?;
    let mut options = Options::new(method.name(), &options)?;
    let plan = method.plan(&mut options)?;
    options.finish()?;
    plan.score(&Task { by_user: m, held_out, threads, progress: &Unwatched })
}

fn auc(scores: &[f64], strange: &[bool]) -> f64 {
    let (mut right, mut all) = (0.0, 0.0);
    for (a, _) in scores.iter().zip(strange).filter(|(_, strange)| **strange) {
        for (b, _) in scores.iter().zip(strange).filter(|(_, strange)| !**strange) {
            right += if a < b {
                1.0
            } else if a == b {
                0.5
            } else {
                0.0
            };
            all += 1.0;
        }
    }
    right / all
}

/// Pairs of the colour that the users prefer, not chosen yet.
fn right_pairs(m: &Csr) -> Vec<(u32, u32)> {
    let free = |u: usize, i: usize| m.row(u).0.binary_search(&(i as u32)).is_err();
    (0..m.rows())
        .flat_map(|u| (0..m.columns).map(move |i| (u, i)))
        .filter(|&(u, i)| u % 2 == i % 2 && free(u, i))
        .map(|(u, i)| (u as u32, i as u32))
        .collect()
}

#[test]
fn every_method_finds_the_pairs_that_fit_no_pattern() {
    let (m, strange) = checkerboard();
    let held_out = right_pairs(&m);
    for method in names() {
        let scores = scores(method, &m, Some(&held_out), json!({}), 2).unwrap();
        let auc = auc(&scores, &strange);
        assert!(auc > 0.95, "{} {auc}", method);
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let m = random(300, 200, 9);
    let held_out: Vec<(u32, u32)> = (0..300).map(|u| (u, below(u.into(), 0, 200) as u32)).collect();
    for method in names() {
        let given = if method == "knn_shapley" { json!({}) } else { json!({"history": 15}) };
        let given = if matches!(method, "mean_loss" | "grad_norm") { json!({"runs": 2}) } else { given };
        let one = scores(method, &m, Some(&held_out), given.clone(), 1).unwrap();
        assert!(one.iter().all(|score| score.is_finite()));
        for threads in [2, 5] {
            assert!(scores(method, &m, Some(&held_out), given.clone(), threads).unwrap() == one, "{}", method);
        }
    }
}

#[test]
fn one_interaction_and_users_without_any_are_no_trouble() {
    let m = matrix(3, 4, |u, i| u == 1 && i == 2);
    for method in names() {
        let scores = scores(method, &m, Some(&[(1, 0)]), json!({}), 2).unwrap();
        assert!(scores.len() == 1 && scores[0].is_finite(), "{}", method);
    }
}

#[test]
fn walks_without_the_interaction_equal_those_of_a_source_without_it() {
    let m = random(40, 25, 4);
    let beta = 0.6;
    let found = scores("leave_self_out", &m, None, json!({"beta": beta}), 2).unwrap();
    for ((user, item), found) in pairs(&m).zip(found) {
        // RP³β of the item for the user in the matrix without the pair, straight from its definition.
        let rest: Vec<BTreeSet<usize>> = (0..40)
            .map(|u| m.row(u).0.iter().map(|&i| i as usize).filter(|&i| (u, i) != (user, item)).collect())
            .collect();
        let users = |i: usize| rest.iter().filter(|items| items.contains(&i)).count() as f64;
        let mut walk = 0.0;
        for &start in &rest[user] {
            for items in rest.iter().filter(|items| items.contains(&start) && items.contains(&item)) {
                walk += 1.0 / rest[user].len() as f64 / users(start) / items.len() as f64;
            }
        }
        let expected = if walk == 0.0 { 0.0 } else { walk / users(item).max(1.0).powf(beta) };
        assert!((found - expected).abs() < 1e-5 * expected.max(1e-3), "{found} {expected}");
    }
}

#[test]
fn long_histories_are_cut_as_evidence_and_scored_all_the_same() {
    let (m, strange) = checkerboard();
    let whole = scores("leave_self_out", &m, None, json!({"history": 60}), 2).unwrap();
    assert!(whole == scores("leave_self_out", &m, None, json!({}), 2).unwrap());
    let cut = scores("leave_self_out", &m, None, json!({"history": 8}), 2).unwrap();
    assert!(cut != whole && cut.len() == whole.len());
    assert!(auc(&cut, &strange) > 0.85);
}

#[test]
fn held_out_pairs_move_only_their_users_interactions() {
    let m = random(30, 40, 4);
    let free = |u: usize| (0..40u32).find(|i| m.row(u).0.binary_search(i).is_err()).unwrap();
    let held_out = [(3, free(3)), (7, free(7))];
    let found = scores("knn_shapley", &m, Some(&held_out), json!({"negatives": 0, "k": 3}), 2).unwrap();
    assert!(pairs(&m).zip(&found).all(|((u, _), &score)| u == 3 || u == 7 || score == 0.0));
    // Efficiency: the values add up to what all are worth, the mean over both pairs.
    let users = |i: u32| (0..30).filter(|&u| m.row(u).0.contains(&i)).collect::<BTreeSet<usize>>();
    let mut worth = 0.0;
    for (u, j) in held_out {
        let mut y: Vec<f64> = m
            .row(u as usize)
            .0
            .iter()
            .map(|&i| {
                let (a, b) = (users(i), users(j));
                a.intersection(&b).count() as f64 / ((a.len() * b.len()) as f64).sqrt()
            })
            .collect();
        y.sort_by(|a, b| b.total_cmp(a));
        worth += y.iter().take(3).sum::<f64>() / 3.0 / 2.0;
    }
    assert!((found.iter().sum::<f64>() - worth).abs() < 1e-6, "{} {worth}", found.iter().sum::<f64>());
}

#[test]
fn held_out_pairs_that_say_nothing_are_an_error() {
    let m = random(30, 40, 4);
    let chosen = (0, m.row(0).0[0]);
    for held_out in [&[][..], &[chosen]] {
        let error = scores("knn_shapley", &m, Some(held_out), json!({}), 2).unwrap_err();
        assert_eq!(error.to_string(), "the validation query has no pair to judge by");
    }
}

#[test]
fn options_out_of_reach_or_unknown_are_errors() {
    let m = random(10, 10, 2);
    let message = |method, given| scores(method, &m, None, given, 1).unwrap_err().to_string();
    assert_eq!(message("mean_loss", json!({"beta": 1})), "unknown option \"beta\" of mean_loss");
    assert_eq!(message("auto", json!({"epochs": 0})), "invalid value for option \"epochs\": 0");
    assert_eq!(
        message("mean_loss", json!({"learning_rate": 10, "regularization": 1000})),
        "the training loss is not finite"
    );
    assert!(Method::from_name("loss").unwrap_err().hint().unwrap().contains("leave_self_out"));
}

#[test]
fn a_cancel_request_ends_any_method() {
    struct Soon(Cell<u32>);
    impl Progress for Soon {
        fn check(&self) -> Result<()> {
            self.0.set(self.0.get() + 1);
            if self.0.get() > 1 { Err(Error::Canceled) } else { Ok(()) }
        }
    }
    let m = random(500, 300, 3);
    let held_out: Vec<(u32, u32)> = (0..500).flat_map(|u| (0..20).map(move |i| (u, i))).collect();
    for method in names() {
        let mut given = json!({"epochs": 10_000});
        if matches!(method, "knn_shapley" | "leave_self_out") {
            given = json!({});
        }
        let plan = Method::from_name(method).unwrap().plan(&mut Options::new("", &given).unwrap()).unwrap();
        let task = Task { by_user: &m, held_out: Some(&held_out), threads: 2, progress: &Soon(Cell::new(0)) };
        assert!(matches!(plan.score(&task), Err(Error::Canceled)), "{}", method);
    }
}
