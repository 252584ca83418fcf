use super::*;
use ndarray::Array2;
use runtime::error::Error;
use runtime::progress::Unwatched;

use ColumnKind::{Category, Integer, Number, Time, Vector};

fn table(columns: &[(&str, ColumnKind)], rows: &[Vec<Value>]) -> Table {
    let mut table = Table::new(columns.iter().map(|&(name, kind)| (name.into(), kind)).collect());
    rows.iter().for_each(|row| table.push(row, || "a row".into()).unwrap());
    table
}

fn fit(table: &Table) -> Encoder {
    Encoder::fit(table, &["label"], &EncoderOptions::default(), &Unwatched).unwrap()
}

fn dense(features: &Features) -> Vec<Vec<f32>> {
    let mut out = Array2::zeros((features.rows(), features.columns()));
    features.write_rows(0, out.view_mut());
    out.outer_iter().map(|row| row.to_vec()).collect()
}

#[test]
fn numbers_are_standardised_and_null_has_a_feature_of_its_own() {
    let rows = [1.0, 3.0].map(|x| vec![Value::Number(x), Value::Category("a")]);
    let mut all = rows.to_vec();
    all.push(vec![Value::Null, Value::Category("茶")]);
    let table = table(&[("price", Number), ("kind", Category)], &all);
    let features = fit(&table).encode(&table, &Unwatched).unwrap();
    assert_eq!(dense(&features), [[-1.0, 0.0, 1.0, 0.0], [1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]]);
    assert_eq!(features.categories, [(2, 2)]);
}

#[test]
fn identifiers_are_left_out_and_said() {
    let names: Vec<String> = (0..40).map(|i| format!("order{i}")).collect();
    let rows: Vec<_> = (0..40)
        .map(|i| {
            vec![
                Value::Number(f64::from(1000 + i)),
                Value::Category(&names[i as usize]),
                Value::Number(f64::from(i % 2)),
            ]
        })
        .collect();
    let table = table(&[("id", Integer), ("code", Category), ("x", Integer)], &rows);
    let encoder = fit(&table);
    assert_eq!(encoder.encode(&table, &Unwatched).unwrap().columns(), 1);
    assert_eq!(encoder.notices().len(), 2);
    assert!(encoder.notices()[0].contains("\"id\"") && encoder.notices()[1].contains("\"code\""));
}

#[test]
fn of_ten_thousand_categories_the_frequent_ones_count_and_the_rest_are_one() {
    let names: Vec<String> = (0..10_000).map(|i| format!("c{i}")).collect();
    let rows: Vec<_> =
        (0..20_000).map(|i| vec![Value::Category(&names[if i < 10_000 { i } else { i % 300 }])]).collect();
    let table = table(&[("c", Category)], &rows);
    let encoder = fit(&table);
    let features = encoder.encode(&table, &Unwatched).unwrap();
    assert_eq!(features.columns(), 257);
    assert!((0..20_000).all(|row| features.matrix.row(row).0.len() == 1));
    assert!(encoder.notices()[0].contains("10000 categories"));
}

#[test]
fn texts_of_many_words_are_hashed_chinese_ones_by_pairs() {
    let texts: Vec<String> = (0..600).map(|i| format!("Red shoe number {i} 红色运动鞋{}", i % 7)).collect();
    let rows: Vec<_> = texts.iter().map(|text| vec![Value::Category(text)]).collect();
    let table = table(&[("title", Category)], &rows);
    let features = fit(&table).encode(&table, &Unwatched).unwrap();
    assert_eq!(features.columns(), 256);
    let rows = dense(&features);
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    assert!((dot(&rows[0], &rows[0]) - 1.0).abs() < 1e-5);
    // The same but for two words: alike, not equal.
    assert!((0.5..0.99).contains(&dot(&rows[0], &rows[7])), "{}", dot(&rows[0], &rows[7]));
}

#[test]
fn hours_and_weekdays_come_round() {
    let rows: Vec<_> = [0.0, 7.25, 14.0, 15.5].map(|day| vec![Value::Number(day)]).to_vec();
    let table = table(&[("ts", Time)], &rows);
    let rows = dense(&fit(&table).encode(&table, &Unwatched).unwrap());
    assert_eq!(rows[0].len(), 5);
    // The same weekday, and midnight against six o'clock.
    assert_eq!(rows[0][1..3], rows[1][1..3]);
    assert!((rows[1][3] - 1.0).abs() < 1e-6 && rows[0][3] == 0.0 && rows[0][4] == 1.0);
    assert_ne!(rows[2][1..3], rows[3][1..3]);
}

