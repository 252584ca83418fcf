//! Models as objects: import, export, describe, promote, drop, grant, load, run.

use bytes::Bytes;
use pgrx::datum::Uuid;
use pgrx::prelude::*;
use serde_json::{Map, Value};

use super::given;
use crate::pg::errors;
use crate::pg::interrupts::Statement;
use crate::pg::json::JsonB;
use crate::pg::settings;
use crate::pg::shared::models;
use crate::service::cache_folder::FileEntry;
use crate::service::catalog;
use crate::service::catalog::versions;
use crate::service::catalog::{Entry, NewVersion, ONNX_FILE, Privilege, TOKENIZER_FILE, Task};
use crate::service::loaded;
use crate::service::loaded::{Graph, Ready};
use embedding::text::Role;
use embedding::text_graph::Limits;
use onnx::inspect::Signature;
use onnx::proto::data_type;
use onnx::session::RunMemory;
use onnx::tensor::{MAX_JSON_VALUES, Tensor};
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::progress::{Progress, Run, Trial};

#[pg_extern(sql = false)]
fn import_model(
    name: Option<&str>,
    onnx: Option<&[u8]>,
    task: Option<&str>,
    tokenizer: Option<&[u8]>,
    config: Option<JsonB>,
) -> errors::Result<i32> {
    let (name, onnx) = (given(name, "name")?, given(onnx, "onnx")?);
    catalog::require_writable();
    let size = (onnx.len() + tokenizer.map_or(0, <[u8]>::len)) as u64;
    if size > settings::max_model_size() {
        return Err(Error::TooLarge {
            what: format!("model \"{name}\""),
            needed: format!("{size} bytes"),
            limit: format!("{} bytes", settings::max_model_size()),
            hint: "Ask a superuser to raise reco.max_model_size.".into(),
        }
        .into());
    }
    let task = Task::from_name(given(task, "task")?)?;
    let config = config.map_or_else(|| Value::Object(Map::new()), |c| c.0);
    let made_by = match task {
        Task::Recommendation => Some("reco.train"),
        Task::Synthesis => Some("reco.train_synthesizer"),
        Task::Search => Some("reco.train_search"),
        Task::Prediction => Some("reco.train_predictor"),
        Task::TextEmbedding | Task::ImageEmbedding | Task::TextPair | Task::Predict => None,
    };
    if let Some(made_by) = made_by {
        let hint = format!("Use {made_by}, or import the graph with task 'predict'.");
        return Err(Error::invalid(format!("cannot import a model with task \"{}\"", task.name()), hint).into());
    }
    catalog::require_author(name)?;
    Signature::read(Bytes::copy_from_slice(onnx))?;
    let mut files = vec![(ONNX_FILE, onnx)];
    match (task, tokenizer) {
        (Task::TextEmbedding | Task::TextPair, None) => {
            let message = format!("task \"{}\" requires a tokenizer", task.name());
            return Err(Error::invalid(message, "Pass the contents of the model's tokenizer.json.").into());
        }
        (Task::TextEmbedding | Task::TextPair, Some(tokenizer)) => files.push((TOKENIZER_FILE, tokenizer)),
        (_, Some(_)) => {
            let message = format!("cannot specify a tokenizer for task \"{}\"", task.name());
            return Err(Error::invalid(message, "Omit tokenizer.").into());
        }
        (_, None) => {}
    }
    let statement = Statement::new("import_model", name);
    let new = NewVersion {
        name,
        refreshes: None,
        task,
        algorithm: None,
        config: &config,
        source: None,
        metrics: None,
        files: &files,
        shared: &[],
        in_use: true,
    };
    let version = catalog::insert(&new, &statement)?;
    // A model that cannot be loaded and run here is not kept: the error undoes the insert.
    try_out(&catalog::find(name, Some(version), Privilege::Read)?, &Trial(&statement))?;
    Ok(version)
}

