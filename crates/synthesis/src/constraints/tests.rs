use super::*;

fn column(name: &str, column_type: ColumnType) -> Description {
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

fn columns() -> Vec<Description> {
    vec![
        column("price", ColumnType::Numeric),
        column("cost", ColumnType::Float),
        column("ordered", ColumnType::Date),
        column("Shipped on", ColumnType::Date),
        column("status", ColumnType::Text),
        column("gift", ColumnType::Boolean),
        column("at", ColumnType::Timestamptz),
    ]
}

fn of(expression: &str) -> Vec<Constraint> {
    understand(expression, &columns()).unwrap_or_else(|| panic!("not understood: {expression}")).unwrap()
}

#[test]
fn what_the_catalog_prints_is_understood() {
    let price = |low, strict| Constraint::Low { column: 0, low, strict };
    assert_eq!(of("(price > (0)::numeric)"), [price(0.0, true)]);
    assert_eq!(
        of("((price >= 1.5) AND (price <= (100)::numeric(10,2)))"),
        [price(1.5, false), Constraint::High { column: 0, high: 100.0, strict: false }]
    );
    assert_eq!(
        of("(cost > ('-5'::integer)::double precision)"),
        [Constraint::Low { column: 1, low: -5.0, strict: true }]
    );
    assert_eq!(of("(ordered <= \"Shipped on\")"), [Constraint::Order { less: 2, greater: 3, strict: false }]);
    assert_eq!(
        of("(status = ANY (ARRAY['new'::text, 'it''s'::text]))"),
        [Constraint::OneOf { column: 4, names: vec!["new".into(), "it's".into()] }]
    );
    assert_eq!(
        of("((status)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[]))"),
        [Constraint::OneOf { column: 4, names: vec!["a".into(), "b".into()] }]
    );
    assert_eq!(of("(status IS NOT NULL)"), [Constraint::NotNull { column: 4 }]);
    assert_eq!(
        of("(at >= '2020-01-01 00:00:00+00'::timestamp with time zone)"),
        [Constraint::Low { column: 6, low: 7305.0 * 86_400e6, strict: false }]
    );
}

#[test]
fn what_users_write_is_understood() {
    assert_eq!(of("cost < price"), [Constraint::Order { less: 1, greater: 0, strict: true }]);
    assert_eq!(of("price > cost"), [Constraint::Order { less: 1, greater: 0, strict: true }]);
    assert_eq!(of("0 < price AND price BETWEEN 1 AND 9").len(), 3);
    assert_eq!(of("status IN ('a', 'b')").len(), 1);
    assert_eq!(of("gift = true"), [Constraint::OneOf { column: 5, names: vec!["true".into()] }]);
    assert_eq!(of("ordered < DATE '2021-03-01'"), [Constraint::High { column: 2, high: 7730.0, strict: true }]);
}

#[test]
fn what_is_of_another_form_is_said_to_be() {
    for expression in [
        "price > 1 OR cost > 1",
        "length(status) > 3",
        "price + cost > 3",
        "price",
        "",
        "status ~ 'x'",
        "(((",
        "'",
        "price > NULL",
    ] {
        assert!(understand(expression, &columns()).is_none(), "{expression}");
    }
}

#[test]
fn what_cannot_be_compared_is_an_error_that_says_why() {
    let error = |expression: &str| understand(expression, &columns()).unwrap().unwrap_err();
    assert_eq!(error("size > 3").to_string(), "the source has no column \"size\"");
    assert!(error("ordered < price").hint().unwrap().contains("two different columns"));
    assert!(error("price < price").hint().is_some());
    assert!(error("price > 'much'").hint().unwrap().contains("numeric"));
    assert!(error("1 < 2").hint().unwrap().contains("Name a column"));
}

#[test]
fn times_are_counted_from_2000() {
    assert_eq!(time("2000-01-01", ColumnType::Date), Some(0.0));
    assert_eq!(time("1999-12-31", ColumnType::Date), Some(-1.0));
    assert_eq!(time("2024-02-29", ColumnType::Date), Some(8825.0));
    assert_eq!(time("2000-01-02T01:00:00.5Z", ColumnType::Timestamp), Some(86_400e6 + 3_600.5e6));
    assert_eq!(time("01:30", ColumnType::Time), Some(5_400e6));
    assert_eq!(time("yesterday", ColumnType::Date), None);
    assert_eq!(time("2020-13-01", ColumnType::Date), None);
    assert_eq!(time("10:00", ColumnType::Date), None);
}
