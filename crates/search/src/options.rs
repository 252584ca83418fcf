//! The options of an index.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::fusion::Fusion;
use lexical::{Language, TextField};
use runtime::error::{Error, Result};

/// Weight of a field that has none, and of one of these names.
const PLAIN: f32 = 1.0;
const HEADLINE: f32 = 3.0;
const HEADLINES: [&str; 3] = ["title", "name", "product_name"];

/// The weight of a field, by its name, where none is given.
pub fn weight_of(field: &str) -> f32 {
    if HEADLINES.contains(&field) { HEADLINE } else { PLAIN }
}

/// The argument `options`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    fields: Option<Map<String, Value>>,
    language: Option<String>,
    /// The share of the lexical score.
    lexical_weight: Option<f32>,
    /// A query of words and their synonyms.
    synonyms: Option<String>,
    /// What events are worth; impressions nothing.
    event_weights: Option<BTreeMap<String, f32>>,
}

/// Events that are known without `event_weights`.
const EVENTS: [(&str, f32); 4] = [("impression", 0.0), ("click", 1.0), ("add_to_cart", 3.0), ("purchase", 5.0)];

impl Options {
    pub fn read(options: &Value) -> Result<Self> {
        let hint = "Valid options are fields, language, lexical_weight, synonyms and event_weights, as in {\"fields\": {\"title\": 3, \"description\": 1}}.";
        let read: Self = serde_json::from_value(options.clone())
            .map_err(|e| Error::invalid(format!("invalid options: {e}"), hint))?;
        if let Some(share) = read.lexical_weight
            && !(0.0..=1.0).contains(&share)
        {
            let hint = "The value must be from 0 (meaning only) to 1 (words only).";
            return Err(Error::argument("lexical_weight", share, hint));
        }
        let weights = read.event_weights.iter().flatten();
        if let Some((event, weight)) = weights.into_iter().find(|(_, weight)| !(0.0..=1e6).contains(*weight)) {
            let hint = "A weight must be 0 for impressions, or a number above.";
            return Err(Error::argument(format!("weight of event \"{event}\""), weight, hint));
        }
        Ok(read)
    }

    pub fn synonyms(&self) -> Option<&str> {
        self.synonyms.as_deref()
    }

    /// What an event is worth; 0 for an impression.
    pub fn event_weight(&self, event: &str) -> Result<f32> {
        let own = self.event_weights.as_ref().and_then(|weights| weights.get(event)).copied();
        let known = || EVENTS.iter().find(|(known, _)| *known == event).map(|(_, weight)| *weight);
        own.or_else(known).ok_or_else(|| {
            let known: Vec<&str> = EVENTS.iter().map(|(known, _)| *known).collect();
            let hint = format!("Known events are {}; name others in the option event_weights.", known.join(", "));
            Error::invalid(format!("unknown event \"{}\"", event.escape_debug()), hint)
        })
    }

    pub fn language(&self) -> Result<Language> {
        Language::named(self.language.as_deref().unwrap_or("english"))
    }

    /// The fusion that was asked for; `None` if it is to be found.
    pub fn fusion(&self) -> Option<Fusion> {
        self.lexical_weight.map(Fusion::Weighted)
    }

    /// The fields with weights; `None` for all texts of the source.
    pub fn fields(&self) -> Result<Option<Vec<TextField>>> {
        let Some(fields) = &self.fields else { return Ok(None) };
        let field = |(name, weight): (&String, &Value)| {
            let weight = weight.as_f64().filter(|w| w.is_finite() && *w > 0.0 && *w <= 1e6).ok_or_else(|| {
                Error::argument(format!("weight of field \"{name}\""), weight, "A weight must be a number above 0.")
            })?;
            Ok(TextField::new(name.clone(), weight as f32))
        };
        let fields = fields.iter().map(field).collect::<Result<Vec<_>>>()?;
        if fields.is_empty() {
            return Err(Error::invalid("\"fields\" in options is empty", "Name at least one column of type text."));
        }
        Ok(Some(fields))
    }
}
