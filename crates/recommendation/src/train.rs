//! Training any algorithm, and packing what it trained into the two files of a model.

use std::time::Instant;

use serde_json::{Value, json};

use super::trainer::{Parts, Training};
use super::{Algorithm, bpr, ease, gf_cf, hybrid, ials, item_knn, lightgcn, mult_vae, neumf, popularity, two_tower};
use runtime::error::{Error, Result};
use runtime::options::Options;
use runtime::progress::Progress;

/// A trained model, ready to be stored.
pub struct Trained {
    /// The graph: `item_index` int64 [n] and `weight` float32 [n] in, `scores` float32 [items] out.
    pub onnx: Vec<u8>,
    /// safetensors: ids, interactions, popularity, user factors.
    pub data: Vec<u8>,
    /// `algorithm`, `options` in effect, `users`, `items`, `interactions`, `seconds` by phase, `loss` where there is one.
    pub metadata: Value,
}

/// Trains `algorithm` with `options` (a JSON object or null), not yet packed.
pub fn train_parts(training: &Training, algorithm: Algorithm, options: &Value) -> Result<Parts> {
    let options = Options::new(algorithm.name(), options)?;
    let parts = match algorithm {
        Algorithm::Popularity => popularity::train(training, options)?,
        Algorithm::ItemKnn => item_knn::train(training, options)?,
        Algorithm::Ease => ease::train(training, options)?,
        Algorithm::GfCf => gf_cf::train(training, options)?,
        Algorithm::Ials => ials::train(training, options)?,
        Algorithm::Bpr => bpr::train(training, options)?,
        Algorithm::LightGcn => lightgcn::train(training, options)?,
        Algorithm::NeuMf => neumf::train(training, options)?,
        Algorithm::MultVae => mult_vae::train(training, options)?,
        Algorithm::TwoTower => two_tower::train(training, options)?,
        Algorithm::Hybrid => hybrid::train(training, options)?,
    };
    Ok(parts)
}

/// An error where training with these options would begin with one. Nothing is trained: work is told to stop at its first look.
pub fn check_options(training: &Training, algorithm: Algorithm, options: &Value) -> Result<()> {
    struct Stop;
    impl Progress for Stop {
        fn check(&self) -> Result<()> {
            Err(Error::Canceled)
        }
    }
    match train_parts(&Training { progress: &Stop, ..*training }, algorithm, options) {
        Ok(_) | Err(Error::Canceled) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Trains `algorithm` with `options` (a JSON object or null).
///
/// The same interactions, features and options give the same bytes on any number of threads.
pub fn train(training: &Training, algorithm: Algorithm, options: &Value) -> Result<Trained> {
    let start = Instant::now();
    let Training { interactions, progress, .. } = *training;
    let parts = train_parts(training, algorithm, options)?;
    let trained = start.elapsed().as_secs_f64();
    progress.check()?;

    let Parts { options, mut graph, mut data, figures, popularity } = parts;
    graph.metadata("pg_reco.algorithm", algorithm.name().into());
    graph.metadata("pg_reco.options", options.to_string());
    let item_ids: Vec<&str> = interactions.item_ids.iter().collect();
    graph.metadata("item_ids", json!(item_ids).to_string());
    progress.check()?;
    let onnx = graph.encode()?;
    progress.check()?;

    data.ids("user_ids", &interactions.user_ids);
    data.ids("item_ids", &interactions.item_ids);
    progress.check()?;
    data.matrix("history", interactions.history());
    let mut order: Vec<u32> = (0..popularity.len() as u32).collect();
    order.sort_by(|&a, &b| popularity[b as usize].total_cmp(&popularity[a as usize]).then(a.cmp(&b)));
    data.tensor("popularity.order", &[order.len()], order);
    data.tensor("popularity.scores", &[popularity.len()], popularity);
    progress.check()?;
    let data = data.finish()?;
    progress.check()?;

    let mut metadata = json!({
        "algorithm": algorithm.name(),
        "options": options,
        "users": interactions.users(),
        "items": interactions.items(),
        "interactions": interactions.by_user.entries(),
        "seconds": { "train": trained, "write": start.elapsed().as_secs_f64() - trained },
    });
    if let Some(map) = metadata.as_object_mut() {
        map.extend(figures);
    }
    Ok(Trained { onnx, data, metadata })
}
