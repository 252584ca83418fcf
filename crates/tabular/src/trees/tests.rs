//! Against closed forms: a stump, a leaf's step, the mean of a leaf.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::*;
use crate::Features;
use kernels::Csr;
use runtime::draw;
use runtime::error::{Error, Result};
use runtime::jobs::{Signal, jobs};
use runtime::progress::{Progress, Unwatched};

/// Rows of numbers, zeros not stored.
fn features(rows: &[Vec<f32>], categories: &[(u32, u32)]) -> Features {
    let mut matrix = Csr { indptr: vec![0], columns: rows.first().map_or(0, Vec::len), ..Csr::default() };
    for row in rows {
        for (column, &value) in (0..).zip(row).filter(|(_, value)| **value != 0.0) {
            matrix.indices.push(column);
            matrix.values.push(value);
        }
        matrix.indptr.push(matrix.indices.len() as u64);
    }
    Features { matrix, categories: categories.to_vec() }
}

fn binned(features: &Features) -> Binned {
    Binned::of(features, 2, &Unwatched).unwrap()
}

fn noise(n: usize, columns: usize) -> Vec<Vec<f32>> {
    (0..n).map(|i| (0..columns).map(|c| draw::normal(c as u64, i as u64)).collect()).collect()
}

fn all(n: usize) -> Vec<u32> {
    (0..n as u32).collect()
}

/// One round at full speed, without regularisation.
const STUMP: BoostingOptions =
    BoostingOptions { rounds: 1, learning_rate: 1.0, leaves: 2, l2: 0.0, least_rows: 1, columns: 1.0 };

fn fit(binned: &Binned, target: &Target, weights: Option<&[f32]>, options: &BoostingOptions) -> Boosting {
    Boosting::fit(binned, target, (&all(binned.rows()), weights), options, 7, &Signal::default()).unwrap()
}

fn predictions(binned: &Binned, outputs: usize, predict: impl Fn(&[u8], &mut [f32])) -> Vec<Vec<f32>> {
    (0..binned.rows())
        .map(|row| {
            let mut out = vec![0.0; outputs];
            predict(binned.row(row), &mut out);
            out
        })
        .collect()
}

#[test]
fn few_values_get_a_bin_each_and_many_get_quantiles() {
    let rows: Vec<Vec<f32>> = (0..1000).map(|i| vec![(i % 3) as f32 - 1.0, i as f32, 5.0]).collect();
    let binned = binned(&features(&rows, &[]));
    // A column of one value is left out.
    assert_eq!(binned.columns(), 2);
    let mut counts = [0; 255];
    for (i, row) in rows.iter().enumerate() {
        assert_eq!(f32::from(binned.row(i)[0]), row[0] + 1.0);
        counts[usize::from(binned.row(i)[1])] += 1;
    }
    assert!(counts.iter().all(|count| (3..=5).contains(count)), "{counts:?}");
}

#[test]
fn other_rows_are_binned_as_those_learned_from() {
    let learned = features(&[vec![1.0], vec![2.0], vec![4.0]], &[]);
    let binning = Binning::learn(&learned, None, 1, &Unwatched).unwrap();
    let other = features(&[vec![-9.0], vec![1.4], vec![1.6], vec![2.9], vec![3.1], vec![9.0]], &[]);
    let codes = binning.apply(&other, 1, &Unwatched).unwrap();
    assert_eq!((0..6).map(|row| codes.row(row)[0]).collect::<Vec<_>>(), [0, 0, 1, 1, 2, 2]);
}

#[test]
fn categories_are_one_column_and_a_missing_one_is_a_code_of_its_own() {
    let mut rows = vec![vec![0.0; 301]; 302];
    (0..301).for_each(|i| rows[i][i] = 1.0);
    let codes = binned(&features(&rows, &[(0, 301)]));
    assert_eq!(codes.columns(), 1);
    let code = |row: usize| codes.row(row)[0];
    assert_eq!([code(301), code(0), code(253), code(254), code(300)], [0, 1, 254, 255, 255]);
}

