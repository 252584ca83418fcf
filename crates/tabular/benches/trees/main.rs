//! Boosting and a forest beside trees with exact splits, which sort the rows of every node by every column, and beside
//! smartcore. One thread each; binning and sorting are in the times.
//!
//! All sides are given the same numbers, since the library knows no categories.
#![allow(clippy::unwrap_used, reason = "a benchmark ends at the first error, as a test does")]

#[path = "../../../../benches/kernels/compare.rs"]
mod compare;
#[path = "../../../../benches/kernels/datasets.rs"]
mod datasets;
mod naive;
mod table;

use compare::Comparison;
use criterion::{Criterion, criterion_group, criterion_main};
use runtime::jobs::Signal;
use runtime::progress::Unwatched;
use smartcore::ensemble::random_forest_classifier::{RandomForestClassifier, RandomForestClassifierParameters};
use smartcore::linalg::basic::matrix::DenseMatrix;
use smartcore::xgboost::{XGRegressor, XGRegressorParameters};
use table::Table;
use tabular::auc;
use tabular::trees::{Binned, Binning, Boosting, BoostingOptions, Forest, ForestOptions, Target};

/// Few rounds: smartcore takes a tenth of a second for each.
const BOOSTING: BoostingOptions =
    BoostingOptions { rounds: 20, learning_rate: 0.1, leaves: 31, l2: 1.0, least_rows: 20, columns: 1.0 };
/// Levels of smartcore's trees: as many leaves at most as ours have, and one more.
const DEPTH: u16 = 5;
/// Trees of the forest, and the rows they are grown on: smartcore looks at all of them for each node.
const TREES: usize = 4;
const FOREST_ROWS: usize = 8192;
/// How far the areas under two sides' ROC curves may be apart on the held-out rows: the same trees but for the bins, and trees that grow
/// level by level.
const AUC_TOLERANCE: [f64; 2] = [0.005, 0.03];
/// The same for a forest's shares of right classes: each side draws its own rows.
const ACCURACY_TOLERANCE: f64 = 0.03;

fn matrix(table: &Table) -> DenseMatrix<f32> {
    DenseMatrix::new(table.rows(), table.columns, table.values.clone(), false).unwrap()
}

fn area(scores: &[f32], table: &Table) -> f64 {
    let is: Vec<bool> = table.labels.iter().map(|&label| label == 1).collect();
    auc(scores, &is, &|| Ok(())).unwrap().unwrap()
}

fn accuracy(predicted: &[u32], table: &Table) -> f64 {
    let right = predicted.iter().zip(&table.labels).filter(|(p, label)| p == label).count();
    right as f64 / table.rows() as f64
}

fn assert_near(what: &str, ours: f64, other: f64, tolerance: f64) {
    println!("{what}: {other:.4} on held-out rows, ours {ours:.4}");
    assert!((ours - other).abs() < tolerance, "{what} does not agree with ours");
}

/// Squared error of the class as a number, the loss that smartcore's booster has.
fn boosting(criterion: &mut Criterion, train: &Table, test: &Table) {
    let (features, rows) = (train.features(), train.all());
    let numbers: Vec<f32> = train.labels.iter().map(|&label| label as f32).collect();
    let target = Target::Numbers(&numbers);
    let ours = || {
        let binned = Binned::of(&features, 1, &Unwatched).unwrap();
        Boosting::fit(&binned, &target, (&rows, None), &BOOSTING, 7, &Signal::default()).unwrap()
    };
    let exact = || naive::Boosting::fit(train, &numbers, &BOOSTING);
    let x = matrix(train);
    let mean = numbers.iter().sum::<f32>() / train.rows() as f32;
    let library = || {
        let parameters = XGRegressorParameters::default()
            .with_n_estimators(BOOSTING.rounds)
            .with_learning_rate(BOOSTING.learning_rate.into())
            .with_max_depth(DEPTH)
            .with_lambda(BOOSTING.l2.into())
            .with_gamma(0.0)
            .with_min_child_weight(BOOSTING.least_rows)
            .with_subsample(1.0)
            .with_base_score(mean.into());
        XGRegressor::fit(&x, &numbers, parameters).unwrap()
    };

    let learned = Binning::learn(&features, None, 1, &Unwatched).unwrap();
    let (fitted, codes) = (ours(), learned.apply(&test.features(), 1, &Unwatched).unwrap());
    let score = |row: usize| {
        let mut out = [0.0];
        fitted.predict(codes.row(row), &mut out);
        out[0]
    };
    let own = area(&(0..test.rows()).map(score).collect::<Vec<_>>(), test);
    let booster = exact();
    let scores: Vec<f32> = test.each_row().map(|row| booster.score(row)).collect();
    assert_near("boosting, exact splits", own, area(&scores, test), AUC_TOLERANCE[0]);
    let scores = library().predict(&matrix(test)).unwrap();
    assert_near("boosting, smartcore", own, area(&scores, test), AUC_TOLERANCE[1]);

    let size = format!("{}, {} rows, {} columns, {} rounds", train.name, train.rows(), train.columns, BOOSTING.rounds);
    Comparison::new(criterion, "boosting", &size)
        .side("ours", ours)
        .side("exact splits", exact)
        .side("smartcore", library)
        .finish();
}

fn forest(criterion: &mut Criterion, train: &Table, test: &Table) {
    let (features, rows) = (train.features(), train.all());
    let target = Target::Classes { codes: &train.labels, classes: 2 };
    let options = ForestOptions { trees: TREES, ..ForestOptions::default() };
    let ours = || {
        let binned = Binned::of(&features, 1, &Unwatched).unwrap();
        Forest::fit(&binned, &target, (&rows, None), &options, 7, (1, &Unwatched)).unwrap()
    };
    let exact = || naive::Forest::fit(train, TREES, 7);
    let (x, y) = (matrix(train), train.labels.clone());
    let parameters = || {
        let parameters =
            RandomForestClassifierParameters::default().with_n_trees(TREES as u16).with_min_samples_leaf(1);
        parameters.with_m(train.columns.isqrt() + usize::from(train.columns.isqrt().pow(2) < train.columns))
    };
    let library = || RandomForestClassifier::fit(&x, &y, parameters()).unwrap();

    let learned = Binning::learn(&features, None, 1, &Unwatched).unwrap();
    let (fitted, codes) = (ours(), learned.apply(&test.features(), 1, &Unwatched).unwrap());
    let class = |row: usize| {
        let mut out = [0.0; 2];
        fitted.predict(codes.row(row), &mut out);
        tabular::most_likely(&out)
    };
    let own = accuracy(&(0..test.rows()).map(class).collect::<Vec<_>>(), test);
    let trees = exact();
    let classes: Vec<u32> = test.each_row().map(|row| trees.class(row)).collect();
    assert_near("forest, exact splits", own, accuracy(&classes, test), ACCURACY_TOLERANCE);
    let classes: Vec<u32> = library().predict(&matrix(test)).unwrap();
    assert_near("forest, smartcore", own, accuracy(&classes, test), ACCURACY_TOLERANCE);

    let size = format!("{}, {} rows, {} columns, {TREES} trees", train.name, train.rows(), train.columns);
    Comparison::new(criterion, "forest", &size)
        .side("ours", ours)
        .side("exact splits", exact)
        .side("smartcore", library)
        .finish();
}

fn trees(criterion: &mut Criterion) {
    let (train, test) = Table::load().split(5);
    boosting(criterion, &train, &test);
    forest(criterion, &train.first(FOREST_ROWS), &test);
}

criterion_group!(benches, trees);
criterion_main!(benches);
