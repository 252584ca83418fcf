//! Scores of out-of-sample models: what is mislabelled comes last, whatever the shape of the data.

use super::out_of_fold::deal;
use crate::label_errors::{find, judge};
use crate::{Method, Task, ranks, score};
use kernels::Csr;
use ndarray::array;
use runtime::draw;
use runtime::error::Error;
use runtime::options::Options;
use runtime::progress::Unwatched;
use tabular::trees::Target;
use tabular::{Features, Labels, Samples};

fn methods() -> [Method; 3] {
    ["auto", "self_confidence", "data_oob"].map(|name| Method::from_name(name).unwrap())
}

fn features(rows: usize, columns: usize, value: impl Fn(usize, usize) -> f32) -> Features {
    let mut matrix = Csr { indptr: vec![0], columns, ..Csr::default() };
    for row in 0..rows {
        matrix.indices.extend(0..columns as u32);
        matrix.values.extend((0..columns).map(|column| value(row, column)));
        matrix.indptr.push(matrix.indices.len() as u64);
    }
    Features { matrix, categories: Vec::new() }
}

fn noise(row: usize, column: usize) -> f32 {
    draw::normal(column as u64 + 1, row as u64)
}

fn classes(codes: Vec<u32>, n: usize) -> Labels {
    Labels::Classes { codes, names: (0..n).map(|class| format!("c{class}")).collect() }
}

/// Three classes by two features, and which labels are flipped.
fn flipped(rows: usize) -> (Samples, Vec<bool>) {
    let features = features(rows, 4, noise);
    let wrong: Vec<bool> = (0..rows).map(|row| draw::below(77, row as u64, 10) == 0).collect();
    let codes = (0..rows)
        .map(|row| {
            let class = u32::from(noise(row, 0) > 0.4) + u32::from(noise(row, 1) > 0.0);
            if wrong[row] { (class + 1) % 3 } else { class }
        })
        .collect();
    (Samples { features, labels: classes(codes, 3) }, wrong)
}

fn scores(method: Method, samples: &Samples, threads: usize) -> Vec<f64> {
    let (none, task) =
        (serde_json::Value::Null, Task { samples, validation: None, seed: 3, threads, progress: &Unwatched });
    let mut options = Options::new("importance", &none).unwrap();
    let scores = score(&[method], &task, &mut options).unwrap().remove(0);
    options.finish().unwrap();
    assert!(scores.len() == samples.labels.len() && scores.iter().all(|score| score.is_finite()));
    scores
}

#[test]
fn flipped_labels_come_last() {
    let (samples, wrong) = flipped(600);
    for method in methods() {
        let scores = scores(method, &samples, 2);
        let ranks = ranks(&scores, &Unwatched).unwrap();
        let n = wrong.iter().filter(|wrong| **wrong).count();
        let found = (0..600).filter(|&row| wrong[row] && ranks[row] > (600 - n) as u64).count();
        assert!(found as f64 > 0.75 * n as f64, "{} {found} of {n}", method.name());
    }
}

#[test]
fn numbers_that_are_off_come_last() {
    let features = features(400, 3, noise);
    let values =
        (0..400).map(|row| noise(row, 0) * 2.0 + noise(row, 1) + if row % 20 == 0 { 9.0 } else { 0.0 }).collect();
    let samples = Samples { features, labels: Labels::Numbers(values) };
    for method in methods() {
        let ranks = ranks(&scores(method, &samples, 2), &Unwatched).unwrap();
        let found = (0..400).step_by(20).filter(|&row| ranks[row] > 380).count();
        assert!(found >= 18, "{} {found}", method.name());
    }
}

#[test]
fn threads_change_no_bit_of_a_score() {
    let (samples, _) = flipped(200);
    for method in methods() {
        let of = |threads| scores(method, &samples, threads).iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert!(of(1) == of(2) && of(1) == of(5), "{}", method.name());
    }
}

