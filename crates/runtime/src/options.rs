//! Options of algorithms and methods, read from JSON. Errors name the option.

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// The options of one algorithm. Each read has a default; the effective values are collected.
pub struct Options<'a> {
    given: Option<&'a Map<String, Value>>,
    of: &'static str,
    effective: Map<String, Value>,
}

impl<'a> Options<'a> {
    /// `value` is an object or null.
    pub fn new(of: &'static str, value: &'a Value) -> Result<Self> {
        let given = match value {
            Value::Null => None,
            Value::Object(map) => Some(map),
            other => {
                return Err(Error::invalid(
                    format!("options must be a JSON object, not {other}"),
                    "Pass an object, as in {\"factors\": 64}.",
                ));
            }
        };
        Ok(Self { given, of, effective: Map::new() })
    }

    fn value(&self, name: &str) -> Option<&'a Value> {
        self.given.and_then(|map| map.get(name)).filter(|v| !v.is_null())
    }

    fn wrong(name: &str, value: &Value, expected: String) -> Error {
        Error::argument(format!("option \"{name}\""), value, format!("The value must be {expected}."))
    }

    /// A number from `least` to `most`.
    pub fn float(&mut self, name: &str, default: f64, least: f64, most: f64) -> Result<f32> {
        let number = match self.value(name) {
            None => default,
            Some(value) => value
                .as_f64()
                .filter(|x| (least..=most).contains(x))
                .ok_or_else(|| Self::wrong(name, value, format!("a number from {least} to {most}")))?,
        };
        self.effective.insert(name.into(), number.into());
        Ok(number as f32)
    }

    /// A number from `least` to `most`, or null, the default.
    pub fn optional_float(&mut self, name: &str, least: f64, most: f64) -> Result<Option<f32>> {
        if self.value(name).is_some() {
            return self.float(name, least, least, most).map(Some);
        }
        self.effective.insert(name.into(), Value::Null);
        Ok(None)
    }

    /// A number from `least` to `most`, with a computed default.
    pub fn float_or(&mut self, name: &str, default: impl FnOnce() -> f64, least: f64, most: f64) -> Result<f32> {
        let default = if self.value(name).is_some() { least } else { default().clamp(least, most) };
        self.float(name, default, least, most)
    }

    /// A whole number from `least` to `most`.
    pub fn integer(&mut self, name: &str, default: u64, least: u64, most: u64) -> Result<u64> {
        let number = match self.value(name) {
            None => default,
            Some(value) => value
                .as_u64()
                .or_else(|| value.as_f64().filter(|x| x.fract() == 0.0 && *x >= 0.0 && *x < 9e15).map(|x| x as u64))
                .filter(|x| (least..=most).contains(x))
                .ok_or_else(|| Self::wrong(name, value, format!("a whole number from {least} to {most}")))?,
        };
        self.effective.insert(name.into(), number.into());
        Ok(number)
    }

    /// One of `choices`, the first of which is the default.
    pub fn choice<T: Copy>(&mut self, name: &str, choices: &[(&'static str, T)]) -> Result<T> {
        let wrong = |value: &Value| {
            let known: Vec<_> = choices.iter().map(|(known, _)| format!("\"{known}\"")).collect();
            Self::wrong(name, value, format!("one of {}", known.join(", ")))
        };
        let chosen = match self.value(name) {
            None => choices.first(),
            Some(value) => {
                let found = choices.iter().find(|(known, _)| value.as_str() == Some(known));
                Some(found.ok_or_else(|| wrong(value))?)
            }
        };
        let (known, choice) = chosen.ok_or_else(|| Error::Internal(format!("option {name} has no choices")))?;
        self.effective.insert(name.into(), (*known).into());
        Ok(*choice)
    }

    /// The value as passed, if any. The caller checks it and then calls [`record`](Self::record) with the effective value.
    pub fn given(&self, name: &str) -> Option<&'a Value> {
        self.value(name)
    }

    /// Records the effective value of an option that was read by [`given`](Self::given).
    pub fn record(&mut self, name: &str, value: Value) {
        self.effective.insert(name.into(), value);
    }

    /// The effective values. An option that was not read is an error.
    pub fn finish(self) -> Result<Value> {
        let unknown = self.given.and_then(|map| map.keys().find(|key| !self.effective.contains_key(*key)));
        if let Some(option) = unknown {
            let known: Vec<_> = self.effective.keys().map(String::as_str).collect();
            return Err(Error::UnknownOption {
                option: option.clone(),
                of: self.of.into(),
                known: if known.is_empty() { "none".into() } else { known.join(", ") },
            });
        }
        Ok(Value::Object(self.effective))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: &Value) -> Result<(f32, u64, bool, Value)> {
        let mut options = Options::new("ials", value)?;
        let a = options.float("alpha", 1.0, 0.0, 10.0)?;
        let b = options.integer("factors", 64, 1, 100)?;
        let c = options.choice("weighting", &[("none", false), ("log", true)])?;
        Ok((a, b, c, options.finish()?))
    }

    #[test]
    fn defaults_fill_in_and_the_values_in_effect_come_back() {
        let (a, b, c, effective) = read(&json!({"factors": 8.0, "alpha": null})).unwrap();
        assert_eq!((a, b, c), (1.0, 8, false));
        assert_eq!(effective, json!({"alpha": 1.0, "factors": 8, "weighting": "none"}));
        assert!(read(&Value::Null).is_ok());
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let message = |v: Value| read(&v).unwrap_err().to_string();
        assert_eq!(message(json!({"facters": 8})), "unknown option \"facters\" of ials");
        assert_eq!(message(json!({"factors": 0})), "invalid value for option \"factors\": 0");
        assert_eq!(message(json!({"factors": 1.5})), "invalid value for option \"factors\": 1.5");
        assert_eq!(message(json!({"alpha": "x"})), "invalid value for option \"alpha\": \"x\"");
        assert_eq!(message(json!({"weighting": "loud"})), "invalid value for option \"weighting\": \"loud\"");
        assert_eq!(message(json!([1])), "options must be a JSON object, not [1]");
        let hint = read(&json!({"facters": 8})).unwrap_err().hint().unwrap();
        assert!(hint.contains("alpha, factors, weighting"));
    }
}
