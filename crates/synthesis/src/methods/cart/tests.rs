use std::cell::Cell;
use std::collections::HashSet;

use bytes::Bytes;
use serde_json::{Value, json};

use super::evaluator::run;
use super::sample::uniforms;
use super::split::{Scratch, Sums, best};
use super::tree::{holds, neighbour};
use super::*;
use crate::{Draw, FieldKind, Frame, Values};
use onnx::stored::Files;
use runtime::draw::{below, normal};
use runtime::progress::{Progress, Unwatched};
use tabular::NONE;

fn category(name: &str, count: usize) -> Field {
    Field { name: name.into(), kind: FieldKind::Category { count }, nulls: true, declared: false }
}

fn number(name: &str) -> Field {
    let kind = FieldKind::Number { low: f64::MIN, high: f64::MAX, step: 0.0 };
    Field { name: name.into(), kind, nulls: true, declared: false }
}

struct Trained {
    fields: Vec<Field>,
    onnx: Bytes,
    data: Bytes,
}

fn trained_on(
    fields: Vec<Field>,
    columns: Vec<Values>,
    label: Option<usize>,
    options: Value,
    threads: usize,
) -> Trained {
    let rows = Frame { rows: columns[0].len(), columns };
    let mut read = Options::new("cart", &options).unwrap();
    let task = Task { fields: &fields, rows: &rows, label, seed: 1, secret: None, threads, progress: &Unwatched };
    let parts = train(&task, &mut read).unwrap();
    read.finish().unwrap();
    let (onnx, data) = (parts.graph.encode().unwrap().into(), parts.data.finish().unwrap().into());
    Trained { fields, onnx, data }
}

impl Trained {
    fn drawn(&self, rows: usize, given: &[(usize, Values)], threads: usize) -> Frame {
        let files = Files::open("m", self.onnx.clone(), &self.data).unwrap();
        let generator = Cart.open(&files, &self.fields).unwrap();
        let draw = Draw { rows, seed: 5, given, threads, progress: &Unwatched };
        generator.sample(&draw, &mut |_, _| Err(Error::Internal("no graph is asked for".into()))).unwrap()
    }

    fn takes(&self, fields: &[usize]) -> bool {
        let files = Files::open("m", self.onnx.clone(), &self.data).unwrap();
        Cart.open(&files, &self.fields).unwrap().takes(fields)
    }
}

fn codes(values: &Values) -> &[u32] {
    if let Values::Codes(codes) = values { codes } else { panic!("no codes") }
}

fn numbers(values: &Values) -> &[f64] {
    if let Values::Numbers(numbers) = values { numbers } else { panic!("no numbers") }
}

/// A label, a category that follows it, NULLs in both kinds, a number about the category, and one of few values.
fn mixed(rows: usize) -> (Vec<Field>, Vec<Values>) {
    let at = |place: u64, row: usize, n: usize| below(place, row as u64, n);
    let label: Vec<u32> = (0..rows).map(|row| u32::from(at(1, row, 4) == 0)).collect();
    let group: Vec<u32> = (0..rows)
        .map(|row| match at(2, row, 10) {
            0 => NONE,
            1..3 => at(3, row, 6) as u32,
            _ => label[row] * 3 + at(3, row, 3) as u32,
        })
        .collect();
    let amount: Vec<f64> = (0..rows)
        .map(|row| match group[row] {
            NONE => f64::NAN,
            _ if at(4, row, 5) == 0 => 0.0,
            g => 10.0 * f64::from(g) + f64::from(normal(6, row as u64)),
        })
        .collect();
    let steps: Vec<f64> = (0..rows).map(|row| f64::from(label[row]) * 4.0 + at(7, row, 4) as f64).collect();
    let fields = vec![number("amount"), category("group", 6), number("steps"), category("label", 2)];
    (fields, vec![Values::Numbers(amount), Values::Codes(group), Values::Numbers(steps), Values::Codes(label)])
}

