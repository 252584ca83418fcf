//! Learning a table's rows and making more of them.

use std::collections::VecDeque;
use std::rc::Rc;

use pgrx::prelude::*;
use pgrx::{AnyElement, JsonB, pg_sys, warning};
use serde_json::{Value, json};

use super::{given, raise};
use crate::error::{Error, Result};
use crate::options::Options;
use crate::pg::catalog::{self, DATA_FILE, NewVersion, ONNX_FILE, Task};
use crate::pg::interrupts::Statement;
use crate::pg::loaded::{self, Ready, Synthesizer};
use crate::pg::row_type::{RowType, argument_type};
use crate::pg::synthesis_source::{Hidden, Pseudonyms, TypedRows, arrays_as_json};
use crate::pg::{errors, settings};
use crate::progress::Progress;
use crate::synthesis::Method;
use crate::synthesis::conditions::Conditions;
use crate::synthesis::made::Block;
use crate::synthesis::model::{self, Training};
use crate::synthesis::sampler::Sampler;
use crate::synthesis::schema::{Column, ColumnType, Learned, Role, Schema, Wishes, names};

#[pg_extern(sql = false)]
fn train_synthesizer(
    name: Option<&str>,
    source: Option<&str>,
    method: Option<&str>,
    options: Option<JsonB>,
    label: Option<&str>,
    seed: Option<i64>,
) -> errors::Result<i32> {
    catalog::require_writable();
    let (name, source) = (given(name, "name")?, given(source, "source")?);
    let statement = Statement::new("train_synthesizer", name);
    let method = Method::from_name(given(method, "method")?)?;
    let options = options.map_or(Value::Null, |options| options.0);
    let mut options = Options::new(method.name(), &options)?;
    let seed = match seed {
        Some(seed) => seed as u64,
        // Whoever knows the seed of a private synthesizer knows its noise.
        None if method.is_private() => secret_seed()?,
        None => 0,
    };
    let learned = read("source", source, method.is_private(), &mut options, &Pseudonyms::new()?, &statement)?;
    let training = Training { method, label, seed, threads: settings::threads(), progress: &statement };
    let trained = model::train(learned, options, &training)?;
    let new = NewVersion {
        name,
        task: Task::Synthesis,
        algorithm: Some(method.name()),
        config: &json!({}),
        source: Some(source),
        metrics: Some(&trained.metadata),
        files: &[(ONNX_FILE, &trained.onnx), (DATA_FILE, &trained.data)],
        in_use: true,
    };
    Ok(catalog::insert(&new, &statement)?)
}

fn secret_seed() -> Result<u64> {
    let mut seed = [0u8; 8];
    // SAFETY: fills as many bytes as the buffer has.
    let drawn = unsafe { pg_sys::pg_strong_random(seed.as_mut_ptr().cast(), seed.len()) };
    if drawn { Ok(u64::from_le_bytes(seed)) } else { Err(Error::Resources("the system has no random numbers".into())) }
}

/// Reads a query and what the options and the catalog say of its columns; tells the user what became of odd ones.
pub(super) fn read(
    what: &'static str,
    query: &str,
    private: bool,
    options: &mut Options,
    pseudonyms: &Pseudonyms,
    progress: &dyn Progress,
) -> Result<Learned> {
    let hidden = Hidden { drop: names(options, "drop")?, pseudonymize: names(options, "pseudonymize")? };
    let typed = TypedRows::read(what, query, &hidden, pseudonyms, progress)?;
    let mut wishes = Wishes::read(options, &typed.descriptions)?;
    wishes.checks = typed.checks;
    wishes.unique.extend(typed.unique);
    wishes.private = private;
    let mut learned = Learned::new(&typed.table, &typed.descriptions, &wishes)?;
    drop(typed.table);
    learned.notices.iter().for_each(|text| warning!("{text}"));
    for column in &mut learned.schema.columns {
        if let (ColumnType::Array, Role::Categories { names, json, .. }) = (column.column_type, &mut column.role) {
            *json = Some(arrays_as_json(&column.type_name, names)?);
        }
    }
    // Whoever wants rows of the table's own type gets NULL there.
    let dropped = typed.dropped.into_iter().map(|(name, type_name)| Column {
        name,
        column_type: ColumnType::Text,
        type_name,
        role: Role::Null,
        hidden: true,
    });
    learned.schema.columns.extend(dropped);
    Ok(learned)
}

