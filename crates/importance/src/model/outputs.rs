//! Scores from the outputs of a graph.

use ndarray::{Array2, ArrayView2};

use crate::method::OutputError;
use crate::registry::Method;
use kernels::matrix::rows as rows_of;
use kernels::statistics::softmax_f64;
use onnx::inspect::Signature;
use onnx::proto::data_type;
use onnx::tensor::Tensor;
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::options::Options;
use tabular::Labels;

/// Probabilities are at least this.
const MIN_PROBABILITY: f64 = 1e-12;
/// Tolerance of the sum of a row's probabilities.
const ROUNDING: f64 = 1e-3;

/// Interpretation of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Probabilities if every row of the first batch sums to 1 (or, for a single column, lies in [0, 1]), otherwise logits.
    Auto,
    Probabilities,
    Logits,
}

/// The outputs of a graph to read, and their interpretation.
pub struct Outputs {
    model: String,
    /// The output to score, and the one with the input of the last layer.
    names: Vec<String>,
    meaning: Meaning,
    /// Columns of the output, known after the first batch.
    width: Option<usize>,
    /// The output column of each class of the labels; `None` for numbers.
    columns: Option<Vec<usize>>,
    /// Class names in the order of the output columns, if given.
    classes: Option<Vec<String>>,
}

impl Outputs {
    /// Options: `output`, `hidden_output`, `outputs` (auto, probabilities, logits), `classes` (names in the order of the output).
    pub fn new(model: &str, signature: &Signature, options: &mut Options) -> Result<Self> {
        let floats: Vec<&str> = signature
            .outputs
            .iter()
            .filter(|port| [data_type::FLOAT, data_type::DOUBLE].contains(&port.element_type))
            .map(|port| port.name.as_str())
            .collect();
        let named = |options: &mut Options, option: &'static str| -> Result<Option<String>> {
            let Some(value) = options.given(option) else { return Ok(None) };
            let known = value.as_str().filter(|name| floats.contains(name)).ok_or_else(|| {
                let hint = format!("The model's numeric outputs are: {}.", floats.join(", "));
                Error::argument(format!("option \"{option}\""), value, hint)
            })?;
            Ok(Some(known.to_owned()))
        };
        let output = named(options, "output")?;
        let hidden = named(options, "hidden_output")?;
        options.record("output", output.as_deref().unwrap_or_default().into());
        options.record("hidden_output", hidden.as_deref().unwrap_or_default().into());
        let meanings =
            [("auto", Meaning::Auto), ("probabilities", Meaning::Probabilities), ("logits", Meaning::Logits)];
        let meaning = options.choice("outputs", &meanings)?;
        let classes = match options.given("classes") {
            None => None,
            Some(value) => {
                let names = value.as_array().map(|names| {
                    let name = |v: &serde_json::Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
                    names.iter().map(name).collect::<Vec<String>>()
                });
                let hint = "Give the classes in the order of the model's output, as in [\"no\", \"yes\"].";
                Some(names.ok_or_else(|| Error::argument("option \"classes\"", value, hint))?)
            }
        };
        options.record("classes", classes.clone().unwrap_or_default().into());
        let first = floats.iter().find(|name| hidden.as_deref() != Some(**name)).map(|name| (*name).to_owned());
        let output = output.or(first).ok_or_else(|| Error::ModelInput {
            model: model.into(),
            input: "output".into(),
            problem: "is missing: the graph has no numeric output".into(),
            hint: "Use a classifier that gives probabilities or logits, or a ranker that gives numbers.".into(),
        })?;
        let names = std::iter::once(output).chain(hidden).collect();
        Ok(Self { model: model.into(), names, meaning, width: None, columns: None, classes })
    }

    /// The outputs to request from the graph.
    pub fn names(&self) -> Vec<&str> {
        self.names.iter().map(String::as_str).collect()
    }

    /// Appends the scores of the rows from `first` on to those of each method.
    pub fn score(
        &mut self,
        methods: &[Method],
        outputs: &[Tensor],
        labels: &Labels,
        first: usize,
        scores: &mut [Vec<f64>],
    ) -> Result<()> {
        let wrong = |problem: String| Error::ModelRun { model: self.model.clone(), reason: problem };
        let output = outputs.first().ok_or_else(|| wrong("it gave no output".into()))?;
        let rows = output.shape().first().copied().unwrap_or(0);
        if rows == 0 || first + rows > labels.len() {
            return Err(wrong(format!("its output \"{}\" has {rows} rows", self.names[0])));
        }
        let numbers = floats(output, rows)?.ok_or_else(|| wrong("its output is not numeric".into()))?;
        let hidden = outputs.get(1).map(|hidden| floats(hidden, rows)).transpose()?.flatten();
        let width = numbers.ncols();
        if width == 0 || self.width.is_some_and(|first| first != width) {
            return Err(wrong(format!("its output \"{}\" has rows of {width} numbers", self.names[0])));
        }
        self.width = Some(width);
        if let Some(((row, _), bad)) = numbers.indexed_iter().find(|(_, x)| !x.is_finite()) {
            return Err(wrong(format!("its output for row {} is {bad}", first + row + 1)));
        }
        if self.meaning == Meaning::Auto {
            self.meaning = meaning_of(numbers.view());
        }
        if self.columns.is_none() {
            self.columns = self.columns_for(labels, width)?;
        }
        let score_of = methods.iter().map(output_score).collect::<Result<Vec<_>>>()?;
        let mut probabilities = vec![0.0; width.max(2)];
        for (row, values) in rows_of(numbers.view()).enumerate() {
            let (loss, residual) = match (labels, &self.columns) {
                (Labels::Classes { codes, .. }, Some(columns)) => {
                    to_probabilities(values, self.meaning, &mut probabilities);
                    let own = columns[codes[first + row] as usize];
                    let squares = probabilities.iter().enumerate().map(|(c, p)| (p - f64::from(c == own)).powi(2));
                    (-probabilities[own].max(MIN_PROBABILITY).ln(), squares.sum::<f64>().sqrt())
                }
                (Labels::Numbers(labels), _) if width == 1 => {
                    let residual = (values[0] - f64::from(labels[first + row])).abs();
                    (residual * residual, residual)
                }
                _ => return Err(wrong(format!("its output has {width} columns for a label of numbers"))),
            };
            let gradient =
                hidden.as_ref().map_or(1.0, |hidden| (hidden.row(row).iter().map(|h| h * h).sum::<f64>() + 1.0).sqrt());
            let error = OutputError { loss, residual, gradient_norm: residual * gradient };
            scores.iter_mut().zip(&score_of).for_each(|(scores, score_of)| scores.push(score_of(&error)));
        }
        Ok(())
    }

    /// Output columns: by the given class names, by classes that are column numbers, or in sorted order.
    fn columns_for(&self, labels: &Labels, width: usize) -> Result<Option<Vec<usize>>> {
        let Labels::Classes { names, .. } = labels else { return Ok(None) };
        let width = width.max(2);
        let model = &self.model;
        let labels = || format!("The labels are {}.", names.join(", "));
        let columns: Vec<usize> = match &self.classes {
            Some(classes) if classes.len() != width => {
                let message =
                    format!("model \"{model}\" has {width} classes, but option \"classes\" names {}", classes.len());
                return Err(Error::invalid(message, "Name one class for each column of the output, in their order."));
            }
            Some(classes) => {
                let place = |name: &String| classes.iter().position(|class| class == name);
                let missing = |name: &String| {
                    Error::invalid(format!("option \"classes\" does not name label \"{name}\""), labels())
                };
                names.iter().map(|name| place(name).ok_or_else(|| missing(name))).collect::<Result<_>>()?
            }
            None => match names.iter().map(|name| name.parse().ok().filter(|&c: &usize| c < width)).collect() {
                Some(columns) => columns,
                None if names.len() == width => (0..width).collect(),
                None => {
                    let hint = "Name them in the order of the output: options => '{\"classes\": [\"no\", \"yes\"]}'.";
                    let message =
                        format!("model \"{model}\" has {width} classes, but the labels are {}", names.join(", "));
                    return Err(Error::invalid(message, hint));
                }
            },
        };
        Ok(Some(columns))
    }
}

