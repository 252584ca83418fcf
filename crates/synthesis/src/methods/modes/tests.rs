use super::*;
use crate::{Draw, Task};
use ndarray::Array2;
use onnx::stored::DataWriter;
use onnx::tensor::Tensor;
use runtime::draw::{normal, uniform};
use runtime::progress::Unwatched;

pub fn category(name: &str, count: usize) -> Field {
    Field { name: name.into(), kind: FieldKind::Category { count }, nulls: true, declared: false }
}

pub fn number(name: &str) -> Field {
    let kind = FieldKind::Number { low: -1e300, high: 1e300, step: 0.0 };
    Field { name: name.into(), kind, nulls: true, declared: false }
}

pub fn frame(columns: Vec<Values>) -> Frame {
    Frame { rows: columns[0].len(), columns }
}

pub fn task<'a>(fields: &'a [Field], rows: &'a Frame, threads: usize) -> Task<'a> {
    Task { fields, rows, label: None, seed: 7, secret: None, threads, progress: &Unwatched }
}

fn fit(fields: &[Field], rows: &Frame) -> (Encoding, Encoded) {
    let encoding = Encoding::fit(fields, rows, &Unwatched).unwrap();
    let encoded = Encoded::new(&encoding, &task(fields, rows, 2)).unwrap();
    (encoding, encoded)
}

#[test]
fn a_number_is_spikes_and_modes_and_its_place_within_gives_it_back() {
    // A third is 0, a tenth is NULL, the others are two hills.
    let x: Vec<f64> = (0..6000u64)
        .map(|i| match i % 30 {
            0..10 => -0.0,
            10..13 => f64::NAN,
            r => f64::from(normal(1, i)) + if r < 20 { 50.0 } else { 1000.0 },
        })
        .collect();
    let rows = frame(vec![Values::Numbers(x.clone())]);
    let (encoding, encoded) = fit(&[number("x")], &rows);
    let head = &encoding.heads[0];
    assert_eq!((head.classes[0], head.counts[0]), (Class::Value(0.0), 2000));
    assert_eq!((head.classes.last(), head.counts.last()), (Some(&Class::Null), Some(&600)));
    for (row, &x) in x.iter().enumerate() {
        let (class, within) = encoded.row(row);
        match head.classes[class[0] as usize] {
            Class::Null => assert!(x.is_nan()),
            Class::Value(v) => assert_eq!((v, x), (0.0, 0.0)),
            Class::Mode { mean, deviation } => {
                let back = mean + 4.0 * deviation * f64::from(within[0]);
                assert!(within[0].abs() == 1.0 || (back - x).abs() < 1e-3, "{x} {back}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn numbers_of_few_values_are_their_values_unless_the_table_is_short() {
    let long = frame(vec![Values::Numbers((0..500).map(|i| f64::from(i % 20)).collect())]);
    let (encoding, _) = fit(&[number("x")], &long);
    assert_eq!((encoding.numbers, encoding.columns), (0, 20));
    let short = frame(vec![Values::Numbers((0..20).map(f64::from).collect())]);
    let (encoding, _) = fit(&[number("x")], &short);
    assert!(encoding.numbers == 1 && encoding.heads[0].classes.iter().all(|c| matches!(c, Class::Mode { .. })));
}

#[test]
fn constant_empty_and_single_columns_have_one_class() {
    let rows = frame(vec![
        Values::Numbers(vec![3.5; 4]),
        Values::Numbers(vec![f64::NAN; 4]),
        Values::Codes(vec![NONE; 4]),
        Values::Codes(vec![2; 4]),
    ]);
    let fields = [number("a"), number("b"), category("c", 0), category("d", 9)];
    let (encoding, encoded) = fit(&fields, &rows);
    let classes: Vec<_> = encoding.heads.iter().map(|head| head.classes.clone()).collect();
    assert_eq!(classes, [[Class::Value(3.5)], [Class::Null], [Class::Null], [Class::Code(2)]].map(|c| c.to_vec()));
    assert_eq!(encoded.row(0).0, [0, 1, 2, 3]);
    let nothing = Frame { rows: 0, columns: vec![Values::Numbers(Vec::new())] };
    assert!(matches!(Encoding::fit(&[number("a")], &nothing, &Unwatched), Err(Error::EmptySource(_))));
}

#[test]
fn of_a_hundred_thousand_categories_the_rare_ones_share_a_class_and_come_back_by_frequency() {
    // Code 0 has half of the rows, 1 and 2 a few more than others.
    let mut codes: Vec<u32> = (0..100_000).collect();
    codes.extend(std::iter::repeat_n(0, 100_000));
    (1..300).for_each(|code| codes.extend([code; 3]));
    codes.extend([50_000; 10_000]);
    let rows = frame(vec![Values::Codes(codes)]);
    let fields = [category("c", 100_000)];
    let (encoding, encoded) = fit(&fields, &rows);
    let head = &encoding.heads[0];
    assert_eq!((head.classes.len(), head.classes[0], head.classes[256]), (257, Class::Code(0), Class::Others));
    assert_eq!(encoded.classes.iter().filter(|&&c| c == 256).count() as u64, head.counts[256]);
    let (_, others, sums) = &encoding.others[0];
    assert_eq!((others.len(), sums.last()), (100_000 - 256, Some(&head.counts[256])));

    let mut data = DataWriter::default();
    encoding.write(&mut data);
    let data = bytes::Bytes::from(data.finish().unwrap());
    let graph = bytes::Bytes::from(onnx::graph::GraphBuilder::new("none").encode().unwrap());
    let files = onnx::stored::Files::open("m", graph, &data).unwrap();
    let decoder = Decoder::open(&files, &fields).unwrap();
    let draw = Draw { rows: 50_000, seed: 3, given: &[], threads: 1, progress: &Unwatched };
    let others_of =
        |inputs: Vec<(&str, Tensor)>, _: &[&str]| Ok(vec![Array2::from_elem((inputs[0].1.shape()[0], 1), -2.0).into()]);
    let frame = decoder.sample(&draw, &mut { others_of }, 3, |_| Ok(Vec::new())).unwrap();
    let Values::Codes(made) = &frame.columns[0] else { panic!() };
    assert!(made.iter().all(|code| others.contains(code) || *code > 300));
    // The 43 codes of four rows are four times as frequent as the 99,701 of one.
    let share = made.iter().filter(|&&code| code < 300).count() as f64 / 50_000.0;
    let expected = others.iter().filter(|&&code| code < 300).count() as f64 * 4.0 / *sums.last().unwrap() as f64;
    assert!((share - expected).abs() < 2e-3, "{share} {expected}");
    let damaged = onnx::stored::Files::open("m", files_without_fields(), &data).unwrap();
    assert!(Decoder::open(&damaged, &[number("x")]).is_err());
}

fn files_without_fields() -> bytes::Bytes {
    onnx::graph::GraphBuilder::new("none").encode().unwrap().into()
}

#[test]
fn the_same_rows_are_encoded_alike_on_any_number_of_threads() {
    let x = (0..9000u64).map(|i| f64::from(uniform(2, i))).collect();
    let (fields, rows) = ([number("x")], frame(vec![Values::Numbers(x)]));
    let encoding = Encoding::fit(&fields, &rows, &Unwatched).unwrap();
    let of = |threads| Encoded::new(&encoding, &task(&fields, &rows, threads)).unwrap();
    let (one, three) = (of(1), of(3));
    assert!(one.classes == three.classes && one.numbers == three.numbers);
}
