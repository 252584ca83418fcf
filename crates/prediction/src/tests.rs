use ndarray::Array2;
use serde_json::{Value as Json, json};

use super::*;
use crate::folds::Split;
use runtime::draw;
use runtime::error::Error;
use runtime::options::Options;
use runtime::progress::Unwatched;
use tabular::{ColumnKind, LabelKind, Labels, Table, Value};

fn uniform(seed: u64, row: usize) -> f64 {
    draw::below(seed, row as u64, 1 << 20) as f64 / (1 << 20) as f64
}

/// Rows of every kind of column, with a label that depends on some.
fn table_of(rows: usize) -> Table {
    let columns = [
        ("x", ColumnKind::Number),
        ("kind", ColumnKind::Category),
        ("day", ColumnKind::Time),
        ("vector", ColumnKind::Vector),
        ("bought", ColumnKind::Category),
        ("price", ColumnKind::Number),
    ];
    let mut table = Table::new(columns.map(|(name, kind)| (name.to_owned(), kind)).to_vec()).unbounded();
    for row in 0..rows {
        let (x, u) = (uniform(1, row), uniform(2, row));
        let kind = ["茶", "coffee", "milk"][row % 3];
        let day = 7000.0 + (row % 365) as f64 + 0.25 * (row % 4) as f64;
        let vector = [uniform(3, row) as f32, 1.0];
        let p = 1.0 / (1.0 + (-(6.0 * x - 3.0 + if kind == "茶" { 2.0 } else { -1.0 })).exp());
        let number = if row % 17 == 0 { Value::Null } else { Value::Number(x) };
        let category = if row % 19 == 0 { Value::Null } else { Value::Category(kind) };
        let label = Value::Category(if u < p { "yes" } else { "no" });
        let price = Value::Number(10.0 * x + f64::from(vector[0]));
        table
            .push(&[number, category, Value::Number(day), Value::Vector(&vector), label, price], || "a row".into())
            .unwrap();
    }
    table
}

fn trained(table: &Table, label: &str, leave: &[&str], options: Json) -> Result<Trained, Error> {
    trained_as(table, label, leave, options, None, 2, None)
}

fn trained_as(
    table: &Table,
    label: &str,
    leave: &[&str],
    options: Json,
    kind: Option<LabelKind>,
    threads: usize,
    weights: Option<&[f32]>,
) -> Result<Trained, Error> {
    let (_, column) = table.column(label).unwrap();
    let task = Task {
        table,
        label,
        labels: Labels::fit(label, column, kind)?,
        leave,
        weights,
        split: Split::Rows,
        seed: 7,
        threads,
        progress: &Unwatched,
    };
    train(task, Options::new("boosting", &options)?)
}

fn predicted(model: &Model, table: &Table) -> Array2<f32> {
    model.predict("the source", table, 2, &Unwatched).unwrap()
}

#[test]
fn what_depends_on_the_columns_is_predicted() {
    let table = table_of(2000);
    let classes = trained(&table, "bought", &["bought", "price"], json!({})).unwrap();
    let auc = classes.metadata["metrics"]["auc"].as_f64().unwrap();
    assert!((0.85..0.98).contains(&auc), "{}", classes.metadata);
    let rounds = classes.metadata["rounds"].as_u64().unwrap();
    assert!(rounds > 10 && rounds < 1000, "{rounds}");
    let all = predicted(&classes.model, &table);
    assert!(all.outer_iter().all(|row| (row.sum() - 1.0).abs() < 1e-5));
    let numbers = trained(&table, "price", &["bought", "price"], json!({})).unwrap();
    assert!(numbers.metadata["metrics"]["r2"].as_f64().unwrap() > 0.9, "{}", numbers.metadata);
}

