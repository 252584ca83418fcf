//! The options of `cart`.

use serde_json::Value;

use crate::Field;
use runtime::error::{Error, Result};
use runtime::options::Options;

/// The options.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub min_leaf: usize,
    pub smoothing: bool,
    /// Rows that a number needs to be exempt from smoothing.
    pub shared: u32,
    /// Fields that come first.
    pub first: Vec<usize>,
}

impl Settings {
    /// Reads and checks the options of `cart`.
    pub fn read(fields: &[Field], options: &mut Options) -> Result<Self> {
        let min_leaf = options.integer("min_leaf", 100, 1, 1_000_000)? as usize;
        let smoothing = match options.given("smoothing") {
            None => true,
            Some(Value::Bool(smoothing)) => *smoothing,
            Some(other) => {
                return Err(Error::argument("option \"smoothing\"", other, "It must be true or false."));
            }
        };
        options.record("smoothing", smoothing.into());
        let shared = options.integer("shared", 10, 1, u64::from(u32::MAX))? as u32;
        let given = options.given("first").cloned().unwrap_or(Value::Array(Vec::new()));
        let wrong = |value: &Value| {
            let known: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
            let hint = format!("It must be an array of names of fields, each once: {}.", known.join(", "));
            Error::argument("option \"first\"", value, hint)
        };
        let mut first = Vec::new();
        for name in given.as_array().ok_or_else(|| wrong(&given))? {
            let place = fields.iter().position(|field| name.as_str() == Some(&field.name));
            match place {
                Some(place) if !first.contains(&place) => first.push(place),
                _ => return Err(wrong(name)),
            }
        }
        options.record("first", given);
        Ok(Self { min_leaf, smoothing, shared, first })
    }
}
