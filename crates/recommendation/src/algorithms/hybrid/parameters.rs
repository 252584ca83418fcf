//! The options of `hybrid`.

use serde_json::json;

use super::component::{Component, Registry};
use crate::quality::Metric;
use runtime::error::{Error, Result};
use runtime::options::Options;

/// More would make the search for weights long, and serving slow.
const MOST_COMPONENTS: usize = 5;

pub struct Parameters {
    pub components: Vec<Component>,
    /// Share of each user's interactions that is held out.
    pub holdout: f32,
    pub metric: Metric,
    pub k: usize,
    pub seed: u64,
}

impl Parameters {
    pub fn read(options: &mut Options, registry: Registry) -> Result<Self> {
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
            list.iter().map(|value| Component::read(value, parameters.seed, registry)).collect::<Result<_>>()?;
        if components.iter().all(|component| component.weight == Some(0.0)) {
            return Err(Error::invalid(
                "every component of hybrid has weight 0",
                "Give at least one of them a weight above 0.",
            ));
        }
        if components.iter().any(|component| component.weight.is_some() != components[0].weight.is_some()) {
            let hint = "Give every component a weight, or none: then the weights are fitted.";
            return Err(Error::invalid("some components of hybrid have no weight", hint));
        }
        options.record("components", components.iter().map(Component::to_json).collect());
        Ok(Self { components, ..parameters })
    }

    /// The weights given, with the sum 1.
    pub fn given_weights(&self) -> Option<Vec<f32>> {
        let weights: Vec<f32> = self.components.iter().map(|component| component.weight).collect::<Option<_>>()?;
        let sum: f32 = weights.iter().sum();
        Some(weights.into_iter().map(|weight| weight / sum).collect())
    }
}
