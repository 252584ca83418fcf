use std::cell::Cell;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ndarray::Array2;
use serde_json::{Value, json};

use super::*;
use crate::Values;
use crate::methods::modes::Class;
use crate::methods::modes::evaluate::evaluate;
use crate::methods::modes::tests::{category, frame, number, task};
use onnx::tensor::Tensor;
use runtime::draw::{normal, uniform};
use runtime::error::Error;
use runtime::progress::{Progress, Unwatched};
use tabular::NONE;

fn trained(task: &Task, options: &Value) -> Result<Parts> {
    train(task, &mut Options::new("tvae", options)?)
}

/// Rows of a trained model, as serving makes them.
fn made(parts: Parts, fields: &[Field], rows: usize) -> Frame {
    let data = Bytes::from(parts.data.finish().unwrap());
    let files = Files::open("m", parts.graph.clone().encode().unwrap().into(), &data).unwrap();
    let draw = Draw { rows, seed: 5, given: &[], threads: 2, progress: &Unwatched };
    let mut run = |inputs: Vec<(&'static str, Tensor)>, outputs: &[&str]| {
        assert_eq!(outputs, ["rows"]);
        Ok(vec![evaluate(&parts.graph, inputs).into()])
    };
    open(&files, fields).unwrap().sample(&draw, &mut run).unwrap()
}

/// A code, a number that depends on it, a code that is the first one's parity, and NULLs.
fn example(rows: u64) -> (Vec<Field>, Frame) {
    let fields = vec![category("kind", 4), number("size"), category("odd", 2)];
    let kind = |i| (uniform(1, i) * 2.0 + 2.0) as u32;
    let size = |i| if i % 10 == 0 { f64::NAN } else { f64::from(kind(i)) * 10.0 + f64::from(normal(2, i)) };
    let odd = |i| if kind(i) == 3 { NONE } else { kind(i) % 2 };
    let columns = vec![
        Values::Codes((0..rows).map(kind).collect()),
        Values::Numbers((0..rows).map(size).collect()),
        Values::Codes((0..rows).map(odd).collect()),
    ];
    (fields, frame(columns))
}

#[test]
fn made_rows_keep_what_columns_say_of_each_other() {
    let (fields, rows) = example(4000);
    let parts = trained(&task(&fields, &rows, 2), &json!({"epochs": 50, "hidden": 32, "latent": 16, "batch_size": 80}))
        .unwrap();
    let losses = parts.figures["reconstruction_losses"].as_array().unwrap();
    assert!(losses[49].as_f64() < losses[0].as_f64());
    let made = made(parts, &fields, 2000);
    let [Values::Codes(kind), Values::Numbers(size), Values::Codes(odd)] = &made.columns[..] else { panic!() };
    let (mut agree, mut near, mut known) = (0, 0, 0);
    for i in 0..2000 {
        agree += usize::from(odd[i] == if kind[i] == 3 { NONE } else { kind[i] % 2 });
        known += usize::from(!size[i].is_nan());
        near += usize::from((size[i] - f64::from(kind[i]) * 10.0).abs() < 4.0);
    }
    assert!(agree > 1750, "{agree}");
    assert!((1700..1900).contains(&known) && near > known * 17 / 20, "{known} {near}");
    for code in 0..4 {
        let share = kind.iter().filter(|&&k| k == code).count();
        assert!((440..560).contains(&share), "{code}: {share}");
    }
}

