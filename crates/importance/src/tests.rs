//! What every method must do.

use super::*;
use runtime::error::{Error, Result};
use runtime::options::Options;

#[test]
fn every_method_is_found_by_its_name() {
    for method in Method::ALL {
        assert_eq!(Method::from_name(method.name()).unwrap(), *method);
    }
    assert!(matches!(Method::from_name("magic"), Err(Error::UnknownName { .. })));
}

#[test]
fn ranks_begin_with_the_highest_score() {
    assert_eq!(ranks(&[0.5, 2.0, -1.0, 0.5], &Unwatched).unwrap(), [2, 1, 4, 3]);
}

use serde_json::json;

use runtime::draw::{below, uniform};
use runtime::progress::Unwatched;
use tabular::{ColumnKind, Encoder, EncoderOptions, Labels, Samples, Table, Value};

const ROWS: u64 = 300;

fn is_wrong(row: u64) -> bool {
    row % 9 == 4
}

fn table(rows: std::ops::Range<u64>, numbers: bool, wrong: impl Fn(u64) -> bool) -> Table {
    let label = if numbers { ColumnKind::Number } else { ColumnKind::Category };
    let columns =
        [("x", ColumnKind::Number), ("y", ColumnKind::Number), ("kind", ColumnKind::Category), ("label", label)];
    let mut table = Table::new(columns.map(|(name, kind)| (name.into(), kind)).to_vec());
    for row in rows {
        let (x, y) = (f64::from(uniform(1, row)), f64::from(uniform(2, row)));
        let kind = below(3, row, 3);
        let sum = 2.0 * x + y + kind as f64;
        let label = match (numbers, wrong(row)) {
            (true, wrong) => Value::Number(if wrong { 4.0 - 2.0 * sum } else { sum }),
            (false, wrong) => Value::Category(["low", "high"][usize::from((sum > 1.0) != wrong)]),
        };
        table
            .push(&[Value::Number(x), Value::Number(y), Value::Category(["a", "茶", "c"][kind]), label], String::new)
            .unwrap();
    }
    table
}

/// Rows of which some are labelled wrong, and clean ones.
fn samples(numbers: bool) -> (Samples, Samples) {
    let (noisy, clean) = (table(0..ROWS, numbers, is_wrong), table(ROWS..ROWS + 100, numbers, |_| false));
    let encoder = Encoder::fit(&noisy, &["label"], &EncoderOptions::default(), &Unwatched).unwrap();
    let labels = Labels::fit("label", noisy.column("label").unwrap().1, None).unwrap();
    let encode = |table: &Table| Samples {
        features: encoder.encode(table, &Unwatched).unwrap(),
        labels: labels.like("label", table.column("label").unwrap().1).unwrap(),
    };
    (encode(&noisy), encode(&clean))
}

fn scores(method: &Method, data: &(Samples, Samples), threads: usize) -> Result<Vec<f64>> {
    let task = Task { samples: &data.0, validation: Some(&data.1), seed: 1, threads, progress: &Unwatched };
    let json = json!({});
    let mut options = Options::new("importance", &json)?;
    let scores = score(&[*method], &task, &mut options)?;
    options.finish()?;
    Ok(scores.into_iter().next().unwrap())
}

/// How likely a wrong row scores below a right one.
fn found(scores: &[f64]) -> f64 {
    let negative: Vec<f32> = scores.iter().map(|&score| -score as f32).collect();
    tabular::auc(&negative, &(0..ROWS).map(is_wrong).collect::<Vec<_>>(), &|| Ok(())).unwrap().unwrap()
}

#[test]
fn every_method_puts_wrong_labels_last_and_gives_the_same_on_any_number_of_threads() {
    let data = samples(false);
    for method in Method::ALL {
        let scores = self::scores(method, &data, 2).unwrap();
        assert!(scores.len() == ROWS as usize && scores.iter().all(|score| score.is_finite()), "{}", method.name());
        let least = if ["tracin", "forgetting"].contains(&method.name()) { 0.7 } else { 0.85 };
        assert!(found(&scores) > least, "{} {}", method.name(), found(&scores));
        assert_eq!(scores, self::scores(method, &data, 5).unwrap(), "{}", method.name());
    }
}

#[test]
fn every_method_of_numbers_puts_wrong_ones_last_and_the_others_say_so() {
    let data = samples(true);
    for method in Method::ALL {
        let scores = match self::scores(method, &data, 2) {
            Ok(scores) => scores,
            Err(error) => {
                assert!(method.needs_classes(), "{} {error}", method.name());
                assert!(matches!(error, Error::Unsupported { .. }));
                continue;
            }
        };
        assert!(found(&scores) > 0.7, "{} {}", method.name(), found(&scores));
    }
}

#[test]
fn a_single_row_and_a_class_of_one_row_have_finite_scores() {
    let (noisy, clean) = samples(false);
    for method in Method::ALL {
        for rows in [1, 2, 4] {
            let mut codes = vec![0; rows];
            codes[rows - 1] = 1;
            let mut features = noisy.features.clone();
            features.matrix.indptr.truncate(rows + 1);
            let end = features.matrix.indptr[rows] as usize;
            features.matrix.indices.truncate(end);
            features.matrix.values.truncate(end);
            let labels = Labels::Classes { codes, names: vec!["high".into(), "low".into()] };
            let data = (Samples { features, labels }, clean.clone());
            let scores = self::scores(method, &data, 2).unwrap();
            assert!(
                scores.len() == rows && scores.iter().all(|score| score.is_finite()),
                "{}: {scores:?}",
                method.name()
            );
        }
    }
}
