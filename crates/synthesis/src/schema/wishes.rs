//! What the options and the catalog declare about a source.

use ahash::AHashMap;
use serde_json::Value;

use super::{ColumnType, Description};
use crate::constraints::time;
use runtime::error::{Error, Result};
use runtime::options::Options;

/// What the user and the catalog declare about a source.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// Key columns.
    pub keys: Vec<String>,
    /// Foreign key columns: no new values are drawn.
    pub foreign_keys: Vec<String>,
    /// Groups of columns that are unique together.
    pub unique: Vec<Vec<String>>,
    /// CHECK-like expressions of the user: an unsupported one is an error.
    pub constraints: Vec<String>,
    /// Those of the catalog: an unsupported one is left out with a notice.
    pub checks: Vec<String>,
    /// Whether a text column is free text (true) or categories (false).
    pub free: AHashMap<String, bool>,
    /// Declared categories and bounds.
    pub categories: AHashMap<String, Vec<String>>,
    pub bounds: AHashMap<String, (f64, f64)>,
    /// Whether the synthesizer is private: nothing may be derived from the rows outside its privacy budget.
    pub private: bool,
}

/// Reads an option that is an array of texts.
pub fn names(options: &mut Options, name: &str) -> Result<Vec<String>> {
    let Some(given) = options.given(name) else {
        options.record(name, Value::Array(Vec::new()));
        return Ok(Vec::new());
    };
    let wrong =
        || Error::argument(format!("option \"{name}\""), given, "It must be an array of texts, as in [\"id\"].");
    let list = given.as_array().ok_or_else(wrong)?;
    let names = list.iter().map(|value| value.as_str().map(str::to_owned).ok_or_else(wrong)).collect();
    options.record(name, given.clone());
    names
}

impl Wishes {
    /// Reads the options `keys`, `foreign_keys`, `unique`, `constraints`, `text` and `domain`. An unknown column is an
    /// error.
    pub fn read(options: &mut Options, columns: &[Description]) -> Result<Self> {
        let mut wishes = Self {
            keys: names(options, "keys")?,
            foreign_keys: names(options, "foreign_keys")?,
            constraints: names(options, "constraints")?,
            ..Self::default()
        };
        wishes.read_unique(options)?;
        wishes.read_text(options, columns)?;
        wishes.read_domain(options, columns)?;
        for name in wishes.keys.iter().chain(&wishes.foreign_keys).chain(wishes.unique.iter().flatten()) {
            find(name, columns)?;
        }
        Ok(wishes)
    }

    fn read_unique(&mut self, options: &mut Options) -> Result<()> {
        let Some(given) = options.given("unique") else {
            options.record("unique", Value::Array(Vec::new()));
            return Ok(());
        };
        let wrong = || {
            Error::argument(
                "option \"unique\"",
                given,
                "It must be an array of arrays of columns, as in [[\"order_id\", \"line\"]].",
            )
        };
        for group in given.as_array().ok_or_else(wrong)? {
            let columns = group.as_array().ok_or_else(wrong)?.iter().map(|value| value.as_str().map(str::to_owned));
            self.unique.push(columns.collect::<Option<_>>().ok_or_else(wrong)?);
        }
        options.record("unique", given.clone());
        Ok(())
    }

    fn read_text(&mut self, options: &mut Options, columns: &[Description]) -> Result<()> {
        let Some(given) = options.given("text") else {
            options.record("text", Value::Object(Default::default()));
            return Ok(());
        };
        let hint = "Give an object of text columns, each \"free\" or \"category\": {\"description\": \"free\"}.";
        let wrong = || Error::argument("option \"text\"", given, hint);
        for (name, kind) in given.as_object().ok_or_else(wrong)? {
            let column = find(name, columns)?;
            if column.column_type != ColumnType::Text {
                return Err(Error::ColumnType {
                    column: name.clone(),
                    found: column.type_name.clone(),
                    expected: "text",
                });
            }
            let free = match kind.as_str() {
                Some("free") => true,
                Some("category") => false,
                _ => return Err(wrong()),
            };
            self.free.insert(name.clone(), free);
        }
        options.record("text", given.clone());
        Ok(())
    }

    fn read_domain(&mut self, options: &mut Options, columns: &[Description]) -> Result<()> {
        let Some(given) = options.given("domain") else {
            options.record("domain", Value::Object(Default::default()));
            return Ok(());
        };
        let hint = "Give an object of columns and their possible values: {\"segment\": [\"new\", \"old\"], \"age\": {\"low\": 0, \"high\": 120}}.";
        let wrong = || Error::argument("option \"domain\"", given, hint);
        for (name, domain) in given.as_object().ok_or_else(wrong)? {
            let column = find(name, columns)?;
            let of_type =
                |expected| Error::ColumnType { column: name.clone(), found: column.type_name.clone(), expected };
            match domain {
                Value::Array(_) if column.column_type.is_number() => {
                    return Err(of_type("of texts to be declared by a list; give {\"low\": …, \"high\": …}"));
                }
                Value::Array(values) => {
                    let text = |value: &Value| match value {
                        Value::String(text) => Some(text.clone()),
                        Value::Bool(truth) => Some(truth.to_string()),
                        Value::Number(number) => Some(number.to_string()),
                        _ => None,
                    };
                    let mut values: Vec<String> = values.iter().map(text).collect::<Option<_>>().ok_or_else(wrong)?;
                    let mut seen = ahash::AHashSet::new();
                    values.retain(|value| seen.insert(value.clone()));
                    self.categories.insert(name.clone(), values);
                }
                Value::Object(_) if !column.column_type.is_number() => {
                    return Err(of_type("a number or a time to be declared by bounds; give a list of its values"));
                }
                Value::Object(bounds) => {
                    let end = |key: &str| match bounds.get(key) {
                        Some(Value::Number(number)) => number.as_f64(),
                        Some(Value::String(text)) => time(text, column.column_type),
                        _ => None,
                    };
                    let (Some(low), Some(high)) = (end("low"), end("high")) else { return Err(wrong()) };
                    if low > high || bounds.len() != 2 {
                        return Err(wrong());
                    }
                    self.bounds.insert(name.clone(), (low, high));
                }
                _ => return Err(wrong()),
            }
        }
        options.record("domain", given.clone());
        Ok(())
    }
}

fn find<'a>(name: &str, columns: &'a [Description]) -> Result<&'a Description> {
    columns.iter().find(|column| column.name == name).ok_or_else(|| Error::MissingColumn {
        column: name.into(),
        found: columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", "),
    })
}
