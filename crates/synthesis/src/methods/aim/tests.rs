use serde_json::{Value, json};

use super::*;
use crate::{BLOCK, Draw, FieldKind, Frame, Released, Values};
use runtime::draw;
use runtime::draw::mix;
use runtime::progress::{Progress, Unwatched};
use tabular::NONE;

fn category(name: &str, count: usize, nulls: bool, declared: bool) -> Field {
    Field { name: name.into(), kind: FieldKind::Category { count }, nulls, declared }
}

fn number(name: &str, low: f64, high: f64, step: f64, nulls: bool, declared: bool) -> Field {
    Field { name: name.into(), kind: FieldKind::Number { low, high, step }, nulls, declared }
}

fn fit_with(fields: &[Field], rows: &Frame, options: Value, seed: u64, threads: usize) -> Result<Parts> {
    let task = Task { fields, rows, label: Some(0), seed, secret: None, threads, progress: &Unwatched };
    let mut options = Options::new("aim", &options)?;
    let parts = train(&task, &mut options)?;
    options.finish()?;
    Ok(parts)
}

fn files(parts: Parts) -> (Vec<u8>, Vec<u8>) {
    (parts.graph.encode().unwrap(), parts.data.finish().unwrap())
}

fn made(parts: Parts, fields: &[Field], n: usize, given: &[(usize, Values)]) -> Frame {
    let (onnx, data) = files(parts);
    let data = data.into();
    let files = Files::open("m", onnx.into(), &data).unwrap();
    let generator = Aim.open(&files, fields).unwrap();
    let taken: Vec<usize> = given.iter().map(|(field, _)| *field).collect();
    assert!(generator.takes(&taken));
    let draw = Draw { rows: n, seed: 5, given, threads: 1, progress: &Unwatched };
    generator.sample(&draw, &mut |_, _| Err(Error::Internal("the graph is not run".into()))).unwrap()
}

/// A label, a category that follows it and has NULLs, a number that follows both with a spike at 0, and one on its own.
fn table(n: usize) -> (Vec<Field>, Frame) {
    let fields = vec![
        category("label", 2, false, true),
        category("kind", 40, true, true),
        number("gain", 0.0, 99_999.0, 1.0, false, true),
        number("weight", -1.5, 1e6, 0.0, true, true),
    ];
    let unit = |row: usize, at: u64| f64::from(draw::uniform(at, row as u64)) * 0.5 + 0.5;
    let label: Vec<u32> = (0..n).map(|row| u32::from(unit(row, 1) < 0.25)).collect();
    let kind = (0..n).map(|row| match unit(row, 2) {
        u if u < 0.1 => NONE,
        u if u < 0.9 => label[row],
        u => 2 + (u * 380.0) as u32 % 38,
    });
    let kind = kind.collect();
    let gain = (0..n).map(|row| if label[row] == 0 { 0.0 } else { (5000.0 + 10_000.0 * unit(row, 3)).round() });
    let weight = (0..n).map(|row| if unit(row, 4) < 0.2 { f64::NAN } else { 1e5 * unit(row, 5).powi(2) });
    let columns = vec![
        Values::Codes(label.clone()),
        Values::Codes(kind),
        Values::Numbers(gain.collect()),
        Values::Numbers(weight.collect()),
    ];
    (fields, Frame { rows: n, columns })
}

/// A trained model's two files, and its fields.
pub fn trained() -> (Vec<u8>, Vec<u8>, Vec<Field>) {
    let (fields, rows) = table(5000);
    let (onnx, data) = files(fit_with(&fields, &rows, json!({"epsilon": 2}), 3, 2).unwrap());
    (onnx, data, fields)
}

fn share(values: &Values, of: impl Fn(f64) -> bool) -> f64 {
    let n = values.len() as f64;
    match values {
        Values::Codes(codes) => {
            codes.iter().filter(|&&c| of(if c == NONE { f64::NAN } else { c.into() })).count() as f64 / n
        }
        Values::Numbers(x) => x.iter().filter(|&&x| of(x)).count() as f64 / n,
    }
}