#[test]
fn rows_depend_on_each_other_as_the_real_ones_do() {
    let (fields, columns) = mixed(20_000);
    let real = columns.clone();
    let made = trained_on(fields, columns, Some(3), Value::Null, 2).drawn(20_000, &[], 2);
    let figures = |columns: &[Values]| {
        let (label, group, amount) = (codes(&columns[3]), codes(&columns[1]), numbers(&columns[0]));
        let n = label.len() as f64;
        let share = |of: &dyn Fn(usize) -> bool| (0..label.len()).filter(|&row| of(row)).count() as f64 / n;
        vec![
            share(&|row| label[row] == 1),
            share(&|row| label[row] == 1 && group[row] == 4),
            share(&|row| label[row] == 0 && group[row] == 4),
            share(&|row| group[row] == NONE),
            share(&|row| group[row] == NONE && amount[row].is_nan()),
            share(&|row| group[row] != NONE && amount[row].is_nan()),
            share(&|row| amount[row] == 0.0),
            share(&|row| group[row] == 4 && (amount[row] - 40.0).abs() < 2.0),
        ]
    };
    for (real, made) in figures(&real).iter().zip(figures(&made.columns)) {
        assert!((real - made).abs() < 0.015, "{real} {made}");
    }
}

#[test]
fn the_graph_gives_what_drawing_gives_to_the_bit() {
    let (fields, columns) = mixed(3000);
    let trained = trained_on(fields, columns, Some(3), json!({"min_leaf": 20}), 2);
    let (n, width) = (1500, 4);
    let made = trained.drawn(n, &[], 2);
    let mut input = ndarray::Array2::zeros((n, width));
    for place in 0..width {
        uniforms(5, place, 0..n).enumerate().for_each(|(row, u)| input[[row, place]] = u);
    }
    let rows = run(&trained.onnx, "uniforms", input.into_dyn(), "rows");
    for row in 0..n {
        for (field, values) in made.columns.iter().enumerate() {
            let told = rows[[row, field]];
            match values {
                Values::Codes(codes) => assert_eq!(told, if codes[row] == NONE { -1.0 } else { f64::from(codes[row]) }),
                Values::Numbers(x) => assert!(told.to_bits() == x[row].to_bits() || told.is_nan() && x[row].is_nan()),
            }
        }
    }
}

#[test]
fn threads_and_blocks_change_nothing() {
    let (fields, columns) = mixed(3000);
    let one = trained_on(fields.clone(), columns.clone(), Some(3), Value::Null, 1);
    let three = trained_on(fields, columns, Some(3), Value::Null, 3);
    assert!(one.onnx == three.onnx && one.data == three.data);
    let bits = |frame: &Frame| numbers(&frame.columns[0]).iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let (a, b) = (one.drawn(5000, &[], 1), one.drawn(5000, &[], 3));
    assert_eq!((bits(&a), &a.columns[1..]), (bits(&b), &b.columns[1..]));
    assert_eq!(bits(&one.drawn(1001, &[], 1)), bits(&a)[..1001]);
}

#[test]
fn a_smoothed_number_is_no_one_elses_and_a_shared_one_is_kept() {
    let real: Vec<f64> =
        (0..4000).map(|row| if row % 4 == 0 { 7.0 } else { 1e3 * f64::from(normal(1, row)) }).collect();
    let fields = || vec![number("x")];
    let known: HashSet<u64> = real.iter().map(|x| x.to_bits()).collect();
    let (low, high) = real.iter().fold((f64::MAX, f64::MIN), |(a, b), &x| (a.min(x), b.max(x)));
    let made = trained_on(fields(), vec![Values::Numbers(real.clone())], None, Value::Null, 1).drawn(4000, &[], 1);
    let made = numbers(&made.columns[0]);
    let copies = made.iter().filter(|x| known.contains(&x.to_bits())).count();
    let sevens = made.iter().filter(|&&x| x == 7.0).count();
    // Beside a spike's own rows, the two numbers next to it stay where they would move towards it.
    assert!((900..1100).contains(&sevens) && copies - sevens < 5, "{sevens} {copies}");
    assert!(made.iter().all(|x| (low..=high).contains(x)));
    // Ten rows that agree by chance, where hardly any other two do, are none that share a number.
    let chance: Vec<f64> = (0..4000).map(|row| if row < 10 { 0.5 } else { f64::from(normal(2, row)) }).collect();
    let made = trained_on(fields(), vec![Values::Numbers(chance)], None, Value::Null, 1).drawn(4000, &[], 1);
    assert!(!numbers(&made.columns[0]).contains(&0.5));
    let plain = trained_on(fields(), vec![Values::Numbers(real)], None, json!({"smoothing": false}), 1);
    assert!(numbers(&plain.drawn(1000, &[], 1).columns[0]).iter().all(|x| known.contains(&x.to_bits())));
}

