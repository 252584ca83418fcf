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
mod parameters;
mod ranker;
mod train;
mod trained;

use serde_json::{Map, Value, json};

use self::parameters::Parameters;
use crate::algorithm::Algorithm;
use crate::ranker::Ranker;
use crate::training::{Parts, Training, diverged, user_counts};
use onnx::stored::{DataWriter, Files};
use runtime::error::Result;
use runtime::options::Options;
use runtime::team;

use ranker::NeuMfRanker;

/// `neumf` in SQL.
pub struct NeuMf;

impl Algorithm for NeuMf {
    fn name(&self) -> &'static str {
        "neumf"
    }

    fn train(&self, training: &Training, options: Options) -> Result<Parts> {
        train(training, options)
    }

    fn open(&self, files: &Files, options: &Value, users: usize, items: usize) -> Result<Box<dyn Ranker>> {
        Ok(Box::new(NeuMfRanker::open(files, options, users, items)?))
    }
}

fn train(training: &Training, mut options: Options) -> Result<Parts> {
    let parameters = Parameters::read(&mut options)?;
    let options = options.finish()?;
    let Training { interactions, threads, progress, .. } = *training;
    let (trained, folding) = team::run(threads, progress, "neumf epochs", parameters.epochs, |team| {
        let trained = train::run(interactions, &parameters, team)?;
        let folding = fold_in::fit(&interactions.by_user, &trained, team)?;
        Ok((trained, folding))
    })?;
    if !trained.loss.is_finite() {
        return Err(diverged("Lower learning_rate."));
    }
    let graph = graph::write(&parameters, &trained, &folding);
    let mut data = DataWriter::default();
    data.dense("user_factors", trained.users);
    let mut figures = Map::new();
    figures.insert("loss".into(), json!(trained.loss));
    Ok(Parts { options, graph, data, figures, popularity: user_counts(interactions) })
}