#[test]
fn rows_are_like_those_learned_and_within_what_was_declared() {
    let (fields, rows) = table(20_000);
    let parts = fit_with(&fields, &rows, json!({"epsilon": 2}), 1, 2).unwrap();
    let spent = parts.figures["rho_spent"].as_f64().unwrap();
    let rho = parts.figures["rho"].as_f64().unwrap();
    assert!(spent <= rho * (1.0 + 1e-9) && spent > 0.99 * rho && (rho - privacy::rho_of(2.0, 1e-9)).abs() < 1e-12);
    let frame = made(parts, &fields, BLOCK, &[]);
    for (real, new) in rows.columns.iter().zip(&frame.columns) {
        let tests: [&dyn Fn(f64) -> bool; 5] =
            [&|x| x.is_nan(), &|x| x == 0.0, &|x| x == 1.0, &|x| x > 8000.0, &|x| x > 30_000.0];
        for (number, test) in tests.iter().enumerate() {
            let (a, b) = (share(real, test), share(new, test));
            assert!((a - b).abs() < 0.03, "{number}: {a} {b}");
        }
    }
    let (Values::Codes(label), Values::Numbers(gain)) = (&frame.columns[0], &frame.columns[2]) else { panic!() };
    let wrong = label.iter().zip(gain).filter(|&(&l, &g)| (l == 0) != (g == 0.0)).count();
    assert!(wrong < BLOCK / 50, "{wrong}");
    assert!(share(&frame.columns[1], |x| x >= 40.0) == 0.0);
    assert!(
        share(&frame.columns[3], |x| !x.is_nan() && !(-1.5..=1e6).contains(&x)) == 0.0
            && share(&frame.columns[2], |x| x < 0.0) == 0.0
    );
}

#[test]
fn the_same_seed_gives_the_same_bytes_on_any_number_of_threads_and_another_other_noise() {
    let (fields, rows) = table(3000);
    let of = |seed, threads| files(fit_with(&fields, &rows, json!({"epsilon": 1}), seed, threads).unwrap());
    assert!(of(1, 1) == of(1, 3));
    assert!(of(1, 1) != of(2, 1));
}

#[test]
fn a_budget_that_is_none_is_refused() {
    let (fields, rows) = table(10);
    let message = |options: Value| fit_with(&fields, &rows, options, 1, 1).err().unwrap().to_string();
    assert_eq!(message(json!({"epsilon": 0})), "invalid value for option \"epsilon\": 0");
    assert_eq!(message(json!({"epsilon": -1.5})), "invalid value for option \"epsilon\": -1.5");
    assert_eq!(message(json!({"epsilon": 101})), "invalid value for option \"epsilon\": 101");
    assert_eq!(message(json!({"epsilon": "1"})), "invalid value for option \"epsilon\": \"1\"");
    assert_eq!(message(json!({})), "aim needs the option \"epsilon\"");
    assert_eq!(message(json!({"epsilon": 1, "delta": 0})), "invalid value for option \"delta\": 0");
}

#[test]
fn one_row_of_declared_fields_gives_rows_of_noise_and_of_undeclared_ones_nothing() {
    let (mut fields, rows) = table(1);
    let frame = made(fit_with(&fields, &rows, json!({"epsilon": 1}), 1, 1).unwrap(), &fields, 100, &[]);
    assert_eq!(frame.rows, 100);
    assert!(share(&frame.columns[0], |x| x > 1.0) == 0.0);
    fields.iter_mut().for_each(|field| field.declared = false);
    let error = fit_with(&fields, &rows, json!({"epsilon": 1}), 1, 1).err().unwrap();
    assert_eq!(error.to_string(), "no value of column \"label\" can be released at this epsilon");
    // What may be NULL is then always NULL.
    let (fields, rows) =
        (vec![category("a", 1, true, false)], Frame { rows: 1, columns: vec![Values::Codes(vec![0])] });
    let frame = made(fit_with(&fields, &rows, json!({"epsilon": 1}), 1, 1).unwrap(), &fields, 3, &[]);
    assert_eq!(frame.columns[0], Values::Codes(vec![NONE; 3]));
}

#[test]
fn of_a_hundred_thousand_names_only_those_that_many_rows_hold_are_told() {
    let n = 104_000;
    let codes: Vec<u32> = (0..n).map(|row| if row < 100_000 { row } else { 7 + row % 2 }).collect();
    for nulls in [false, true] {
        let fields = [category("name", 100_000, nulls, false)];
        let rows = Frame { rows: n as usize, columns: vec![Values::Codes(codes.clone())] };
        for seed in 0..3 {
            let parts = fit_with(&fields, &rows, json!({"epsilon": 1, "delta": 1e-9}), seed, 2).unwrap();
            assert_eq!(parts.released, Some(vec![Released::Category { codes: vec![7, 8] }]));
            let frame = made(parts, &fields, 1000, &[]);
            let left_out = share(&frame.columns[0], f64::is_nan);
            assert!(if nulls { left_out > 0.9 } else { left_out == 0.0 }, "{left_out}");
        }
    }
}

