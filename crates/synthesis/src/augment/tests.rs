use std::rc::Rc;

use serde_json::{Value, json};

use super::bootstrap::Bootstrap;
use super::jitter::Jitter;
use super::measure::Spread;
use super::mixup::Mixup;
use super::registry::AUGMENTATIONS;
use super::smote::Smote;
use super::*;
use crate::{Field, FieldKind, Frame, Task, Values};
use runtime::draw;
use runtime::error::Result;
use runtime::options::Options;
use runtime::progress::Unwatched;
use tabular::NONE;

const NUMBER: FieldKind = FieldKind::Number { low: f64::MIN, high: f64::MAX, step: 0.0 };

fn field(name: &str, kind: FieldKind) -> Field {
    Field { name: name.into(), kind, nulls: true, declared: false }
}

struct Source {
    fields: Vec<Field>,
    frame: Frame,
    label: Option<usize>,
}

impl Source {
    fn task(&self, threads: usize) -> Task<'_> {
        let (fields, rows) = (&self.fields[..], &self.frame);
        Task { fields, rows, label: self.label, seed: 1, secret: None, threads, progress: &Unwatched }
    }

    fn open(&self, method: &'static dyn Augmentation, options: &Value) -> Result<Augmenter> {
        Augmenter::new(&self.task(2), Rc::new(self.frame.clone()), method, &mut Options::new("augment", options)?)
    }

    fn made(&self, method: &'static dyn Augmentation, class: Option<u32>, rows: usize) -> Frame {
        self.open(method, &Value::Null).unwrap().block(class, rows, 5, &Unwatched).unwrap()
    }
}

/// Two clouds of numbers, of class 0 round (0, 0) and of class 1 round (10, 10), a kind that goes with the class, and one
/// NULL in ten of the second number.
fn clouds(n: usize) -> Source {
    let label: Vec<u32> = (0..n).map(|i| u32::from(i % 4 == 0)).collect();
    let number = |seed, i: usize| f64::from(label[i]) * 10.0 + f64::from(draw::normal(seed, i as u64));
    let x = (0..n).map(|i| number(1, i)).collect();
    let y = (0..n).map(|i| if i % 10 == 3 { f64::NAN } else { number(2, i) }).collect();
    let kind = (0..n).map(|i| label[i] * 2 + u32::from(i % 3 == 0)).collect();
    Source {
        fields: vec![
            field("x", NUMBER),
            field("y", NUMBER),
            field("kind", FieldKind::Category { count: 4 }),
            field("label", FieldKind::Category { count: 2 }),
        ],
        frame: Frame {
            rows: n,
            columns: vec![Values::Numbers(x), Values::Numbers(y), Values::Codes(kind), Values::Codes(label)],
        },
        label: Some(3),
    }
}

fn numbers(frame: &Frame, column: usize) -> &[f64] {
    if let Values::Numbers(numbers) = &frame.columns[column] { numbers } else { panic!() }
}

fn codes(frame: &Frame, column: usize) -> &[u32] {
    if let Values::Codes(codes) = &frame.columns[column] { codes } else { panic!() }
}

#[test]
fn new_rows_of_a_class_lie_among_its_rows() {
    let source = clouds(800);
    for method in [&Smote::Mixed as &dyn Augmentation, &Smote::Adaptive, &Bootstrap] {
        let made = source.made(method, Some(1), 500);
        assert!(codes(&made, 3).iter().all(|&label| label == 1), "{}", method.name());
        assert!(numbers(&made, 0).iter().all(|&x| (5.0..15.0).contains(&x)));
        assert!(codes(&made, 2).iter().all(|&kind| kind >= 2));
        let nulls = numbers(&made, 1).iter().filter(|x| x.is_nan()).count();
        // Of class 1 the rows 4 i with 4 i mod 10 = 3: none.
        assert_eq!(nulls, 0);
    }
    let nulls = numbers(&source.made(&Smote::Mixed, Some(0), 4000), 1).iter().filter(|x| x.is_nan()).count();
    assert!((300..900).contains(&nulls), "{nulls}");
}

