//! Rows of a table together with those of its child tables, such as customers with their orders.
//!
//! The number of a row's children is learned as a column of the parent. A child's row is drawn by a synthesizer that
//! conditions on the fields of its parent, which come first; its foreign key is the parent's key.

use std::collections::VecDeque;

use ahash::AHashMap;
use serde_json::{Value, json};

use super::conditions::Conditions;
use super::frame::{Field, FieldKind, Frame, Values};
use super::made::Block;
use super::methods::registry::CONDITIONAL;
use super::part::Part;
use super::sampler::Sampler;
use super::schema::{Column, ColumnType, Learned, Role, Schema};
use super::training::Training;
use super::{Parts, RunGraph, Task};
use onnx::graph::GraphBuilder;
use onnx::stored::{DataWriter, Files};
use runtime::error::{Error, Result};
use runtime::options::Options;
use runtime::progress::Progress;

/// A child table.
pub struct Child {
    pub name: String,
    pub learned: Learned,
    /// The child's foreign key column, and its values.
    pub key: String,
    pub ids: Vec<String>,
    /// The parent's column that it references, and its values.
    pub parent_key: String,
    pub parent_ids: Vec<String>,
}

/// Adds to `parent` the number of children of each row. Returns the parent's row of each child row.
pub fn count(parent: &mut Learned, child: &Child) -> Result<Vec<usize>> {
    let mut rows: AHashMap<&str, usize> = AHashMap::new();
    for (row, id) in child.parent_ids.iter().enumerate() {
        if rows.insert(id, row).is_some() {
            let hint = format!(
                "Name a key of the source with \"parent_key\": a row of \"{}\" must belong to one row of the source.",
                child.name
            );
            let message = format!("duplicate value \"{id}\" of the parent key \"{}\"", child.parent_key);
            return Err(Error::invalid(message, hint));
        }
    }
    let owner = |(row, id): (usize, &String)| {
        rows.get(id.as_str()).copied().ok_or_else(|| {
            let Child { name, key, .. } = child;
            let message = format!("\"{key}\" is \"{id}\" in row {} of \"{name}\", which no parent has", row + 1);
            Error::invalid(message, format!("Leave out such rows of \"{name}\"."))
        })
    };
    let owners = child.ids.iter().enumerate().map(owner).collect::<Result<Vec<usize>>>()?;
    let mut counts = vec![0f64; parent.frame.rows];
    owners.iter().for_each(|&row| counts[row] += 1.0);
    let (low, high) = counts.iter().fold((f64::INFINITY, 0f64), |(low, high), &n| (low.min(n), high.max(n)));
    let name = format!("number of {}", child.name);
    let field = parent.frame.columns.len();
    parent.frame.columns.push(Values::Numbers(counts));
    let kind = FieldKind::Number { low, high, step: 1.0 };
    parent.schema.fields.push(Field { name: name.clone(), kind, nulls: false, declared: false });
    let column_type = ColumnType::Integer;
    parent.schema.columns.push(Column {
        name,
        column_type,
        type_name: "bigint".into(),
        role: Role::Number { field },
        hidden: true,
    });
    Ok(owners)
}

/// Trains a generator for `child` and writes it into the parent's files as child number `number`.
pub fn train(
    parent: &Learned,
    child: Child,
    owners: &[usize],
    number: usize,
    training: &Training,
    graph: &mut GraphBuilder,
    data: &mut DataWriter,
) -> Result<Value> {
    let Child { name, learned, key, parent_key, .. } = child;
    let Learned { mut schema, frame, .. } = learned;
    let before = parent.schema.fields.len();
    schema.shift(before);
    if let (Some(column), Some(of)) = (schema.column(&key), parent.schema.column(&parent_key)) {
        schema.columns[column].role = Role::Parent { column: of };
    }
    let mut fields: Vec<Field> = parent.schema.fields.clone();
    fields.iter_mut().for_each(|field| field.name = format!("parent.{}", field.name));
    let first: Vec<Value> = fields.iter().map(|field| field.name.clone().into()).collect();
    fields.append(&mut schema.fields);
    schema.fields = fields;
    // What is unique among a parent's children alone is not kept apart here.
    schema.unique.clear();
    let mut columns: Vec<Values> = parent.frame.columns.iter().map(|values| values.take(owners)).collect();
    columns.extend(frame.columns);
    let rows = Frame { rows: owners.len(), columns };
    let task = Task {
        fields: &schema.fields,
        rows: &rows,
        label: None,
        seed: training.seed,
        secret: None,
        threads: training.threads,
        progress: training.progress,
    };
    let options = json!({ "first": first });
    let Parts { graph: own, data: trees, .. } =
        CONDITIONAL.train(&task, &mut Options::new(CONDITIONAL.name(), &options)?)?;
    let text = serde_json::to_vec(&schema).map_err(|e| Error::Internal(format!("a schema cannot be written: {e}")))?;
    graph.beside(&prefix(number), own);
    data.inline(&prefix(number), trees);
    data.owned(&format!("{}schema", prefix(number)), &[text.len()], text);
    Ok(json!({ "name": name, "parent_fields": before }))
}