#[test]
fn a_vector_is_standardised_by_elements_and_one_that_never_changes_is_nothing() {
    let (a, b) = ([1.0f32, 5.0], [3.0f32, 5.0]);
    let table = table(&[("v", Vector)], &[vec![Value::Vector(&a)], vec![Value::Vector(&b)]]);
    assert_eq!(dense(&fit(&table).encode(&table, &Unwatched).unwrap()), [[-1.0, 0.0], [1.0, 0.0]]);
}

#[test]
fn a_source_without_features_is_an_error() {
    let rows = vec![vec![Value::Number(1.0), Value::Category("a")], vec![Value::Number(1.0), Value::Category("b")]];
    let table = table(&[("same", Number), ("label", Category)], &rows);
    let error = Encoder::fit(&table, &["label"], &EncoderOptions::default(), &Unwatched).unwrap_err();
    assert_eq!(error.to_string(), "the source has no features");
}

#[test]
fn a_validation_query_with_other_columns_is_an_error_and_new_categories_are_not() {
    let two = |column: &str, kind, a, b| table(&[(column, kind)], &[vec![a], vec![b]]);
    let encoder = fit(&two("kind", Category, Value::Category("a"), Value::Category("b")));
    let other = two("kind", Category, Value::Category("a"), Value::Category("新"));
    assert_eq!(dense(&encoder.encode(&other, &Unwatched).unwrap()), [[1.0, 0.0], [0.0, 0.0]]);
    for bad in [two("sort", Category, Value::Null, Value::Null), two("kind", Number, Value::Number(1.0), Value::Null)] {
        assert!(matches!(encoder.encode(&bad, &Unwatched), Err(Error::Invalid { .. })));
    }
}

fn labels(kind: ColumnKind, values: &[Value], wanted: Option<LabelKind>) -> runtime::error::Result<Labels> {
    let table = table(&[("label", kind)], &values.iter().map(|&value| vec![value]).collect::<Vec<_>>());
    Labels::fit("label", table.column("label").unwrap().1, wanted)
}

#[test]
fn labels_are_classes_or_numbers() {
    let numbers = |values: &[f64]| values.iter().map(|&x| Value::Number(x)).collect::<Vec<_>>();
    let classes = labels(Integer, &numbers(&[10.0, 2.0, -0.0, 0.0]), None).unwrap();
    assert_eq!(classes, Labels::Classes { codes: vec![2, 1, 0, 0], names: vec!["0".into(), "2".into(), "10".into()] });
    assert_eq!(labels(Number, &numbers(&[0.5, 1.0]), None).unwrap().classes(), None);
    assert_eq!(
        labels(Number, &numbers(&[0.0, 1.0]), Some(LabelKind::Numbers)).unwrap(),
        Labels::Numbers(vec![0.0, 1.0])
    );
    let many: Vec<f64> = (0..21).map(f64::from).collect();
    assert_eq!(labels(Integer, &numbers(&many), None).unwrap().classes(), None);
    let texts = labels(Category, &[Value::Category("是"), Value::Category("no")], None).unwrap();
    assert_eq!(texts, Labels::Classes { codes: vec![1, 0], names: vec!["no".into(), "是".into()] });
    let error = |result: runtime::error::Result<Labels>| result.unwrap_err().to_string();
    assert_eq!(
        error(labels(Category, &[Value::Category("a"), Value::Category("a")], None)),
        "label \"label\" has only one class, \"a\""
    );
    assert_eq!(
        error(labels(Category, &[Value::Category("a"), Value::Null], None)),
        "column \"label\" is null in row 2 of the source"
    );
    assert!(error(labels(Category, &[Value::Category("a")], Some(LabelKind::Numbers))).contains("is text"));
}

#[test]
fn labels_of_a_validation_query_are_the_classes_of_the_source() {
    let source = labels(Category, &[Value::Category("a"), Value::Category("b")], None).unwrap();
    let other = |name| {
        let table = table(&[("label", Category)], &[vec![Value::Category(name)]]);
        source.like("label", table.column("label").unwrap().1)
    };
    assert_eq!(other("b").unwrap(), Labels::Classes { codes: vec![1], names: vec!["a".into(), "b".into()] });
    assert!(other("c").unwrap_err().to_string().contains("class \"c\", which the source lacks"));
}
