//! One algorithm of a blend.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::algorithm::Algorithm;
use crate::ranker::Ranker;
use onnx::graph::GraphBuilder;
use onnx::stored::{DataWriter, Files};
use runtime::error::{Error, Result};

/// Finds an algorithm by its name.
pub type Registry = fn(&str) -> Result<&'static dyn Algorithm>;

/// One algorithm of the blend.
#[derive(Clone, Debug)]
pub struct Component {
    pub algorithm: &'static dyn Algorithm,
    /// As given, or in effect once it is trained.
    pub options: Value,
    /// As given, not yet divided by the sum.
    pub weight: Option<f32>,
}

impl Component {
    pub fn read(value: &Value, seed: u64, registry: Registry) -> Result<Self> {
        let wrong = || {
            let hint = "A component is the name of an algorithm, or an object as in {\"algorithm\": \"ials\", \"options\": {\"factors\": 64}}.";
            Error::argument("option \"components\"", value, hint)
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
        let algorithm = registry(name)?;
        if !algorithm.is_component() {
            let hint = "Blend algorithms that score items for a history: gf_cf and ials, say.";
            return Err(Error::invalid(format!("{name} cannot be a component of hybrid"), hint));
        }
        if algorithm.is_stochastic() {
            options.entry("seed").or_insert_with(|| seed.into());
        }
        Ok(Self { algorithm, options: options.into(), weight })
    }

    pub fn to_json(&self) -> Value {
        let mut value = json!({ "algorithm": self.algorithm.name(), "options": self.options });
        if let (Some(weight), Some(map)) = (self.weight, value.as_object_mut()) {
            map.insert("weight".into(), weight.into());
        }
        value
    }

    /// What serves a component that was just trained.
    pub fn open_trained(
        &self,
        graph: GraphBuilder,
        data: DataWriter,
        users: usize,
        items: usize,
    ) -> Result<Box<dyn Ranker>> {
        let (graph, data) = (Bytes::from(graph.encode()?), Bytes::from(data.finish()?));
        let files = Files::open(self.algorithm.name(), graph, &data)?;
        self.algorithm.open(&files, &self.options, users, items)
    }
}

/// In front of the names of a component's tensors.
pub fn prefix(component: usize) -> String {
    format!("{component}.")
}
