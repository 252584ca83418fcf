//! How a model's graph is fed and read: the `config` that comes with an imported model.

use serde::Deserialize;
use serde_json::Value;

use onnx::inspect::Signature;
use onnx::proto::data_type;
use runtime::error::{Error, Result};

/// How token ids enter the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// `input_ids`, `attention_mask` and perhaps `token_type_ids`, int64 `[batch, length]`, padded to the longest text.
    Padded,
    /// `token_ids` int32, all texts one after the other, and `row_splits` int64 `[batch + 1]`.
    Ragged,
}

/// How one vector a text is made of one vector a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
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
    /// Tokens of one text that the model reads, special tokens included. What is longer is cut.
    pub max_length: usize,
    pub pad_id: i64,
    /// Name of the output that holds the vectors; the first output where not given.
    pub output: String,
    /// Length of a vector; 0 where not known.
    pub dimension: usize,
    pub pooling: Pooling,
    /// Divide each vector by its length.
    pub normalize: bool,
    /// Put before a text that searches.
    pub query_prefix: String,
    /// Put before a text that is searched for.
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

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImageConfig {
    /// Name of the input, float `[batch, 3, crop, crop]`, RGB; the first input where not given.
    pub input: String,
    pub output: String,
    pub dimension: usize,
    /// Pixels of the shorter side after resizing.
    pub resize: u32,
    /// Pixels of both sides of the square cut out of the middle.
    pub crop: u32,
    /// Taken from each channel, on the scale 0 to 255.
    pub mean: [f32; 3],
    /// Each channel is then divided by this.
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

const LONGEST_TEXT: usize = 1 << 16;
const LARGEST_IMAGE: u32 = 4096;

impl TextConfig {
    /// Reads `config` and holds it against the graph.
    pub fn read(config: &Value, graph: &Signature) -> Result<Self> {
        let mut read: Self = parse(config)?;
        if !(1..=LONGEST_TEXT).contains(&read.max_length) {
            let hint = format!("Give 1 to {LONGEST_TEXT} tokens.");
            return Err(Error::argument("max_length in config", read.max_length, hint));
        }
        let expected: &[(&str, i32)] = match read.layout {
            Layout::Padded => &[("input_ids", data_type::INT64), ("attention_mask", data_type::INT64)],
            Layout::Ragged => &[("token_ids", data_type::INT32), ("row_splits", data_type::INT64)],
        };
        for &(name, element_type) in expected {
            require_input(graph, name, element_type)?;
        }
        let is_fed = |name: &str| {
            expected.iter().any(|(fed, _)| *fed == name) || (read.layout == Layout::Padded && name == "token_type_ids")
        };
        if let Some(extra) = graph.inputs.iter().find(|i| !is_fed(&i.name)) {
            return Err(refused(format!("a text model cannot be given its input \"{}\"", extra.name)));
        }
        read.output = output(graph, &read.output)?;
        Ok(read)
    }
}

impl ImageConfig {
    /// Reads `config` and holds it against the graph.
    pub fn read(config: &Value, graph: &Signature) -> Result<Self> {
        let mut read: Self = parse(config)?;
        if !(1..=LARGEST_IMAGE).contains(&read.crop) || !(read.crop..=LARGEST_IMAGE).contains(&read.resize) {
            let hint = format!("Give crop ≤ resize ≤ {LARGEST_IMAGE} pixels.");
            return Err(Error::argument("crop, resize in config", format!("{}, {}", read.crop, read.resize), hint));
        }
        if read.std.iter().any(|s| !s.is_finite() || *s == 0.0) || read.mean.iter().any(|m| !m.is_finite()) {
            let value = format!("{:?}, {:?}", read.mean, read.std);
            return Err(Error::argument("mean, std in config", value, "Give finite numbers; std may not be 0."));
        }
        if read.input.is_empty() {
            read.input = graph.inputs.first().map(|i| i.name.clone()).unwrap_or_default();
        }
        require_input(graph, &read.input, data_type::FLOAT)?;
        let side = read.crop as usize;
        if !graph.input(&read.input).is_some_and(|i| i.accepts(&[1, 3, side, side])) {
            return Err(refused(format!("its input \"{}\" does not take [1, 3, {side}, {side}]", read.input)));
        }
        read.output = output(graph, &read.output)?;
        Ok(read)
    }
}

fn parse<T: serde::de::DeserializeOwned>(config: &Value) -> Result<T> {
    let object = if config.is_null() { &Value::Object(Default::default()) } else { config };
    T::deserialize(object).map_err(|e| Error::argument("config", e, "Give a JSON object with the fields of its task."))
}

fn require_input(graph: &Signature, name: &str, element_type: i32) -> Result<()> {
    match graph.input(name) {
        Some(input) if input.element_type == element_type => Ok(()),
        Some(input) => Err(refused(format!("its input \"{name}\" is {}", input.describe()))),
        None => {
            let inputs: Vec<&str> = graph.inputs.iter().map(|i| i.name.as_str()).collect();
            Err(refused(format!("it has no input \"{name}\", only {}", inputs.join(", "))))
        }
    }
}

/// The output named, or the first; it must give floats.
fn output(graph: &Signature, name: &str) -> Result<String> {
    let found = if name.is_empty() { graph.outputs.first() } else { graph.output(name) };
    match found {
        Some(output) if output.element_type == data_type::FLOAT => Ok(output.name.clone()),
        Some(output) => Err(refused(format!("its output \"{}\" is {}", output.name, output.describe()))),
        None => Err(refused(format!("it has no output \"{name}\""))),
    }
}

fn refused(reason: String) -> Error {
    let hint = "Set config to how the model is fed (layout, input, output), or import it under task 'predict'.";
    Error::RefusedOnnx { reason, hint: hint.into() }
}