#[test]
fn smote_rows_lie_on_the_line_to_one_of_the_nearest_rows() {
    let mut source = clouds(120);
    source.fields.remove(2);
    source.frame.columns.remove(2);
    source.label = Some(2);
    let made =
        source.open(&Smote::Numbers, &json!({"k_neighbors": 3})).unwrap().block(Some(0), 200, 8, &Unwatched).unwrap();
    let (x, y, label) = (numbers(&source.frame, 0), numbers(&source.frame, 1), codes(&source.frame, 2));
    let whole: Vec<usize> = (0..120).filter(|&i| label[i] == 0 && !y[i].is_nan()).collect();
    let deviation = |values: &[f64]| Spread::of(values, &runtime::jobs::Signal::default()).unwrap().deviation;
    let (dx, dy) = (deviation(x), deviation(y));
    let far = |a: usize, b: usize| ((x[a] - x[b]) / dx).powi(2) + ((y[a] - y[b]) / dy).powi(2);
    let mut on_lines = 0;
    for (&new_x, &new_y) in numbers(&made, 0).iter().zip(numbers(&made, 1)).filter(|(_, y)| !y.is_nan()) {
        let on = |a: usize, b: usize| {
            let t = (new_x - x[a]) / (x[b] - x[a]);
            (-1e-9..=1.0 + 1e-9).contains(&t) && (y[a] + t * (y[b] - y[a]) - new_y).abs() < 1e-6
        };
        let found = whole.iter().any(|&a| {
            let mut near: Vec<usize> = whole.iter().copied().filter(|&b| b != a).collect();
            near.sort_by(|&b, &c| far(a, b).total_cmp(&far(a, c)));
            near[..3].iter().any(|&b| on(a, b))
        });
        on_lines += usize::from(found);
    }
    // The others began from a row that lacks y.
    let known = numbers(&made, 1).iter().filter(|y| !y.is_nan()).count();
    assert!(on_lines * 10 >= known * 9 && known > 150, "{on_lines} of {known}");
}

#[test]
fn adasyn_begins_from_rows_near_other_classes() {
    // Class 1 from 0 to 99, class 0 from 90 on: the border is at 90 to 99.
    let x: Vec<f64> = (0..100).chain(90..400).map(f64::from).collect();
    let label = (0..410).map(|i| u32::from(i < 100)).collect();
    let source = Source {
        fields: vec![field("x", NUMBER), field("label", FieldKind::Category { count: 2 })],
        frame: Frame { rows: 410, columns: vec![Values::Numbers(x), Values::Codes(label)] },
        label: Some(1),
    };
    let border = |method: &'static Smote| {
        let made = source.made(method, Some(1), 400);
        numbers(&made, 0).iter().filter(|&&x| x > 84.0).count()
    };
    assert!(border(&Smote::Adaptive) == 400 && border(&Smote::Numbers) < 120);
}

#[test]
fn mixed_rows_have_the_label_of_the_heavier_and_lie_between() {
    let source = clouds(400);
    let made = source.made(&Mixup, Some(1), 3000);
    assert!(codes(&made, 3).iter().all(|&label| label == 1));
    let x = numbers(&made, 0);
    // Half of the other rows are of class 0, at 0: their weight is at most a half.
    assert!(x.iter().all(|&x| x > 2.0) && x.iter().filter(|&&x| x < 7.0).count() > 100);
    let foreign = codes(&made, 2).iter().filter(|&&kind| kind < 2).count();
    assert!((30..600).contains(&foreign), "{foreign}");
    let all = source.made(&Mixup, None, 2000);
    let ones = codes(&all, 3).iter().filter(|&&label| label == 1).count();
    assert!((400..600).contains(&ones), "{ones}");
}

#[test]
fn jitter_moves_numbers_a_little_and_leaves_spikes_and_nulls() {
    let n = 400;
    let x = (0..n).map(|i| [0.0, f64::NAN, f64::from(i), 1e3 + f64::from(i)][i as usize % 4]).collect();
    let kind = (0..n).map(|i| u32::from(i % 2 == 0)).collect();
    let source = Source {
        fields: vec![field("x", NUMBER), field("kind", FieldKind::Category { count: 2 })],
        frame: Frame { rows: 400, columns: vec![Values::Numbers(x), Values::Codes(kind)] },
        label: None,
    };
    let made = source.made(&Jitter, None, 4000);
    let (x, kinds) = (numbers(&made, 0), codes(&made, 1));
    let share = |is: &dyn Fn(f64) -> bool| x.iter().filter(|&&x| is(x)).count() as f64 / 4000.0;
    assert!((share(&|x| x == 0.0) - 0.25).abs() < 0.04 && (share(&|x| x.is_nan()) - 0.25).abs() < 0.04);
    assert!(share(&|x| x.fract() != 0.0) > 0.45);
    assert!(x.iter().all(|&x| x.is_nan() || (-300.0..1800.0).contains(&x)));
    // 0 came with kind 1; one in twenty was drawn anew, half of these the same.
    let changed = x.iter().zip(kinds).filter(|&(&x, &kind)| x == 0.0 && kind == 0).count();
    assert!((5..60).contains(&changed), "{changed}");
}