#[test]
fn given_columns_stay_and_the_others_go_with_them() {
    let (fields, columns) = mixed(8000);
    let trained = trained_on(fields, columns, Some(3), json!({"first": ["group"]}), 2);
    assert!(trained.takes(&[]) && trained.takes(&[1]) && trained.takes(&[3, 1]) && trained.takes(&[0, 1, 2, 3]));
    assert!(!trained.takes(&[3]) && !trained.takes(&[1, 0]) && !trained.takes(&[0, 1, 2, 3, 4]));
    for group in [2, 4] {
        let made = trained.drawn(500, &[(1, Values::Codes(vec![group; 500]))], 2);
        assert!(codes(&made.columns[1]).iter().all(|&code| code == group));
        let near = |x: f64| x == 0.0 || (x - 10.0 * f64::from(group)).abs() < 6.0;
        assert!(numbers(&made.columns[0]).iter().filter(|&&x| near(x)).count() > 490);
    }
    let null = trained.drawn(500, &[(1, Values::Codes(vec![NONE; 500]))], 1);
    assert!(numbers(&null.columns[0]).iter().filter(|x| x.is_nan()).count() > 450);
}

#[test]
fn a_given_category_that_was_never_read_goes_with_the_more_rows() {
    let group: Vec<u32> = (0..1000).map(|row| u32::from(row % 5 == 0)).collect();
    let copy: Vec<u32> = group.clone();
    let fields = vec![category("group", 3), category("copy", 2)];
    let options = json!({"first": ["group"]});
    let trained = trained_on(fields, vec![Values::Codes(group), Values::Codes(copy)], None, options, 1);
    let made = trained.drawn(100, &[(0, Values::Codes(vec![2; 100]))], 1);
    assert_eq!((codes(&made.columns[0]), codes(&made.columns[1])), (&[2; 100][..], &[0; 100][..]));
}

#[test]
fn every_row_is_a_donor_once_and_no_leaf_is_too_small() {
    let (fields, columns) = mixed(5000);
    let frame = Frame { rows: 5000, columns };
    let settings = Settings { min_leaf: 37, smoothing: true, shared: 10, first: vec![0] };
    let task =
        Task { fields: &fields, rows: &frame, label: None, seed: 0, secret: None, threads: 2, progress: &Unwatched };
    let (order, columns, trees) = learn(&task, &settings).unwrap();
    assert_eq!(order[0], 0);
    for (column, tree) in columns.iter().zip(&trees) {
        assert!(tree.starts.windows(2).all(|leaf| leaf[1] - leaf[0] >= 37));
        let (mut donors, mut places) = (tree.donors.clone(), column.places.clone());
        donors.sort_unstable();
        places.sort_unstable();
        assert_eq!(donors, places);
    }
    assert!(trees[3].starts.len() > 5);
}

#[test]
fn a_split_of_two_classes_is_the_best_of_all_subsets() {
    for trial in 0..50 {
        let counts: Vec<u32> = (0..14).map(|i| 1 + below(trial, i, 30) as u32).collect();
        let rows: Vec<u32> = counts.chunks(2).map(|pair| pair.iter().sum()).collect();
        let all: Vec<u64> =
            (0..2).map(|class| counts.iter().skip(class).step_by(2).map(|&n| u64::from(n)).sum()).collect();
        let score = |left: usize| {
            let side = |within: bool| {
                let of = |class: usize| {
                    let codes = (0..7).filter(|code| (left >> code & 1 == 1) == within);
                    codes.map(|code| f64::from(counts[2 * code + class])).sum::<f64>()
                };
                (of(0) * of(0) + of(1) * of(1)) / (of(0) + of(1))
            };
            side(true) + side(false)
        };
        let most = (1..127).map(score).fold(0.0, f64::max);
        let sums = Sums::Classes { counts: &counts, classes: 2 };
        let split = best(&rows, &sums, false, 1, &mut Scratch::default(), (&[], &all)).unwrap();
        let left = (0..7).filter(|&code| !holds(&split.mask, code)).map(|code| 1 << code).sum();
        assert!((split.score - most).abs() < 1e-9 && (score(left) - most).abs() < 1e-9, "{trial}");
    }
}

