//! Training a synthesizer, packing it into the two files of a model, and opening those again.

use std::time::Instant;

use bytes::Bytes;
use serde_json::{Value, json};

use super::frame::FieldKind;
use super::related::{self, Child, Related};
use super::schema::{Learned, Role, Schema};
use super::text::FreeText;
use super::{Generator, Method, Parts, Released, Task};
use onnx::stored::Files;
use runtime::error::{Error, Result};
use runtime::options::Options;
use runtime::progress::Progress;

/// A trained synthesizer, ready to be stored.
pub struct Trained {
    pub onnx: Vec<u8>,
    /// safetensors.
    pub data: Vec<u8>,
    /// `method`, `options` in effect, `rows`, `columns`, `seconds`, and what the method tells of itself.
    pub metadata: Value,
}

/// What all the training is given besides the rows.
#[derive(Clone, Copy)]
pub struct Training<'a> {
    pub method: Method,
    /// The column that the rows will be used to learn.
    pub label: Option<&'a str>,
    pub seed: u64,
    /// What a private method's noise is drawn from, instead of the seed.
    pub secret: Option<[u8; 32]>,
    pub threads: usize,
    pub progress: &'a dyn Progress,
}

/// Trains on what a source came to. `options` are those that nobody has read yet: the method's own.
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
    let Parts { mut graph, mut data, figures, released } = method.train(&task, &mut options)?;
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

/// What makes the rows of one table.
pub struct Part {
    pub schema: Schema,
    pub generator: Box<dyn Generator>,
    /// Hashes of the source's rows for each of the schema's unique groups.
    pub unique: Vec<Vec<u64>>,
    /// Of each column of free text.
    texts: Vec<Option<FreeText>>,
}

impl Part {
    pub fn new(
        schema: Schema,
        generator: Box<dyn Generator>,
        unique: Vec<Vec<u64>>,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let texts = schema.columns.iter().map(|column| match &column.role {
            Role::FreeText { names, .. } => {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                FreeText::fit(&names, progress).map(Some)
            }
            _ => Ok(None),
        });
        let texts = texts.collect::<Result<_>>()?;
        Ok(Self { schema, generator, unique, texts })
    }

    /// A text of column `column` that begins as the one of number `donor`.
    pub fn text(&self, column: usize, donor: u32, seed: u64) -> String {
        self.texts
            .get(column)
            .and_then(Option::as_ref)
            .map_or_else(String::new, |text| text.generate(donor as usize, seed))
    }
}

/// An opened synthesizer.
pub struct Model {
    pub method: Method,
    pub part: Part,
    pub children: Vec<Related>,
}

impl Model {
    /// `name` is for messages. A file that contradicts itself is `Error::DamagedModel`, here or at the first use of the damaged part.
    pub fn open(name: &str, onnx: Bytes, data: Bytes, progress: &dyn Progress) -> Result<Self> {
        let files = Files::open(name, onnx, &data)?;
        let method = files.metadata("pg_reco.method")?;
        let method = Method::from_name(method).map_err(|_| files.damaged(format!("its method is \"{method}\"")))?;
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

impl Learned {
    /// Methods that draw from a distribution have no use for texts of which each is another.
    fn forget_free_texts(&mut self) {
        let gone: Vec<usize> = self
            .schema
            .columns
            .iter_mut()
            .filter_map(|column| match &mut column.role {
                Role::FreeText { field, .. } => field.take(),
                _ => None,
            })
            .collect();
        let mut fields = (0usize..).map(|field| !gone.contains(&field));
        self.schema.fields.retain(|_| fields.next().unwrap_or(true));
        let mut fields = (0usize..).map(|field| !gone.contains(&field));
        self.frame.columns.retain(|_| fields.next().unwrap_or(true));
        let moved = |field: &mut usize| *field -= gone.iter().filter(|&&other| other < *field).count();
        for column in &mut self.schema.columns {
            match &mut column.role {
                Role::Categories { field, .. } | Role::Number { field } | Role::Difference { field, .. } => {
                    moved(field)
                }
                Role::Elements { first, .. } => moved(first),
                _ => {}
            }
        }
    }
}

impl Schema {
    /// Makes room for as many fields in front.
    pub fn shift(&mut self, by: usize) {
        for column in &mut self.columns {
            match &mut column.role {
                Role::Categories { field, .. }
                | Role::Number { field }
                | Role::Difference { field, .. }
                | Role::FreeText { field: Some(field), .. } => *field += by,
                Role::Elements { first, .. } => *first += by,
                _ => {}
            }
        }
    }

    /// Takes out what a private method does not tell.
    fn release(&mut self, released: &[Released]) -> Result<()> {
        let contradiction = || Error::Internal("a method released other fields than it was given".into());
        if released.len() != self.fields.len() {
            return Err(contradiction());
        }
        for (number, (field, released)) in self.fields.iter_mut().zip(released).enumerate() {
            match (released, &mut field.kind) {
                (Released::Number { low: least, high: most }, FieldKind::Number { low, high, .. }) => {
                    (*low, *high) = (*least, *most)
                }
                (Released::Category { codes }, FieldKind::Category { count }) => {
                    *count = codes.len();
                    for column in &mut self.columns {
                        if let Role::Categories { field, names, .. } = &mut column.role
                            && *field == number
                        {
                            let kept =
                                codes.iter().map(|&code| names.get(code as usize).cloned().ok_or_else(contradiction));
                            *names = kept.collect::<Result<_>>()?;
                        }
                    }
                }
                _ => return Err(contradiction()),
            }
        }
        Ok(())
    }

    /// Whether every column's fields and columns are there.
    pub fn is_whole(&self) -> bool {
        let is_number =
            |field: usize| matches!(self.fields.get(field).map(|field| field.kind), Some(FieldKind::Number { .. }));
        let category = |field: usize| match self.fields.get(field).map(|field| field.kind) {
            Some(FieldKind::Category { count }) => Some(count),
            _ => None,
        };
        let columns = self.columns.iter().enumerate().all(|(number, column)| match &column.role {
            Role::Categories { field, names, json } => {
                category(*field) == Some(names.len()) && json.as_ref().is_none_or(|json| json.len() == names.len())
            }
            Role::Number { field } => is_number(*field),
            Role::Difference { field, from, .. } => is_number(*field) && *from != number && self.ends(number),
            Role::Elements { first, count } => (*first..first.saturating_add(*count)).all(is_number),
            Role::FreeText { field, names } => field.is_none_or(|field| category(field) == Some(names.len())),
            Role::Key(_) | Role::Parent { .. } | Role::Null => true,
        });
        let known = |column: usize| column < self.columns.len();
        columns
            && self.unique.iter().flatten().all(|&column| known(column))
            && self.constraints.iter().all(|constraint| constraint.columns().into_iter().all(known))
    }

    /// Whether a chain of differences comes to a number of its own.
    fn ends(&self, mut column: usize) -> bool {
        for _ in 0..=self.columns.len() {
            match self.columns.get(column).map(|column| &column.role) {
                Some(Role::Difference { from, .. }) => column = *from,
                Some(Role::Number { .. }) => return true,
                _ => return false,
            }
        }
        false
    }
}