#[test]
fn a_stump_on_separable_classes_makes_the_step_of_the_closed_form() {
    let rows: Vec<Vec<f32>> = (0..40).map(|i| vec![draw::normal(1, i), i as f32]).collect();
    let codes: Vec<u32> = (0..40).map(|i| u32::from(i >= 10)).collect();
    let binned = binned(&features(&rows, &[]));
    let learner = fit(&binned, &Target::Classes { codes: &codes, classes: 2 }, None, &STUMP);
    // p = 3/4: the step is −p / p(1 − p) = −4 on one side, 1/p = 4/3 on the other, from ln 3.
    let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
    for (row, p) in predictions(&binned, 2, |codes, out| learner.predict(codes, out)).iter().enumerate() {
        let expected = sigmoid(3f32.ln() + if row < 10 { -4.0 } else { 4.0 / 3.0 });
        assert!((p[1] - expected).abs() < 1e-5 && (p[0] + p[1] - 1.0).abs() < 1e-6, "{row} {p:?} {expected}");
    }
}

#[test]
fn one_category_is_split_from_all_others() {
    let rows: Vec<Vec<f32>> = (0..60).map(|i| (0..3).map(|c| f32::from(u8::from(i % 4 == c))).collect()).collect();
    let values: Vec<f32> = (0..60).map(|i| if i % 4 == 1 { 7.0 } else { 1.0 }).collect();
    let binned = binned(&features(&rows, &[(0, 3)]));
    let target = Target::Numbers(&values);
    let learner = fit(&binned, &target, None, &STUMP);
    let forest = ForestOptions { trees: 3, bootstrap: false, ..ForestOptions::default() };
    let forest = Forest::fit(&binned, &target, (&all(60), None), &forest, 1, (2, &Unwatched)).unwrap();
    for predicted in [
        predictions(&binned, 1, |codes, out| learner.predict(codes, out)),
        predictions(&binned, 1, |codes, out| forest.predict(codes, out)),
    ] {
        assert!(predicted.iter().zip(&values).all(|(p, y)| (p[0] - y).abs() < 1e-4), "{predicted:?}");
    }
    // A row of none of the categories goes with the others.
    let none = [0u8];
    let mut out = [0.0];
    learner.predict(&none, &mut out);
    assert!((out[0] - 1.0).abs() < 1e-4);
}

#[test]
fn labels_that_are_all_the_same_are_predicted_as_they_are() {
    let binned = binned(&features(&noise(50, 3), &[]));
    let seven = vec![7.5; 50];
    let learner = fit(&binned, &Target::Numbers(&seven), None, &BoostingOptions::default());
    assert!(predictions(&binned, 1, |c, out| learner.predict(c, out)).iter().all(|p| (p[0] - 7.5).abs() < 1e-5));
    let codes = vec![2; 50];
    let learner = fit(&binned, &Target::Classes { codes: &codes, classes: 3 }, None, &BoostingOptions::default());
    assert!(predictions(&binned, 3, |c, out| learner.predict(c, out)).iter().all(|p| p[2] > 0.97));
}

#[test]
fn features_that_are_all_the_same_leave_the_shares_of_the_classes() {
    let binned = binned(&features(&vec![vec![3.0, 0.0]; 40], &[]));
    assert_eq!(binned.columns(), 0);
    let codes: Vec<u32> = (0..40).map(|i| u32::from(i % 4 == 0)).collect();
    let target = Target::Classes { codes: &codes, classes: 2 };
    let learner = fit(&binned, &target, None, &BoostingOptions::default());
    let options = ForestOptions { trees: 2, bootstrap: false, ..ForestOptions::default() };
    let forest = Forest::fit(&binned, &target, (&all(40), None), &options, 1, (2, &Unwatched)).unwrap();
    let mut out = [0.0; 2];
    learner.predict(binned.row(0), &mut out);
    assert!((out[1] - 0.25).abs() < 1e-6);
    forest.predict(binned.row(0), &mut out);
    assert!((out[1] - 0.25).abs() < 1e-6);
}

