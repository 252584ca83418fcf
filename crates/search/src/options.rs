//! The options of an index.

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
}

impl Options {
    pub fn read(options: &Value) -> Result<Self> {
        let hint = "Valid options are fields, language and lexical_weight, as in {\"fields\": {\"title\": 3, \"description\": 1}}.";
        let read: Self = serde_json::from_value(options.clone())
            .map_err(|e| Error::invalid(format!("invalid options: {e}"), hint))?;
        if let Some(share) = read.lexical_weight
            && !(0.0..=1.0).contains(&share)
        {
            let hint = "The value must be from 0 (meaning only) to 1 (words only).";
            return Err(Error::argument("lexical_weight", share, hint));
        }
        Ok(read)
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
