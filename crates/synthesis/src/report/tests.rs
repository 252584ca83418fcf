use serde_json::{Value as Json, json};

use super::*;
use ColumnKind::{Category, Integer, Number, Time, Vector};
use runtime::progress::Unwatched;
use tabular::Value as Cell;

fn table(columns: &[(&str, ColumnKind)], rows: &[Vec<Cell>]) -> Table {
    let mut table = Table::new(columns.iter().map(|&(name, kind)| (name.into(), kind)).collect());
    rows.iter().for_each(|row| table.push(row, || "a row".into()).unwrap());
    table
}

fn made(real: &Table, synthetic: &Table, holdout: Option<&Table>, label: Option<&str>, given: Json) -> Result<Json> {
    let mut options = Options::new("synthetic_report", &given)?;
    let found = report(real, synthetic, holdout, label, &mut options, 5, 2, &Unwatched)?;
    options.finish()?;
    Ok(found)
}

fn unit(table: u64, row: u64, place: u64) -> f64 {
    (mix(table * 1_000_003 + row * 64 + place) >> 11) as f64 / (1u64 << 53) as f64
}

/// Rows by a rule that any language can follow; those of table 1 are a little off.
fn by_rule(which: u64, rows: u64) -> Table {
    let columns =
        [("a", Integer), ("b", Number), ("c", Category), ("d", Category), ("e", Time), ("f", Number), ("g", Category)];
    let cells = |row: u64| {
        let u = |place| unit(which, row, place);
        let a = if which != 1 { (100.0 * u(0)).floor() } else { 3.0 + (92.0 * u(0)).floor() };
        let b = a * 0.5 + 10.0 * u(1);
        let c =
            if u(3) < 0.8 { a as usize / 34 } else { ((if which == 1 { 4.0 } else { 3.0 }) * u(4)).floor() as usize };
        let e = 8000.0 + (50.0 * u(0) + 10.0 * u(6)).floor();
        vec![
            Cell::Number(a),
            if u(2) < 0.1 { Cell::Null } else { Cell::Number(b) },
            Cell::Category(["p", "q", "r", "s"][c]),
            if u(5) < 0.05 { Cell::Null } else { Cell::Category(if b > 30.0 { "true" } else { "false" }) },
            if u(7) < 0.05 { Cell::Null } else { Cell::Number(e) },
            Cell::Number(7.0),
            Cell::Category("x"),
        ]
    };
    table(&columns, &(0..rows).map(cells).collect::<Vec<_>>())
}

fn near(found: &Json, expected: Option<f64>) -> bool {
    match expected {
        None => found.is_null(),
        Some(expected) => found.as_f64().is_some_and(|found| (found - expected).abs() < 1e-9),
    }
}

