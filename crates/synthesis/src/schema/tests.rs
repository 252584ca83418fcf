use serde_json::json;

use super::*;
use crate::conditions::Conditions;
use crate::constraints::Constraint;
use crate::frame::{FieldKind, Frame, Values};
use crate::made::{Block, Cell};
use crate::sampler::Sampler;
use crate::{Draw, Generator, Part, RunGraph};
use runtime::draw::below;
use runtime::error::Result;
use runtime::options::Options;
use runtime::progress::Unwatched;
use tabular::{ColumnKind, Table, Value};

fn describe(name: &str, column_type: ColumnType) -> Description {
    Description {
        name: name.into(),
        column_type,
        type_name: format!("{column_type:?}").to_lowercase(),
        scale: None,
        not_null: false,
        key: false,
        foreign_key: false,
        labels: None,
        uuid: false,
    }
}

/// A table whose row `i` has what `row` says.
fn table<'a>(columns: &[Description], rows: usize, row: impl Fn(usize) -> Vec<Value<'a>>) -> Table {
    let kind = |column: &Description| match column.column_type.is_number() {
        true => ColumnKind::Number,
        false => ColumnKind::Category,
    };
    let mut table = Table::new(columns.iter().map(|column| (column.name.clone(), kind(column))).collect());
    (0..rows).for_each(|i| table.push(&row(i), || format!("row {i}")).unwrap());
    table
}

/// Draws whole rows of what it was made of.
struct Donors(Frame);

impl Generator for Donors {
    fn sample(&self, draw: &Draw, _: &mut RunGraph) -> Result<Frame> {
        let rows: Vec<usize> = (0..draw.rows).map(|row| below(draw.seed, row as u64, self.0.rows)).collect();
        Ok(Frame { rows: draw.rows, columns: self.0.columns.iter().map(|values| values.take(&rows)).collect() })
    }
}

fn made(learned: Learned, wanted: u64, conditions: serde_json::Value) -> Result<(Schema, Vec<Block>)> {
    let Learned { schema, frame, unique, .. } = learned;
    let conditions = Conditions::new(&conditions, &schema)?;
    let part = Part::new(schema, Box::new(Donors(frame)), unique, &Unwatched)?;
    let mut sampler = Sampler::new(&part, wanted, conditions, 3);
    let mut blocks = Vec::new();
    while let Some(block) = sampler.next(&part, &mut |_, _| panic!("no graph"), 1, &Unwatched)? {
        blocks.push(block);
    }
    Ok((part.schema, blocks))
}

fn shop() -> (Vec<Description>, Table) {
    let mut columns = vec![
        describe("id", ColumnType::Integer),
        describe("segment", ColumnType::Text),
        describe("price", ColumnType::Numeric),
        describe("ordered", ColumnType::Date),
        describe("shipped", ColumnType::Date),
        describe("gift", ColumnType::Boolean),
    ];
    columns[0].key = true;
    columns[5].labels = Some(vec!["false".into(), "true".into()]);
    let table = table(&columns, 100, |i| {
        let shipped = if i % 10 == 0 { Value::Null } else { Value::Number((7000 + i + i % 7) as f64) };
        vec![
            Value::Number((i * 3) as f64),
            Value::Category(["new", "old", "old"][i % 3]),
            Value::Number((i as f64 * 25.0 + 99.0) / 100.0),
            Value::Number((7000 + i) as f64),
            shipped,
            Value::Category("false"),
        ]
    });
    (columns, table)
}

#[test]
fn columns_become_what_they_are() {
    let (columns, table) = shop();
    let wishes = Wishes { constraints: vec!["ordered <= shipped".into()], ..Wishes::default() };
    let learned = Learned::new(&table, &columns, &wishes, &Unwatched).unwrap();
    let role = |name: &str| learned.schema.columns[learned.schema.column(name).unwrap()].role.clone();
    assert!(matches!(role("id"), Role::Key(_)));
    assert!(matches!(role("segment"), Role::Categories { names, .. } if names == ["new", "old"]));
    assert!(matches!(role("shipped"), Role::Difference { from: 3, low: 7002.0, high: 7103.0, .. }));
    let Role::Number { field } = role("price") else { panic!() };
    assert_eq!(learned.schema.fields[field].kind, FieldKind::Number { low: 0.99, high: 25.74, step: 0.01 });
    let Role::Categories { field, .. } = role("gift") else { panic!() };
    assert_eq!(learned.schema.fields[field].kind, FieldKind::Category { count: 2 });
    assert!(
        learned.schema.fields.iter().zip([false, false, false, true, false]).all(|(field, nulls)| field.nulls == nulls)
    );
    let text = serde_json::to_string(&learned.schema).unwrap();
    assert_eq!(serde_json::from_str::<Schema>(&text).unwrap(), learned.schema);
}