fn output_score(method: &Method) -> Result<fn(&OutputError) -> f64> {
    method.output_score().ok_or_else(|| Error::Unsupported {
        algorithm: method.name(),
        what: "scoring from the outputs of a model",
        hint: format!("A model's outputs give: {}.", Method::names(|method| method.output_score().is_some())),
    })
}

/// The numbers of each row, however many dimensions they have; `None` for what are no floats.
fn floats(tensor: &Tensor, rows: usize) -> Result<Option<Array2<f64>>> {
    let values = match tensor {
        Tensor::F32(values) => values.mapv(f64::from),
        Tensor::F64(values) => values.clone(),
        _ => return Ok(None),
    };
    let width = values.len() / rows;
    // A hidden output may have other rows: what is left over is not read.
    let mut values = values.into_raw_vec_and_offset().0;
    values.truncate(rows * width);
    Ok(Some(memory::shaped(rows, width, values)?))
}

fn meaning_of(numbers: ArrayView2<f64>) -> Meaning {
    let width = numbers.ncols();
    let adds_up = |row: &[f64]| {
        row.iter().all(|x| (-ROUNDING..=1.0 + ROUNDING).contains(x))
            && (width == 1 || (row.iter().sum::<f64>() - 1.0).abs() < ROUNDING)
    };
    if rows_of(numbers).all(adds_up) { Meaning::Probabilities } else { Meaning::Logits }
}

/// Turns one row into probabilities; a single column is the second of two classes.
fn to_probabilities(values: &[f64], meaning: Meaning, out: &mut [f64]) {
    match (values, meaning) {
        ([p], Meaning::Probabilities) => (out[0], out[1]) = (1.0 - p, *p),
        ([z], _) => {
            out[1] = 1.0 / (1.0 + (-z).exp());
            out[0] = 1.0 / (1.0 + z.exp());
        }
        (_, Meaning::Probabilities) => out.copy_from_slice(values),
        _ => {
            out.copy_from_slice(values);
            softmax_f64(out);
        }
    }
}
