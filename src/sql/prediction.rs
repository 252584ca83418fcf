//! Predictors: trained on a query, and run on another.

use std::collections::{HashMap, VecDeque};

use pgrx::prelude::*;
use pgrx::{notice, warning};
use serde_json::{Map, Value, json};

use super::embedding;
use super::{given, raise};
use crate::pg::errors;
use crate::pg::identity::as_role;
use crate::pg::interrupts::Statement;
use crate::pg::json::JsonB;
use crate::pg::row::{Attribute, AttributeValue};
use crate::pg::settings;
use crate::pg::source::Source;
use crate::service::catalog;
use crate::service::catalog::versions;
use crate::service::catalog::{DATA_FILE, NewVersion, ONNX_FILE, Privilege, Stamp, Task};
use crate::service::loaded;
use crate::service::loaded::{Predictor, Ready};
use crate::service::samples::{Rows, embed_texts};
use prediction::{Outcome, Split};
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::options::Options;
use runtime::progress::{Progress, Run, SCAN};
use tabular::{Column, Encoder, EncoderOptions, LabelKind, Labels, Table, most_likely};

/// The default id column. Without it, rows are numbered.
const ID: &str = "id";
const BOOSTING: &str = "boosting";
/// Rows that are predicted at a time, the first time and later: whoever reads a few waits for no more.
const WINDOWS: (usize, usize) = (1_000, 20_000);
/// Probabilities that are held at a time.
const MAX_PROBABILITIES: usize = 1 << 20;

#[pg_extern(sql = false)]
fn train_predictor(
    name: Option<&str>,
    source: Option<&str>,
    label: Option<&str>,
    method: Option<&str>,
    task: Option<&str>,
    options: Option<JsonB>,
    id: Option<&str>,
    weight: Option<&str>,
    fold_by: Option<&str>,
    time: Option<&str>,
    embedding_model: Option<&str>,
    seed: Option<i64>,
    keep: Option<i32>,
) -> errors::Result<i32> {
    catalog::require_writable();
    let keep = versions::kept(keep)?;
    let (name, source, label) = (given(name, "name")?, given(source, "source")?, given(label, "label")?);
    let statement = Statement::new("train_predictor", name);
    let method = given(method, "method")?;
    if method != BOOSTING {
        return Err(Error::UnknownName { what: "method", name: method.into(), known: BOOSTING.into() }.into());
    }
    let kind = kind_of(task)?;
    let seed = given(seed, "seed")? as u64;
    let options = given(options, "options")?.0;
    let options = Options::new(BOOSTING, &options)?;
    catalog::require_author(name)?;
    if fold_by.is_some() && time.is_some() {
        let hint = "Hold out whole groups, or the latest rows.";
        return Err(Error::invalid("fold_by and time exclude each other", hint).into());
    }
    let stamp = || embedding_model.map(|model| catalog::stamp(model, Privilege::Serve)).transpose();
    let version = stamp()?;
    let needed: Vec<&str> = [Some(label), weight, fold_by, time].into_iter().flatten().collect();
    let mut table = Rows::read_unbounded("source", source, id, &needed, &statement)?;
    let id = id.unwrap_or(ID);
    let leave: Vec<&str> = needed.iter().copied().chain([id]).collect();
    let mut embedded = Vec::new();
    if let Some(model) = embedding_model {
        embedded = Encoder::texts(&table, &leave, &EncoderOptions::default());
        embed_texts(&mut table, &embedded, &mut |texts| embedding::embed_texts(model, texts, &statement))?;
    }
    // The source is SQL, which may have changed the model while it was read.
    if stamp()? != version {
        let message =
            format!("model \"{}\" was changed while the source was read", embedding_model.unwrap_or_default());
        return Err(Error::invalid(message, "Try again.").into());
    }
    let labels = Labels::fit(label, column(&table, label)?, kind)?;
    let weights = weight.map(|weight| numbers(&table, weight)).transpose()?;
    let weights: Option<Vec<f32>> = weights.map(|all| all.iter().map(|&x| x as f32).collect());
    let groups = fold_by.map(|fold_by| groups(&table, fold_by)).transpose()?;
    let times = time.map(|time| numbers(&table, time)).transpose()?;
    let split = match (&groups, &times) {
        (Some(groups), _) => Split::Groups(groups),
        (None, Some(times)) => Split::Time(times),
        (None, None) => Split::Rows,
    };
    let trained = prediction::train(
        prediction::Task {
            table: &table,
            label,
            labels,
            leave: &leave,
            weights: weights.as_deref(),
            split,
            seed,
            threads: settings::threads(),
            progress: &statement,
        },
        options,
    )?;
    drop(table);
    trained.notices.iter().for_each(|text| warning!("{text}"));
    let (onnx, data) = trained.model.pack()?;
    let config = json!({
        "label": label,
        "id": id,
        "embedded": embedded,
        "embedding_model": embedding_model.filter(|_| !embedded.is_empty()),
        "embedding_version": version.map(|version| version.version),
        "embedding_created": version.map(|version| version.created),
    });
    let new = NewVersion {
        name,
        refreshes: None,
        task: Task::Prediction,
        algorithm: Some(BOOSTING),
        config: &config,
        source: Some(source),
        metrics: Some(&trained.metadata),
        files: &[(ONNX_FILE, &onnx), (DATA_FILE, &data)],
        shared: &[],
        in_use: true,
    };
    let number = catalog::insert(&new, &statement)?;
    versions::keep(name, keep)?;
    if let Some(found) = trained.metadata["metrics"].as_object() {
        let found: Vec<String> = found.iter().map(|(metric, value)| format!("{metric} {value:.4}")).collect();
        notice!("model \"{name}\" version {number}: on rows that it was not trained on, {}", found.join(", "));
    }
    Ok(number)
}