#[test]
fn declared_names_without_rows_cost_nothing_and_a_hundred_thousand_of_them_share_a_cell() {
    let fields = [category("name", 100_000, false, true)];
    let rows = Frame { rows: 5000, columns: vec![Values::Codes((0..5000).map(|row| row % 3).collect())] };
    let parts = fit_with(&fields, &rows, json!({"epsilon": 5}), 1, 2).unwrap();
    assert!(parts.figures["cells"][0].as_u64().unwrap() <= 256 && parts.figures["spent"].get("domain").is_none());
    let frame = made(parts, &fields, 1000, &[]);
    assert!(share(&frame.columns[0], |x| x < 3.0) > 0.3);
}

#[test]
fn bounds_that_are_not_declared_are_powers_of_two_around_most_rows() {
    let n = 20_000;
    let mut numbers: Vec<f64> = (0..n).map(|row| f64::from(20 + row % 70)).collect();
    numbers[5] = 1e12;
    numbers[6] = -3e-300;
    let fields = [number("age", -3e-300, 1e12, 1.0, false, false)];
    let rows = Frame { rows: n as usize, columns: vec![Values::Numbers(numbers)] };
    let parts = fit_with(&fields, &rows, json!({"epsilon": 1}), 1, 2).unwrap();
    assert_eq!(parts.released, Some(vec![Released::Number { low: 16.0, high: 128.0 }]));
    let frame = made(parts, &fields, 5000, &[]);
    assert!((share(&frame.columns[0], |x| x < 55.0) - 0.5).abs() < 0.03);
    assert!(share(&frame.columns[0], |x| !(15.5..=128.5).contains(&x)) == 0.0);
}

#[test]
fn constant_columns_and_numbers_far_apart_are_made_again() {
    let n = 4000;
    let fields = [
        number("same", 7.25, 7.25, 0.01, false, true),
        number("huge", -1e300, 1e300, 0.0, false, true),
        category("one", 1, false, true),
        category("null", 0, true, true),
    ];
    let huge = (0..n).map(|row| if row % 2 == 0 { -1e300 } else { 1e300 }).collect();
    let columns = vec![
        Values::Numbers(vec![7.25; n]),
        Values::Numbers(huge),
        Values::Codes(vec![0; n]),
        Values::Codes(vec![NONE; n]),
    ];
    let rows = Frame { rows: n, columns };
    let frame = made(fit_with(&fields, &rows, json!({"epsilon": 4}), 1, 1).unwrap(), &fields, 500, &[]);
    assert_eq!(frame.columns[0], Values::Numbers(vec![7.25; 500]));
    assert!((share(&frame.columns[1], |x| x < -0.5e300) - 0.5).abs() < 0.1);
    assert!(share(&frame.columns[1], f64::is_finite) == 1.0);
    assert_eq!((&frame.columns[2], &frame.columns[3]), (&Values::Codes(vec![0; 500]), &Values::Codes(vec![NONE; 500])));
}

#[test]
fn rows_with_a_given_label_are_those_that_go_with_it() {
    let (fields, rows) = table(20_000);
    let parts = fit_with(&fields, &rows, json!({"epsilon": 4}), 1, 2).unwrap();
    let given = [(0, Values::Codes(vec![1; 2000]))];
    let frame = made(parts, &fields, 2000, &given);
    assert_eq!(frame.columns[0], given[0].1);
    assert!(share(&frame.columns[2], |x| x > 4000.0) > 0.9);
}

#[test]
fn a_cancel_request_ends_the_training() {
    struct Canceled;
    impl Progress for Canceled {
        fn check(&self) -> Result<()> {
            Err(Error::Canceled)
        }
    }
    let (fields, rows) = table(100);
    let task =
        Task { fields: &fields, rows: &rows, label: None, seed: mix(1), secret: None, threads: 1, progress: &Canceled };
    let options = json!({"epsilon": 1});
    let mut options = Options::new("aim", &options).unwrap();
    assert!(matches!(train(&task, &mut options), Err(Error::Canceled)));
}
