//! Synthesizers: training on a query, and generating rows.

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

use pgrx::prelude::*;
use pgrx::{AnyElement, pg_sys, warning};
use serde_json::{Value, json};

use super::{given, raise, row_count};
use crate::pg::interrupts::Statement;
use crate::pg::json::JsonB;
use crate::pg::json_rows::JsonRows;
use crate::pg::row_type::RowType;
use crate::pg::secret::secret;
use crate::pg::{errors, settings};
use crate::service::catalog;
use crate::service::catalog::versions;
use crate::service::catalog::{DATA_FILE, NewVersion, ONNX_FILE, Privilege, Task};
use crate::service::loaded;
use crate::service::loaded::{Ready, Synthesizer};
use crate::service::synthesis_source::{Hidden, Pseudonyms, TypedRows, arrays_as_json};
use runtime::error::{Error, Result};
use runtime::options::Options;
use runtime::progress::Progress;
use synthesis::conditions::Conditions;
use synthesis::made::Block;
use synthesis::model;
use synthesis::related::{Child, RelatedSampler};
use synthesis::sampler::Sampler;
use synthesis::schema::{Column, ColumnType, Learned, Role, Wishes, names};
use synthesis::{Part, RunGraph, Training};

#[pg_extern(sql = false)]
fn train_synthesizer(
    name: Option<&str>,
    source: Option<&str>,
    method: Option<&str>,
    options: Option<JsonB>,
    label: Option<&str>,
    seed: Option<i64>,
    keep: Option<i32>,
) -> errors::Result<i32> {
    catalog::require_writable();
    let keep = versions::kept(keep)?;
    let (name, source) = (given(name, "name")?, given(source, "source")?);
    let statement = Statement::new("train_synthesizer", name);
    let method = synthesis::by_name(given(method, "method")?)?;
    let options = options.map_or(Value::Null, |options| options.0);
    let mut options = Options::new(method.name(), &options)?;
    catalog::require_author(name)?;
    // The seed of a private synthesizer would reveal its noise.
    let secret = if method.is_private() && seed.is_none() { Some(secret()?) } else { None };
    let (learned, children) = read_related(source, method, &mut options, &statement)?;
    let (seed, threads) = (seed.unwrap_or(0) as u64, settings::threads());
    let training = Training { method, label, seed, secret, threads, progress: &statement };
    let trained = model::train(learned, children, options, &training)?;
    let new = NewVersion {
        name,
        refreshes: None,
        task: Task::Synthesis,
        algorithm: Some(method.name()),
        config: &json!({}),
        source: Some(source),
        metrics: Some(&trained.metadata),
        files: &[(ONNX_FILE, &trained.onnx), (DATA_FILE, &trained.data)],
        shared: &[],
        in_use: true,
    };
    let number = catalog::insert(&new, &statement)?;
    versions::keep(name, keep)?;
    Ok(number)
}

/// Reads the source and the related tables in the option `children`.
fn read_related(
    source: &str,
    method: &dyn synthesis::Synthesizer,
    options: &mut Options,
    progress: &dyn Progress,
) -> Result<(Learned, Vec<Child>)> {
    let pseudonyms = Pseudonyms::new()?;
    let told = options.given("children").cloned().unwrap_or_else(|| json!({}));
    options.record("children", told.clone());
    let wrong = || {
        let hint = "The value must be an object of queries and their key columns, as in {\"orders\": {\"source\": \"TABLE orders\", \"key\": \"customer_id\", \"parent_key\": \"id\"}}.";
        Error::argument("option \"children\"", &told, hint)
    };
    let told_children = told.as_object().ok_or_else(wrong)?;
    if !told_children.is_empty() && (method.is_private() || method.runs_graph()) {
        let hint = match method.is_private() {
            true => "Its privacy guarantee covers a single table. Train on one table.",
            false => "Use cart, gaussian_copula, bootstrap or independent.",
        };
        return Err(Error::Unsupported { algorithm: method.name(), what: "option \"children\"", hint: hint.into() });
    }
    let (learned, rows) = read("source", source, method.is_private(), options, &pseudonyms, progress)?;
    let mut children = Vec::new();
    for (name, child) in told_children {
        let text = |key: &str| child.get(key).and_then(Value::as_str);
        let (Some(query), Some(key)) = (text("source"), text("key")) else { return Err(wrong()) };
        let parent_key = text("parent_key").unwrap_or("id");
        let parent_ids = rows.ids(parent_key)?;
        let mut own = child.clone();
        let map = own.as_object_mut().ok_or_else(wrong)?;
        ["source", "key", "parent_key"].into_iter().for_each(|known| _ = map.remove(known));
        let mut own_options = Options::new("children", &own)?;
        let (learned, child_rows) = read("children", query, false, &mut own_options, &pseudonyms, progress)?;
        own_options.finish()?;
        children.push(Child {
            name: name.clone(),
            ids: child_rows.ids(key)?,
            learned,
            key: key.to_owned(),
            parent_key: parent_key.to_owned(),
            parent_ids,
        });
    }
    Ok((learned, children))
}

