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

mod fit;
mod graph;
mod ranker;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::quality::Metric;
use super::ranker::Ranker;
use super::train::{check_options, train_parts};
use super::trainer::{Parts, Training, user_counts};
use super::{Algorithm, Model};
use onnx::graph::GraphBuilder;
use onnx::stored::{DataWriter, Files};
use runtime::error::{Error, Result};
use runtime::options::Options;

pub use ranker::HybridRanker;

/// More would make the search for weights long, and serving slow.
const MOST_COMPONENTS: usize = 5;
/// Items whose best similarity says how a component's similarities are scaled.
const SAMPLED_ITEMS: u64 = 32;

/// One algorithm of the blend.
#[derive(Clone, Debug)]
struct Component {
    algorithm: Algorithm,
    /// As given, or in effect once it is trained.
    options: Value,
    /// As given, not yet divided by the sum.
    weight: Option<f32>,
}

impl Component {
    fn read(value: &Value, seed: u64) -> Result<Self> {
        let wrong = || {
            let hint = "It is the name of an algorithm, or an object as in {\"algorithm\": \"ials\", \"options\": {\"factors\": 64}}.";
            Error::argument("a component of a hybrid", value, hint)
        };
        let (name, mut options, weight) = match value {
            Value::String(name) => (name.as_str(), Map::new(), None),
            Value::Object(map) => {
                if let Some(key) = map.keys().find(|key| !["algorithm", "options", "weight"].contains(&key.as_str())) {
                    return Err(Error::UnknownOption {
                        option: key.clone(),
                        of: "a component of hybrid".into(),
                        known: "algorithm, options, weight".into(),
                    });
                }
                let options = match map.get("options") {
                    None | Some(Value::Null) => Map::new(),
                    Some(Value::Object(options)) => options.clone(),
                    Some(_) => return Err(wrong()),
                };
                let weight = match map.get("weight") {
                    None | Some(Value::Null) => None,
                    Some(weight) => Some(weight.as_f64().filter(|w| (0.0..=1e6).contains(w)).ok_or_else(wrong)? as f32),
                };
                (map.get("algorithm").and_then(Value::as_str).ok_or_else(wrong)?, options, weight)
            }
            _ => return Err(wrong()),
        };
        let algorithm = Algorithm::from_name(name)?;
        if matches!(algorithm, Algorithm::Hybrid | Algorithm::Popularity) {
            let hint = "Blend algorithms that score items for a history: gf_cf and ials, say.";
            return Err(Error::argument("a component of a hybrid", name, hint));
        }
        if algorithm.is_stochastic() {
            options.entry("seed").or_insert_with(|| seed.into());
        }
        Ok(Self { algorithm, options: options.into(), weight })
    }

    fn to_json(&self) -> Value {
        let mut value = json!({ "algorithm": self.algorithm.name(), "options": self.options });
        if let (Some(weight), Some(map)) = (self.weight, value.as_object_mut()) {
            map.insert("weight".into(), weight.into());
        }
        value
    }
}

struct Parameters {
    components: Vec<Component>,
    /// Share of each user's interactions that is held out.
    holdout: f32,
    metric: Metric,
    k: usize,
    seed: u64,
}

impl Parameters {
    fn read(options: &mut Options) -> Result<Self> {
        let parameters = Self {
            holdout: options.float("holdout", 0.1, 0.001, 0.9)?,
            metric: options.choice("metric", &[("ndcg", Metric::Ndcg), ("recall", Metric::Recall)])?,
            k: options.integer("k", 20, 1, 1000)? as usize,
            seed: options.integer("seed", 0, 0, u64::MAX)?,
            components: Vec::new(),
        };
        let default = json!(["gf_cf", "ials"]);
        let given = options.given("components").unwrap_or(&default);
        let wrong = || {
            let hint =
                format!("It must be an array of 1 to {MOST_COMPONENTS} algorithms, as in [\"gf_cf\", \"ials\"].");
            Error::argument("option \"components\"", given, hint)
        };
        let list = given.as_array().filter(|list| (1..=MOST_COMPONENTS).contains(&list.len())).ok_or_else(wrong)?;
        let components: Vec<Component> =
            list.iter().map(|value| Component::read(value, parameters.seed)).collect::<Result<_>>()?;
        if components.iter().all(|component| component.weight == Some(0.0)) {
            return Err(Error::argument("the weight of every component", 0, "Give one of them a weight above 0."));
        }
        if components.iter().any(|component| component.weight.is_some() != components[0].weight.is_some()) {
            let hint = "Give every component a weight, or none: then the weights are fitted.";
            return Err(Error::argument("the weight of some components", "missing", hint));
        }
        options.record("components", components.iter().map(Component::to_json).collect());
        Ok(Self { components, ..parameters })
    }

    /// The weights given, with the sum 1.
    fn given_weights(&self) -> Option<Vec<f32>> {
        let weights: Vec<f32> = self.components.iter().map(|component| component.weight).collect::<Option<_>>()?;
        let sum: f32 = weights.iter().sum();
        Some(weights.into_iter().map(|weight| weight / sum).collect())
    }
}

/// In front of the names of a component's tensors.
fn prefix(component: usize) -> String {
    format!("{component}.")
}

pub fn train(training: &Training, mut options: Options) -> Result<Parts> {
    // What an earlier model learned of interactions held out now would make its component look better than it is.
    let training = &Training { previous: None, ..*training };
    let mut parameters = Parameters::read(&mut options)?;
    let mut options = options.finish()?;
    // A mistake in the last component's options should not wait for the training of the first.
    for component in &parameters.components {
        check_options(training, component.algorithm, &component.options)?;
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
            let parts = train_parts(training, component.algorithm, &component.options)?;
            component.options = parts.options;
            about.extend(parts.figures);
            let ranker = opened(parts.graph.clone(), parts.data.clone(), component, users, items)?;
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

/// What serves a component that was just trained.
fn opened(
    graph: GraphBuilder,
    data: DataWriter,
    component: &Component,
    users: usize,
    items: usize,
) -> Result<Box<dyn Ranker>> {
    let (graph, data) = (Bytes::from(graph.encode()?), Bytes::from(data.finish()?));
    let files = Files::open(component.algorithm.name(), graph, &data)?;
    Model::open_ranker(&files, component.algorithm, &component.options, users, items)
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
