use crate::{Method, Task, score};
use kernels::Csr;
use runtime::draw::{normal, uniform};
use runtime::error::{Error, Result};
use runtime::options::Options;
use runtime::progress::{Progress, Unwatched};
use serde_json::{Value, json};
use tabular::{Features, Labels, Samples};

const ALL: [&str; 6] = ["loss", "el2n", "grad_norm", "aum", "forgetting", "tracin"];
const OF_NUMBERS: [&str; 4] = ["loss", "el2n", "grad_norm", "tracin"];

fn features(rows: &[Vec<f32>]) -> Features {
    let columns = rows.first().map_or(0, Vec::len);
    let mut matrix = Csr { indptr: vec![0], columns, ..Csr::default() };
    for row in rows {
        for (column, &x) in row.iter().enumerate().filter(|(_, x)| **x != 0.0) {
            matrix.indices.push(column as u32);
            matrix.values.push(x);
        }
        matrix.indptr.push(matrix.indices.len() as u64);
    }
    Features { matrix, categories: Vec::new() }
}

fn classes(codes: Vec<u32>, classes: u32) -> Labels {
    Labels::Classes { codes, names: (0..classes).map(|c| c.to_string()).collect() }
}

/// `n` rows of `k` classes, one cloud each, of which every tenth has the label of the next class.
fn clouds(n: usize, k: u32, seed: u64) -> (Samples, Vec<bool>) {
    drawn(n, k, seed, (0..n).map(|i| i % 10 == 3).collect())
}

/// The same, all labels right.
fn clean(n: usize, k: u32, seed: u64) -> Samples {
    drawn(n, k, seed, vec![false; n]).0
}

fn drawn(n: usize, k: u32, seed: u64, flipped: Vec<bool>) -> (Samples, Vec<bool>) {
    let true_class = |i: usize| (i / 3) as u32 % k;
    let row = |i: usize| {
        let around = |j: usize| if j as u32 == true_class(i) { 2.0 } else { 0.0 };
        (0..k as usize + 2).map(|j| around(j) + 0.4 * normal(seed, (i * 64 + j) as u64)).collect()
    };
    let codes = (0..n).map(|i| (true_class(i) + u32::from(flipped[i])) % k).collect();
    let rows: Vec<Vec<f32>> = (0..n).map(row).collect();
    (Samples { features: features(&rows), labels: classes(codes, k) }, flipped)
}

fn named(methods: &[&str]) -> Vec<Method> {
    methods.iter().map(|name| Method::from_name(name).unwrap()).collect()
}

fn scores(
    methods: &[&str],
    samples: &Samples,
    validation: Option<&Samples>,
    threads: usize,
    value: Value,
) -> Result<Vec<Vec<f64>>> {
    let mut options = Options::new("importance", &value)?;
    let task = Task { samples, validation, seed: 7, threads, progress: &Unwatched };
    let scores = score(&named(methods), &task, &mut options)?;
    options.finish()?;
    assert_eq!(scores.len(), methods.len());
    assert!(scores.iter().all(|s| s.len() == samples.labels.len() && s.iter().all(|x| x.is_finite())));
    Ok(scores)
}

/// The share of pairs of a marked and an unmarked row in which the marked one scores lower.
fn marked_last(scores: &[f64], marked: &[bool]) -> f64 {
    let (mut lower, mut pairs) = (0.0, 0.0);
    for (&a, _) in scores.iter().zip(marked).filter(|(_, m)| **m) {
        for (&b, _) in scores.iter().zip(marked).filter(|(_, m)| !**m) {
            lower += if a < b { 1.0 } else { 0.5 * f64::from(u8::from(a == b)) };
            pairs += 1.0;
        }
    }
    lower / pairs
}

#[test]
fn wrong_labels_come_last_in_every_method() {
    for k in [2, 5] {
        let (samples, flipped) = clouds(300, k, 1);
        let validation = clean(60, k, 2);
        for other in [None, Some(&validation)] {
            for (method, s) in ALL.iter().zip(scores(&ALL, &samples, other, 2, json!({"runs": 3})).unwrap()) {
                let least = if *method == "forgetting" || other.is_some() { 0.8 } else { 0.95 };
                assert!(marked_last(&s, &flipped) > least, "{method:?} of {k}: {}", marked_last(&s, &flipped));
            }
        }
    }
}

#[test]
fn neither_threads_nor_other_methods_change_a_bit() {
    let (samples, _) = clouds(150, 3, 1);
    let (validation, _) = clouds(20, 3, 2);
    let options = json!({"runs": 5, "epochs": 6, "grad_norm_epoch": 4});
    let one = scores(&ALL, &samples, Some(&validation), 1, options.clone()).unwrap();
    for threads in [2, 9] {
        assert_eq!(one, scores(&ALL, &samples, Some(&validation), threads, options.clone()).unwrap());
    }
    for (method, expected) in ALL.iter().zip(&one) {
        assert_eq!(
            &scores(&[*method], &samples, Some(&validation), 2, options.clone()).unwrap()[0],
            expected,
            "{method:?}"
        );
    }
}

#[test]
fn few_rows_one_row_and_one_class_have_scores() {
    let (validation, _) = clouds(1, 2, 2);
    for n in [1, 2, 7] {
        let (samples, _) = clouds(n, 2, 1);
        scores(&ALL, &samples, Some(&validation), 2, Value::Null).unwrap();
    }
    let alone = Samples { features: features(&[vec![1.0], vec![0.0]]), labels: classes(vec![0, 0], 1) };
    scores(&ALL, &alone, None, 2, Value::Null).unwrap();
    let (many, _) = clouds(40, 1000, 1);
    scores(&ALL, &many, None, 2, json!({"runs": 1, "epochs": 5})).unwrap();
}