/// Reads a query, with what the options and the catalog say about its columns. Warns about columns that get special treatment.
pub(super) fn read(
    what: &'static str,
    query: &str,
    private: bool,
    options: &mut Options,
    pseudonyms: &Pseudonyms,
    progress: &dyn Progress,
) -> Result<(Learned, TypedRows)> {
    let hidden = Hidden { drop: names(options, "drop")?, pseudonymize: names(options, "pseudonymize")? };
    let mut typed = TypedRows::read(what, query, &hidden, pseudonyms, progress)?;
    let mut wishes = Wishes::read(options, &typed.descriptions)?;
    wishes.checks = std::mem::take(&mut typed.checks);
    wishes.unique.append(&mut typed.unique);
    wishes.private = private;
    let mut learned = Learned::new(&typed.table, &typed.descriptions, &wishes, progress)?;
    learned.notices.iter().for_each(|text| warning!("{text}"));
    for column in &mut learned.schema.columns {
        if let (ColumnType::Array, Role::Categories { names, json, .. }) = (column.column_type, &mut column.role) {
            let place = typed.descriptions.iter().position(|described| described.name == column.name);
            let gone = || Error::Internal(format!("column {} was not read", column.name));
            *json = Some(arrays_as_json(typed.types[place.ok_or_else(gone)?], names)?);
        }
    }
    // Rows of the table's own type have NULL there.
    let dropped = std::mem::take(&mut typed.dropped).into_iter().map(|(name, type_name)| Column {
        name,
        column_type: ColumnType::Text,
        type_name,
        role: Role::Null,
        hidden: true,
    });
    learned.schema.columns.extend(dropped);
    Ok((learned, typed))
}

#[pg_extern(sql = false)]
fn synthesize(
    name: Option<&str>,
    n: Option<i64>,
    conditions: Option<JsonB>,
    seed: Option<i64>,
) -> errors::Result<SetOfIterator<'static, AnyElement>> {
    Ok(Rows::of_model(name, n, conditions, seed)?.into_json()?)
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
    Ok(Rows::of_model(name, n, conditions, seed)?.into_typed(call)?)
}

/// The rows of a call, generated as they are fetched.
pub(super) struct Rows {
    name: String,
    maker: Maker,
    /// The remaining steps, and the statement.
    under_way: Option<(VecDeque<Step>, Statement)>,
    block: Block,
    /// Rows of the block that have not been returned yet.
    left: Range<usize>,
}

/// Rows of one kind.
pub(super) struct Step {
    pub sampler: Sampler,
    /// Called before the rows are generated.
    pub prepare: Box<dyn Fn()>,
}

/// What generates the rows. The model is held, so that promoting another version does not affect the rest of the rows.
pub(super) enum Maker {
    Model(Rc<Ready>),
    Own(Box<Part>),
}

impl Maker {
    fn part(&self) -> Result<&Part> {
        match self {
            Self::Own(part) => Ok(part),
            Self::Model(ready) => as_synthesizer("", ready).map(|synthesizer| &synthesizer.model.part),
        }
    }
}

impl Rows {
    fn of_model(name: Option<&str>, n: Option<i64>, conditions: Option<JsonB>, seed: Option<i64>) -> Result<Self> {
        let name = given(name, "name")?;
        let n = row_count(given(n, "n")?)?;
        let seed = given(seed, "seed")? as u64;
        let statement = Statement::new("synthesize", name);
        let ready = synthesizer(name, &statement)?;
        let part = &as_synthesizer(name, &ready)?.model.part;
        let conditions = conditions.map_or(Value::Null, |conditions| conditions.0);
        let conditions = Conditions::new(&conditions, &part.schema)?;
        let step = Step { sampler: Sampler::new(part, n, conditions, seed), prepare: Box::new(|| ()) };
        Ok(Self::new(name, Maker::Model(ready), VecDeque::from([step]), statement))
    }

    pub(super) fn new(name: &str, maker: Maker, steps: VecDeque<Step>, statement: Statement) -> Self {
        let under_way = Some((steps, statement));
        Self { name: name.to_owned(), maker, under_way, block: Block::default(), left: 0..0 }
    }