#[test]
fn weights_are_repetitions_of_rows() {
    let (rows, weights) = (noise(300, 4), (0..300).map(|i| (i % 4) as f32).collect::<Vec<_>>());
    let label = |row: &[f32]| u32::from(row[0] + 0.5 * row[1] > 0.2) + u32::from(row[2] > 0.5);
    let codes: Vec<u32> = rows.iter().map(|row| label(row)).collect();
    let repeated: Vec<u32> = (0..300u32).flat_map(|i| vec![i; i as usize % 4]).collect();
    let base = features(&rows, &[]);
    let once = Binning::learn(&base, None, 1, &Unwatched).unwrap();
    let again = features(&repeated.iter().map(|&i| rows[i as usize].clone()).collect::<Vec<_>>(), &[]);
    let (weighted, repetition) =
        (once.apply(&base, 1, &Unwatched).unwrap(), once.apply(&again, 1, &Unwatched).unwrap());
    let codes_again: Vec<u32> = repeated.iter().map(|&i| codes[i as usize]).collect();
    let target = Target::Classes { codes: &codes, classes: 3 };
    let target_again = Target::Classes { codes: &codes_again, classes: 3 };
    let options = BoostingOptions { rounds: 5, least_rows: 1, leaves: 6, ..BoostingOptions::default() };
    let a = fit(&weighted, &target, Some(&weights), &options);
    let b = fit(&repetition, &target_again, None, &options);
    let trees = ForestOptions { trees: 1, bootstrap: false, columns: Columns::All, ..ForestOptions::default() };
    let forest = |binned: &Binned, target: &Target, weights| {
        Forest::fit(binned, target, (&all(binned.rows()), weights), &trees, 1, (1, &Unwatched)).unwrap()
    };
    let (c, d) = (forest(&weighted, &target, Some(&weights[..])), forest(&repetition, &target_again, None));
    // Where two columns split the rows in the same way, which one does is a matter of rounding, and of rows without
    // weight.
    for row in (0..300).filter(|row| row % 4 != 0) {
        let (mut x, mut y) = ([0.0; 3], [0.0; 3]);
        a.predict(weighted.row(row), &mut x);
        b.predict(weighted.row(row), &mut y);
        assert!(x.iter().zip(&y).all(|(x, y)| (x - y).abs() < 1e-4), "{row} {x:?} {y:?}");
        c.predict(weighted.row(row), &mut x);
        d.predict(weighted.row(row), &mut y);
        assert_eq!(x, y);
    }
}

#[test]
fn huge_and_tiny_weights_are_the_same_up_to_their_scale() {
    let rows = noise(200, 3);
    let values: Vec<f32> = rows.iter().map(|row| row[0] * 3.0 + row[1]).collect();
    let binned = binned(&features(&rows, &[]));
    let predicted = |weight: f32| {
        let options = BoostingOptions { l2: 0.0, rounds: 10, ..BoostingOptions::default() };
        let learner = fit(&binned, &Target::Numbers(&values), Some(&[weight; 200]), &options);
        predictions(&binned, 1, |codes, out| learner.predict(codes, out))
    };
    let one = predicted(1.0);
    for weight in [1e-20, 1e20] {
        assert!(predicted(weight).iter().zip(&one).all(|(a, b)| (a[0] - b[0]).abs() < 1e-3), "{weight}");
    }
}

#[test]
fn rows_without_weight_and_rows_left_out_are_not_learned_from() {
    let rows = noise(100, 2);
    let mut values: Vec<f32> = rows.iter().map(|row| row[0]).collect();
    let binned = binned(&features(&rows, &[]));
    let weights: Vec<f32> = (0..100).map(|i| f32::from(u8::from(i < 60))).collect();
    let before = fit(&binned, &Target::Numbers(&values), Some(&weights), &BoostingOptions::default());
    values[60..].fill(1e6);
    let after = fit(&binned, &Target::Numbers(&values), Some(&weights), &BoostingOptions::default());
    let of = |learner: &Boosting| predictions(&binned, 1, |codes, out| learner.predict(codes, out));
    assert_eq!(of(&before), of(&after));
    let options = BoostingOptions::default();
    let some = Boosting::fit(&binned, &Target::Numbers(&values), (&all(60), None), &options, 7, &Signal::default());
    assert_eq!(of(&before), of(&some.unwrap()));
    let none = Boosting::fit(&binned, &Target::Numbers(&values), (&[], None), &options, 7, &Signal::default());
    assert!(of(&none.unwrap()).iter().all(|p| p[0] == 0.0));
}

