//! Two towers: one network for items and one for users, whose outputs are compared. Both take features, so that items and
//! users who were not there in training are served too.
//!
//! - Item: `z_i = MLP(W a_i + V t_i + e_i)` of attributes `a`, vectors `t` (of a text or an image) and an embedding `e` of the item
//!   itself, which is left out of a share `id_dropout` of the samples, so that the features alone are enough for a new item.
//!   `v_i` is `z_i` without its last number, of length 1; that number, `β_i`, is how popular the item is.
//! - User: `m_u = Σ c_j H_j / Σ c_j` over the history, `c = log₂(1 + weight)`, `H_j = v_j + h_j` with a learned `h_j` (none for a
//!   new item); `x_u` is `m_u + MLP(m_u, attributes, vectors of the user)`, of length 1.
//! - `score = x_u · v_i + τ β_i`
//!
//! Trained by the softmax over the items of a batch, less the logarithm of how often each is drawn; items that a user of the
//! batch knows are no negatives of theirs. The history never holds the item that is to be predicted, and `v_j` in it is that
//! of a few steps before, taken for a constant.
//!
//! Sources: Yi and others, "Sampling-bias-corrected neural modeling for large corpus item recommendations" (RecSys 2019), eq. 2 to
//! 6, for the towers, the temperature and the correction; Volkovs, Yu, Poutanen, "DropoutNet" (NIPS 2017), section 3.2, for the
//! dropout.
//!
//! A step costs O(batch² · factors + batch · hidden · (vectors + attributes of an item + factors)); memory is three times
//! the embeddings, `(hidden + factors)` floats an item. Serving is a scan of `factors` floats an item.

mod graph;
mod loss;
mod parameters;
mod ranker;
mod towers;
mod train;

use bytes::Bytes;
use ndarray::Array2;
use serde_json::{Map, Value, json};

use self::parameters::{Parameters, stored_parameters};
use self::towers::ItemTower;
use crate::algorithm::Algorithm;
use crate::ranker::Ranker;
use crate::training::{Parts, Training, diverged, user_counts};
use interactions::{Encoder, Features};
use onnx::stored::{DataWriter, Files};
use runtime::error::{Error, Result};
use runtime::options::Options;
use runtime::team;

use ranker::TwoTowerRanker;

/// `two_tower` in SQL.
pub struct TwoTower;

impl Algorithm for TwoTower {
    fn name(&self) -> &'static str {
        "two_tower"
    }

    fn train(&self, training: &Training, options: Options) -> Result<Parts> {
        train(training, options)
    }

    fn open(&self, files: &Files, options: &Value, users: usize, items: usize) -> Result<Box<dyn Ranker>> {
        Ok(Box::new(TwoTowerRanker::open(files, options, users, items)?))
    }
}

fn train(training: &Training, mut options: Options) -> Result<Parts> {
    let parameters = Parameters::read(&mut options)?;
    let options = options.finish()?;
    let Training { interactions, item_features, user_features, threads, progress, .. } = *training;
    let item_features = item_features.filter(|features| (0..features.rows()).any(|item| features.knows(item)));
    let Some(item_features) = item_features else {
        let hint = "Give their source, as in items => 'SELECT item_id, category, \
                    price FROM products', or train ials, which needs none.";
        return Err(Error::invalid("two_tower needs features of items", hint));
    };
    let fits = |features: &Features, rows| features.rows() == rows;
    if !fits(item_features, interactions.items()) || user_features.is_some_and(|f| !fits(f, interactions.users())) {
        return Err(Error::Internal("features of other users or items than the interactions'".into()));
    }
    let given = train::Given { interactions, items: item_features, users: user_features };
    let trained = team::run(threads, progress, "two_tower epochs", parameters.epochs, |team| {
        train::run(&given, &parameters, team)
    })?;
    if !trained.loss.is_finite() {
        return Err(diverged("Lower learning_rate or raise temperature."));
    }

    let graph = graph::write(&parameters, &trained);
    let mut data = DataWriter::default();
    data.dense("user_factors", trained.user_factors);
    trained.item_tower.write(&mut data);
    trained.user_tower.write(&mut data);
    for (name, features) in [("item_encoder", Some(item_features)), ("user_encoder", user_features)] {
        if let Some(encoder) = features.and_then(|features| features.encoder.as_deref()) {
            let json = serde_json::to_vec(encoder).map_err(|e| Error::Internal(format!("an encoder: {e}")))?;
            data.tensor(name, &[json.len()], json);
        }
    }
    let mut figures = Map::new();
    figures.insert("loss".into(), json!(trained.loss));
    Ok(Parts { options, graph, data, figures, popularity: user_counts(interactions) })
}

/// How the features of a stored model's items were encoded; `None` where they were given as numbers.
pub fn item_encoder(model: &str, onnx: Bytes, data: &Bytes) -> Result<Option<Encoder>> {
    let files = Files::open(model, onnx, data)?;
    let Ok(([_], json)) = files.tensor::<u8, 1>("item_encoder") else { return Ok(None) };
    serde_json::from_slice(&json).map(Some).map_err(|e| files.damaged(format!("its encoder cannot be read: {e}")))
}

/// Factors, a row each, of items that a stored model was not trained with, from their features, which its
/// [`item_encoder`] encoded. Their part in a history is the same without the last column.
pub fn embed_items(model: &str, onnx: Bytes, data: &Bytes, features: &Features) -> Result<Array2<f32>> {
    let files = Files::open(model, onnx, data)?;
    let options: Value = serde_json::from_str(files.metadata("pg_reco.options")?)
        .map_err(|e| files.damaged(format!("its options cannot be read: {e}")))?;
    let parameters = stored_parameters(&options).map_err(|e| files.damaged(e.to_string()))?;
    let tower = ItemTower::read(&files, &parameters)?;
    if (features.width(), features.attributes.columns) != (tower.vectors(), tower.attributes()) {
        return Err(Error::Internal("features that the model's own encoder did not encode".into()));
    }
    let mut factors = runtime::memory::matrix(features.rows(), parameters.factors, 0f32)?;
    tower.embed(features, None, 0, factors.view_mut());
    Ok(factors)
}

#[cfg(test)]
mod tests;
