use bytes::Bytes;
use ndarray::Array2;
use serde_json::{Value, json};

use super::*;
use crate::Values;
use crate::methods::modes::evaluate::evaluate;
use crate::methods::modes::tests::{category, frame, number, task};
use neural::elementary::fill_normal;
use onnx::tensor::Tensor;
use runtime::draw::{normal, uniform};
use runtime::error::Error;
use runtime::progress::{Progress, Unwatched};
use tabular::NONE;

fn trained(task: &Task, options: &Value) -> Result<Parts> {
    train(task, &mut Options::new("ctgan", options)?)
}

/// Rows of a trained model, as serving makes them.
fn made(parts: Parts, fields: &[Field], rows: usize) -> Frame {
    let data = Bytes::from(parts.data.finish().unwrap());
    let files = Files::open("m", parts.graph.clone().encode().unwrap().into(), &data).unwrap();
    let draw = Draw { rows, seed: 5, given: &[], threads: 2, progress: &Unwatched };
    let mut run = |inputs: Vec<(&'static str, Tensor)>, _: &[&str]| Ok(vec![evaluate(&parts.graph, inputs).into()]);
    open(&files, fields).unwrap().sample(&draw, &mut run).unwrap()
}

/// A code of which one value is rare, and a number that depends on it, sometimes NULL, sometimes 0.
fn example(rows: u64) -> (Vec<Field>, Frame) {
    let fields = vec![category("kind", 3), number("size")];
    let kind = |i| ((uniform(1, i) + 1.0) * 1.1) as u32;
    let size = |i: u64| match i % 10 {
        0 => f64::NAN,
        1 | 2 => 0.0,
        _ => f64::from(kind(i)) * 20.0 + 30.0 + f64::from(normal(2, i)),
    };
    let columns = vec![Values::Codes((0..rows).map(kind).collect()), Values::Numbers((0..rows).map(size).collect())];
    (fields, frame(columns))
}

struct Setup {
    encoding: Encoding,
    encoded: Encoded,
    sizes: Sizes,
    slots: Vec<Slot>,
    generator: generator::Generator,
    critic: Critic,
}

/// Small networks, and slots with rows and conditions.
fn setup() -> Setup {
    let (fields, rows) = example(400);
    let encoding = Encoding::fit(&fields, &rows, &Unwatched).unwrap();
    let encoded = Encoded::new(&encoding, &task(&fields, &rows, 1)).unwrap();
    let conditions = Conditions::new(&encoding, &encoded).unwrap();
    let (columns, numbers) = (encoding.columns, encoding.numbers);
    let outputs = (columns + numbers).next_multiple_of(PAD);
    let conditions_n = conditions.len();
    let sizes = Sizes {
        packs: 16,
        parts: 2,
        pac: 2,
        columns,
        numbers,
        conditions: conditions_n,
        noise: 16,
        hidden: 16,
        critic: 16,
        outputs,
    };
    let mut slots: Vec<Slot> = (0..4).map(|_| Slot::new(&sizes).unwrap()).collect();
    let generator = generator::Generator::new(sizes, &encoding, 0.0, 1).unwrap();
    let critic = Critic::new(sizes, 2, 0.5, 2).unwrap();
    for (s, slot) in slots.iter_mut().enumerate() {
        for pack in 0..16 {
            let place = (s * 16 + pack) as u64;
            slot.conditions[pack] = conditions.draw(9, place);
            slot.rows[pack] = conditions.row(slot.conditions[pack], 400, 8, place);
        }
    }
    Setup { encoding, encoded, sizes, slots, generator, critic }
}

fn with_team<T: Send>(work: impl FnOnce(&Team) -> T + Send) -> T {
    team::run(1, &Unwatched, "test", 1, |team| Ok(work(team))).unwrap()
}

fn close(exact: f32, plus: f64, minus: f64, by: f32) {
    let difference = ((plus - minus) / (2.0 * f64::from(by))) as f32;
    assert!((exact - difference).abs() < 0.04 * exact.abs().max(0.05), "{exact} {difference}");
}

#[test]
fn the_critics_gradient_is_that_of_small_differences_penalty_and_all() {
    with_team(|team| {
        let Setup { encoding, encoded, sizes, mut slots, mut generator, mut critic } = setup();
        generator.make(team, &mut slots, &encoding, 4).unwrap();
        let loss = |critic: &mut Critic, slots: &mut [Slot]| {
            let (loss, penalty) = critic.train(team, slots, &encoded, 6, None).unwrap();
            loss + penalty
        };
        loss(&mut critic, &mut slots);
        let (exact, k) = (critic.gradient.clone(), sizes.critic);
        let by = 1e-3;
        let mut counted = 0;
        for place in [3, k + 1, k + 5 * k + 3, k + k * k + 2, k + k * k + k + 1, k + k * k + k + 7] {
            let before = critic.parameters[place];
            let mut at = |x: f32| {
                critic.parameters[place] = x;
                loss(&mut critic, &mut slots)
            };
            let (plus, minus) = (at(before + by), at(before - by));
            at(before);
            close(exact[place], plus, minus, by);
            counted += usize::from(exact[place].abs() > 1e-2);
        }
        for slot in 0..2 {
            // Both parts have rows at this place.
            let both = slots[slot].gradient.iter().zip(&slots[slot + 2].gradient);
            let exact: Vec<f32> = both.map(|(a, b)| a + b).collect();
            for place in (0..exact.len()).step_by(11) {
                let index = (place / k, place % k);
                let before = critic.places[slot].weight[index];
                let mut at = |x: f32| {
                    critic.places[slot].weight[index] = x;
                    loss(&mut critic, &mut slots)
                };
                let (plus, minus) = (at(before + by), at(before - by));
                at(before);
                close(exact[place], plus, minus, by);
                counted += usize::from(exact[place].abs() > 1e-2);
            }
        }
        assert!(counted > 10, "{counted}");
    });
}

#[test]
fn the_generators_gradient_is_that_of_small_differences() {
    with_team(|team| {
        let Setup { encoding, sizes, mut slots, mut generator, mut critic, .. } = setup();
        let mut loss = |generator: &mut generator::Generator| {
            generator.make(team, &mut slots, &encoding, 4).unwrap();
            let judged = critic.judge(team, &mut slots, 6).unwrap();
            generator.train(team, &mut slots, &encoding, None).unwrap() - judged
        };
        loss(&mut generator);
        let exact = generator.gradient.clone();
        let by = 1e-3;
        let mut counted = 0;
        let ends = generator.layers.iter().enumerate().flat_map(|(number, layer)| {
            let start = layer.at + (layer.inputs + sizes.conditions) * layer.outputs;
            let added = if number < 2 { 2 * layer.outputs } else { encoding.columns + encoding.numbers };
            (start - layer.outputs..start + added).step_by(3).chain((layer.at..start).step_by(61))
        });
        for place in ends.collect::<Vec<_>>() {
            let before = generator.parameters[place];
            let mut at = |x: f32| {
                generator.parameters[place] = x;
                loss(&mut generator)
            };
            let (plus, minus) = (at(before + by), at(before - by));
            at(before);
            close(exact[place], plus, minus, by);
            counted += usize::from(exact[place].abs() > 1e-2);
        }
        assert!(counted > 10, "{counted}");
    });
}

#[test]
fn conditions_are_met_by_their_rows_and_rare_classes_come_often() {
    let Setup { encoding, encoded, .. } = setup();
    let conditions = Conditions::new(&encoding, &encoded).unwrap();
    // The number has modes: only the category is a condition.
    assert_eq!(conditions.len(), 3);
    let mut seen = [0; 3];
    for place in 0..3000 {
        let condition = conditions.draw(1, place);
        let row = conditions.row(condition, 400, 2, place) as usize;
        let condition = condition.unwrap();
        assert_eq!(encoded.row(row).0[0], condition.column);
        seen[condition.number as usize] += 1;
    }
    let logs: Vec<f64> = encoding.heads[0].counts.iter().map(|&n| (n as f64 + 1.0).ln()).collect();
    for (seen, log) in seen.iter().zip(&logs) {
        let expected = 3000.0 * log / logs.iter().sum::<f64>();
        assert!((f64::from(*seen) - expected).abs() < 150.0, "{seen} {expected}");
    }
    assert_eq!(conditions.frequencies().last(), Some(&400));
}

#[test]
fn the_graph_gives_what_the_layers_give_with_running_means() {
    let Setup { encoding, sizes, mut slots, mut generator, .. } = setup();
    with_team(|team| generator.make(team, &mut slots, &encoding, 4).unwrap());
    let n = 40;
    let mut noise = vec![0f32; n * 16];
    fill_normal(9, &mut noise);
    let u: Vec<f32> = (0..n * 2).map(|i| uniform(2, i as u64) / 2.0 + 0.5).collect();
    let which: Vec<i32> = (0..n as i32).map(|i| i % 3).collect();
    let inputs = vec![
        ("noise", Array2::from_shape_vec((n, 16), noise.clone()).unwrap().into()),
        ("uniform", Array2::from_shape_vec((n, 2), u.clone()).unwrap().into()),
        ("condition", Array1::from_vec(which.clone()).into()),
    ];
    let made = evaluate(&graph(&generator, &encoding).unwrap(), inputs);
    let some: Vec<usize> = which.iter().map(|&condition| condition as usize).collect();
    let outputs = generator.outputs(&some, 9, &Unwatched).unwrap();
    for r in 0..n {
        let mut x: Vec<f64> = noise[r * 16..][..16].iter().map(|&x| x.into()).collect();
        for number in 0..3 {
            let layer = generator.layers[number];
            let Weights { inputs: weight, conditions, added, times } = generator.weights(number).unwrap();
            let y: Vec<f64> = (0..layer.outputs)
                .map(|j| {
                    let of = |w: ArrayView2<f32>, i: usize| f64::from(w[[i, j]]);
                    let sum = x.iter().enumerate().map(|(i, x)| x * of(weight, i)).sum::<f64>();
                    let sum = sum + of(conditions, which[r] as usize);
                    if number == 2 {
                        return sum + f64::from(added[j]);
                    }
                    let (means, variances) = &generator.running[number];
                    let normal = (sum - f64::from(means[j])) / (f64::from(variances[j]) + 1e-5).sqrt();
                    (normal * f64::from(times[j]) + f64::from(added[j])).max(0.0)
                })
                .collect();
            x = if number < 2 { [y, x].concat() } else { y };
        }
        let same = |(a, b): (&f32, &f64)| (f64::from(*a) - b).abs() < 1e-4;
        assert!(outputs.row(r).iter().zip(&x).all(same));
        for (h, head) in encoding.heads.iter().enumerate() {
            let shares: Vec<f64> = x[head.first..][..head.classes.len()].iter().map(|x| x.exp()).collect();
            let mut left = f64::from(u[r * 2 + h]) * shares.iter().sum::<f64>();
            let at = shares.iter().position(|share| {
                left -= share;
                left < 0.0
            });
            use crate::methods::modes::Class;
            let expected = match head.classes[at.unwrap()] {
                Class::Null => f64::NAN,
                Class::Code(code) => code.into(),
                Class::Value(x) => x,
                Class::Mode { mean, deviation } => mean + 4.0 * deviation * x[sizes.columns].tanh(),
                Class::Others => -2.0,
            };
            let given = made[[r, h]];
            assert!((given - expected).abs() < 1e-4 || given.is_nan() && expected.is_nan(), "{given} {expected}");
        }
    }
}

#[test]
fn made_rows_come_to_resemble_real_ones() {
    let (fields, rows) = example(2000);
    let options = json!({"epochs": 80, "hidden": 32, "critic": 32, "noise": 16, "batch_size": 160, "pac": 5,
        "learning_rate": 2e-3, "critic_learning_rate": 2e-3});
    let parts = trained(&task(&fields, &rows, 2), &options).unwrap();
    let made = made(parts, &fields, 1000);
    let [Values::Codes(kind), Values::Numbers(size)] = &made.columns[..] else { panic!() };
    assert!(kind.iter().all(|&code| code < 3 && code != NONE));
    let rare = kind.iter().filter(|&&code| code == 2).count();
    assert!((60..125).contains(&rare), "{rare}");
    let known: Vec<usize> = (0..1000).filter(|&i| size[i] > 1.0).collect();
    let near = known.iter().filter(|&&i| (size[i] - f64::from(kind[i]) * 20.0 - 30.0).abs() < 8.0).count();
    assert!(near > known.len() * 7 / 10, "{near} {}", known.len());
}

#[test]
fn any_number_of_threads_learns_the_same_bits() {
    let (fields, rows) = example(500);
    let of = |threads| {
        let options = json!({"epochs": 1, "hidden": 32, "critic": 32, "noise": 16, "batch_size": 160});
        trained(&task(&fields, &rows, threads), &options).unwrap().graph.encode().unwrap()
    };
    assert!(of(1) == of(3));
}

#[test]
fn one_row_numbers_alone_and_many_categories_are_learned() {
    let all = [
        (vec![number("x"), category("c", 1)], frame(vec![Values::Numbers(vec![4.0]), Values::Codes(vec![0])])),
        (vec![number("x")], frame(vec![Values::Numbers((0..50).map(f64::from).collect())])),
        (vec![number("x")], frame(vec![Values::Numbers(vec![f64::NAN; 5])])),
        (vec![category("c", 100_000)], frame(vec![Values::Codes((0..2000).map(|i| i * 50).collect())])),
    ];
    for (fields, rows) in all {
        let options = json!({"epochs": 1, "hidden": 16, "critic": 16, "noise": 16, "batch_size": 160});
        let parts = trained(&task(&fields, &rows, 2), &options).unwrap();
        let made = made(parts, &fields, 40);
        for (one, given) in made.columns.iter().zip(&rows.columns) {
            match (one, given) {
                (Values::Codes(made), Values::Codes(given)) => assert!(made.iter().all(|code| given.contains(code))),
                (Values::Numbers(made), Values::Numbers(given)) => {
                    assert!(made.iter().all(|x| x.is_nan() == given[0].is_nan()));
                }
                _ => panic!("another kind"),
            }
        }
    }
}

#[test]
fn a_cancel_request_ends_the_training() {
    struct Third(std::cell::Cell<u32>);
    impl Progress for Third {
        fn check(&self) -> Result<()> {
            self.0.set(self.0.get() + 1);
            if self.0.get() > 20 { Err(Error::Canceled) } else { Ok(()) }
        }
    }
    let (fields, rows) = example(500);
    let watch = Third(Default::default());
    let task = Task { progress: &watch, ..task(&fields, &rows, 2) };
    assert!(matches!(trained(&task, &json!({"epochs": 100_000})), Err(Error::Canceled)));
}
