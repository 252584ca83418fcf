use super::*;
use crate::Id;
use onnx::IdTable;
use runtime::error::Error;
use tabular::{ColumnKind, Value};

use ColumnKind::{Category, Number, Vector};

fn table<'a>(
    columns: &[(&str, ColumnKind)],
    rows: impl IntoIterator<Item = (&'a str, Vec<Value<'a>>)>,
) -> FeatureTable {
    let mut table = FeatureTable::new(columns.iter().map(|&(name, kind)| (name.into(), kind)).collect());
    rows.into_iter().for_each(|(id, values)| table.push(Id::Text(id), &values).unwrap());
    table
}

const GOODS: [(&str, ColumnKind); 3] = [("類別", Category), ("price", Number), ("v", Vector)];

fn goods() -> FeatureTable {
    use Value::*;
    table(
        &GOODS,
        [
            ("牛奶", vec![Category("乳製品"), Number(1.0), Vector(&[3.0, 4.0])]),
            ("brød", vec![Category("Brød"), Number(3.0), Null]),
            ("茶", vec![Null, Null, Vector(&[0.0, -2.0])]),
            ("優格", vec![Category("乳製品"), Number(2.0), Vector(&[0.0, 0.0])]),
        ],
    )
}

fn dense(features: &Features, row: usize) -> Vec<f32> {
    let mut out = vec![0.0; features.attributes.columns];
    let (columns, values) = features.attributes.row(row);
    columns.iter().zip(values).for_each(|(&c, &v)| out[c as usize] = v);
    out
}

#[test]
fn categories_numbers_and_vectors_become_numbers_in_the_order_of_the_ids() {
    let goods = goods();
    let encoder = Encoder::fit(&goods, &|| Ok(())).unwrap();
    assert_eq!(encoder.columns(), ["類別=乳製品", "類別=Brød", "price"]);
    let mut ids: Vec<&str> = goods.ids().chain(["nobody"]).collect();
    ids.sort_unstable();
    let ids = IdTable::from_sorted(&ids);
    let features = encoder.encode(&goods, &ids).unwrap();
    let row = |id| ids.find(id).unwrap() as usize;
    let deviation = (1.5f32).sqrt();
    assert_eq!((features.rows(), features.width(), features.attributes.columns), (5, 2, 3));
    assert_eq!(dense(&features, row("牛奶"))[..2], [1.0, 0.0]);
    assert!((dense(&features, row("牛奶"))[2] + deviation).abs() < 1e-6);
    assert_eq!(features.vector(row("牛奶")), [0.6, 0.8]);
    assert!((dense(&features, row("brød"))[2] - deviation).abs() < 1e-6);
    assert_eq!((dense(&features, row("茶")), features.vector(row("茶"))), (vec![0.0; 3], &[0.0, -1.0][..]));
    assert_eq!(dense(&features, row("優格")), [1.0, 0.0, 0.0]);
    assert!(features.knows(row("優格")) && features.knows(row("茶")) && !features.knows(row("nobody")));
}

#[test]
fn the_order_of_rows_and_a_stored_encoder_change_nothing() {
    let numbers = [0.1, 1e15, -3.3, 7.7e-9, 12.0, 0.3];
    let ids = ["a", "b", "c", "d", "e", "f"];
    let names = ["x", "y", "x", "z", "y", "x"];
    let rows: Vec<_> =
        (0..6).map(|i| (ids[i], vec![Value::Category(names[i]), Value::Number(numbers[i]), Value::Null])).collect();
    let forward = table(&GOODS, rows.clone());
    let encoder = Encoder::fit(&forward, &|| Ok(())).unwrap();
    assert_eq!(Encoder::fit(&table(&GOODS, rows.into_iter().rev()), &|| Ok(())).unwrap(), encoder);
    let stored: Encoder = serde_json::from_str(&serde_json::to_string(&encoder).unwrap()).unwrap();
    assert_eq!(stored, encoder);
    let ids = IdTable::from_sorted(&ids);
    let (a, b) = (encoder.encode(&forward, &ids).unwrap(), stored.encode(&forward, &ids).unwrap());
    assert_eq!((a.attributes, a.vectors), (b.attributes, b.vectors));
}