#[test]
fn a_full_tree_knows_every_row_it_was_given() {
    let rows = noise(500, 5);
    let codes: Vec<u32> = (0..500).map(|i| draw::below(3, i, 7) as u32).collect();
    let values: Vec<f32> = (0..500).map(|i| draw::normal(11, i)).collect();
    let binned = binned(&features(&rows, &[]));
    let options = ForestOptions { trees: 2, bootstrap: false, ..ForestOptions::default() };
    let forest =
        |target: &Target| Forest::fit(&binned, target, (&all(500), None), &options, 5, (2, &Unwatched)).unwrap();
    let classes = forest(&Target::Classes { codes: &codes, classes: 7 });
    // 255 quantiles of 500 values: two rows may share a bin in all five columns, hardly though.
    let right = predictions(&binned, 7, |codes, out| classes.predict(codes, out));
    assert!(right.iter().zip(&codes).all(|(p, &code)| p[code as usize] > 0.99));
    let numbers = forest(&Target::Numbers(&values));
    let close = predictions(&binned, 1, |codes, out| numbers.predict(codes, out));
    assert!(close.iter().zip(&values).all(|(p, y)| (p[0] - y).abs() < 1e-5));
    assert!(numbers.trees.iter().all(|tree| tree.leaves() == 500 && tree.nodes() == 999));
}

#[test]
fn leaves_have_as_many_rows_as_asked_for_and_trees_as_many_levels() {
    let rows = noise(400, 3);
    let codes: Vec<u32> = (0..400).map(|i| draw::below(3, i, 2) as u32).collect();
    let binned = binned(&features(&rows, &[]));
    let target = Target::Classes { codes: &codes, classes: 2 };
    for (least_rows, depth, most) in [(30, usize::MAX, 13), (1, 3, 8)] {
        let options = ForestOptions { trees: 3, least_rows, depth, ..ForestOptions::default() };
        let visit = |_, tree: Tree, drawn: &Drawn, _: &Signal| {
            let mut counts = std::collections::BTreeMap::new();
            for row in (0..400).filter(|&row| drawn[row] > 0) {
                *counts.entry(tree.leaf(binned.row(row))).or_insert(0) += 1;
            }
            assert!(counts.len() == tree.leaves() && tree.leaves() <= most && tree.leaves() > 2);
            assert!(counts.values().all(|&count| count >= least_rows));
            assert_eq!(drawn.iter().sum::<u32>(), 400);
            Ok(())
        };
        for_each_tree(&binned, &target, (&all(400), None), &options, 9, (2, &Unwatched), visit).unwrap();
    }
}

#[test]
fn threads_change_no_bit() {
    let rows = noise(600, 6);
    let codes: Vec<u32> = rows.iter().map(|row| u32::from(row[0] > 0.0) + u32::from(row[1] > 1.0)).collect();
    let features = features(&rows, &[]);
    let target = Target::Classes { codes: &codes, classes: 3 };
    let bits = |threads: usize| {
        let binned = Binned::of(&features, threads, &Unwatched).unwrap();
        let options = ForestOptions { trees: 9, ..ForestOptions::default() };
        let forest = Forest::fit(&binned, &target, (&all(600), None), &options, 3, (threads, &Unwatched)).unwrap();
        let all: Vec<u32> = predictions(&binned, 3, |codes, out| forest.predict(codes, out))
            .concat()
            .iter()
            .map(|x| x.to_bits())
            .collect();
        all
    };
    assert!(bits(1) == bits(2) && bits(1) == bits(7));
}

#[test]
fn boosting_comes_close_to_a_smooth_function() {
    let rows = noise(2000, 3);
    let values: Vec<f32> = rows.iter().map(|row| row[0].sin() + 0.5 * row[1] * row[1]).collect();
    let binned = binned(&features(&rows, &[]));
    let options = BoostingOptions { rounds: 200, ..BoostingOptions::default() };
    let train = all(1500);
    let target = Target::Numbers(&values);
    let learner = Boosting::fit(&binned, &target, (&train, None), &options, 1, &Signal::default()).unwrap();
    let predicted = predictions(&binned, 1, |codes, out| learner.predict(codes, out));
    let error: f32 = (1500..2000).map(|i| (predicted[i][0] - values[i]).powi(2)).sum::<f32>() / 500.0;
    assert!(error < 0.05, "{error}");
}

struct CancelAfter(Cell<Duration>, Instant);

impl Progress for CancelAfter {
    fn check(&self) -> Result<()> {
        if self.1.elapsed() > self.0.get() { Err(Error::Canceled) } else { Ok(()) }
    }
}