/// Loads the model and, if its inputs are known, runs it once.
fn try_out(entry: &Entry, progress: &dyn Progress) -> Result<()> {
    let limits = |max_batch| Limits { max_batch, threads: 1 };
    match loaded::load(entry, &settings::session_options(), progress)?.0 {
        Ready::Text(model) => model.borrow_mut().embed(&["a"], Role::Passage, limits(1), progress).map(drop),
        Ready::Pair(model) => {
            // Three in a run, and not as many as a pair may have logits: each must get a score of its own.
            let texts = ["a", "a a", "a a a"];
            model.borrow_mut().score("a", &texts, limits(texts.len()), progress).map(drop)
        }
        Ready::Image(model) => {
            let mut model = model.borrow_mut();
            let side = model.config.crop as usize;
            model.embed_pixels(vec![0.0; 3 * side * side], progress).map(drop)
        }
        Ready::Recommender(_) | Ready::Synthesizer(_) | Ready::Search(_) | Ready::Predictor(_) | Ready::Graph(_) => {
            Ok(())
        }
    }
}

#[pg_extern(sql = false)]
fn export_model(name: Option<&str>, version: Option<i32>) -> errors::Result<Vec<u8>> {
    Ok(onnx_bytes(&catalog::find(given(name, "name")?, version, Privilege::Read)?, "export_model")?)
}

/// The ONNX file of a version. `asked_by` is the SQL function, for progress.
fn onnx_bytes(entry: &Entry, asked_by: &'static str) -> Result<Vec<u8>> {
    let file = file(entry, ONNX_FILE)?;
    let mut bytes = Vec::new();
    catalog::read_file(entry, file, &Statement::new(asked_by, &entry.name), |part| memory::extend(&mut bytes, part))?;
    Ok(bytes)
}

fn file<'a>(entry: &'a Entry, name: &str) -> Result<&'a FileEntry> {
    entry.files.iter().find(|f| f.name == name).ok_or_else(|| catalog::damaged(entry, format!("{name} is missing")))
}

/// kind, name, type, value
type Fact = (String, String, Option<String>, String);

/// Metadata longer than this many bytes, such as the item ids of a recommender, is cut in descriptions.
const SHOWN: usize = 200;

#[pg_extern(sql = false)]
fn describe_model(
    name: Option<&str>,
    version: Option<i32>,
) -> errors::Result<TableIterator<'static, (String, String, Option<String>, String)>> {
    let entry = catalog::find(given(name, "name")?, version, Privilege::Serve)?;
    let signature = Signature::read(onnx_bytes(&entry, "describe_model")?.into())?;
    let mut rows: Vec<Fact> = Vec::new();
    for (kind, ports) in [("input", &signature.inputs), ("output", &signature.outputs)] {
        for port in ports {
            let element_type = onnx::type_name(port.element_type).to_owned();
            rows.push((kind.into(), port.name.clone(), Some(element_type), format!("[{}]", port.describe_shape())));
        }
    }
    let mut property = |name: &str, value: String| rows.push(("property".into(), name.into(), None, value));
    property("task", entry.task.name().into());
    property("version", entry.stamp.version.to_string());
    if let Some(algorithm) = &entry.algorithm {
        property("algorithm", algorithm.clone());
    }
    property("parameters", signature.parameters.to_string());
    property("opset", signature.opset.to_string());
    property("producer", signature.producer.clone());
    for file in &entry.files {
        property(&file.name, format!("{} bytes, SHA-256 {}", file.size, file.sha256));
    }
    // What the model was trained on requires the privilege read.
    if !entry.readable {
        return Ok(TableIterator::new(rows));
    }
    property("config", entry.config.to_string());
    for (key, value) in &signature.metadata {
        let cut = value.char_indices().nth(SHOWN).map_or(value.len(), |(i, _)| i);
        let shown =
            if cut < value.len() { format!("{}… ({} bytes)", &value[..cut], value.len()) } else { value.clone() };
        rows.push(("metadata".into(), key.clone(), None, shown));
    }
    Ok(TableIterator::new(rows))
}

#[pg_extern(sql = false)]
fn promote_model(name: &str, version: i32) -> errors::Result<()> {
    Ok(catalog::promote(name, version)?)
}

#[pg_extern(sql = false)]
fn drop_model(name: Option<&str>, version: Option<i32>) -> errors::Result<()> {
    let name = given(name, "name")?;
    let files = catalog::drop(name, version)?;
    if version.is_none() {
        models::forget(name);
    }
    versions::remove_at_commit(&files)?;
    loaded::unload(name);
    Ok(())
}

#[pg_extern(sql = false)]
fn prune_versions(name: Option<&str>, keep: Option<i32>) -> errors::Result<SetOfIterator<'static, i32>> {
    let (name, keep) = (given(name, "name")?, given(keep, "keep")?);
    if keep < 1 {
        return Err(Error::argument("keep", keep, "The number of versions to keep must be 1 or more.").into());
    }
    Ok(SetOfIterator::new(versions::prune(name, keep)?))
}