#[test]
fn a_stored_predictor_predicts_the_same() {
    let table = table_of(500);
    for label in ["bought", "price"] {
        let model = trained(&table, label, &["bought", "price"], json!({ "rounds": 30 })).unwrap().model;
        let (onnx, data) = model.pack().unwrap();
        let opened = Model::open("p", onnx.into(), data.into()).unwrap();
        assert_eq!(predicted(&model, &table), predicted(&opened, &table));
        assert_eq!((opened.label(), opened.outcome()), (label, model.outcome()));
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let table = table_of(700);
    let packed = |threads| {
        let trained = trained_as(&table, "bought", &["bought"], json!({ "rounds": 40 }), None, threads, None).unwrap();
        trained.model.pack().unwrap()
    };
    assert!(packed(1) == packed(3));
}

#[test]
fn rows_of_weight_zero_do_not_count() {
    let table = table_of(600);
    let weights: Vec<f32> = (0..600).map(|row| if row < 300 { 1.0 } else { 0.0 }).collect();
    // What is left out says the opposite.
    let (_, column) = table.column("bought").unwrap();
    let Labels::Classes { mut codes, names } = Labels::fit("bought", column, None).unwrap() else { unreachable!() };
    codes.iter_mut().skip(300).for_each(|code| *code = 1 - *code);
    let task = |labels, weights| Task {
        table: &table,
        label: "bought",
        labels,
        leave: &["bought", "price"],
        weights,
        split: Split::Rows,
        seed: 7,
        threads: 2,
        progress: &Unwatched,
    };
    let rounds = json!({ "rounds": 20 });
    let options = || Options::new("boosting", &rounds).unwrap();
    let labels = Labels::Classes { codes: codes.clone(), names };
    let weighted = train(task(labels.clone(), Some(&weights)), options()).unwrap();
    let plain = train(task(labels, None), options()).unwrap();
    let agree = |trained: &Trained| {
        let all = predicted(&trained.model, &table);
        (0..300).filter(|&row| (all[[row, 1]] > 0.5) == (codes[row] == 1)).count()
    };
    assert!(agree(&weighted) > 220 && agree(&weighted) > agree(&plain) + 40, "{} {}", agree(&weighted), agree(&plain));
}

#[test]
fn more_classes_get_a_probability_each() {
    let table = table_of(600);
    // Labels must be known.
    assert!(matches!(trained(&table, "kind", &["kind"], json!({ "rounds": 5 })), Err(Error::NullColumn { .. })));
    let mut other = Table::new(vec![("x".into(), ColumnKind::Number), ("class".into(), ColumnKind::Integer)]);
    for row in 0..300 {
        let class = (row % 4) as f64;
        other.push(&[Value::Number(class + 0.1 * uniform(9, row)), Value::Number(class)], || "a row".into()).unwrap();
    }
    let of_classes = trained(&other, "class", &["class"], json!({})).unwrap();
    assert_eq!(of_classes.model.outputs(), 4);
    assert!(of_classes.metadata["metrics"]["accuracy"].as_f64().unwrap() > 0.98, "{}", of_classes.metadata);
    let all = predicted(&of_classes.model, &other);
    let right = (0..300).filter(|&row| tabular::most_likely(&all.row(row).to_vec()) == row as u32 % 4);
    assert!(right.count() > 295);
}

#[test]
fn unknown_and_infinite_values_are_values() {
    let table = table_of(400);
    let model = trained(&table, "bought", &["bought", "price"], json!({ "rounds": 20 })).unwrap().model;
    let mut other = table_of(1);
    let vector = [0.5, 0.5];
    for (x, kind) in [(f64::NAN, "new"), (f64::INFINITY, "milk"), (f64::NEG_INFINITY, "")] {
        let row = [
            Value::Number(x),
            Value::Category(kind),
            Value::Number(f64::INFINITY),
            Value::Vector(&vector),
            Value::Null,
            Value::Null,
        ];
        other.push(&row, || "a row".into()).unwrap();
    }
    assert!(predicted(&model, &other).iter().all(|p| (0.0..=1.0).contains(p)));
}

#[test]
fn a_source_that_does_not_fit_is_named() {
    let table = table_of(300);
    let model = trained(&table, "bought", &["bought", "price"], json!({ "rounds": 5 })).unwrap().model;
    let bad = |columns: &[(&str, ColumnKind)]| {
        let other = Table::new(columns.iter().map(|&(name, kind)| (name.to_owned(), kind)).collect());
        model.predict("the source", &other, 1, &Unwatched).unwrap_err().to_string()
    };
    assert_eq!(bad(&[]), "the source has no column \"x\"");
    assert_eq!(bad(&[("x", ColumnKind::Category)]), "column \"x\" has another type in the source");
    assert_eq!(bad(&[("x", ColumnKind::Time)]), "column \"x\" has another type in the source");
}

#[test]
fn what_cannot_be_learned_is_refused() {
    let few = table_of(5);
    assert!(trained(&few, "price", &["price"], json!({})).err().unwrap().to_string().contains("too few"));
    let table = table_of(100);
    assert!(trained(&table, "bought", &["bought"], json!({ "leaf": 3 })).is_err());
    assert!(trained(&table, "bought", &["bought"], json!({ "learning_rate": 0 })).is_err());
    let weights = [vec![1.0; 99], vec![-1.0]].concat();
    let error = trained_as(&table, "bought", &["bought"], json!({}), None, 2, Some(&weights)).err().unwrap();
    assert_eq!(error.to_string(), "weight of row 100 is -1");
    let error = trained_as(&table, "bought", &["bought"], json!({}), None, 2, Some(&[0.0; 100])).err().unwrap();
    assert_eq!(error.to_string(), "all weights are 0");
}

#[test]
fn a_column_that_tells_the_label_is_said() {
    let mut table = Table::new(vec![
        ("copy".into(), ColumnKind::Category),
        ("x".into(), ColumnKind::Number),
        ("label".into(), ColumnKind::Category),
    ]);
    for row in 0..200 {
        let label = if row % 2 == 0 { "a" } else { "b" };
        let copy = if row % 2 == 0 { "first" } else { "second" };
        table
            .push(&[Value::Category(copy), Value::Number(uniform(4, row)), Value::Category(label)], || "a row".into())
            .unwrap();
    }
    let notices = trained(&table, "label", &["label"], json!({ "rounds": 5 })).unwrap().notices;
    assert!(notices.iter().any(|notice| notice.contains("column \"copy\" alone predicts \"label\"")), "{notices:?}");
}

#[test]
fn damaged_files_are_refused() {
    let table = table_of(200);
    let model = trained(&table, "bought", &["bought", "price"], json!({ "rounds": 5 })).unwrap().model;
    let (onnx, data) = model.pack().unwrap();
    for place in (0..data.len()).step_by(7) {
        let mut other = data.clone();
        other[place] ^= 0xff;
        // It may be opened, and predict something else, but nothing worse.
        if let Ok(model) = Model::open("p", onnx.clone().into(), other.into()) {
            predicted(&model, &table);
        }
    }
    assert!(Model::open("p", onnx.into(), data[..data.len() / 2].to_vec().into()).is_err());
}