fn prefix(number: usize) -> String {
    format!("child.{number}.")
}

/// The generator of a child table.
pub struct Related {
    pub name: String,
    pub part: Part,
    /// Number of the parent's fields, which come first.
    parent_fields: usize,
    /// The parent's field that holds the number of children.
    count: usize,
}

impl Related {
    /// Opens the children of a model whose parent has the schema `parent`. `told` is what [`train`] returned for them.
    pub fn open(files: &Files, told: &Value, parent: &Schema, progress: &dyn Progress) -> Result<Vec<Self>> {
        let damaged = || files.damaged("its children contradict themselves");
        let told = told.as_array().ok_or_else(damaged)?;
        let children = told.iter().enumerate().map(|(number, told)| {
            let (Some(name), Some(parent_fields)) = (told["name"].as_str(), told["parent_fields"].as_u64()) else {
                return Err(damaged());
            };
            let files = files.under(&prefix(number));
            let ([_], text) = files.tensor::<u8, 1>("schema")?;
            let schema: Schema = serde_json::from_slice(&text).map_err(|_| damaged())?;
            let count = parent.column(&format!("number of {name}")).and_then(|column| parent.field_of(column));
            let of_parent = |column: &Column| match column.role {
                Role::Parent { column } => column < parent.columns.len(),
                _ => true,
            };
            let parent_fields = parent_fields as usize;
            if !schema.is_whole() || parent_fields != parent.fields.len() || !schema.columns.iter().all(of_parent) {
                return Err(damaged());
            }
            let generator = CONDITIONAL.open(&files, &schema.fields)?;
            let part = Part::new(schema, generator, Vec::new(), progress)?;
            Ok(Self { name: name.to_owned(), part, parent_fields, count: count.ok_or_else(damaged)? })
        });
        children.collect()
    }
}

/// Draws rows of a parent and its children.
pub struct RelatedSampler {
    parent: Sampler,
    children: Vec<Sampler>,
    /// Drawn blocks that were not returned yet, with the number of the child; `None` for the parent.
    ready: VecDeque<(Option<usize>, Block)>,
}

impl RelatedSampler {
    pub fn new(part: &Part, children: &[Related], wanted: u64, conditions: Conditions, seed: u64) -> Self {
        let parent = Sampler::new(part, wanted, conditions, seed);
        let child = |(number, child): (usize, &Related)| {
            let seed = runtime::draw::mix(seed ^ (number as u64 + 1));
            Sampler::new(&child.part, u64::MAX, Conditions::default(), seed)
        };
        Self { parent, children: children.iter().enumerate().map(child).collect(), ready: VecDeque::new() }
    }

    /// The next rows of the parent, or of a child of parents already returned.
    pub fn next(
        &mut self,
        part: &Part,
        children: &[Related],
        graph: &mut RunGraph,
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<Option<(Option<usize>, Block)>> {
        if let Some(ready) = self.ready.pop_front() {
            return Ok(Some(ready));
        }
        let Some(block) = self.parent.next(part, graph, threads, progress)? else { return Ok(None) };
        for (number, (child, sampler)) in children.iter().zip(&mut self.children).enumerate() {
            let Some(Values::Numbers(counts)) = block.frame.columns.get(child.count) else { continue };
            let owners: Vec<usize> =
                (0..block.rows).flat_map(|row| std::iter::repeat_n(row, counts[row].max(0.0) as usize)).collect();
            for owners in owners.chunks(super::BLOCK) {
                let made =
                    sampler.for_parents(&child.part, &block, child.parent_fields, owners, graph, threads, progress)?;
                self.ready.push_back((Some(number), made));
            }
        }
        Ok(Some((None, block)))
    }
}