#[pg_extern(sql = false)]
fn synthesize(
    name: Option<&str>,
    n: Option<i64>,
    conditions: Option<JsonB>,
    seed: Option<i64>,
) -> errors::Result<SetOfIterator<'static, JsonB>> {
    let mut rows = Rows::new(name, n, conditions, seed)?;
    Ok(SetOfIterator::new(std::iter::from_fn(move || {
        let row = raise(rows.next())?;
        Some(JsonB(rows.block.json(rows.schema(), row)))
    })))
}

#[pg_extern(sql = false)]
fn synthesize_typed(
    _target: Option<AnyElement>,
    name: Option<&str>,
    n: Option<i64>,
    conditions: Option<JsonB>,
    seed: Option<i64>,
    call: pg_sys::FunctionCallInfo,
) -> errors::Result<SetOfIterator<'static, AnyElement>> {
    let mut rows = Rows::new(name, n, conditions, seed)?;
    let mut row_type = RowType::of_argument(argument_type(call, 0), rows.schema(), &rows.name)?;
    Ok(SetOfIterator::new(std::iter::from_fn(move || {
        let row = raise(rows.next())?;
        Some(raise(row_type.row(&rows.block, rows.schema(), row)))
    })))
}

/// The rows of a call, made as they are asked for.
struct Rows {
    name: String,
    /// Kept while rows are made, so that another version coming into use changes none of them.
    ready: Rc<Ready>,
    sampler: Option<(Sampler, Statement)>,
    block: Block,
    /// Rows of the block that are still to be given.
    left: VecDeque<usize>,
}

impl Rows {
    fn new(name: Option<&str>, n: Option<i64>, conditions: Option<JsonB>, seed: Option<i64>) -> Result<Self> {
        let name = given(name, "name")?;
        let n = given(n, "n")?;
        let n = u64::try_from(n).map_err(|_| Error::argument("n", n, "Give the number of rows wanted, 0 or more."))?;
        let seed = given(seed, "seed")? as u64;
        let statement = Statement::new("synthesize", name);
        let ready = loaded::model(name, &statement)?;
        let synthesizer = as_synthesizer(name, &ready)?;
        let conditions = conditions.map_or(Value::Null, |conditions| conditions.0);
        let conditions = Conditions::new(&conditions, &synthesizer.model.part.schema)?;
        let sampler = Sampler::new(&synthesizer.model.part, n, conditions, seed);
        Ok(Self {
            name: name.to_owned(),
            ready,
            sampler: Some((sampler, statement)),
            block: Block::default(),
            left: VecDeque::new(),
        })
    }

    fn synthesizer(&self) -> &Synthesizer {
        match &*self.ready {
            Ready::Synthesizer(synthesizer) => synthesizer,
            // `new` has asked.
            _ => unreachable!("a synthesizer that is none"),
        }
    }

    fn schema(&self) -> &Schema {
        &self.synthesizer().model.part.schema
    }

    /// The place in the block of the next row.
    fn next(&mut self) -> Result<Option<usize>> {
        while self.left.is_empty() {
            let Some((mut sampler, statement)) = self.sampler.take() else { return Ok(None) };
            let synthesizer = self.synthesizer();
            let next = synthesizer.run(&statement, |graph| {
                sampler.next(&synthesizer.model.part, graph, settings::threads(), &statement)
            })?;
            // At the end whoever called may keep the iterator for longer.
            let Some(block) = next else { return Ok(None) };
            self.left.extend(0..block.rows);
            self.block = block;
            self.sampler = Some((sampler, statement));
        }
        Ok(self.left.pop_front())
    }
}

pub(super) fn as_synthesizer<'a>(name: &str, ready: &'a Ready) -> Result<&'a Synthesizer> {
    match ready {
        Ready::Synthesizer(synthesizer) => Ok(synthesizer),
        other => Err(Error::WrongTask {
            name: name.into(),
            task: other.task().name().into(),
            wanted: Task::Synthesis.name().into(),
        }),
    }
}