#[test]
fn the_graph_gives_what_the_decoder_gives() {
    let (fields, rows) = example(300);
    let task = task(&fields, &rows, 1);
    let encoding = Encoding::fit(&fields, &rows, &Unwatched).unwrap();
    let mut network = Network::new(&encoding, 16, 16, 3).unwrap();
    let at = network.shape.decoder[2].at;
    network.parameters[at..].iter_mut().enumerate().for_each(|(i, x)| *x = uniform(8, i as u64));
    let shape = network.shape;
    let n = 50;
    let width = shape.latent + shape.numbers;
    let noise: Vec<f32> = (0..n * width).map(|i| normal(1, i as u64)).collect();
    let u: Vec<f32> = (0..n * 3).map(|i| uniform(2, i as u64) / 2.0 + 0.5).collect();
    let matrix = |width: usize, x: &[f32]| Array2::from_shape_vec((n, width), x.to_vec()).unwrap();
    let inputs = vec![("noise", matrix(width, &noise).into()), ("uniform", matrix(3, &u).into())];
    let made = evaluate(&graph(&network, &encoding).unwrap(), inputs);
    assert_eq!(task.rows.rows, 300);
    let mut different = 0;
    for r in 0..n {
        let mut x: Vec<f64> = noise[r * width..][..shape.latent].iter().map(|&x| x.into()).collect();
        for (number, layer) in shape.decoder.iter().enumerate() {
            let (weight, bias) = network.layer(*layer).unwrap();
            let y = |j: usize| {
                let sum = x.iter().enumerate().map(|(i, x)| x * f64::from(weight[[i, j]])).sum::<f64>();
                let y = sum + f64::from(bias[j]);
                if number < 2 { y.max(0.0) } else { y }
            };
            x = (0..layer.outputs).map(y).collect();
        }
        for (h, head) in encoding.heads.iter().enumerate() {
            let shares: Vec<f64> = x[head.first..][..head.classes.len()].iter().map(|x| x.exp()).collect();
            let mut left = f64::from(u[r * 3 + h]) * shares.iter().sum::<f64>();
            let at = shares.iter().position(|share| {
                left -= share;
                left < 0.0
            });
            let at = at.unwrap();
            let expected = match head.classes[at] {
                Class::Null if head.category => -1.0,
                Class::Null => f64::NAN,
                Class::Code(code) => code.into(),
                Class::Value(x) => x,
                Class::Mode { mean, deviation } => {
                    let stray = f64::from(network.deviations()[head.first + at].exp());
                    let within = x[shape.columns].tanh() + stray * f64::from(noise[r * width + shape.latent]);
                    mean + 4.0 * deviation * within.clamp(-1.0, 1.0)
                }
                Class::Others => -2.0,
            };
            let given = made[[r, h]];
            assert!((given - expected).abs() < 1e-4 || given.is_nan() && expected.is_nan(), "{given} {expected}");
            different += usize::from(h == 0 && given != made[[0, 0]]);
        }
    }
    assert!(different > 10);
}

#[test]
fn any_number_of_threads_learns_the_same_bits() {
    let (fields, rows) = example(700);
    let of = |threads| {
        let options = json!({"epochs": 2, "hidden": 32, "latent": 16, "batch_size": 300});
        trained(&task(&fields, &rows, threads), &options).unwrap().graph.encode().unwrap()
    };
    assert!(of(1) == of(3));
}

#[test]
fn one_row_constant_columns_and_many_categories_are_learned() {
    let all = [
        (vec![number("x"), category("c", 1)], frame(vec![Values::Numbers(vec![4.0]), Values::Codes(vec![0])])),
        (vec![number("x")], frame(vec![Values::Numbers(vec![f64::NAN; 5])])),
        (vec![number("x")], frame(vec![Values::Numbers(vec![-1e300, 1e300, 1e-300, 0.0, 5.0, 6.0, 7.0])])),
        (vec![category("c", 100_000)], frame(vec![Values::Codes((0..2000).map(|i| i * 50).collect())])),
    ];
    for (fields, rows) in all {
        let options = json!({"epochs": 1, "hidden": 16, "latent": 16});
        let parts = trained(&task(&fields, &rows, 2), &options).unwrap();
        let made = made(parts, &fields, 40);
        for (one, given) in made.columns.iter().zip(&rows.columns) {
            match (one, given) {
                (Values::Codes(made), Values::Codes(given)) => assert!(made.iter().all(|code| given.contains(code))),
                (Values::Numbers(made), Values::Numbers(given)) if given.len() < 7 => {
                    assert!(made.iter().all(|x| given.iter().any(|y| x == y || x.is_nan() && y.is_nan())));
                }
                (Values::Numbers(made), _) => assert!(made.iter().all(|x| x.is_finite())),
                _ => panic!("another kind"),
            }
        }
    }
}

#[test]
fn options_out_of_range_are_named() {
    let (fields, rows) = example(10);
    let error = trained(&task(&fields, &rows, 1), &json!({"epochs": 0})).err().unwrap();
    assert_eq!(error.to_string(), "invalid value for option \"epochs\": 0");
}

#[test]
fn a_cancel_request_ends_the_training_at_once() {
    struct Later(Instant, Cell<Option<Instant>>);
    impl Progress for Later {
        fn check(&self) -> Result<()> {
            if self.0.elapsed() < Duration::from_millis(150) {
                return Ok(());
            }
            self.1.set(Some(self.1.get().unwrap_or_else(Instant::now)));
            Err(Error::Canceled)
        }
    }
    let (fields, rows) = example(3000);
    let later = Later(Instant::now(), Cell::default());
    let task = Task { progress: &later, ..task(&fields, &rows, 2) };
    let result = trained(&task, &json!({"epochs": 100_000, "batch_size": 3000}));
    assert!(matches!(result, Err(Error::Canceled)));
    // Far above the 50 ms of an idle machine.
    assert!(later.1.get().unwrap().elapsed() < Duration::from_millis(500));
}