#[test]
fn numbers_far_from_what_the_features_say_come_last() {
    let n = 300;
    let wrong: Vec<bool> = (0..n).map(|i| i % 10 == 3).collect();
    let rows: Vec<Vec<f32>> = (0..n).map(|i| (0..4).map(|j| uniform(3, i * 4 + j)).collect()).collect();
    let value = |(row, &wrong): (&Vec<f32>, &bool)| 1e6 + 100.0 * (row[0] - row[1]) + if wrong { 200.0 } else { 0.0 };
    let labels: Vec<f32> = rows.iter().zip(&wrong).map(value).collect();
    let samples = Samples { features: features(&rows), labels: Labels::Numbers(labels) };
    for (method, s) in OF_NUMBERS.iter().zip(scores(&OF_NUMBERS, &samples, None, 2, Value::Null).unwrap()) {
        assert!(marked_last(&s, &wrong) > 0.97, "{method:?}: {}", marked_last(&s, &wrong));
    }
    for method in ["aum", "forgetting"] {
        let error = scores(&[method], &samples, None, 2, Value::Null).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    }
}

#[test]
fn numbers_that_are_all_the_same_and_outliers_have_scores() {
    let rows: Vec<Vec<f32>> = (0..50).map(|i| vec![uniform(1, i), 1.0]).collect();
    for labels in [vec![3.0; 50], (0..50).map(|i| if i == 9 { 1e38 } else { i as f32 }).collect()] {
        let samples = Samples { features: features(&rows), labels: Labels::Numbers(labels) };
        scores(&OF_NUMBERS, &samples, None, 2, Value::Null).unwrap();
    }
}

#[test]
fn steps_that_help_the_validation_rows_score_above_zero_and_others_below() {
    let (samples, flipped) = clouds(200, 2, 1);
    let validation = clean(60, 2, 2);
    let s = &scores(&["tracin"], &samples, Some(&validation), 2, json!({"runs": 3, "epochs": 3})).unwrap()[0];
    let mean = |marked: bool| {
        let of: Vec<f64> = s.iter().zip(&flipped).filter(|(_, f)| **f == marked).map(|(x, _)| *x).collect();
        of.iter().sum::<f64>() / of.len() as f64
    };
    assert!(mean(false) > 0.0 && mean(true) < 0.0, "{} {}", mean(false), mean(true));
}

#[test]
fn a_learning_rate_at_which_networks_diverge_is_lowered_and_wide_rows_are_no_danger() {
    let (samples, _) = clouds(200, 3, 1);
    scores(&ALL, &samples, None, 2, json!({"runs": 2, "learning_rate": 10.0})).map(|_| ()).unwrap_or_else(|error| {
        assert!(error.to_string().contains("learning_rate"), "{error}");
    });
    // 1,500 features that all say the same, as those of an embedding may.
    let rows: Vec<Vec<f32>> = (0..100).map(|i| vec![if i % 2 == 0 { 1.0 } else { -1.0 }; 1500]).collect();
    let labels = classes((0..100).map(|i| u32::from(i % 2 == 0) ^ u32::from(i == 50)).collect(), 2);
    let samples = Samples { features: features(&rows), labels };
    let all = scores(&ALL, &samples, None, 2, json!({"runs": 2})).unwrap();
    assert!(all[0].iter().enumerate().all(|(i, &x)| i == 50 || x > all[0][50]));
    let huge = Samples { features: features(&[vec![1e18, 0.0], vec![0.0, -1e18]]), labels: classes(vec![0, 1], 2) };
    scores(&ALL, &huge, None, 1, json!({"runs": 2})).unwrap();
}

#[test]
fn options_beyond_their_bounds_are_named() {
    let (samples, _) = clouds(10, 2, 1);
    for (bad, name) in [
        (json!({"epochs": 3, "el2n_epoch": 4}), "el2n_epoch"),
        (json!({"epochs": 3, "grad_norm_epoch": 4}), "grad_norm_epoch"),
        (json!({"runs": 0}), "runs"),
        (json!({"rounds": 3}), "rounds"),
    ] {
        assert!(scores(&ALL, &samples, None, 1, bad).unwrap_err().to_string().contains(name));
    }
}

#[test]
fn a_validation_query_of_other_columns_is_an_error() {
    let (samples, _) = clouds(10, 2, 1);
    let (other, _) = clouds(10, 3, 1);
    assert!(matches!(scores(&["tracin"], &samples, Some(&other), 1, Value::Null), Err(Error::Dimensions { .. })));
}

#[test]
fn a_cancel_request_ends_it_at_once() {
    struct Soon(std::cell::Cell<u32>, std::time::Instant);
    impl Progress for Soon {
        fn check(&self) -> Result<()> {
            self.0.set(self.0.get() + 1);
            if self.0.get() > 5 { Err(Error::Canceled) } else { Ok(()) }
        }
    }
    let (samples, _) = clouds(2000, 10, 1);
    let progress = Soon(std::cell::Cell::new(0), std::time::Instant::now());
    let task = Task { samples: &samples, validation: None, seed: 1, threads: 2, progress: &progress };
    let value = json!({"runs": 1000, "epochs": 1000});
    let result = score(&named(&ALL), &task, &mut Options::new("importance", &value).unwrap());
    assert!(matches!(result, Err(Error::Canceled)));
    assert!(progress.1.elapsed().as_secs() < 10);
}