#[test]
fn figures_are_those_of_sdmetrics_on_the_same_rows() {
    // Of SDMetrics 0.32.0's QualityReport, DiagnosticReport and Coverage.
    let found = made(&by_rule(0, 300), &by_rule(1, 240), None, None, json!({})).unwrap();
    let quality = &found["quality"];
    for (name, expected) in [
        ("score", 0.9158902316036535),
        ("column_shapes", 0.951230218934304),
        ("column_pair_trends", 0.8805502442730028),
        ("coverage", 0.9753338388048222),
        ("boundary", 0.9928571428571429),
    ] {
        assert!(near(&quality[name], Some(expected)), "{name} {}", quality[name]);
    }
    let columns = [
        (0.92, Some(0.9191919191919192), 1.0),
        (0.9355246523388117, Some(0.9667094187217595), 1.0),
        (0.9416666688888888, Some(1.0), 0.95),
        (0.9614876231675078, Some(1.0), 1.0),
        (0.8999325881449198, Some(0.9661016949152542), 1.0),
        (1.0, None, 1.0),
        (1.0, Some(1.0), 1.0),
    ];
    for (place, (shape, coverage, boundary)) in columns.into_iter().enumerate() {
        let column = &quality["columns"][place];
        assert!(near(&column["shape"]["score"], Some(shape)), "{column}");
        assert!(near(&column["coverage"]["score"], coverage), "{column}");
        assert!(near(&column["boundary"]["score"], Some(boundary)), "{column}");
    }
    let scored = [
        ("a", "b", 0.999842054616571, None),
        ("a", "c", 0.8158333333333333, Some(0.7705416109343374)),
        ("a", "d", 0.8474999999999999, Some(0.6621412906652021)),
        ("a", "e", 0.9978389710961931, None),
        ("b", "c", 0.8216666666666667, Some(0.6891377004230765)),
        ("b", "d", 0.8783333333333333, Some(0.669787355762036)),
        ("b", "e", 0.9969880836839307, None),
        ("c", "d", 0.9108333333333333, Some(0.4477576899423387)),
        ("c", "e", 0.7375, Some(0.6926901264085336)),
        ("d", "e", 0.7991666666666667, Some(0.6288708729696727)),
    ];
    for pair in quality["pairs"].as_array().unwrap() {
        let of = |(a, b, ..): &&(&str, &str, f64, Option<f64>)| pair["columns"] == json!([a, b]);
        let expected = scored.iter().find(of);
        assert!(near(&pair["score"], expected.map(|pair| pair.2)), "{pair}");
        if let Some(association) = expected.and_then(|pair| pair.3) {
            assert!(near(&pair["real_association"], Some(association)), "{pair}");
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_report() {
    let (real, synthetic, holdout) = (by_rule(0, 300), by_rule(1, 240), by_rule(2, 200));
    let of = |threads| {
        let none = Json::Null;
        let mut options = Options::new("synthetic_report", &none).unwrap();
        report(&real, &synthetic, Some(&holdout), Some("c"), &mut options, 5, threads, &Unwatched).unwrap()
    };
    assert_eq!(of(1), of(3));
}

#[test]
fn tables_that_do_not_match_are_errors_that_name_the_column() {
    let one = |name, kind, cell| table(&[("x", Number), (name, kind)], &[vec![Cell::Number(1.0), cell]]);
    let real = one("y", Number, Cell::Number(2.0));
    let told = |synthetic: &Table, given: Json| made(&real, synthetic, None, None, given).unwrap_err().to_string();
    assert_eq!(
        told(&one("y", Category, Cell::Category("a")), json!({})),
        "column \"y\" has another type in the synthetic rows"
    );
    assert_eq!(
        told(&one("z", Number, Cell::Null), json!({})),
        "column \"z\" is in the synthetic rows and not in the real rows"
    );
    assert_eq!(
        told(&table(&[("x", Number)], &[vec![Cell::Null]]), json!({})),
        "column \"y\" is not in the synthetic rows"
    );
    assert_eq!(told(&table(&[("x", Number), ("y", Number)], &[]), json!({})), "there are no synthetic rows");
    assert_eq!(told(&real, json!({"leave_out": ["q"]})), "invalid value for option \"leave_out\": \"q\"");
    assert_eq!(told(&real, json!({"leave_out": ["x", "y"]})), "there are no columns to compare");
    assert!(told(&real, json!({"leave_out": "x"})).starts_with("invalid value for option \"leave_out\":"));
    assert!(told(&real, json!({"rowz": 1})).contains("unknown option \"rowz\""));
    let missing = made(&real, &real, None, Some("q"), json!({})).unwrap_err();
    assert_eq!(missing.sqlstate(), "42703");
    // The order of columns is no difference.
    let turned = table(&[("y", Number), ("x", Number)], &[vec![Cell::Number(2.0), Cell::Number(1.0)]]);
    assert_eq!(made(&real, &turned, None, None, json!({})).unwrap()["copies"]["rows"], 1);
}

#[test]
fn one_row_all_null_and_constant_columns_have_no_score_or_a_perfect_one() {
    let columns = [("n", Number), ("null", Number), ("c", Category), ("none", Category), ("v", Vector)];
    let row = vec![Cell::Number(1e300), Cell::Null, Cell::Category("a"), Cell::Null, Cell::Vector(&[1.0])];
    let one = table(&columns, &[row]);
    let found = made(&one, &one, Some(&one), Some("c"), json!({})).unwrap();
    let shapes: Vec<&Json> = (0..4).map(|c| &found["quality"]["columns"][c]["shape"]["score"]).collect();
    assert_eq!(shapes, [&json!(1.0), &Json::Null, &json!(1.0), &Json::Null]);
    assert_eq!(found["quality"]["column_pair_trends"], Json::Null);
    assert_eq!(found["copies"]["share"], 1.0);
    assert!(found["efficacy"]["reason"].as_str().unwrap().contains("only one class, \"a\""));
    assert!(found["two_sample_test"]["reason"].is_string());
    assert!(found["warnings"].to_string().contains("columns of vectors are not compared: v"));
    assert!(made(&one, &one, None, Some("null"), json!({})).unwrap()["efficacy"]["reason"].is_string());
    assert!(html(&found).contains("only NULL"));
}

#[test]
fn copying_scores_best_on_quality_and_the_report_says_so_elsewhere() {
    let real = by_rule(0, 900);
    let holdout = by_rule(2, 700);
    let copied = made(&real, &real, Some(&holdout), Some("d"), json!({"leave_out": ["f", "g"]})).unwrap();
    assert_eq!(copied["quality"]["score"], 1.0);
    assert_eq!((&copied["copies"]["share"], &copied["copies"]["rows"]), (&json!(1.0), &json!(900)));
    assert!(copied["copies"]["warning"].as_str().unwrap().starts_with("100.00 % of the synthetic rows are copies"));
    assert!(copied["membership_attack"]["auc"].as_f64().unwrap() > 0.9);
    assert!(copied["distance_to_closest_record"]["synthetic_to_real"]["median"] == 0.0);
    assert!(copied["distance_to_closest_record"]["share_closer_to_train_than_holdout"].as_f64().unwrap() > 0.85);
    assert!(copied["two_sample_test"]["auc"].as_f64().unwrap() < 0.55);
    let fresh = made(&real, &by_rule(3, 900), Some(&holdout), Some("d"), json!({"leave_out": ["f", "g"]})).unwrap();
    assert_eq!(fresh["copies"]["warning"], Json::Null);
    assert!((fresh["membership_attack"]["auc"].as_f64().unwrap() - 0.5).abs() < 0.1);
    assert!(fresh["privacy_note"].as_str().unwrap().contains("No figure of this report proves"));
}

#[test]
fn a_label_that_synthetic_rows_know_nothing_of_is_not_learned_from_them() {
    let columns = [("x", Number), ("y", Category)];
    let rows = |which: u64, knows: bool| {
        let cells = |row| {
            let (x, other) = (unit(which, row, 0), unit(which, row, 1));
            vec![Cell::Number(x), Cell::Category(if (if knows { x } else { other }) > 0.8 { "yes" } else { "no" })]
        };
        table(&columns, &(0..600).map(cells).collect::<Vec<_>>())
    };
    let (real, holdout) = (rows(0, true), rows(1, true));
    let of =
        |synthetic: &Table| made(&real, synthetic, Some(&holdout), Some("y"), json!({})).unwrap()["efficacy"].clone();
    let (good, bad) = (of(&rows(2, true)), of(&rows(3, false)));
    assert!(good["trained_on"]["synthetic"]["auc"].as_f64().unwrap() > 0.95, "{good}");
    assert!(bad["trained_on"]["synthetic"]["auc"].as_f64().unwrap() < 0.8, "{bad}");
    assert_eq!(
        (&bad["unbalanced"], &bad["augmenting_raises_f1"], &bad["positive"]),
        (&json!(true), &json!(false), &json!("yes"))
    );
    assert!(bad["f1_gain_of_augmenting"]["high"].as_f64().unwrap() < 0.0, "{bad}");
    let numbers = made(&real, &rows(2, true), None, Some("x"), json!({})).unwrap();
    assert_eq!(numbers["efficacy"]["task"], "regression");
    assert!(numbers["efficacy"]["trained_on"]["synthetic"]["r2"].is_number());
}

#[test]
fn a_hundred_thousand_categories_are_compared_and_told_of() {
    let names: Vec<String> = (0..100_000).map(|i| format!("c{i}")).collect();
    let rows = |step: usize| {
        let cells =
            (0..100_000).map(|i| vec![Cell::Category(&names[i * step % 100_000]), Cell::Category(["a", "b"][i % 2])]);
        table(&[("id", Category), ("k", Category)], &cells.collect::<Vec<_>>())
    };
    let found = made(&rows(1), &rows(7), None, None, json!({"max_rows": 10, "rounds": 1})).unwrap();
    assert_eq!(found["quality"]["columns"][0]["shape"]["score"], 1.0);
    assert!(found["warnings"][0].as_str().unwrap().ends_with("leave_out: \"id\""), "{}", found["warnings"]);
}

fn is_null(column: &Compared, table: usize, row: usize) -> bool {
    match &column.values {
        Values::Numbers(of) => of[table][row].is_nan(),
        Values::Codes { of, .. } => of[table][row] == NONE,
    }
}

#[test]
fn the_nearest_rows_are_those_of_brute_force() {
    let (real, synthetic) = (by_rule(0, 1500), by_rule(1, 40));
    let tables = Tables::match_columns(&real, &synthetic, None, &[]).unwrap();
    let space = distance::Space::new(&tables, &Unwatched).unwrap();
    let (all, queries): (Vec<u32>, Vec<u32>) = ((0..1500).collect(), (0..40).collect());
    let points = space.points(REAL, &all, &Unwatched).unwrap();
    let found = space.nearest((SYNTHETIC, &queries), &points, |_| None, 2, &Unwatched).unwrap();
    let ranges = [99.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0];
    for (query, found) in found.iter().enumerate() {
        let mut distances: Vec<f64> = (0..1500)
            .map(|row| {
                let each = tables.columns.iter().zip(ranges).map(|(column, range)| match &column.values {
                    _ if is_null(column, REAL, row) || is_null(column, SYNTHETIC, query) => {
                        f64::from(u8::from(is_null(column, REAL, row) != is_null(column, SYNTHETIC, query)))
                    }
                    Values::Numbers(of) => {
                        let known = || of[REAL].iter().copied().filter(|x| !x.is_nan());
                        let (low, high) = (known().fold(f64::MAX, f64::min), known().fold(f64::MIN, f64::max));
                        let range = if range > 0.0 { range } else { high - low };
                        (of[REAL][row] - of[SYNTHETIC][query]).abs() / range
                    }
                    Values::Codes { of, .. } => f64::from(u8::from(of[REAL][row] != of[SYNTHETIC][query])),
                });
                each.sum::<f64>() / 7.0
            })
            .collect();
        distances.sort_by(f64::total_cmp);
        assert!((f64::from(found.first) - distances[0]).abs() < 1e-6, "{found:?} {distances:?}");
        assert!((f64::from(found.second) - distances[1]).abs() < 1e-6);
    }
    let own = space.nearest((REAL, &all[..50]), &points, |row| Some(row as usize), 2, &Unwatched).unwrap();
    let with = space.nearest((REAL, &all[..50]), &points, |_| None, 2, &Unwatched).unwrap();
    assert!(own.iter().zip(&with).all(|(own, with)| with.first == 0.0 && own.first == with.second));
}

#[test]
fn a_cancel_request_ends_the_report() {
    struct After(std::cell::Cell<usize>);
    impl Progress for After {
        fn check(&self) -> Result<()> {
            self.0.set(self.0.get().saturating_sub(1));
            if self.0.get() == 0 { Err(Error::Canceled) } else { Ok(()) }
        }
    }
    let (real, none) = (by_rule(0, 300), Json::Null);
    for looks in [1, 5, 20, 40] {
        let mut options = Options::new("synthetic_report", &none).unwrap();
        let after = After(looks.into());
        let found = report(&real, &real, Some(&real), Some("c"), &mut options, 0, 2, &after);
        assert!(matches!(found, Err(Error::Canceled)), "{looks}");
    }
}

#[test]
fn the_page_is_well_formed_and_holds_no_text_as_markup() {
    let evil = "<script>alert('&')</script>\u{1}";
    let rows = |x: f64| vec![Cell::Category(evil), Cell::Number(x), Cell::Category(if x > 50.0 { "a" } else { "]]>" })];
    let real = table(
        &[(evil, Category), ("x\"y", Integer), ("z", Category)],
        &(0..100).map(|i| rows(f64::from(i))).collect::<Vec<_>>(),
    );
    let page = html(&made(&real, &real, None, Some("z"), json!({})).unwrap());
    assert!(!page.contains("<script") && page.contains("&lt;script&gt;alert(&#39;&amp;&#39;)"));
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains('\u{1}'));
    let (mut open, mut rest) = (Vec::new(), &page[page.find("<html").unwrap()..]);
    while let Some(at) = rest.find('<') {
        let end = at + rest[at..].find('>').unwrap();
        let tag = &rest[at + 1..end];
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        match (tag.starts_with('/'), tag.ends_with('/')) {
            (true, _) => assert_eq!(open.pop(), Some(name)),
            (_, true) => {}
            _ => open.push(name),
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        rest = &rest[end + 1..];
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn a_sample_is_ascending_without_repeats_and_as_large_as_asked() {
    for (n, most) in [(10, 3), (3, 10), (1000, 999), (0, 4)] {
        let rows = sample::sample(n, most, 9).unwrap();
        assert_eq!(rows.len(), n.min(most));
        assert!(rows.windows(2).all(|pair| pair[0] < pair[1]) && rows.iter().all(|&row| (row as usize) < n));
    }
    let mean = (0..200).flat_map(|seed| sample::sample(100, 10, seed).unwrap()).map(f64::from).sum::<f64>() / 2000.0;
    assert!((mean - 49.5).abs() < 2.5, "{mean}");
}