fn kind_of(task: Option<&str>) -> Result<Option<LabelKind>> {
    match task {
        None => Ok(None),
        Some("classes") => Ok(Some(LabelKind::Classes)),
        Some("numbers") => Ok(Some(LabelKind::Numbers)),
        Some(other) => Err(Error::UnknownName { what: "task", name: other.into(), known: "classes, numbers".into() }),
    }
}

fn column<'a>(table: &'a Table, name: &str) -> Result<&'a Column> {
    let found = || table.columns().map(|(name, ..)| name).collect::<Vec<_>>().join(", ");
    let missing = || Error::MissingColumn { column: name.into(), found: found() };
    table.column(name).map(|(_, column)| column).ok_or_else(missing)
}

/// A column of numbers or times, NaN for NULL.
fn numbers(table: &Table, name: &str) -> Result<Vec<f64>> {
    match column(table, name)? {
        Column::Number(values) => {
            let mut all = Vec::new();
            memory::extend(&mut all, values)?;
            Ok(all)
        }
        _ => Err(Error::invalid(format!("column \"{name}\" has no numbers or times"), "Name a column that has.")),
    }
}

/// A number for each value of a column; NULL is a value.
fn groups(table: &Table, name: &str) -> Result<Vec<u32>> {
    let mut all = Vec::new();
    memory::reserve(&mut all, table.rows())?;
    match column(table, name)? {
        Column::Category { codes, .. } => all.extend(codes),
        Column::Number(values) => {
            let mut known: HashMap<u64, u32> = HashMap::new();
            for value in values {
                let next = known.len() as u32;
                all.push(*known.entry(value.to_bits()).or_insert(next));
            }
        }
        Column::Vector { .. } => {
            let hint = "Name a column of ids, texts or numbers.";
            return Err(Error::invalid(format!("column \"{name}\" has vectors, which are no groups"), hint));
        }
    }
    Ok(all)
}

/// (id, prediction, probability, probabilities) of a row.
type Predicted = (String, String, Option<f64>, Option<JsonB>);

#[pg_extern(sql = false)]
fn predict_query(
    model: Option<&str>,
    source: Option<&str>,
    id: Option<&str>,
) -> errors::Result<TableIterator<'static, (String, String, Option<f64>, Option<JsonB>)>> {
    let (model, source) = (given(model, "model")?.to_owned(), given(source, "source")?);
    let statement = Statement::new("predict_query", &model);
    // The model is looked up before the query runs: a wrong name should not cost a scan.
    let (columns, stamp, most) = with_predictor(&model, &statement, |predictor| {
        let columns: Vec<String> = predictor.model.columns().map(str::to_owned).collect();
        Ok((columns, predictor.entry.stamp, MAX_PROBABILITIES / predictor.model.outputs().max(1)))
    })?;
    let wanted = |name: &str| columns.iter().any(|column| column == name);
    let (source, id_column, attributes) = Source::open_chosen("source", source, id.unwrap_or(ID), &wanted)?;
    if let (Some(id), None) = (id, &id_column) {
        return Err(Error::MissingColumn { column: id.into(), found: source.names() }.into());
    }
    let mut ready: VecDeque<Predicted> = VecDeque::new();
    let (mut done, mut size) = (0, WINDOWS.0.min(most));
    // Dropped at the end of the source: the caller may keep the iterator for longer.
    let mut under_way = Some((source, statement));
    Ok(TableIterator::new(std::iter::from_fn(move || {
        while ready.is_empty() {
            let (source, statement) = under_way.as_mut()?;
            let (ids, table) = raise(read_window(source, id_column.as_ref(), &attributes, done, size, statement));
            size = WINDOWS.1.min(most);
            if ids.is_empty() {
                under_way = None;
                return None;
            }
            done += ids.len();
            ready = raise(predict_window(&model, stamp, ids, table, statement)).into();
            statement.report("rows predicted", done, 0);
        }
        ready.pop_front()
    })))
}

