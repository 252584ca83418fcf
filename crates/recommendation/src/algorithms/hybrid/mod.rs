//! A blend of several algorithms, whose weights are fitted on interactions held out from training.
//!
//! With the scores `s_c(j)` of component `c` for one history over all items `j`, the blend scores
//! `score(j) = Σ_c w_c s_c(j) / σ_c`, `w_c ≥ 0`, `Σ_c w_c = 1`, where `σ_c` is the standard deviation of `s_c` over all items: so
//! neither a long history nor the unit of a score decides which component is heard. The mean is not taken off: it is
//! the same for all items of a list, and where a component says nothing its 0 stays 0. On a sample of Gowalla's users the best
//! blends of GF-CF and iALS by the deviation, by the root mean square and by the greatest score lay within 0.0004 NDCG@20 of
//! each other, and 0.001 above those of scores as they are or divided by the length of the history.
//!
//! Weights: a share of each user's interactions is held out (the latest where there are times), each component is
//! trained on the rest, and the weights that give the held-out items the best NDCG or recall at `k` are searched for
//! on the simplex ([`fit`]); a component alone is in the search, so no blend is worse there than its best component. Then all
//! components with a weight are trained on everything. Stacking by held-out data is Wolpert's (Neural Networks 1992); linear
//! blending with weights for the metric itself as in Jahrer, Töscher, Legenstein (KDD 2010), without their intercept.
//!
//! Cost: training each component twice (once where all weights are given), and one to two thousand rankings of the
//! candidates of at most [`fit::USERS`] users. Serving costs what its components' scores of all items cost together.

mod component;
mod fit;
mod graph;
mod parameters;
mod ranker;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use self::component::{Component, Registry, prefix};
use self::parameters::Parameters;
use self::ranker::HybridRanker;
use crate::algorithm::Algorithm;
use crate::ranker::Ranker;
use crate::training::{Parts, Training, user_counts};
use onnx::stored::{DataWriter, Files};
use runtime::error::{Error, Result};
use runtime::options::Options;

/// Items whose best similarity says how a component's similarities are scaled.
const SAMPLED_ITEMS: u64 = 32;

/// `hybrid` in SQL, of the algorithms that `registry` finds.
pub struct Hybrid {
    pub registry: Registry,
}

impl Algorithm for Hybrid {
    fn name(&self) -> &'static str {
        "hybrid"
    }

    fn is_component(&self) -> bool {
        false
    }

    fn train(&self, training: &Training, options: Options) -> Result<Parts> {
        train(training, options, self.registry)
    }

    fn open(&self, files: &Files, options: &Value, users: usize, items: usize) -> Result<Box<dyn Ranker>> {
        Ok(Box::new(HybridRanker::open(files, options, users, items, self.registry)?))
    }
}

fn train(training: &Training, mut options: Options, registry: Registry) -> Result<Parts> {
    // What an earlier model learned of interactions held out now would make its component look better than it is.
    let training = &Training { previous: None, ..*training };
    let mut parameters = Parameters::read(&mut options, registry)?;
    let mut options = options.finish()?;
    // A mistake in the last component's options should not wait for the training of the first.
    for component in &parameters.components {
        component.algorithm.check_options(training, &component.options)?;
    }
    let mut figures = Map::new();
    let (weights, alone) = match parameters.given_weights() {
        Some(weights) => (weights, None),
        None => {
            let fitted = fit::fit(training, &parameters)?;
            figures.insert("validation".into(), fitted.figures(&parameters));
            (fitted.weights, Some(fitted.alone))
        }
    };

    let (users, items) = (training.interactions.users(), training.interactions.items());
    let (mut blend, mut data) = (graph::Blend::new(items), DataWriter::default());
    let (mut similarity_scales, mut of_components) = (Vec::new(), Vec::new());
    for (number, component) in parameters.components.iter_mut().enumerate() {
        let mut about = Map::new();
        about.insert("algorithm".into(), component.algorithm.name().into());
        about.insert("weight".into(), weights[number].into());
        if let Some(alone) = &alone {
            about.insert(parameters.metric.name().into(), alone[number].into());
        }
        let mut scale = 0.0;
        if weights[number] > 0.0 {
            let parts = component.algorithm.train_with(training, &component.options)?;
            component.options = parts.options;
            about.extend(parts.figures);
            let ranker = component.open_trained(parts.graph.clone(), parts.data.clone(), users, items)?;
            scale = similarity_scale(&*ranker, items, parameters.seed, training)?;
            blend.add(&prefix(number), parts.graph, weights[number]);
            data.inline(&prefix(number), parts.data);
        }
        similarity_scales.push(scale);
        of_components.push(Value::from(about));
    }
    figures.insert("components".into(), of_components.into());
    if let Some(map) = options.as_object_mut() {
        map.insert("components".into(), parameters.components.iter().map(Component::to_json).collect());
    }
    data.tensor("blend.weights", &[weights.len()], &weights);
    data.tensor("blend.similarity_scales", &[weights.len()], similarity_scales);
    Ok(Parts { options, graph: blend.finish()?, data, figures, popularity: user_counts(training.interactions) })
}

/// The median of some items' similarity to the item most like them where that is no cosine, and may exceed 1; else 0.
fn similarity_scale(ranker: &dyn Ranker, items: usize, seed: u64, training: &Training) -> Result<f32> {
    let mut best = Vec::new();
    for draw in 0..SAMPLED_ITEMS {
        training.progress.check()?;
        let item = (runtime::draw::mix(runtime::draw::mix(seed) ^ draw) % items.max(1) as u64) as u32;
        match ranker.similar_items(item, 1, training.progress) {
            Ok(alike) => best.extend(alike.first().map(|found| found.score).filter(|score| score.is_finite())),
            Err(Error::Unsupported { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    best.sort_unstable_by(f32::total_cmp);
    let most = best.last().copied().unwrap_or(0.0);
    Ok(if most > 1.001 { best[best.len() / 2] } else { 0.0 })
}