#[test]
fn a_cancel_request_ends_the_work_soon() {
    let rows = noise(60_000, 8);
    let codes: Vec<u32> = (0..60_000).map(|i| draw::below(3, i, 2) as u32).collect();
    let binned = binned(&features(&rows, &[]));
    let target = Target::Classes { codes: &codes, classes: 2 };
    let cancel = || CancelAfter(Cell::new(Duration::from_millis(30)), Instant::now());
    let (progress, options) = (cancel(), ForestOptions { trees: 1000, ..ForestOptions::default() });
    let result = Forest::fit(&binned, &target, (&all(60_000), None), &options, 1, (2, &progress));
    assert!(matches!(result, Err(Error::Canceled)) && progress.1.elapsed() < Duration::from_secs(10));
    let (progress, options) = (cancel(), BoostingOptions { rounds: 10_000, ..BoostingOptions::default() });
    let result = jobs(2, 2, &progress, ("folds", 2), |signal, _| {
        Boosting::fit(&binned, &target, (&all(60_000), None), &options, 1, signal)
    });
    assert!(matches!(result, Err(Error::Canceled)) && progress.1.elapsed() < Duration::from_secs(10));
}

#[test]
fn ranks_are_learned_within_queries_and_stored_trees_score_alike() {
    // The first number says the grade, the second differs between queries only.
    let rows: Vec<Vec<f32>> = (0..600).map(|i| vec![draw::normal(1, i), (i / 20) as f32, draw::normal(2, i)]).collect();
    let grades: Vec<f32> = rows.iter().map(|row| (row[0] * 1.5 + 1.5).clamp(0.0, 3.0).round()).collect();
    let starts: Vec<usize> = (0..=30).map(|query| query * 20).collect();
    let features = features(&rows, &[]);
    let binning = Binning::learn(&features, None, 2, &Unwatched).unwrap();
    let binned = binning.apply(&features, 2, &Unwatched).unwrap();
    let ranks = Ranks { grades: &grades, starts: &starts, base: None };
    let options = BoostingOptions { rounds: 30, leaves: 7, least_rows: 5, ..BoostingOptions::default() };
    let learner = Boosting::fit_ranks(&binned, ranks, &options, 7, &Signal::default()).unwrap();
    let scores: Vec<f32> = predictions(&binned, 1, |codes, out| learner.predict(codes, out)).concat();
    let ordered = starts.windows(2).map(|query| {
        let mut order: Vec<usize> = (query[0]..query[1]).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        order.iter().zip(order.iter().skip(1)).filter(|(a, b)| grades[**a] >= grades[**b]).count()
    });
    assert!(ordered.sum::<usize>() > 30 * 17);
    let ensemble = Ensemble::of(&learner, &binning).unwrap();
    assert!(ensemble.is_sound());
    for (row, score) in rows.iter().zip(&scores) {
        assert!((ensemble.score(row) - score).abs() < 1e-5);
    }
    let damaged = Ensemble { left: vec![0; ensemble.left.len()], ..ensemble };
    assert!(!damaged.is_sound(), "a loop");
}

#[test]
fn trees_correct_a_score_that_exists_and_the_first_ones_are_those_of_fewer_rounds() {
    let rows: Vec<Vec<f32>> = (0..400).map(|i| vec![draw::normal(1, i), draw::normal(2, i)]).collect();
    let grades: Vec<f32> = rows.iter().map(|row| f32::from(u8::from(row[0] + row[1] > 0.0))).collect();
    let starts: Vec<usize> = (0..=20).map(|query| query * 20).collect();
    let features = features(&rows, &[]);
    let binning = Binning::learn(&features, None, 2, &Unwatched).unwrap();
    let binned = binning.apply(&features, 2, &Unwatched).unwrap();
    let fit = |rounds, base| {
        let options = BoostingOptions { rounds, leaves: 4, ..BoostingOptions::default() };
        let ranks = Ranks { grades: &grades, starts: &starts, base };
        let learner = Boosting::fit_ranks(&binned, ranks, &options, 7, &Signal::default()).unwrap();
        Ensemble::of(&learner, &binning).unwrap()
    };
    let largest = |ensemble: &Ensemble| rows.iter().map(|row| ensemble.score(row).abs()).fold(0.0, f32::max);
    let right: Vec<f32> = grades.iter().map(|grade| 20.0 * grade).collect();
    assert!(largest(&fit(10, Some(&right))) < 0.01 * largest(&fit(10, None)), "there is nothing left to correct");
    let mut first = fit(10, None);
    first.truncate(4);
    assert_eq!(first, fit(4, None));
    let linear = Ensemble { linear: vec![2.0, -1.0], ..first.clone() };
    assert!(
        linear.is_sound()
            && (linear.score(&rows[0]) - first.score(&rows[0]) - 2.0 * rows[0][0] + rows[0][1]).abs() < 1e-5
    );
}