/// The next rows of a source, with their ids.
fn read_window(
    source: &mut Source,
    id: Option<&Attribute>,
    attributes: &[Attribute],
    before: usize,
    size: usize,
    progress: &dyn Progress,
) -> Result<(Vec<String>, Table)> {
    let mut table = Table::new(attributes.iter().map(|a| (a.name.clone(), a.kind)).collect()).unbounded();
    let (mut ids, mut values) = (Vec::new(), Vec::with_capacity(attributes.len()));
    source.fetch(size, |row| {
        // A row may hold texts of many megabytes.
        progress.check()?;
        let number = before + ids.len() + 1;
        let own = match id.map(|id| row.attribute(id)).transpose()? {
            Some(AttributeValue::Category(id)) => id,
            Some(_) => return Err(Error::NullColumn { column: id.map_or("", |id| &id.name).into(), row: number }),
            None => number.to_string(),
        };
        values.clear();
        for attribute in attributes {
            values.push(row.attribute(attribute)?);
        }
        let borrowed: Vec<_> = values.iter().map(AttributeValue::as_value).collect();
        table.push(&borrowed, || format!("row {number}"))?;
        ids.push(own);
        Ok(())
    })?;
    Ok((ids, table))
}

fn predict_window(
    model: &str,
    stamp: Stamp,
    ids: Vec<String>,
    mut table: Table,
    progress: &dyn Progress,
) -> Result<Vec<Predicted>> {
    let began = std::time::Instant::now();
    let predicted = with_predictor(model, progress, |predictor| {
        if predictor.entry.stamp != stamp {
            let message = format!("model \"{model}\" was changed while rows were predicted");
            return Err(Error::invalid(message, "Try again."));
        }
        embed_columns(predictor, &mut table, progress)?;
        let all = predictor.model.predict("the source", &table, settings::threads(), progress)?;
        let row = |(id, outputs): (String, ndarray::ArrayView1<f32>)| match predictor.model.outcome() {
            Outcome::Number => (id, outputs[0].to_string(), None, None),
            Outcome::Classes { names } => {
                let best = most_likely(&outputs.to_vec()) as usize;
                let all: Map<String, Value> =
                    names.iter().zip(outputs).map(|(name, &p)| (name.clone(), f64::from(p).into())).collect();
                (id, names[best].clone(), Some(f64::from(outputs[best])), Some(JsonB(Value::Object(all))))
            }
        };
        let mut predicted: Vec<Predicted> = Vec::new();
        memory::reserve(&mut predicted, ids.len())?;
        for given in ids.into_iter().zip(all.outer_iter()) {
            // There may be a thousand classes.
            progress.check()?;
            predicted.push(row(given));
        }
        Ok(predicted)
    })?;
    progress.ran(&Run { runs: 1, model, provider: SCAN, rows: predicted.len(), tokens: None, took: began.elapsed() });
    Ok(predicted)
}

/// Replaces the texts that the predictor knows as vectors. The model runs in the name of the predictor's owner: whoever may predict needs no
/// privilege on it.
fn embed_columns(predictor: &Predictor, table: &mut Table, progress: &dyn Progress) -> Result<()> {
    let config = &predictor.entry.config;
    let Some(name) = config["embedding_model"].as_str() else { return Ok(()) };
    let columns = config["embedded"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let columns: Vec<String> = columns.map(str::to_owned).collect();
    as_role(predictor.entry.stamp.owner, || {
        let version = catalog::stamp(name, Privilege::Serve)?;
        let is_same = config["embedding_version"] == json!(version.version)
            && config["embedding_created"] == json!(version.created);
        if !is_same {
            let model = &predictor.entry.name;
            let message =
                format!("texts of predictor \"{model}\" were embedded by another version of model \"{name}\"");
            return Err(Error::invalid(message, "Run reco.train_predictor again, or promote that version."));
        }
        embed_texts(table, &columns, &mut |texts| embedding::embed_texts(name, texts, progress))
    })
}

fn with_predictor<T>(name: &str, progress: &dyn Progress, body: impl FnOnce(&Predictor) -> Result<T>) -> Result<T> {
    let ready = loaded::model(name, progress)?;
    match &*ready {
        Ready::Predictor(predictor) => body(predictor),
        other => Err(Error::WrongTask {
            name: name.into(),
            task: other.task().name().into(),
            wanted: Task::Prediction.name().into(),
        }),
    }
}