#[test]
fn rows_keep_their_types_keys_and_constraints() {
    let (columns, table) = shop();
    let wishes = Wishes { constraints: vec!["ordered <= shipped".into()], ..Wishes::default() };
    let (schema, blocks) =
        made(Learned::new(&table, &columns, &wishes, &Unwatched).unwrap(), 20_000, json!({})).unwrap();
    assert_eq!(blocks.iter().map(|block| block.rows).sum::<usize>(), 20_000);
    let mut next = 298;
    for block in &blocks {
        for row in 0..block.rows {
            assert_eq!(block.cell(&schema, 0, row), Cell::Integer(next));
            next += 1;
            let (ordered, shipped) = (block.cell(&schema, 3, row), block.cell(&schema, 4, row));
            if let (Cell::Number(ordered), Cell::Number(shipped)) = (ordered, shipped) {
                assert!(ordered <= shipped && shipped <= 7103.0);
            }
            assert_eq!(block.cell(&schema, 5, row), Cell::Boolean(false));
        }
    }
    let json = blocks[0].json_row(&schema, 0);
    assert!(json["ordered"].as_str().unwrap().starts_with("2019-"), "{json}");
    assert!(json["gift"] == json!(false) && json["id"] == json!(298));
}

#[test]
fn conditions_are_met_or_said_to_be_impossible() {
    let (columns, table) = shop();
    let learn = || Learned::new(&table, &columns, &Wishes::default(), &Unwatched).unwrap();
    let (schema, blocks) = made(
        learn(),
        500,
        json!({"segment": "new", "price": {"min": 5, "max": 10}, "shipped": null, "id": {"min": 5000}}),
    )
    .unwrap();
    for block in &blocks {
        for row in 0..block.rows {
            let json = block.json_row(&schema, row);
            assert!(json["segment"] == "new" && json["shipped"].is_null());
            assert!((5.0..=10.0).contains(&json["price"].as_f64().unwrap()) && json["id"].as_i64().unwrap() >= 5000);
        }
    }
    let error = |conditions| made(learn(), 5, conditions).unwrap_err();
    assert!(error(json!({"segment": "gone"})).hint().unwrap().contains("Known values: new, old."));
    assert!(error(json!({"price": 1e6})).hint().unwrap().contains("from 0.99 to 25.74"));
    assert!(error(json!({"ordered": "1990-01-01"})).hint().unwrap().contains("from 2019-03-02"));
    assert_eq!(error(json!({"size": 3})).sqlstate(), "42703");
    assert!(error(json!([1])).hint().is_some());
    assert!(error(json!({"id": 7})).hint().unwrap().contains("\"min\""));
    // Price and day rise together: each has such values, no row both.
    let error = error(json!({"price": {"max": 2}, "ordered": {"min": "2019-05-01"}}));
    assert!(error.to_string().starts_with("only 0 of "), "{error}");
}

#[test]
fn a_condition_on_a_number_gives_exactly_that_number() {
    let (columns, table) = shop();
    let learned = Learned::new(&table, &columns, &Wishes::default(), &Unwatched).unwrap();
    let (schema, blocks) = made(learned, 50, json!({"price": 12.34})).unwrap();
    assert!(
        blocks.iter().all(|block| (0..block.rows).all(|row| block.json_row(&schema, row)["price"] == json!(12.34)))
    );
}