#[test]
fn an_ordered_split_of_numbers_is_the_best_of_all_places() {
    for trial in 0..50 {
        let rows: Vec<u32> = (0..9).map(|i| below(trial, i, 8) as u32).collect();
        let sums: Vec<f64> = rows.iter().zip(0..).map(|(&n, i)| f64::from(n) * f64::from(normal(trial, i))).collect();
        let total: u32 = rows.iter().sum();
        let all: f64 = sums.iter().sum();
        let most = (1..9)
            .filter_map(|place| {
                let (n, s): (u32, f64) = (rows[..place].iter().sum(), sums[..place].iter().sum());
                (n >= 3 && total - n >= 3).then(|| s * s / f64::from(n) + (all - s).powi(2) / f64::from(total - n))
            })
            .fold(f64::NEG_INFINITY, f64::max);
        let of = Sums::Numbers { sums: &sums, outputs: 1 };
        let split = best(&rows, &of, true, 3, &mut Scratch::default(), (&[all], &[]));
        assert!((split.unwrap().score - most).abs() < 1e-9);
    }
}

#[test]
fn a_neighbour_is_the_nearest_other_value() {
    let donors = [3, 3, 5, 8, 8, 8, 9];
    for (j, &x) in donors.iter().enumerate() {
        let below = donors.iter().rev().copied().find(|&y| y < x);
        let above = donors.iter().copied().find(|&y| y > x);
        assert_eq!(neighbour(&donors, j, true), below.or(above));
        assert_eq!(neighbour(&donors, j, false), above.or(below));
    }
    assert_eq!(neighbour(&[4, 4], 1, true), None);
}

#[test]
fn one_row_a_constant_and_nothing_but_null_are_learned_as_they_are() {
    for rows in [1, 2, 300] {
        let fields = vec![number("null"), category("none", 0), number("one"), category("same", 1)];
        let columns = vec![
            Values::Numbers(vec![f64::NAN; rows]),
            Values::Codes(vec![NONE; rows]),
            Values::Numbers(vec![-2.5; rows]),
            Values::Codes(vec![0; rows]),
        ];
        let made = trained_on(fields, columns, Some(1), json!({"min_leaf": 1}), 2).drawn(50, &[], 2);
        assert!(numbers(&made.columns[0]).iter().all(|x| x.is_nan()));
        assert!(codes(&made.columns[1]).iter().all(|&code| code == NONE));
        assert_eq!(numbers(&made.columns[2]), [-2.5; 50]);
        assert_eq!(codes(&made.columns[3]), [0; 50]);
    }
}

#[test]
fn huge_and_tiny_numbers_stay_numbers_within_their_bounds() {
    let huge: Vec<f64> = (0..500).map(|row| 1.7e308 * f64::from(runtime::draw::uniform(1, row))).collect();
    let tiny: Vec<f64> = (0..500).map(|row| 1e-310 * f64::from(runtime::draw::uniform(2, row))).collect();
    let columns = vec![Values::Numbers(huge), Values::Numbers(tiny)];
    let made = trained_on(vec![number("huge"), number("tiny")], columns, None, json!({"min_leaf": 5}), 2);
    let made = made.drawn(2000, &[], 2);
    assert!(numbers(&made.columns[0]).iter().all(|x| x.abs() <= 1.7e308));
    assert!(numbers(&made.columns[1]).iter().all(|x| x.abs() <= 1e-310));
}