#[test]
fn a_scorer_predicts_what_its_trees_do() {
    let mut rows = noise(500, 3);
    rows.iter_mut().zip(0..).for_each(|(row, i)| row.extend((0..3).map(|c| f32::from(u8::from(i % 4 == c)))));
    let binned = binned(&features(&rows, &[(3, 3)]));
    let codes: Vec<u32> =
        rows.iter().zip(0..).map(|(row, i)| u32::from(row[0] > 0.0) + u32::from(i % 4 == 1)).collect();
    let two: Vec<u32> = codes.iter().map(|&code| code.min(1)).collect();
    let numbers: Vec<f32> = rows.iter().map(|row| 3.0 * row[1] + row[3]).collect();
    for target in [
        Target::Classes { codes: &codes, classes: 3 },
        Target::Classes { codes: &two, classes: 2 },
        Target::Numbers(&numbers),
    ] {
        let learner = fit(&binned, &target, None, &BoostingOptions { rounds: 20, ..BoostingOptions::default() });
        let scorer = Scorer::of(&learner, binned.columns()).unwrap();
        let again = Scorer::from_parts(scorer.parts()).unwrap();
        assert_eq!(scorer, again);
        let mut scores = vec![0.0; 500 * scorer.scores()];
        scorer.score(binned.codes(), &mut scores, &Signal::default()).unwrap();
        let expected = predictions(&binned, scorer.outputs(), |codes, out| learner.predict(codes, out));
        for (scores, expected) in scores.chunks_exact(scorer.scores()).zip(expected) {
            let mut found = vec![0.0; scorer.outputs()];
            scorer.predict(scores, &mut found);
            assert_eq!(found, expected);
        }
    }
}

#[test]
fn arrays_that_lead_nowhere_are_no_scorer() {
    let binned = binned(&features(&noise(100, 2), &[]));
    let numbers: Vec<f32> = noise(100, 1).concat();
    let learner = fit(&binned, &Target::Numbers(&numbers), None, &STUMP);
    let parts = || Scorer::of(&learner, 2).unwrap().parts();
    assert!(Scorer::from_parts(parts()).is_some());
    let broken: [fn(&mut Parts); 7] = [
        |parts| parts.left[0] = 0,
        |parts| parts.left[0] = 9,
        |parts| parts.columns[0] = 2,
        |parts| parts.columns[1] = 2,
        |parts| parts.codes[0] = 512,
        |parts| parts.values[1] = f32::NAN,
        |parts| parts.roots[0] = 3,
    ];
    for break_it in broken {
        let mut parts = parts();
        break_it(&mut parts);
        assert!(Scorer::from_parts(parts).is_none());
    }
}

#[test]
fn training_ends_when_other_rows_gain_no_more() {
    let rows = noise(400, 2);
    let binned = binned(&features(&rows, &[]));
    // Half of a label is chance: it cannot be learned for ever.
    let codes: Vec<u32> = rows.iter().zip(0..).map(|(row, i)| u32::from(row[0] + draw::normal(9, i) > 0.0)).collect();
    let target = Target::Classes { codes: &codes, classes: 2 };
    let (train, held): (Vec<u32>, Vec<u32>) = (0..400).partition(|row| row % 2 == 0);
    let watch = Watch { rows: &held, patience: 10 };
    let options = BoostingOptions { rounds: 1000, ..BoostingOptions::default() };
    let fit = |options| {
        Boosting::fit_watched(&binned, &target, (&train, None), watch, options, 7, &Signal::default()).unwrap()
    };
    let (learner, losses) = fit(&options);
    let best = (0..losses.len()).min_by(|&a, &b| losses[a].total_cmp(&losses[b])).unwrap();
    assert!(best > 0 && losses.len() == best + 12 && losses[best] < losses[0], "{losses:?}");
    assert!((losses[0] - 2f64.ln()).abs() < 0.01);
    // Fewer rounds are the first of many.
    let mut first = learner.clone();
    first.truncate(best);
    let few = fit(&BoostingOptions { rounds: best, ..options }).0;
    let of = |learner: &Boosting| predictions(&binned, 2, |codes, out| learner.predict(codes, out));
    assert_eq!(of(&first), of(&few));
    assert_ne!(of(&first), of(&learner));
}