#[test]
fn contradictions_and_broken_rows_are_errors() {
    let (columns, table) = shop();
    let error = |constraints: &[&str]| {
        let constraints = constraints.iter().map(|&text| text.to_owned()).collect();
        Learned::new(&table, &columns, &Wishes { constraints, ..Wishes::default() }, &Unwatched).err().unwrap()
    };
    assert!(
        error(&["ordered < shipped"])
            .to_string()
            .contains("row 8 of the source violates the constraint \"ordered\" < \"shipped\"")
    );
    assert!(error(&["ordered <= shipped", "shipped <= ordered"]).to_string().contains("row "));
    assert!(error(&["price < 5"]).to_string().contains("row "));
    assert!(error(&["price ~ 5"]).to_string().contains("price ~ 5"));
    // Rows that all have NULL break nothing, and yet no value can keep to both.
    let columns =
        vec![describe("a", ColumnType::Integer), describe("b", ColumnType::Integer), describe("c", ColumnType::Text)];
    let table = table_of_nulls(&columns);
    let wishes = |constraints: &[&str]| Wishes {
        constraints: constraints.iter().map(|&text| text.to_owned()).collect(),
        ..Wishes::default()
    };
    let error = Learned::new(&table, &columns, &wishes(&["a < b", "b < a"]), &Unwatched).err().unwrap();
    assert_eq!(error.to_string(), "the constraints on columns \"a\" and \"b\" contradict each other");
}

fn table_of_nulls(columns: &[Description]) -> Table {
    table(columns, 5, |_| vec![Value::Null, Value::Null, Value::Category("x")])
}

#[test]
fn what_is_always_null_stays_null_and_one_row_is_enough() {
    let columns =
        vec![describe("a", ColumnType::Integer), describe("b", ColumnType::Text), describe("c", ColumnType::Text)];
    let learned = Learned::new(&table_of_nulls(&columns), &columns, &Wishes::default(), &Unwatched).unwrap();
    let (schema, blocks) = made(learned, 3, json!({})).unwrap();
    assert_eq!(blocks[0].json_row(&schema, 2), json!({"a": null, "b": null, "c": "x"}));
    let one = table(&columns, 1, |_| vec![Value::Number(4.0), Value::Category("b"), Value::Category("c")]);
    let (schema, blocks) =
        made(Learned::new(&one, &columns, &Wishes::default(), &Unwatched).unwrap(), 2, json!({})).unwrap();
    assert_eq!(blocks[0].json_row(&schema, 1), json!({"a": 4, "b": "b", "c": "c"}));
    let keys = vec![Description { key: true, ..describe("a", ColumnType::Integer) }];
    let only_keys = table(&keys, 3, |i| vec![Value::Number(i as f64)]);
    assert!(Learned::new(&only_keys, &keys, &Wishes::default(), &Unwatched).err().unwrap().hint().is_some());
}