#[test]
fn the_same_seed_gives_the_same_rows_on_any_number_of_threads_and_in_any_order() {
    let source = clouds(300);
    for method in AUGMENTATIONS.into_iter().filter(|method| method.name() != "smote") {
        let of = |threads, first: Option<u64>| {
            let mut augmenter = Augmenter::new(
                &source.task(threads),
                Rc::new(source.frame.clone()),
                method,
                &mut Options::new("augment", &Value::Null).unwrap(),
            )
            .unwrap();
            if let Some(seed) = first {
                augmenter.block(Some(0), 50, seed, &Unwatched).unwrap();
            }
            format!("{:?}", augmenter.block(None, 100, 9, &Unwatched).unwrap())
        };
        assert!(of(1, None) == of(3, Some(2)), "{}", method.name());
        assert!(source.made(method, None, 0).columns.iter().all(Values::is_empty));
    }
}

#[test]
fn the_one_row_of_a_class_is_jittered_and_its_categories_are_kept() {
    let mut source = clouds(50);
    source.fields[3].kind = FieldKind::Category { count: 3 };
    let (Values::Codes(label), Values::Codes(kind)) = (&mut source.frame.columns[3].clone(), &source.frame.columns[2])
    else {
        panic!()
    };
    label[7] = 2;
    let (kind, x) = (kind[7], numbers(&source.frame, 0)[7]);
    source.frame.columns[3] = Values::Codes(label.clone());
    for method in [&Smote::Mixed, &Smote::Adaptive] {
        let made = source.made(method, Some(2), 40);
        assert!(codes(&made, 2).iter().all(|&code| code == kind) && codes(&made, 3).iter().all(|&code| code == 2));
        assert!(numbers(&made, 0).iter().all(|&new| (new - x).abs() < 3.0 && new != x));
    }
    let one = Source {
        fields: vec![field("x", NUMBER)],
        frame: Frame { rows: 1, columns: vec![Values::Numbers(vec![4.0])] },
        label: None,
    };
    for method in AUGMENTATIONS.into_iter().filter(|method| method.name() != "adasyn") {
        assert_eq!(numbers(&one.made(method, None, 3), 0), [4.0; 3], "{}", method.name());
    }
}

#[test]
fn what_cannot_be_made_says_why() {
    let mut source = clouds(50);
    let message = |source: &Source, method: &'static dyn Augmentation| {
        source.open(method, &Value::Null).err().unwrap().to_string()
    };
    assert_eq!(message(&source, &Smote::Numbers), "column \"kind\" is a column of categories");
    let mut augmenter = source.open(&Smote::Mixed, &Value::Null).unwrap();
    assert!(
        augmenter.block(Some(7), 1, 1, &Unwatched).is_err() && augmenter.block(Some(NONE), 1, 1, &Unwatched).is_err()
    );
    let unknown = source.open(&Mixup, &json!({"alpha": 0}));
    assert_eq!(unknown.err().unwrap().to_string(), "invalid value for option \"alpha\": 0");
    assert_eq!(by_name("smoot").err().unwrap().to_string(), "unknown method \"smoot\"");
    source.label = Some(0);
    assert_eq!(message(&source, &Smote::Mixed), "label \"x\" is a column of numbers");
    assert!(source.made(&Mixup, None, 10).rows == 10 && source.made(&Jitter, None, 10).rows == 10);
    source.label = None;
    assert_eq!(message(&source, &Smote::Adaptive), "adasyn needs a label");
    let empty = Frame { rows: 0, columns: vec![Values::Numbers(vec![]); 4] };
    let source = Source { frame: empty, ..source };
    assert_eq!(message(&source, &Bootstrap), "the source has no rows");
}

#[test]
fn balancing_fills_every_class_up_to_the_largest() {
    assert_eq!(balanced_counts(&[0, 2, 2, 2, 5, NONE, 5]), [(0, 2), (5, 1)]);
    assert!(balanced_counts(&[]).is_empty() && balanced_counts(&[3, 3, 1, 1]).is_empty());
}
