//! The same items for everyone: those with the most users, or the greatest sum of weights.
//!
//! `score(i) = |{u : (u, i) observed}|`, or `Σ_u w_ui` with `count = weight`. No paper: the baseline every other must beat.

use serde_json::Map;

use super::Scored;
use super::options::Options;
use super::ranker::{Query, Ranker};
use super::store::DataWriter;
use super::trainer::{Parts, Training, history_graph, user_counts};
use crate::error::{Error, Result};
use crate::interactions::Interactions;
use crate::progress::Progress;

fn weight_sums(interactions: &Interactions) -> Vec<f32> {
    let mut sums = vec![0f64; interactions.items()];
    let entries = interactions.by_user.indices.iter().zip(&interactions.by_user.values);
    entries.for_each(|(&item, &weight)| sums[item as usize] += f64::from(weight));
    sums.into_iter().map(|sum| sum as f32).collect()
}

pub fn train(training: &Training, mut options: Options) -> Result<Parts> {
    let by_weight = options.choice("count", &[("users", false), ("weight", true)])?;
    let options = options.finish()?;
    let popularity = if by_weight { weight_sums(training.interactions) } else { user_counts(training.interactions) };

    let mut graph = history_graph("popularity", popularity.len());
    // One small tensor in front keeps the padding of the large one out of the graph's name.
    let scale = graph.float("scale", 1.0);
    let scores = graph.floats("popularity", &[popularity.len()], &popularity);
    graph.node_to("Mul", &[&scores, &scale], Vec::new(), &["scores"]);
    Ok(Parts { options, graph, data: DataWriter::default(), figures: Map::new(), popularity })
}

/// Has nothing personal to say: whatever it leaves open is filled by popularity, which is all of it.
pub struct Popularity;

impl Ranker for Popularity {
    fn rank(&self, _: &Query, _: usize, _: &dyn Progress) -> Result<Vec<(f32, u32)>> {
        Ok(Vec::new())
    }

    fn score_all(&self, _: &Query, scores: &mut [f32], _: &dyn Progress) -> Result<()> {
        scores.fill(0.0);
        Ok(())
    }

    fn similarity(&self, _: u32, _: u32) -> Result<f32> {
        Ok(0.0)
    }

    fn similar_items(&self, _: u32, _: usize, _: &dyn Progress) -> Result<Vec<Scored>> {
        Err(Error::Unsupported {
            algorithm: "popularity",
            what: "similar items",
            hint: "Train a model with the algorithm item_knn or ials.".into(),
        })
    }
}