#[test]
fn a_hundred_thousand_categories_are_told_and_tell() {
    let rows = 120_000;
    let half: Vec<u32> = (0..rows).map(|row| u32::from(row % 2 == 0)).collect();
    // Few are frequent, and are of one half.
    let many: Vec<u32> = (0..rows).map(|row| if row % 4 == 0 { row % 40 } else { row % 100_000 }).collect();
    let number: Vec<f64> = (0..rows).map(|row| f64::from(row % 2) + f64::from(row) * 1e-9).collect();
    let fields = vec![category("half", 2), category("many", 100_000), self::number("number")];
    let columns = vec![Values::Codes(half), Values::Codes(many), Values::Numbers(number)];
    let trained = trained_on(fields, columns, None, Value::Null, 2);
    let made = trained.drawn(20_000, &[], 2);
    let many = codes(&made.columns[1]);
    assert!(many.iter().all(|&code| code < 100_000) && many.iter().collect::<HashSet<_>>().len() > 8000);
    // An even code goes with an even row's half, which the number tells again.
    let fits =
        many.iter().zip(codes(&made.columns[0])).filter(|&(&code, &half)| (code % 2 == 0) == (half == 1)).count();
    assert!(fits > 15_000, "{fits}");
}

#[test]
fn wrong_options_are_named() {
    let (fields, columns) = mixed(10);
    let rows = Frame { rows: 10, columns };
    let task =
        Task { fields: &fields, rows: &rows, label: None, seed: 1, secret: None, threads: 1, progress: &Unwatched };
    let said = |options: Value| {
        train(&task, &mut Options::new("cart", &options).unwrap()).err().map(|e| e.to_string()).unwrap_or_default()
    };
    assert_eq!(said(json!({"first": ["label", "label"]})), "invalid value for option \"first\": \"label\"");
    assert_eq!(said(json!({"first": "label"})), "invalid value for option \"first\": \"label\"");
    assert_eq!(said(json!({"first": ["lable"]})), "invalid value for option \"first\": \"lable\"");
    assert_eq!(said(json!({"smoothing": 1})), "invalid value for option \"smoothing\": 1");
    assert_eq!(said(json!({"min_leaf": 0})), "invalid value for option \"min_leaf\": 0");
    let none = Frame { rows: 0, columns: rows.columns.iter().map(|values| values.take(&[])).collect() };
    let task = Task { rows: &none, ..task };
    assert!(matches!(train(&task, &mut Options::new("cart", &Value::Null).unwrap()), Err(Error::EmptySource(_))));
}

#[test]
fn training_that_is_canceled_at_any_look_says_so() {
    struct After(Cell<usize>);
    impl Progress for After {
        fn check(&self) -> Result<()> {
            let left = self.0.get().checked_sub(1).ok_or(Error::Canceled)?;
            self.0.set(left);
            Ok(())
        }
    }
    let (fields, columns) = mixed(500);
    let rows = Frame { rows: 500, columns };
    for looks in 0..4 {
        let progress = After(Cell::new(looks));
        let task =
            Task { fields: &fields, rows: &rows, label: None, seed: 1, secret: None, threads: 1, progress: &progress };
        let outcome = train(&task, &mut Options::new("cart", &Value::Null).unwrap());
        assert!(matches!(outcome, Err(Error::Canceled)));
    }
}

#[test]
fn a_file_that_contradicts_itself_is_damaged_and_never_a_panic() {
    let (fields, columns) = mixed(400);
    let trained = trained_on(fields, columns, Some(3), json!({"min_leaf": 20}), 1);
    let header = u64::from_le_bytes(trained.data[..8].try_into().unwrap()) as usize + 8;
    let mut refused = 0;
    for trial in 0..400 {
        let mut data = trained.data.to_vec();
        let at = header + below(9, trial, data.len() - header);
        data[at] ^= 1 << below(10, trial, 8);
        let data = Bytes::from(data);
        let files = Files::open("m", trained.onnx.clone(), &data).unwrap();
        let Ok(generator) = Cart.open(&files, &trained.fields) else {
            refused += 1;
            continue;
        };
        let draw = Draw { rows: 40, seed: trial, given: &[], threads: 1, progress: &Unwatched };
        let outcome = generator.sample(&draw, &mut |_, _| Err(Error::Internal(String::new())));
        assert!(matches!(outcome, Ok(_) | Err(Error::DamagedModel { .. })));
    }
    assert!(refused > 20, "{refused}");
    let files = Files::open("m", trained.onnx.clone(), &trained.data).unwrap();
    assert!(matches!(Cart.open(&files, &trained.fields[..3]), Err(Error::DamagedModel { .. })));
}