#[test]
fn few_rows_rare_classes_and_constant_features_have_scores() {
    let small =
        |rows: usize, codes: Vec<u32>, n| Samples { features: features(rows, 2, noise), labels: classes(codes, n) };
    let constant =
        Samples { features: features(30, 2, |_, _| 1.0), labels: classes((0..30).map(|i| i % 2).collect(), 2) };
    let mut rare = vec![0; 40];
    (rare[7], rare[9]) = (1, 2);
    let numbers = Samples { features: features(3, 2, noise), labels: Labels::Numbers(vec![1.0, 1.0, 1.0]) };
    let huge = Samples {
        features: features(40, 2, noise),
        labels: Labels::Numbers((0..40).map(|i| noise(i, 5) * 1e38 / 8.0).collect()),
    };
    for samples in [
        small(1, vec![0], 2),
        small(2, vec![0, 1], 2),
        small(3, vec![0, 1, 1], 2),
        small(40, rare, 3),
        small(60, (0..60).collect(), 60),
        constant,
        numbers,
        huge,
    ] {
        for method in methods() {
            let scores = scores(method, &samples, 2);
            assert!(samples.labels.classes().is_none() || scores.iter().all(|x| (0.0..=1.0).contains(x)), "{scores:?}");
        }
    }
}

#[test]
fn a_class_of_one_row_is_not_likely() {
    let mut codes: Vec<u32> = (0..80).map(|row| u32::from(noise(row, 0) > 0.0)).collect();
    codes[11] = 2;
    let samples = Samples { features: features(80, 2, noise), labels: classes(codes, 3) };
    for method in methods() {
        assert!(scores(method, &samples, 2)[11] < 0.2);
    }
}

#[test]
fn folds_are_of_one_size_and_of_all_classes() {
    let codes: Vec<u32> = (0..103).map(|i| u32::from(i % 10 == 0)).collect();
    let fold_of = deal(&Target::Classes { codes: &codes, classes: 2 }, 103, 5, 1).unwrap();
    for fold in 0..5 {
        let of = |class: Option<u32>| {
            fold_of.iter().zip(&codes).filter(|(f, c)| **f == fold && class.is_none_or(|class| **c == class)).count()
        };
        assert!((20..=21).contains(&of(None)) && (2..=3).contains(&of(Some(1))));
    }
}

#[test]
fn label_errors_are_found_with_the_class_they_should_be() {
    let (samples, wrong) = flipped(600);
    let none = serde_json::Value::Null;
    let task = Task { samples: &samples, validation: None, seed: 3, threads: 2, progress: &Unwatched };
    let found = find(&task, &mut Options::new("find_label_errors", &none).unwrap()).unwrap();
    let right = found.iter().filter(|error| wrong[error.row] && (error.suggested + 1) % 3 == error.given).count();
    let n = wrong.iter().filter(|wrong| **wrong).count();
    assert!(right as f64 > 0.75 * found.len() as f64 && right as f64 > 0.75 * n as f64, "{right} {} {n}", found.len());
    assert!(found.is_sorted_by(|a, b| a.confidence >= b.confidence) && found.iter().all(|e| e.confidence >= 0.5));
    let numbers = Samples { labels: Labels::Numbers(vec![0.0; 600]), ..samples.clone() };
    let task = Task { samples: &numbers, ..task };
    let error = find(&task, &mut Options::new("find_label_errors", &none).unwrap()).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }));
}

#[test]
fn confident_learning_counts_as_in_its_paper() {
    // Thresholds are (0.9 + 0.8 + 0.2) / 3 and (0.7 + 0.9) / 2: row 2 of label 0 is counted for class 1, one of three
    // counted.
    let p = array![[0.9, 0.1], [0.8, 0.2], [0.2, 0.8], [0.3, 0.7], [0.1, 0.9]];
    let found = judge(&[0, 0, 0, 1, 1], p.view(), &Unwatched).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].row, found[0].given, found[0].suggested), (2, 0, 1));
    assert!((found[0].confidence - 0.8).abs() < 1e-6);
    // A class without rows, and a label that no one contradicts.
    let p = array![[0.8, 0.1, 0.1], [0.9, 0.1, 0.0], [0.2, 0.7, 0.1]];
    assert!(judge(&[0, 0, 1], p.view(), &Unwatched).unwrap().is_empty());
}
