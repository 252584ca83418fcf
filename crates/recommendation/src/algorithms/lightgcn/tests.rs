use super::*;
use interactions::{Id, Interactions, InteractionsBuilder};
use kernels::propagate::Table;
use runtime::draw::mix;
use runtime::progress::Unwatched;

fn interactions() -> Interactions {
    let mut builder = InteractionsBuilder::new();
    for row in 0..60u64 {
        let x = mix(row);
        builder.push(Id::Int((x % 12) as i64), Id::Int((x >> 20) as i64 % 9), 1.0 + (row % 3) as f32, None).unwrap();
    }
    builder.finish().unwrap()
}

fn parameters(changes: impl FnOnce(&mut Parameters)) -> Parameters {
    let mut parameters = Parameters {
        factors: 20,
        layers: 3,
        learning_rate: 0.01,
        batch_size: 32,
        epochs: 1,
        regularization: 0.1,
        contrastive_weight: 0.0,
        noise: 0.1,
        temperature: 0.2,
        contrastive_layer: 1,
        weighting: Weighting::read(&mut Options::new("lightgcn", &Value::Null).unwrap()).unwrap(),
        seed: 3,
    };
    changes(&mut parameters);
    parameters
}

#[test]
fn the_gradient_is_the_slope_of_the_loss() {
    let data = interactions();
    let training = Training::new(&data, 2, &Unwatched);
    for (layers, contrastive_weight, contrastive_layer) in
        [(1, 0.0, 1), (3, 0.0, 1), (1, 0.5, 1), (2, 0.5, 1), (2, 0.5, 2), (3, 0.5, 2)]
    {
        let parameters = parameters(|p| {
            p.layers = layers;
            p.contrastive_weight = contrastive_weight;
            p.contrastive_layer = contrastive_layer;
        });
        let mut trainer = Trainer::with_tables(&training, parameters, Table::full).unwrap();
        let mut sampler = Sampler::new(&data.by_user, parameters.weighting, 1).unwrap();
        sampler.shuffle(0, &Unwatched).unwrap();
        let mut batch = Batch::new(data.users() + data.items()).unwrap();
        sampler.draw(0, 0..32, &mut batch).unwrap();
        // Large enough that noise, whose sign is the embedding's, does not turn where the slope is taken.
        trainer.weights.iter_mut().for_each(|w| *w *= 4.0);
        trainer.load();
        let loss = |trainer: &mut Trainer, at: [usize; 2], by: f32| {
            trainer.weights[at] += by;
            trainer.load();
            let sum = trainer.losses(&batch).unwrap().iter().sum::<f64>();
            trainer.weights[at] -= by;
            trainer.load();
            sum
        };
        trainer.losses(&batch).unwrap();
        let gradient = trainer.gradients(&batch).unwrap();
        let norm = gradient.iter().map(|g| g * g).sum::<f32>().sqrt();
        for at in (0..gradient.len()).step_by(7).map(|at| [at / 32, at % 32]).filter(|[_, k]| *k < 20) {
            let h = 1e-3;
            let slope = (loss(&mut trainer, at, h) - loss(&mut trainer, at, -h)) / f64::from(2.0 * h);
            let got = f64::from(gradient[at]);
            assert!(
                (got - slope).abs() < 2e-3 * f64::from(norm),
                "{layers} {contrastive_weight} {at:?}: {got} {slope}"
            );
        }
    }
}

#[test]
fn a_contrastive_layer_past_the_last_is_refused() {
    let given = json!({"layers": 2, "contrastive_layer": 3});
    let error = Parameters::read(&mut Options::new("lightgcn", &given).unwrap()).unwrap_err();
    assert!(error.to_string().contains("contrastive_layer"));
}