#[test]
fn rows_unique_in_several_columns_stay_so_and_repeat_none_of_the_source() {
    let columns = vec![describe("a", ColumnType::Text), describe("b", ColumnType::Text)];
    let names = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    let rows = table(&columns, 10, |i| vec![Value::Category(names[i]), Value::Category(names[i])]);
    /// Each column by itself.
    struct Apart;
    impl Generator for Apart {
        fn sample(&self, draw: &Draw, _: &mut RunGraph) -> Result<Frame> {
            let codes =
                |column: u64| (0..draw.rows).map(|row| below(draw.seed ^ column, row as u64, 10) as u32).collect();
            Ok(Frame { rows: draw.rows, columns: vec![Values::Codes(codes(0)), Values::Codes(codes(1))] })
        }
    }
    let wishes = Wishes { unique: vec![vec!["a".into(), "b".into()]], ..Wishes::default() };
    let Learned { schema, unique, .. } = Learned::new(&rows, &columns, &wishes, &Unwatched).unwrap();
    let part = Part::new(schema, Box::new(Apart), unique, &Unwatched).unwrap();
    let mut sampler = Sampler::new(&part, 90, Conditions::default(), 1);
    let mut seen = ahash::AHashSet::new();
    while let Some(block) = sampler.next(&part, &mut |_, _| panic!("no graph"), 1, &Unwatched).unwrap() {
        for row in 0..block.rows {
            let json = block.json_row(&part.schema, row);
            assert!(json["a"] != json["b"] && seen.insert(json.to_string()));
        }
    }
    assert_eq!(seen.len(), 90);
    // There are no more than these ninety.
    let mut sampler = Sampler::new(&part, 91, Conditions::default(), 1);
    let end = loop {
        match sampler.next(&part, &mut |_, _| panic!("no graph"), 1, &Unwatched) {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert!(end.is_err());
}

#[test]
fn texts_arrays_and_identifiers_are_told_apart() {
    let columns = vec![
        describe("code", ColumnType::Text),
        describe("words", ColumnType::Text),
        describe("point", ColumnType::Array),
        describe("tags", ColumnType::Array),
        describe("number", ColumnType::Integer),
    ];
    let texts: Vec<(String, String, String)> = (0..40)
        .map(|i| (format!("K-{i:03}"), format!("a text of its own, number {i}"), format!("{{{i},{}}}", i * i)))
        .collect();
    let rows = table(&columns, 40, |i| {
        let (code, words, point) = &texts[i];
        let tags = ["{a}", "{a,b}"][i % 2];
        vec![
            Value::Category(code),
            Value::Category(words),
            Value::Category(point),
            Value::Category(tags),
            Value::Number(i as f64 + 1.0),
        ]
    });
    let learned = Learned::new(&rows, &columns, &Wishes::default(), &Unwatched).unwrap();
    let roles: Vec<&Role> = learned.schema.columns.iter().map(|column| &column.role).collect();
    assert!(matches!(roles[0], Role::Key(_)) && matches!(roles[1], Role::FreeText { .. }));
    assert!(matches!(roles[2], Role::Elements { count: 2, .. }) && matches!(roles[3], Role::Categories { .. }));
    assert!(matches!(roles[4], Role::Key(_)));
    assert_eq!(learned.notices.len(), 2);
    let mut options = json!({"text": {"words": "category", "code": "category"}, "keys": []});
    let mut read = Options::new("cart", &options).unwrap();
    let wishes = Wishes::read(&mut read, &columns).unwrap();
    let learned = Learned::new(&rows, &columns, &wishes, &Unwatched).unwrap();
    assert!(learned.schema.columns[..2].iter().all(|column| matches!(column.role, Role::Categories { .. })));
    options["domain"] = json!({"number": {"low": 0, "high": 30}});
    let wishes = Wishes::read(&mut Options::new("cart", &options).unwrap(), &columns).unwrap();
    let error = Learned::new(&rows, &columns, &wishes, &Unwatched).err().unwrap();
    assert!(error.to_string().starts_with("column \"number\" is outside its declared domain in row "), "{error}");
    let wrong = [
        json!({"keys": "id"}),
        json!({"keys": ["none"]}),
        json!({"text": {"number": "free"}}),
        json!({"domain": {"code": {"low": 1, "high": 2}}}),
        json!({"domain": {"number": {"low": 3, "high": 2}}}),
        json!({"unique": ["a"]}),
    ];
    for options in wrong {
        let mut options = Options::new("cart", &options).unwrap();
        assert!(Wishes::read(&mut options, &columns).is_err());
    }
}

#[test]
fn of_private_rows_nothing_is_read_but_what_a_method_pays_for() {
    let columns = [
        describe("id", ColumnType::Integer),
        describe("code", ColumnType::Text),
        describe("price", ColumnType::Numeric),
    ];
    let codes: Vec<String> = (0..40).map(|i| format!("a code of its own {i}")).collect();
    let rows = table(&columns, 40, |i| {
        vec![Value::Number(i as f64 + 1.0), Value::Category(&codes[i]), Value::Number(i as f64 / 4.0)]
    });
    let learn = |private| Learned::new(&rows, &columns, &Wishes { private, ..Wishes::default() }, &Unwatched).unwrap();
    assert!(learn(false).schema.field_of(0).is_none() && !learn(false).notices.is_empty());
    let private = learn(true);
    assert!(private.notices.is_empty() && private.schema.fields.len() == 3);
    assert!(private.schema.fields.iter().all(|field| field.nulls && !field.declared));
    let FieldKind::Number { step, .. } = private.schema.fields[2].kind else { panic!() };
    assert_eq!(step, 0.0);
}

#[test]
fn what_the_catalog_checks_is_kept_and_what_is_not_understood_is_told() {
    let (columns, table) = shop();
    let checks = vec!["(price > (0)::numeric)".into(), "(length(segment) < 10)".into()];
    let learned = Learned::new(&table, &columns, &Wishes { checks, ..Wishes::default() }, &Unwatched).unwrap();
    assert_eq!(learned.schema.constraints, [Constraint::Low { column: 2, low: 0.0, strict: true }]);
    assert!(learned.notices.iter().any(|notice| notice.contains("length(segment)")));
}