#[pg_extern(sql = false)]
fn grant_model(name: &str, role: &str, privilege: &str) -> errors::Result<()> {
    Ok(catalog::grant(name, catalog::role(role)?, Privilege::from_name(privilege)?)?)
}

#[pg_extern(sql = false)]
fn revoke_model(name: &str, role: &str, privilege: &str) -> errors::Result<()> {
    Ok(catalog::revoke(name, catalog::role(role)?, Privilege::from_name(privilege)?)?)
}

#[pg_extern(sql = false)]
fn model_name(id: Uuid) -> errors::Result<String> {
    Ok(catalog::name_of(id)?)
}

#[pg_extern(sql = false)]
fn warm(name: &str) -> errors::Result<()> {
    loaded::model(name, &Statement::new("warm", name))?;
    Ok(())
}

#[pg_extern(sql = false)]
fn unload(name: &str) -> bool {
    loaded::unload(name)
}

#[pg_extern(sql = false)]
fn predict(model: &str, inputs: JsonB) -> errors::Result<JsonB> {
    let statement = Statement::new("predict", model);
    let ready = loaded::graph(model, &statement)?;
    let Ready::Graph(graph) = &*ready else {
        return Err(Error::Internal("the model is not loaded as a graph".into()).into());
    };
    Ok(JsonB(run_graph(model, &mut graph.borrow_mut(), &inputs.0, &statement)?))
}

/// Runs a graph on `{"input": nested arrays, …}` and returns `{"output": nested arrays, …}`.
fn run_graph(model: &str, graph: &mut Graph, inputs: &Value, progress: &dyn Progress) -> Result<Value> {
    let takes = graph.signature.inputs.iter().map(|p| format!("\"{}\" {}", p.name, p.describe())).collect::<Vec<_>>();
    let hint = format!("The inputs of the model are {}.", takes.join(", "));
    let wrong = |input: &str, problem: String| Error::ModelInput {
        model: model.into(),
        input: input.into(),
        problem,
        hint: hint.clone(),
    };
    let Some(given) = inputs.as_object() else {
        return Err(Error::invalid("inputs must be a JSON object", hint));
    };
    if let Some(unknown) = given.keys().find(|k| graph.signature.input(k).is_none()) {
        return Err(wrong(unknown, "does not exist".into()));
    }
    let mut tensors = Vec::new();
    for port in &graph.signature.inputs {
        progress.check()?;
        let value = given.get(&port.name).ok_or_else(|| wrong(&port.name, "is missing".into()))?;
        let tensor = Tensor::from_json(value, port.element_type).map_err(|problem| wrong(&port.name, problem))?;
        if !port.accepts(tensor.shape()) {
            let problem = format!("has shape {:?}, expected [{}]", tensor.shape(), port.describe_shape());
            return Err(wrong(&port.name, problem));
        }
        tensors.push((port.name.as_str(), tensor));
    }
    let shown =
        [data_type::FLOAT, data_type::DOUBLE, data_type::INT32, data_type::INT64, data_type::BOOL, data_type::STRING];
    let wanted: Vec<&str> =
        graph.signature.outputs.iter().filter(|o| shown.contains(&o.element_type)).map(|o| o.name.as_str()).collect();
    // The first dimension of an input is that of its rows.
    let rows = tensors.first().and_then(|(_, tensor)| tensor.shape().first()).map_or(1, |&rows| rows);
    let (outputs, took) = graph.runner.run(tensors, &wanted, RunMemory::GiveBack, progress)?;
    progress.ran(&Run {
        runs: 1,
        model: graph.runner.model(),
        provider: graph.runner.provider().name(),
        rows,
        tokens: None,
        took,
    });
    let mut shown = Map::new();
    for (&name, tensor) in wanted.iter().zip(outputs) {
        progress.check()?;
        if tensor.len() > MAX_JSON_VALUES {
            return Err(Error::TooLarge {
                what: format!("output \"{name}\" of model \"{model}\""),
                needed: format!("{} values", tensor.len()),
                limit: format!("{MAX_JSON_VALUES} values"),
                hint: "Pass fewer rows at once.".into(),
            });
        }
        shown.insert(name.to_owned(), tensor.to_json());
    }
    Ok(shown.into())
}
