//! The `config` of an imported model: how inputs are passed to its graph and outputs read.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use onnx::inspect::{Dimension, Port, Signature};
use onnx::proto::data_type;
use runtime::error::{Error, Result};

/// How token ids are passed to the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// `input_ids`, `attention_mask` and perhaps `token_type_ids`, int64 `[batch, length]`, padded to the longest text.
    Padded,
    /// `token_ids` int32, all texts one after the other, and `row_splits` int64 `[batch + 1]`.
    Ragged,
}

/// How the vectors of a text's tokens are pooled into one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// The mean over the text's tokens.
    Mean,
    /// The first token's.
    Cls,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TextConfig {
    pub layout: Layout,
    /// Maximum number of tokens of a text, special tokens included. Longer texts are truncated.
    pub max_length: usize,
    pub pad_id: i64,
    /// Name of the output with the vectors; by default the first output.
    pub output: String,
    /// Length of a vector; 0 if unknown.
    pub dimension: usize,
    pub pooling: Pooling,
    /// Divide each vector by its length.
    pub normalize: bool,
    /// Prefix of a query text.
    pub query_prefix: String,
    /// Prefix of a passage text.
    pub passage_prefix: String,
}

impl Default for TextConfig {
    fn default() -> Self {
        Self {
            layout: Layout::Padded,
            max_length: 512,
            pad_id: 0,
            output: String::new(),
            dimension: 0,
            pooling: Pooling::Mean,
            normalize: true,
            query_prefix: String::new(),
            passage_prefix: String::new(),
        }
    }
}

/// The config of a cross-encoder. Its graph takes what a padded text model takes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PairConfig {
    /// Maximum number of tokens of a pair, special tokens included. The query gets at most half of them, and the text what remains.
    pub max_length: usize,
    pub pad_id: i64,
    /// Name of the output with the logits; by default the first output.
    pub output: String,
}

