//! Conditions on the rows to draw: `{"segment": "new", "age": {"min": 18, "max": 30}, "city": ["Oslo", "Bergen"],
//! "left": null}`.

use serde_json::Value;

use super::constraints::time;
use super::schema::{ColumnType, Role, Schema};
use crate::frame::FieldKind;
use runtime::error::{Error, Result};

/// Numbers within this share of the column's range around a requested number match it, and are then set to it: few
/// drawn rows have exactly a number with decimals.
const NEAR: f64 = 0.005;

/// The condition on one column.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    pub column: usize,
    pub wanted: Wanted,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    Null,
    /// Any of these categories.
    Codes(Vec<u32>),
    /// A number: drawn values match within `near` of it.
    Number {
        value: f64,
        near: f64,
    },
    Range {
        low: f64,
        high: f64,
    },
}

/// The conditions on all columns, and the first keys of counted key columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conditions {
    pub columns: Vec<Condition>,
    /// Key columns, each with its first key.
    pub starts: Vec<(usize, i64)>,
}

impl Conditions {
    /// Reads the conditions. `given` is a JSON object or null.
    pub fn new(given: &Value, schema: &Schema) -> Result<Self> {
        let mut conditions = Self::default();
        let object = match given {
            Value::Null => return Ok(conditions),
            Value::Object(object) => object,
            _ => {
                let hint =
                    "Give a JSON object of columns and their values: {\"segment\": \"new\", \"age\": {\"min\": 18}}.";
                return Err(Error::invalid("conditions must be a JSON object", hint));
            }
        };
        for (name, wanted) in object {
            let column = schema.column(name).ok_or_else(|| Error::MissingColumn {
                column: name.clone(),
                found: schema.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", "),
            })?;
            conditions.add(column, wanted, schema)?;
        }
        Ok(conditions)
    }

    fn add(&mut self, column: usize, wanted: &Value, schema: &Schema) -> Result<()> {
        let described = &schema.columns[column];
        let wrong = |hint: String| {
            Error::invalid(format!("invalid condition on column \"{}\": {wanted}", described.name), hint)
        };
        let number = |value: &Value| number(value, described.column_type);
        let wanted = match &described.role {
            Role::Key(_) if described.column_type == ColumnType::Integer => {
                let start = wanted.get("min").and_then(Value::as_i64);
                let start = start.ok_or_else(|| {
                    wrong("Give the first key as {\"min\": 1000}: the keys of this column are counted.".into())
                })?;
                self.starts.push((column, start));
                return Ok(());
            }
            Role::Key(_) | Role::Parent { .. } | Role::FreeText { .. } | Role::Elements { .. } => {
                return Err(wrong("Leave it out: the values of this column are new in each row.".into()));
            }
            Role::Null if wanted.is_null() => return Ok(()),
            Role::Null => {
                return Err(wrong(
                    "Give null, or leave it out: this column is NULL in all rows that the model learned from.".into(),
                ));
            }
            _ if wanted.is_null() => Wanted::Null,
            Role::Categories { names, .. } => {
                let list = wanted.as_array().map_or(std::slice::from_ref(wanted), Vec::as_slice);
                let codes = list.iter().map(|value| {
                    let text =
                        text(value).ok_or_else(|| wrong("Give one of its values, a list of them, or null.".into()))?;
                    let code = names.iter().position(|name| *name == text).map(|code| code as u32);
                    code.ok_or_else(|| {
                        let known: Vec<&str> = names.iter().take(10).map(String::as_str).collect();
                        wrong(format!(
                            "Give a value of the source. Known values: {}{}.",
                            known.join(", "),
                            if names.len() > 10 { ", …" } else { "" }
                        ))
                    })
                });
                Wanted::Codes(codes.collect::<Result<_>>()?)
            }
            Role::Number { .. } | Role::Difference { .. } => {
                let (low, high) = bounds(schema, column);
                let wanted = match wanted {
                    Value::Object(range) => {
                        if let Some(key) = range.keys().find(|key| *key != "min" && *key != "max") {
                            return Err(wrong(format!("Give \"min\" and \"max\", not \"{key}\".")));
                        }
                        let end = |key: &str, default: f64| match range.get(key) {
                            None | Some(Value::Null) => Ok(default),
                            Some(value) => number(value)
                                .ok_or_else(|| wrong(format!("Give \"{key}\" a value of the column's type."))),
                        };
                        Wanted::Range { low: end("min", low)?, high: end("max", high)? }
                    }
                    value => {
                        let value = number(value).ok_or_else(|| {
                            wrong("Give one of its values, {\"min\": …, \"max\": …}, or null.".into())
                        })?;
                        Wanted::Number { value, near: (high - low) * NEAR }
                    }
                };
                let (least, most) = match wanted {
                    Wanted::Range { low, high } => (low, high),
                    Wanted::Number { value, .. } => (value, value),
                    _ => (low, high),
                };
                if least > high || most < low || least > most {
                    let (low, high) = (show(low, described.column_type), show(high, described.column_type));
                    return Err(wrong(format!(
                        "Give a value or range within those of the source, from {low} to {high}."
                    )));
                }
                wanted
            }
        };
        self.columns.push(Condition { column, wanted });
        Ok(())
    }

    /// The first key of a column, if one was given.
    pub fn start(&self, column: usize) -> Option<i64> {
        self.starts.iter().find(|(other, _)| *other == column).map(|&(_, start)| start)
    }
}

/// The bounds of a column of numbers.
fn bounds(schema: &Schema, column: usize) -> (f64, f64) {
    match schema.columns[column].role {
        Role::Number { field } => match schema.fields[field].kind {
            FieldKind::Number { low, high, .. } => (low, high),
            FieldKind::Category { .. } => (0.0, 0.0),
        },
        Role::Difference { low, high, .. } => (low, high),
        _ => (0.0, 0.0),
    }
}

/// The name of the category that a JSON value denotes.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null => None,
        Value::Array(_) | Value::Object(_) => Some(value.to_string()),
    }
}

fn number(value: &Value, kind: ColumnType) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => time(text, kind).or_else(|| text.parse().ok()).filter(|x: &f64| x.is_finite()),
        _ => None,
    }
}

fn show(x: f64, kind: ColumnType) -> String {
    match kind {
        ColumnType::Date | ColumnType::Time | ColumnType::Timestamp | ColumnType::Timestamptz => {
            super::made::show_time(x, kind)
        }
        _ => x.to_string(),
    }
}

impl Wanted {
    /// Whether a code matches.
    pub fn has_code(&self, code: u32) -> bool {
        match self {
            Self::Null => code == tabular::NONE,
            Self::Codes(codes) => codes.contains(&code),
            _ => false,
        }
    }

    /// Whether a number matches.
    pub fn has_number(&self, x: f64) -> bool {
        match *self {
            Self::Null => x.is_nan(),
            Self::Number { value, near } => (x - value).abs() <= near,
            Self::Range { low, high } => low <= x && x <= high,
            Self::Codes(_) => false,
        }
    }
}