#[test]
fn what_says_nothing_is_left_out() {
    let columns = [("same", Category), ("constant", Number), ("empty", Number), ("zero", Number), ("none", Vector)];
    let row = || vec![Value::Category("c"), Value::Number(1e300), Value::Null, Value::Number(0.0), Value::Null];
    let constant = table(&columns, [("a", row()), ("b", row())]);
    let encoder = Encoder::fit(&constant, &|| Ok(())).unwrap();
    assert_eq!((encoder.columns().len(), encoder.width()), (0, 0));
    assert_eq!(encoder.encode(&constant, &IdTable::from_sorted(&["a"])).unwrap().rows(), 1);
    // One row has nothing to differ from, but others may come to be compared with it.
    let one = Encoder::fit(&table(&columns, [("a", row())]), &|| Ok(())).unwrap();
    assert_eq!(one.columns(), ["same=c"]);
    assert_eq!(Encoder::fit(&table(&columns, []), &|| Ok(())).unwrap(), Encoder::default());
}

#[test]
fn of_many_categories_those_of_a_single_row_are_left_out() {
    let names: Vec<String> = (0..300).map(|i| format!("c{}", if i < 20 { i % 10 } else { i })).collect();
    let ids: Vec<String> = (0..300).map(|i| format!("i{i:03}")).collect();
    let rows = ids.iter().zip(&names).map(|(id, name)| (id.as_str(), vec![Value::Category(name)]));
    let encoder = Encoder::fit(&table(&[("brand", Category)], rows), &|| Ok(())).unwrap();
    assert_eq!(encoder.columns(), (0..10).map(|i| format!("brand=c{i}")).collect::<Vec<_>>());
}

#[test]
fn what_was_not_there_to_be_learned_from_is_nothing() {
    let encoder = Encoder::fit(&goods(), &|| Ok(())).unwrap();
    let columns = [("new", Number), ("類別", Category), ("v", Vector)];
    let later =
        table(&columns, [("1", vec![Value::Number(5.0), Value::Category("unknown"), Value::Vector(&[1.0, 0.0])])]);
    let features = encoder.encode(&later, &IdTable::from_sorted(&["1"])).unwrap();
    assert_eq!((features.attributes.entries(), features.attributes.columns), (0, 3));
    assert_eq!(features.vector(0), [1.0, 0.0]);
}

#[test]
fn numbers_far_off_are_cut_and_great_ones_stay_finite() {
    let rows: Vec<(String, f64)> = (0..1000).map(|i| (i.to_string(), if i == 7 { f64::MAX } else { -1e307 })).collect();
    let rows = rows.iter().map(|(id, x)| (id.as_str(), vec![Value::Number(*x)]));
    let great = table(&[("x", Number)], rows);
    let encoder = Encoder::fit(&great, &|| Ok(())).unwrap();
    let features = encoder.encode(&great, &IdTable::from_sorted(&["6", "7"])).unwrap();
    assert_eq!(features.attributes.row(1).1, [5.0]);
    assert!(features.attributes.values.iter().all(|x| x.is_finite() && x.abs() <= 5.0));
}

#[test]
fn what_cannot_be_used_names_the_column_and_the_id() {
    let mut goods = goods();
    let mut message = |id, values: &[Value]| goods.push(Id::Text(id), values).unwrap_err().to_string();
    let names = |message: String, parts: &[&str]| assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    let not_a_number = message("a", &[Value::Null, Value::Number(f64::NAN), Value::Null]);
    names(not_a_number, &["column \"price\"", "\"a\"", "NaN"]);
    names(message("b", &[Value::Null, Value::Null, Value::Vector(&[1.0])]), &["column \"v\"", "\"b\"", "1", "2"]);
    assert!(message("c", &[Value::Null, Value::Null, Value::Vector(&[f32::INFINITY, 0.0])]).contains("inf"));
    assert!(message("茶", &[Value::Null, Value::Null, Value::Null]).contains("\"茶\""));
    // The integer 1 and the text '1' are one id.
    let mut numbered = table(&[], [("1", vec![])]);
    assert!(numbered.push(Id::Int(1), &[]).is_err());
}

#[test]
fn a_column_of_another_kind_than_learned_from_is_an_error() {
    let encoder = Encoder::fit(&goods(), &|| Ok(())).unwrap();
    let ids = IdTable::from_sorted(&["1"]);
    for later in [
        table(&[("price", Category)], [("1", vec![Value::Category("1.0")])]),
        table(&[("v", Vector)], [("1", vec![Value::Vector(&[1.0, 2.0, 3.0])])]),
    ] {
        assert!(matches!(encoder.encode(&later, &ids), Err(Error::Invalid { .. })));
    }
}