    /// The index in the block of the next row.
    fn next(&mut self) -> Result<Option<usize>> {
        while self.left.is_empty() {
            // The statement is dropped at the end and on an error: the caller may keep the iterator for longer.
            let Some((mut steps, statement)) = self.under_way.take() else { return Ok(None) };
            let Some(step) = steps.front_mut() else { return Ok(None) };
            (step.prepare)();
            let part = self.maker.part()?;
            let mut next = |graph: &mut RunGraph| step.sampler.next(part, graph, settings::threads(), &statement);
            let next = match &self.maker {
                Maker::Model(ready) => as_synthesizer(&self.name, ready)?.run(&statement, next)?,
                Maker::Own(_) => next(&mut |_, _| Err(Error::Internal("no graph to run".into())))?,
            };
            match next {
                Some(block) => {
                    self.left = 0..block.rows;
                    self.block = block;
                }
                None => _ = steps.pop_front(),
            }
            self.under_way = Some((steps, statement));
        }
        Ok(self.left.next())
    }

    /// Rows of type jsonb.
    pub(super) fn into_json(mut self) -> Result<SetOfIterator<'static, AnyElement>> {
        let rows = JsonRows::new(&self.maker.part()?.schema);
        Ok(SetOfIterator::new(std::iter::from_fn(move || {
            let row = raise(self.next())?;
            Some(raise(rows.row(&self.block, &raise(self.maker.part()).schema, row)))
        })))
    }

    /// Rows of the type of the first argument of `call`.
    pub(super) fn into_typed(mut self, call: pg_sys::FunctionCallInfo) -> Result<SetOfIterator<'static, AnyElement>> {
        let mut row_type = RowType::of_target(call, &self.maker.part()?.schema, &self.name)?;
        Ok(SetOfIterator::new(std::iter::from_fn(move || {
            let row = raise(self.next())?;
            Some(raise(row_type.row(&self.block, &raise(self.maker.part()).schema, row)))
        })))
    }
}

#[pg_extern(sql = false)]
fn synthesize_related(
    name: Option<&str>,
    n: Option<i64>,
    conditions: Option<JsonB>,
    seed: Option<i64>,
) -> errors::Result<TableIterator<'static, (String, AnyElement)>> {
    let name = given(name, "name")?;
    let n = row_count(given(n, "n")?)?;
    let seed = given(seed, "seed")? as u64;
    let statement = Statement::new("synthesize_related", name);
    let ready = synthesizer(name, &statement)?;
    let model = &as_synthesizer(name, &ready)?.model;
    if model.children.is_empty() {
        let hint = "Train the model by cart, gaussian_copula, bootstrap or independent with the option \"children\", or use reco.synthesize.";
        return Err(Error::invalid(format!("model \"{name}\" has no related tables"), hint).into());
    }
    let conditions = conditions.map_or(Value::Null, |conditions| conditions.0);
    let conditions = Conditions::new(&conditions, &model.part.schema)?;
    let sampler = RelatedSampler::new(&model.part, &model.children, n, conditions, seed);
    let name = name.to_owned();
    let mut under_way = Some((sampler, statement));
    let (mut table, mut block, mut left) = (None, Block::default(), 0..0);
    let of_parent = JsonRows::new(&model.part.schema);
    let of_children: Vec<JsonRows> = model.children.iter().map(|child| JsonRows::new(&child.part.schema)).collect();
    Ok(TableIterator::new(std::iter::from_fn(move || {
        let synthesizer = raise(as_synthesizer(&name, &ready));
        let model = &synthesizer.model;
        while left.is_empty() {
            let (mut sampler, statement) = under_way.take()?;
            let next = synthesizer.run(&statement, |graph| {
                sampler.next(&model.part, &model.children, graph, settings::threads(), &statement)
            });
            (table, block) = raise(next)?;
            left = 0..block.rows;
            under_way = Some((sampler, statement));
        }
        let row = left.next()?;
        Some(match table {
            None => (name.clone(), raise(of_parent.row(&block, &model.part.schema, row))),
            Some(place) => {
                let child = &model.children[place];
                (child.name.clone(), raise(of_children[place].row(&block, &child.part.schema, row)))
            }
        })
    })))
}

/// A synthesizer, after a check that the caller may see its rows.
fn synthesizer(name: &str, statement: &Statement) -> Result<Rc<Ready>> {
    let ready = loaded::model(name, statement)?;
    let method = as_synthesizer(name, &ready)?.model.method;
    // The rows that this one makes are those that it learned from.
    let privilege = if method.copies_rows() { Privilege::Read } else { Privilege::Serve };
    loaded::model_for(name, privilege, statement)
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