impl Default for PairConfig {
    fn default() -> Self {
        Self { max_length: 512, pad_id: 0, output: String::new() }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImageConfig {
    /// Name of the input, float `[batch, 3, crop, crop]`, RGB; by default the first input.
    pub input: String,
    pub output: String,
    pub dimension: usize,
    /// Pixels of the shorter side after resizing.
    pub resize: u32,
    /// Side of the center crop in pixels.
    pub crop: u32,
    /// Subtracted from each channel, on the scale 0 to 255.
    pub mean: [f32; 3],
    /// Divides each channel after that.
    pub std: [f32; 3],
    pub normalize: bool,
}

impl Default for ImageConfig {
    fn default() -> Self {
        Self {
            input: String::new(),
            output: String::new(),
            dimension: 0,
            resize: 256,
            crop: 224,
            // ImageNet's, as torchvision and most exported models use them.
            mean: [123.675, 116.28, 103.53],
            std: [58.395, 57.12, 57.375],
            normalize: true,
        }
    }
}

/// The input that says which of two texts a token is of.
pub const TOKEN_TYPES: &str = "token_type_ids";

const MAX_TEXT_LENGTH: usize = 1 << 16;
const MAX_IMAGE_SIDE: u32 = 4096;

impl TextConfig {
    /// Reads `config` and checks it against the graph.
    pub fn read(config: &Value, graph: &Signature) -> Result<Self> {
        let mut read: Self = parse(config)?;
        require_length(read.max_length)?;
        require_tokens(graph, read.layout)?;
        read.output = output(graph, &read.output)?;
        Ok(read)
    }
}

impl PairConfig {
    /// Reads `config` and checks it against the graph.
    pub fn read(config: &Value, graph: &Signature) -> Result<Self> {
        let mut read: Self = parse(config)?;
        require_length(read.max_length)?;
        require_tokens(graph, Layout::Padded)?;
        if graph.input(TOKEN_TYPES).is_some() {
            require_input(graph, TOKEN_TYPES, data_type::INT64)?;
        }
        read.output = output(graph, &read.output)?;
        match graph.output(&read.output) {
            Some(output) if !may_be_scores(output) => Err(Error::RefusedOnnx {
                reason: format!("output \"{}\" has type {}", output.name, output.describe()),
                hint: "The output for a pair of texts must be float [batch], [batch, 1] or [batch, 2]. Set output in config, or \
                       import the model with task 'predict'."
                    .into(),
            }),
            _ => Ok(read),
        }
    }
}

/// Whether an output may have one logit for each pair, or two. What its shape leaves open, a run shows.
fn may_be_scores(output: &Port) -> bool {
    match output.shape.as_slice() {
        [] | [_] | [_, Dimension::Named(_)] => true,
        // Some exporters write -1 for any length.
        [_, Dimension::Fixed(logits)] => *logits <= 2 && *logits != 0,
        _ => false,
    }
}

impl ImageConfig {
    /// A channel's value from 0 to 255, as the graph takes it.
    pub fn scaled(&self, value: f32, channel: usize) -> f32 {
        (value - self.mean[channel]) / self.std[channel]
    }

    /// Reads `config` and checks it against the graph.
    pub fn read(config: &Value, graph: &Signature) -> Result<Self> {
        let mut read: Self = parse(config)?;
        if !(1..=MAX_IMAGE_SIDE).contains(&read.crop) || !(read.crop..=MAX_IMAGE_SIDE).contains(&read.resize) {
            let hint = format!("The values must be 1 ≤ crop ≤ resize ≤ {MAX_IMAGE_SIDE} pixels.");
            return Err(Error::argument(
                "\"crop\" and \"resize\" in config",
                format!("{} and {}", read.crop, read.resize),
                hint,
            ));
        }
        if read.std.iter().any(|s| !s.is_finite() || *s == 0.0) || read.mean.iter().any(|m| !m.is_finite()) {
            let value = format!("{:?} and {:?}", read.mean, read.std);
            return Err(Error::argument(
                "\"mean\" and \"std\" in config",
                value,
                "Values must be finite, and std must not be 0.",
            ));
        }
        if read.input.is_empty() {
            read.input = graph.inputs.first().map(|i| i.name.clone()).unwrap_or_default();
        }
        require_input(graph, &read.input, data_type::FLOAT)?;
        let side = read.crop as usize;
        if !graph.input(&read.input).is_some_and(|i| i.accepts(&[1, 3, side, side])) {
            return Err(refused(format!("input \"{}\" does not accept shape [1, 3, {side}, {side}]", read.input)));
        }
        read.output = output(graph, &read.output)?;
        Ok(read)
    }
}

fn require_length(max_length: usize) -> Result<()> {
    if !(1..=MAX_TEXT_LENGTH).contains(&max_length) {
        let hint = format!("The value must be from 1 to {MAX_TEXT_LENGTH} tokens.");
        return Err(Error::argument("\"max_length\" in config", max_length, hint));
    }
    Ok(())
}

/// The inputs of a layout, and no others.
fn require_tokens(graph: &Signature, layout: Layout) -> Result<()> {
    let expected: &[(&str, i32)] = match layout {
        Layout::Padded => &[("input_ids", data_type::INT64), ("attention_mask", data_type::INT64)],
        Layout::Ragged => &[("token_ids", data_type::INT32), ("row_splits", data_type::INT64)],
    };
    for &(name, element_type) in expected {
        require_input(graph, name, element_type)?;
    }
    let is_fed =
        |name: &str| expected.iter().any(|(fed, _)| *fed == name) || (layout == Layout::Padded && name == TOKEN_TYPES);
    match graph.inputs.iter().find(|i| !is_fed(&i.name)) {
        Some(extra) => Err(refused(format!("input \"{}\" is not supported for text models", extra.name))),
        None => Ok(()),
    }
}

fn parse<T: serde::de::DeserializeOwned>(config: &Value) -> Result<T> {
    let object = if config.is_null() { &Value::Object(Default::default()) } else { config };
    T::deserialize(object)
        .map_err(|e| Error::invalid(format!("invalid config: {e}"), "Pass a JSON object with the fields of the task."))
}

fn require_input(graph: &Signature, name: &str, element_type: i32) -> Result<()> {
    match graph.input(name) {
        Some(input) if input.element_type == element_type => Ok(()),
        Some(input) => Err(refused(format!("input \"{name}\" has type {}", input.describe()))),
        None => {
            let inputs: Vec<&str> = graph.inputs.iter().map(|i| i.name.as_str()).collect();
            Err(refused(format!("input \"{name}\" does not exist among {}", inputs.join(", "))))
        }
    }
}

/// The output `name`, or the first one. Its type must be float.
fn output(graph: &Signature, name: &str) -> Result<String> {
    let found = if name.is_empty() { graph.outputs.first() } else { graph.output(name) };
    match found {
        Some(output) if output.element_type == data_type::FLOAT => Ok(output.name.clone()),
        Some(output) => Err(refused(format!("output \"{}\" has type {}", output.name, output.describe()))),
        None => Err(refused(format!("output \"{name}\" does not exist"))),
    }
}

fn refused(reason: String) -> Error {
    let hint = "Set layout, input and output in config, or import the model with task 'predict'.";
    Error::RefusedOnnx { reason, hint: hint.into() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn port(name: &str, element_type: i32, shape: &[Dimension]) -> Port {
        Port { name: name.into(), element_type, shape: shape.to_vec() }
    }

    fn read(shape: &[Dimension], types: Option<i32>, config: Value) -> Result<PairConfig> {
        let mut inputs = vec![port("input_ids", data_type::INT64, &[]), port("attention_mask", data_type::INT64, &[])];
        inputs.extend(types.map(|element_type| port(TOKEN_TYPES, element_type, &[])));
        let outputs = vec![port("logits", data_type::FLOAT, shape), port("other", data_type::INT64, &[])];
        PairConfig::read(&config, &Signature { inputs, outputs, ..Default::default() })
    }

    #[test]
    fn a_cross_encoder_has_one_logit_for_each_pair_or_two() {
        let batch = Dimension::Named("batch".into());
        let logits = |count: i64| vec![batch.clone(), Dimension::Fixed(count)];
        for shape in [vec![], vec![batch.clone()], vec![batch.clone(), batch.clone()], logits(1), logits(2), logits(-1)]
        {
            for types in [None, Some(data_type::INT64)] {
                let config = read(&shape, types, Value::Null).unwrap();
                assert_eq!((config.output.as_str(), config.max_length), ("logits", 512));
            }
        }
        for shape in [logits(0), logits(3), vec![batch.clone(); 3]] {
            let error = read(&shape, None, Value::Null).unwrap_err();
            assert!(matches!(&error, Error::RefusedOnnx { hint, .. } if hint.contains("[batch, 2]")), "{error}");
        }
        assert!(read(&[], Some(data_type::INT32), Value::Null).is_err());
        for config in [json!({"max_length": 0}), json!({"normalize": true}), json!({"output": "other"})] {
            assert!(read(&[], None, config).is_err());
        }
    }
}
