use bytes::Bytes;
use serde_json::Value;

use super::*;
use runtime::progress::Unwatched;

const NUMBER: FieldKind = FieldKind::Number { low: f64::MIN, high: f64::MAX, step: 0.0 };

fn field(name: &str, kind: FieldKind) -> Field {
    Field { name: name.into(), kind, nulls: true, declared: false }
}

fn made(fields: &[Field], columns: Vec<Values>, label: Option<usize>, n: usize, threads: usize) -> Frame {
    let rows = Frame { rows: columns[0].len(), columns };
    let task = Task { fields, rows: &rows, label, seed: 3, secret: None, threads, progress: &Unwatched };
    let mut options = Options::new("gaussian_copula", &Value::Null).unwrap();
    let parts = train(&task, &mut options).unwrap();
    let (onnx, data) = (Bytes::from(parts.graph.encode().unwrap()), Bytes::from(parts.data.finish().unwrap()));
    let generator = open(&Files::open("m", onnx, &data).unwrap(), fields).unwrap();
    let draw = Draw { rows: n, seed: 9, given: &[], threads, progress: &Unwatched };
    generator.sample(&draw, &mut |_, _| Err(Error::Internal("no graph here".into()))).unwrap()
}

fn numbers(values: &Values) -> &[f64] {
    if let Values::Numbers(numbers) = values { numbers } else { panic!("{values:?}") }
}

fn codes(values: &Values) -> &[u32] {
    if let Values::Codes(codes) = values { codes } else { panic!("{values:?}") }
}

fn share<T>(values: &[T], is: impl Fn(&T) -> bool) -> f64 {
    values.iter().filter(|x| is(x)).count() as f64 / values.len() as f64
}

/// Income grows with age, the label with both; a third of the bonuses are NULL and half are 0.
fn people(n: usize) -> (Vec<Field>, Vec<Values>) {
    let normal = |seed, i| f64::from(draw::normal(seed, i));
    let age: Vec<f64> = (0..n as u64).map(|i| 40.0 + 12.0 * normal(1, i)).collect();
    let income: Vec<f64> = (0..n as u64).map(|i| (0.05 * age[i as usize] + 0.3 * normal(2, i)).exp()).collect();
    let bonus = (0..n).map(|i| [f64::NAN, f64::NAN, 0.0, 0.0, 0.0, i as f64][i % 6]).collect();
    let label: Vec<u32> = income.iter().map(|&x| u32::from(x > 10.0)).collect();
    // Code 0 goes with label 1, code 2 with label 0.
    let job = (0..n).map(|i| [2, 0][label[i] as usize].min(if i % 5 == 0 { 1 } else { 3 })).collect();
    let fields = vec![
        field("age", NUMBER),
        field("income", NUMBER),
        field("bonus", NUMBER),
        field("job", FieldKind::Category { count: 3 }),
        field("rich", FieldKind::Category { count: 2 }),
    ];
    let columns = vec![
        Values::Numbers(age),
        Values::Numbers(income),
        Values::Numbers(bonus),
        Values::Codes(job),
        Values::Codes(label),
    ];
    (fields, columns)
}

#[test]
fn shares_spikes_nulls_and_what_goes_together_come_back() {
    let (fields, columns) = people(6000);
    let made = made(&fields, columns.clone(), Some(4), 20_000, 2);
    for (j, code) in [(3, 0), (3, 1), (3, 2), (4, 0), (4, 1)] {
        let (real, new) = (share(codes(&columns[j]), |&c| c == code), share(codes(&made.columns[j]), |&c| c == code));
        assert!((real - new).abs() < 0.015, "{j} {code}: {real} {new}");
    }
    let bonus = numbers(&made.columns[2]);
    assert!((share(bonus, |x| x.is_nan()) - 1.0 / 3.0).abs() < 0.015);
    assert!((share(bonus, |&x| x == 0.0) - 0.5).abs() < 0.015);
    for (j, (real, new)) in columns.iter().zip(&made.columns).take(2).enumerate() {
        let (real, new) = (numbers(real), numbers(new));
        for cut in [0.1, 0.5, 0.9] {
            let mut sorted = real.to_vec();
            sorted.sort_by(f64::total_cmp);
            let at = sorted[(cut * 6000.0) as usize];
            assert!((share(new, |&x| x < at) - cut).abs() < 0.015, "{j} {cut}");
        }
        let (least, most) = real.iter().fold((f64::MAX, f64::MIN), |(a, b), &x| (a.min(x), b.max(x)));
        assert!(new.iter().all(|&x| (least..=most).contains(&x)));
    }
    let concordant = |frame: &[Values]| {
        let (age, rich) = (numbers(&frame[0]), codes(&frame[4]));
        let rich_age: Vec<bool> = age.iter().zip(rich).map(|(&age, &rich)| (age > 42.0) == (rich == 1)).collect();
        let jobs: Vec<bool> =
            codes(&frame[3]).iter().zip(rich).map(|(&job, &rich)| (job == 0) == (rich == 1)).collect();
        (share(&rich_age, |&x| x), share(&jobs, |&x| x))
    };
    let ((a, b), (c, d)) = (concordant(&columns), concordant(&made.columns));
    // What is certain is not quite certain of the rows made.
    assert!((a - c).abs() < 0.05 && b == 1.0 && d > 0.9, "{a} {c}, {b} {d}");
}

#[test]
fn the_same_seed_gives_the_same_rows_on_any_number_of_threads() {
    let (fields, columns) = people(700);
    let all: Vec<String> =
        [1, 2, 5].map(|threads| format!("{:?}", made(&fields, columns.clone(), Some(4), 1000, threads))).to_vec();
    assert!(all[0] == all[1] && all[1] == all[2]);
}

#[test]
fn one_row_nothing_but_null_and_huge_numbers_can_be_made() {
    let fields = [field("a", NUMBER), field("b", NUMBER), field("c", FieldKind::Category { count: 1 })];
    let columns = vec![Values::Numbers(vec![f64::NAN]), Values::Numbers(vec![-0.5]), Values::Codes(vec![0])];
    let one = made(&fields, columns, None, 5, 1);
    assert!(numbers(&one.columns[0]).iter().all(|x| x.is_nan()) && numbers(&one.columns[1]) == [-0.5; 5]);
    assert_eq!(codes(&one.columns[2]), [0; 5]);
    let huge: Vec<f64> = (0..2000).map(|i| f64::MAX * (f64::from(i) / 1000.0 - 1.0)).collect();
    let fields = [field("a", NUMBER), field("b", FieldKind::Category { count: 2 })];
    let columns = vec![Values::Numbers(huge), Values::Codes(vec![NONE; 2000])];
    let made = made(&fields, columns, Some(0), 500, 1);
    let numbers = numbers(&made.columns[0]);
    assert!(numbers.iter().all(|x| x.is_finite()) && (share(numbers, |&x| x < 0.0) - 0.5).abs() < 0.1);
    assert_eq!(codes(&made.columns[1]), [NONE; 500]);
}

#[test]
fn a_hundred_thousand_categories_can_be_made() {
    let fields = [field("a", FieldKind::Category { count: 100_000 }), field("b", NUMBER)];
    let columns = vec![Values::Codes((0..100_000).collect()), Values::Numbers((0..100_000).map(f64::from).collect())];
    let made = made(&fields, columns, Some(1), 1000, 2);
    let same = codes(&made.columns[0]).iter().zip(numbers(&made.columns[1]));
    assert!(same.map(|(&code, x)| (f64::from(code) - x).abs()).fold(0.0, f64::max) < 20_000.0);
}
