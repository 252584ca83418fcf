//! Training a synthesizer, storing it in the two files of a model, and opening them.

use std::time::Instant;

use bytes::Bytes;
use serde_json::{Value, json};

use super::part::Part;
use super::related::{self, Child, Related};
use super::schema::{Learned, Schema};
use super::training::Training;
use super::{Parts, Synthesizer, Task, by_name};
use onnx::stored::Files;
use runtime::error::{Error, Result};
use runtime::options::Options;
use runtime::pool::with_pool;
use runtime::progress::Progress;

/// A trained synthesizer, as stored.
pub struct Trained {
    pub onnx: Vec<u8>,
    /// In safetensors format.
    pub data: Vec<u8>,
    /// `method`, `options` in effect, `rows`, `columns`, `seconds`, and the synthesizer's own figures.
    pub metadata: Value,
}

/// Trains on a source and its children. `options` are the synthesizer's own; those of the source have been read.
pub fn train(mut learned: Learned, children: Vec<Child>, mut options: Options, training: &Training) -> Result<Trained> {
    let start = Instant::now();
    let method = training.method;
    if !method.draws_donors() {
        learned.forget_free_texts();
    }
    let label = match training.label {
        None => None,
        Some(name) => {
            let column = learned.schema.column(name).ok_or_else(|| Error::MissingColumn {
                column: name.into(),
                found: learned.schema.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", "),
            })?;
            learned.schema.field_of(column)
        }
    };
    let owners = children.iter().map(|child| related::count(&mut learned, child)).collect::<Result<Vec<_>>>()?;
    let task = Task {
        fields: &learned.schema.fields,
        rows: &learned.frame,
        label,
        seed: training.seed,
        secret: training.secret,
        threads: training.threads,
        progress: training.progress,
    };
    let trained = with_pool(training.threads, |_| method.train(&task, &mut options))?;
    let Parts { mut graph, mut data, figures, released } = trained;
    let options = options.finish()?;
    let mut told = Vec::new();
    for (number, (child, owners)) in children.into_iter().zip(owners).enumerate() {
        told.push(related::train(&learned, child, &owners, number, training, &mut graph, &mut data)?);
    }
    let Learned { mut schema, frame, unique, .. } = learned;
    if let Some(released) = released {
        schema.release(&released)?;
    }
    let rows = frame.rows;
    drop(frame);
    for (number, hashes) in unique.into_iter().enumerate() {
        data.owned(&format!("unique.{number}"), &[hashes.len()], hashes);
    }
    graph.metadata("pg_reco.method", method.name().into());
    graph.metadata("pg_reco.options", options.to_string());
    let text =
        serde_json::to_string(&schema).map_err(|e| Error::Internal(format!("a schema cannot be written: {e}")))?;
    graph.metadata("pg_reco.schema", text);
    graph.metadata("pg_reco.children", Value::Array(told).to_string());
    training.progress.check()?;
    let onnx = graph.encode()?;
    let data = data.finish()?;
    let mut metadata = json!({
        "method": method.name(),
        "options": options,
        "rows": rows,
        "columns": schema.columns.len(),
        "seconds": { "train": start.elapsed().as_secs_f64() },
    });
    if let Some(map) = metadata.as_object_mut() {
        map.extend(figures);
    }
    Ok(Trained { onnx, data, metadata })
}

/// An opened synthesizer.
pub struct Model {
    pub method: &'static dyn Synthesizer,
    pub part: Part,
    pub children: Vec<Related>,
}

impl Model {
    /// Opens the files of a model. `name` is used in messages. An inconsistent file gives `Error::DamagedModel`, here
    /// or when the damaged part is first used.
    pub fn open(name: &str, onnx: Bytes, data: Bytes, progress: &dyn Progress) -> Result<Self> {
        let files = Files::open(name, onnx, &data)?;
        let method = files.metadata("pg_reco.method")?;
        let method = by_name(method).map_err(|_| files.damaged(format!("its method is \"{method}\"")))?;
        let schema: Schema = serde_json::from_str(files.metadata("pg_reco.schema")?)
            .map_err(|e| files.damaged(format!("its schema cannot be read: {e}")))?;
        if !schema.is_whole() {
            return Err(files.damaged("its schema contradicts itself"));
        }
        let generator = method.open(&files, &schema.fields)?;
        let unique = (0..schema.unique.len()).map(|number| {
            let ([_], hashes) = files.tensor::<u64, 1>(&format!("unique.{number}"))?;
            Ok(hashes.to_vec())
        });
        let unique = unique.collect::<Result<_>>()?;
        let children = serde_json::from_str(files.metadata("pg_reco.children")?)
            .map_err(|e| files.damaged(format!("its children cannot be read: {e}")))?;
        let children = Related::open(&files, &children, &schema, progress)?;
        Ok(Self { method, part: Part::new(schema, generator, unique, progress)?, children })
    }
}
