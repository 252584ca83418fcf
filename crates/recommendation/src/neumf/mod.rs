//! NeuMF: neural matrix factorisation.
//!
//! `ŷ_ui = h_G · (p_u ⊙ q_i) + h_M · MLP([p'_u ; q'_i]) + b`: a generalised matrix factorisation beside a perceptron, each with
//! embeddings of its own. Trained by binary cross-entropy on every interaction and `negatives` items drawn for each that the
//! user has none with. A score is the logit; the sigmoid of it, the estimated probability, would rank the same.
//!
//! Source: He, Liao, Zhang, Nie, Hu, Chua, "Neural collaborative filtering" (WWW 2017), eq. 7, 11 and 12; Adam and no
//! pre-training (their section 4.2, "without pre-training"). With `layers` L and `factors` f the perceptron's layers are
//! `f 2^(L−1)`, …, `2 f`, `f` wide and its embeddings half of the first: 64 → 32 → 16 with the defaults.
//!
//! A user who was not trained, or whose history is given now, is folded in: a linear map, fitted by ridge regression over the
//! trained users, takes the mean of the history's item embeddings to the user's ([`fold_in`]).
//!
//! A step costs O(batch · (f 2^L)²); memory is three times the embeddings. Scoring all items costs as much as a forward pass
//! for each: about a tenth of a microsecond an item and thread with the defaults.

mod fold_in;
mod graph;
mod ranker;
mod train;

use serde_json::{Map, Value, json};

use super::trainer::{Parts, Training, user_counts};
use super::weighting::Weighting;
use neural::team;
use onnx::stored::DataWriter;
use runtime::error::Result;
use runtime::options::Options;

pub use ranker::NeuMfRanker;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parameters {
    /// f: width of the factorisation and of the perceptron's last layer.
    factors: usize,
    layers: usize,
    negatives: usize,
    learning_rate: f32,
    batch_size: usize,
    epochs: usize,
    /// λ of the embeddings, a sample.
    regularization: f32,
    weighting: Weighting,
    seed: u64,
}

impl Parameters {
    fn read(options: &mut Options) -> Result<Self> {
        Ok(Self {
            factors: options.integer("factors", 16, 1, 256)? as usize,
            layers: options.integer("layers", 3, 1, 6)? as usize,
            negatives: options.integer("negatives", 4, 1, 100)? as usize,
            learning_rate: options.float("learning_rate", 0.003, 1e-7, 1.0)?,
            batch_size: options.integer("batch_size", 1024, 1, 1 << 16)? as usize,
            epochs: options.integer("epochs", 8, 1, 10_000)? as usize,
            regularization: options.float("regularization", 0.0, 0.0, 1e3)?,
            weighting: Weighting::read(options)?,
            seed: options.integer("seed", 0, 0, u64::MAX)?,
        })
    }

    /// Width of the perceptron's embedding of a user, and of an item.
    fn embedding(&self) -> usize {
        (self.hidden(0) / 2).max(1)
    }

    /// Width of a layer.
    fn hidden(&self, layer: usize) -> usize {
        self.factors << (self.layers - 1 - layer)
    }

    /// Width of what serving keeps of a user or an item: the factorisation's embedding, and its part of the first layer.
    fn state(&self) -> usize {
        self.factors + self.hidden(0)
    }
}

/// A trained model as serving needs it: what depends on one side alone is worked out.
struct Trained {
    /// [items, f]: q_i
    item_gmf: Vec<f32>,
    /// [items, h]: q'_i W_i, of the first layer's width h.
    item_mlp: Vec<f32>,
    /// [users, f + h]: h_G ⊙ p_u, and p'_u W_u + b.
    users: Vec<f32>,
    /// Weight and bias of each layer after the first; the last has one output.
    layers: Vec<neural::network::Layer>,
    loss: f64,
}

pub fn train(training: &Training, mut options: Options) -> Result<Parts> {
    let parameters = Parameters::read(&mut options)?;
    let options = options.finish()?;
    let Training { interactions, threads, progress, .. } = *training;
    let (trained, folding) = team::run(threads, progress, "neumf epochs", parameters.epochs, |team| {
        let trained = train::run(interactions, &parameters, team)?;
        let folding = fold_in::fit(&interactions.by_user, &trained, parameters.factors, team)?;
        Ok((trained, folding))
    })?;
    if !trained.loss.is_finite() {
        let hint = "Lower learning_rate.";
        return Err(runtime::error::Error::argument("the training loss", trained.loss, hint));
    }
    let graph = graph::write(&parameters, &trained, &folding);
    let mut data = DataWriter::default();
    data.tensor("user_factors", &[interactions.users(), parameters.state()], trained.users);
    let mut figures = Map::new();
    figures.insert("loss".into(), json!(trained.loss));
    Ok(Parts { options, graph, data, figures, popularity: user_counts(interactions) })
}

fn stored_parameters(options: &Value) -> Result<Parameters> {
    let mut reader = Options::new("neumf", options)?;
    let parameters = Parameters::read(&mut reader)?;
    reader.finish()?;
    Ok(parameters)
}
