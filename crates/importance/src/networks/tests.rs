use super::network::{Batch, Layers, add_gradient};
use super::*;
use kernels::Csr;
use kernels::matrix::flat_mut;
use runtime::draw::{normal, uniform};
use tabular::{Features, Labels, Samples};

fn features(rows: &[Vec<f32>]) -> Features {
    let columns = rows.first().map_or(0, Vec::len);
    let mut matrix = Csr { indptr: vec![0], columns, ..Csr::default() };
    for row in rows {
        for (column, &x) in row.iter().enumerate().filter(|(_, x)| **x != 0.0) {
            matrix.indices.push(column as u32);
            matrix.values.push(x);
        }
        matrix.indptr.push(matrix.indices.len() as u64);
    }
    Features { matrix, categories: Vec::new() }
}

fn classes(codes: Vec<u32>, classes: u32) -> Labels {
    Labels::Classes { codes, names: (0..classes).map(|c| c.to_string()).collect() }
}

/// `n` rows of `k` classes, one cloud each.
fn clouds(n: usize, k: u32, seed: u64) -> Samples {
    let class = |i: usize| (i / 3) as u32 % k;
    let row = |i: usize| {
        let around = |j: usize| if j as u32 == class(i) { 2.0 } else { 0.0 };
        (0..k as usize + 2).map(|j| around(j) + 0.4 * normal(seed, (i * 64 + j) as u64)).collect()
    };
    let rows: Vec<Vec<f32>> = (0..n).map(row).collect();
    Samples { features: features(&rows), labels: classes((0..n).map(class).collect(), k) }
}

/// Weights, scratch and a few rows, of which the last features are missing in most.
fn network<'a>(inputs: &'a Inputs<'a>, targets: &'a Targets<'a>) -> Training<'a> {
    let descent = Descent { hidden: 20, batch: 4, momentum: 0.9, weight_decay: 0.01 };
    let mut training = Training::new(inputs, targets, descent, 5, &|| Ok(())).unwrap();
    (0..3).for_each(|epoch| training.epoch(0.05, epoch, &|| Ok(())).unwrap());
    training
}

fn parts(layers: &mut Layers) -> [&mut [f32]; 4] {
    let Layers { first, first_bias, second, second_bias } = layers;
    [flat_mut(first.view_mut()), first_bias, flat_mut(second.view_mut()), second_bias]
}

#[test]
fn a_rows_gradient_is_what_its_loss_does_and_its_norm_and_products_are_the_gradients() {
    for k in [2, 4] {
        let mut samples = clouds(30, k, 1);
        // Scaling takes part.
        samples.features.matrix.values.iter_mut().for_each(|x| *x *= 8.0);
        for numbers in [false, true] {
            if numbers {
                samples.labels = Labels::Numbers((0..30).map(|i| uniform(4, i)).collect());
            }
            let inputs = Inputs::new(&samples.features.matrix).unwrap();
            let targets = Targets::new(&samples.labels).unwrap();
            let mut training = network(&inputs, &targets);
            for row in [0usize, 3, 17] {
                training.gradient_of(&inputs, &targets, &|| Ok(())).unwrap();
                let mut out = [Finding::default()];
                let wanted = Wanted { gradient_square: true, along: Some(&training.gradient) };
                assess(&training.weights, &inputs, &targets, row, wanted, &mut out, &mut training.scratch);
                let mut mean = Layers::zeros(inputs.columns(), 20, targets.outputs()).unwrap();
                for (to, from) in parts(&mut mean).into_iter().zip(parts(&mut training.gradient)) {
                    to.copy_from_slice(from);
                }
                training.clear();
                let mut own = Layers::zeros(inputs.columns(), 20, targets.outputs()).unwrap();
                let alone = Batch { rows: &[row as u32], factor: 1.0, bounded: false };
                add_gradient(&training.weights, &inputs, &targets, alone, &mut own, &mut training.scratch);
                let (mut square, mut along) = (0.0f64, 0.0f64);
                for (own, mean) in parts(&mut own).into_iter().zip(parts(&mut mean)) {
                    square += own.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>();
                    along += own.iter().zip(&*mean).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
                }
                let close = |a: f32, b: f64| (f64::from(a) - b).abs() < 1e-4 * (1e-3 + b.abs());
                assert!(close(out[0].gradient_square, square), "{} {square}", out[0].gradient_square);
                assert!((f64::from(out[0].along) - along).abs() < 1e-4 * (1e-3 + square), "{} {along}", out[0].along);

                // Central differences, of the weights that change the loss the most in each part.
                let wanted = Wanted { gradient_square: false, along: None };
                for part in 0..4 {
                    let gradient = parts(&mut own)[part].to_vec();
                    let place =
                        (0..gradient.len()).max_by(|&a, &b| gradient[a].abs().total_cmp(&gradient[b].abs())).unwrap();
                    let mut loss = |step: f32| {
                        parts(&mut training.weights)[part][place] += step;
                        assess(&training.weights, &inputs, &targets, row, wanted, &mut out, &mut training.scratch);
                        parts(&mut training.weights)[part][place] -= step;
                        out[0].loss
                    };
                    let slope = (loss(2e-3) - loss(-2e-3)) / 4e-3;
                    let expected = gradient[place];
                    assert!((slope - expected).abs() < 0.02 * expected.abs() + 1e-3, "{part}: {slope} {expected}");
                }
            }
        }
    }
}

#[test]
fn features_that_few_rows_have_are_trained_as_if_all_were_updated_in_every_step() {
    // One feature in one row alone: its weights wait for most steps. Against plain descent, written out.
    let rows: Vec<Vec<f32>> = (0..12)
        .map(|i| vec![uniform(1, i), uniform(2, i), if i == 5 { 1.5 } else { 0.0 }, if i % 4 == 0 { 1.0 } else { 0.0 }])
        .collect();
    let samples = Samples { features: features(&rows), labels: classes((0..12).map(|i| i % 3).collect(), 3) };
    let inputs = Inputs::new(&samples.features.matrix).unwrap();
    let targets = Targets::new(&samples.labels).unwrap();
    let descent = Descent { hidden: 16, batch: 3, momentum: 0.9, weight_decay: 0.05 };
    let new = || Training::new(&inputs, &targets, descent, 5, &|| Ok(())).unwrap();
    let (mut lazy, mut plain) = (new(), new());
    let mut momentum = Layers::zeros(4, 16, 3).unwrap();
    for epoch in 0..4 {
        lazy.epoch(0.05, epoch, &|| Ok(())).unwrap();
        let mut order = vec![0; 12];
        runtime::draw::shuffled(&mut order, epoch);
        for batch in order.chunks(3) {
            let mut gradient = Layers::zeros(4, 16, 3).unwrap();
            let batch = Batch { rows: batch, factor: 1.0 / 3.0, bounded: true };
            add_gradient(&plain.weights, &inputs, &targets, batch, &mut gradient, &mut plain.scratch);
            let decays = [0.05, 0.0, 0.05, 0.0];
            let all = parts(&mut plain.weights).into_iter().zip(parts(&mut momentum)).zip(parts(&mut gradient));
            for (((w, v), g), decay) in all.zip(decays) {
                for ((w, v), g) in w.iter_mut().zip(v.iter_mut()).zip(g.iter()) {
                    *v = 0.9 * *v + g + decay * *w;
                    *w -= 0.05 * *v;
                }
            }
        }
    }
    for (a, b) in parts(&mut lazy.weights).into_iter().zip(parts(&mut plain.weights)) {
        assert!(a.iter().zip(b.iter()).all(|(a, b)| (a - b).abs() < 1e-4));
    }
}
