//! Training any algorithm, and packing what it trained into the two files of a model.

use std::time::Instant;

use serde_json::{Value, json};

use super::algorithm::Algorithm;
use super::training::{Parts, Training};
use runtime::error::Result;
use runtime::pool::with_pool;

/// A trained model, ready to be stored.
pub struct Trained {
    /// The graph: `item_index` int64 [n] and `weight` float32 [n] in, `scores` float32 [items] out.
    pub onnx: Vec<u8>,
    /// safetensors: ids, interactions, popularity, user factors.
    pub data: Vec<u8>,
    /// `algorithm`, `options` in effect, `users`, `items`, `interactions`, `seconds` by phase, `loss` where there is one.
    pub metadata: Value,
}

/// Trains `algorithm` with `options` (a JSON object or null).
///
/// The same interactions, features and options give the same bytes on any number of threads.
pub fn train(training: &Training, algorithm: &dyn Algorithm, options: &Value) -> Result<Trained> {
    let start = Instant::now();
    let Training { interactions, progress, .. } = *training;
    let parts = with_pool(training.threads, |_| algorithm.train_with(training, options))?;
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
