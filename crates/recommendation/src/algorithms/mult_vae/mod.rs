//! Mult-VAE: a variational autoencoder of histories with a multinomial likelihood.
//!
//! A history is the vector `x_u` of its confidences. `z_u ~ N(μ(x_u), diag σ²(x_u))`, `π(z) = softmax(Y [tanh(V z + b) ; 1])`, and what
//! is made great is `E_q[Σ_i x_ui ln π_i(z_u)] − β KL(q(z_u | x_u) ‖ N(0, I))`, where
//! `[μ ; ln σ²] = W tanh(Σ_i x̃_ui H_i + a) + c` and `x̃_u` is `x_u` of length 1 of which a share `dropout` is left out at random.
//! β grows from 0 to `beta` over the first half of the training. The last column of `Y` is the items' bias.
//!
//! Source: Liang, Krishnan, Hoffman, Jebara, "Variational autoencoders for collaborative filtering" (WWW 2018), eq. 2, 5, 7
//! and sections 2.2.2 (annealing) and 4.3 (one hidden layer, tanh, dropout 0.5 of the input).
//!
//! A score is the logit, `Y [tanh(V μ(x) + b) ; 1]`: the softmax of it, the distribution of the user's next choice, would rank
//! the same. Everybody is ranked by their history alone, folded in: one who was not trained as well as one who was.
//!
//! An epoch costs O(users · items · hidden + interactions · hidden); memory is three times `2 · items · hidden` floats, and
//! `batch_size · items` floats, of which there are 2²⁶ at most: with more items a batch has fewer users. Serving is a scan of
//! `hidden` floats an item.

mod fold_in;
mod graph;
mod output;
mod parameters;
mod ranker;
mod train;

use serde_json::{Map, Value, json};

use self::parameters::Parameters;
use crate::algorithm::Algorithm;
use crate::ranker::Ranker;
use crate::training::{Parts, Training, diverged, user_counts};
use onnx::stored::{DataWriter, Files};
use runtime::error::Result;
use runtime::options::Options;
use runtime::team;

use ranker::MultVaeRanker;

/// `mult_vae` in SQL.
pub struct MultVae;

impl Algorithm for MultVae {
    fn name(&self) -> &'static str {
        "mult_vae"
    }

    fn train(&self, training: &Training, options: Options) -> Result<Parts> {
        train(training, options)
    }

    fn open(&self, files: &Files, options: &Value, users: usize, items: usize) -> Result<Box<dyn Ranker>> {
        Ok(Box::new(MultVaeRanker::open(files, options, users, items)?))
    }
}

fn train(training: &Training, mut options: Options) -> Result<Parts> {
    let parameters = Parameters::read(&mut options)?;
    let options = options.finish()?;
    let Training { interactions, threads, progress, .. } = *training;
    let trained = team::run(threads, progress, "mult_vae epochs", parameters.epochs, |team| {
        train::run(interactions, &parameters, team)
    })?;
    if !trained.loss.is_finite() {
        return Err(diverged("Lower learning_rate."));
    }
    let graph = graph::write(&parameters, &trained);
    let mut data = DataWriter::default();
    training.write_quantized(&mut data, "item_factors", trained.item_factors.view())?;
    data.dense("user_factors", trained.user_factors);
    let mut figures = Map::new();
    figures.insert("loss".into(), json!(trained.loss));
    Ok(Parts { options, graph, data, figures, popularity: user_counts(interactions) })
}

#[cfg(test)]
mod tests;
