//! Texts and images to vectors.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use ndarray::Array2;
use pgrx::prelude::*;

use super::{given, raise};
use crate::pg::arrays::warn_of_list;
use crate::pg::errors;
use crate::pg::interrupts::Statement;
use crate::pg::row::{Kind, Row, required};
use crate::pg::settings;
use crate::pg::source::Source;
use crate::service::catalog::Task;
use crate::service::loaded;
use crate::service::loaded::Ready;
use embedding::text::Role;
use embedding::text_graph::Limits;
use embedding::{ImageEmbedder, TextEmbedder};
use interactions::Id;
use kernels::matrix::flat;
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::progress::{Part, Progress};

/// Texts that are sorted by length together; equal texts run once. A window is about a thousand batches and 60 MB of vectors.
const WINDOW: usize = 32_768;
/// The first window of a source is smaller, so that a client that reads only the beginning does not wait for a full one.
const FIRST_WINDOW: usize = 1024;

/// Images that are read at a time. They may have 128 MB each.
const IMAGES: usize = 64;

#[pg_extern(sql = false)]
fn embed(text: Option<&str>, model: Option<&str>, input: Option<&str>) -> errors::Result<Option<Vec<f32>>> {
    let Some(text) = text else { return Ok(None) };
    warn_of_list("embed", text);
    let model = model_name(model);
    let statement = Statement::new("embed", &model);
    let vectors = with_text_model(&model, &statement, |m| run(m, &[text], role(input)?, &statement))?;
    Ok(vectors.outer_iter().next().map(|vector| vector.to_vec()))
}

#[pg_extern(sql = false)]
fn embed_array(
    texts: Option<Array<&str>>,
    model: Option<&str>,
    input: Option<&str>,
) -> errors::Result<TableIterator<'static, (i64, Option<Vec<f32>>)>> {
    let texts: Vec<Option<&str>> = texts.iter().flat_map(Array::iter).collect();
    let present: Vec<&str> = texts.iter().flatten().copied().collect();
    let role = role(input)?;
    let model = model_name(model);
    let statement = Statement::new("embed", &model);
    let vectors = with_text_model(&model, &statement, |m| run(m, &present, role, &statement))?;
    let mut rows = 0..vectors.nrows();
    // A NULL text keeps its place and has no vector.
    let present: Vec<bool> = texts.iter().map(Option::is_some).collect();
    Ok(TableIterator::new((1..).zip(present).map(move |(ordinal, there)| {
        (ordinal, if there { rows.next().map(|row| vectors.row(row).to_vec()) } else { None })
    })))
}

#[pg_extern(sql = false)]
fn embed_query(
    source: Option<&str>,
    model: Option<&str>,
    input: Option<&str>,
) -> errors::Result<TableIterator<'static, (String, Option<Vec<f32>>)>> {
    let source = given(source, "source")?;
    let model = model_name(model);
    let role = role(input)?;
    // The model is looked up before the query runs: a wrong name should not cost a scan.
    let statement = Statement::new("embed_query", &model);
    with_text_model(&model, &statement, |_| Ok(()))?;
    let source = Source::open(source, &[required("id", Kind::Id), required("text", Kind::Text)])?;
    let read = |row: &Row| Ok(row.text(1)?.map(str::to_owned));
    let embed = move |texts: &[(&str, String)], progress: &dyn Progress| {
        let texts: Vec<&str> = texts.iter().map(|(_, text)| text.as_str()).collect();
        let vectors = with_text_model(&model, progress, |m| run(m, &texts, role, progress))?;
        Ok(vectors.outer_iter().map(|vector| vector.to_vec()).collect())
    };
    Ok(embedded(source, statement, (FIRST_WINDOW, WINDOW), read, embed))
}

/// The rows of a source with their vectors, in windows of `sizes`, the first and the others, as long as the caller reads. `read` gives what a
/// row has besides its id, `None` for NULL, which has no vector; `embed` gives a vector for each.
fn embedded<T: 'static>(
    source: Source,
    statement: Statement,
    sizes: (usize, usize),
    read: impl Fn(&Row) -> Result<Option<T>> + 'static,
    embed: impl Fn(&[(&str, T)], &dyn Progress) -> Result<Vec<Vec<f32>>> + 'static,
) -> TableIterator<'static, (String, Option<Vec<f32>>)> {
    let mut ready: VecDeque<(String, Option<Vec<f32>>)> = VecDeque::new();
    let (mut done, mut size) = (0, sizes.0);
    statement.report("rows embedded", done, 0);
    // Dropped at the end of the source: the caller may keep the iterator for longer.
    let mut under_way = Some((source, statement));
    TableIterator::new(std::iter::from_fn(move || {
        while ready.is_empty() {
            let (source, statement) = under_way.as_mut()?;
            let (mut ids, mut values) = (Vec::new(), Vec::new());
            let fetched = raise(source.fetch(size, |row| {
                // A row may be an image of many megabytes.
                statement.check()?;
                ids.push(row.id(0).map(Id::to_text)?);
                values.push(read(row)?);
                Ok(())
            }));
            size = sizes.1;
            if fetched == 0 {
                under_way = None;
                return None;
            }
            let window = Part { whole: &*statement, phase: "rows embedded", before: done, total: 0 };
            let there: Vec<bool> = values.iter().map(Option::is_some).collect();
            let present = ids.iter().zip(values).filter_map(|(id, value)| Some((id.as_str(), value?)));
            let mut vectors = raise(embed(&present.collect::<Vec<_>>(), &window)).into_iter();
            ready =
                ids.into_iter().zip(there).map(|(id, there)| (id, there.then(|| vectors.next()).flatten())).collect();
            done += fetched;
            statement.report("rows embedded", done, 0);
        }
        ready.pop_front()
    }))
}

#[pg_extern(sql = false)]
fn embed_image(image: Option<&[u8]>, model: Option<&str>) -> errors::Result<Option<Vec<f32>>> {
    let Some(image) = image else { return Ok(None) };
    let name = model.map_or_else(settings::image_model, str::to_owned);
    let statement = Statement::new("embed_image", &name);
    Ok(Some(with_image_model(&name, &statement, |model| model.borrow_mut().embed(image, &statement))?))
}

#[pg_extern(sql = false)]
fn embed_images(
    source: Option<&str>,
    model: Option<&str>,
) -> errors::Result<TableIterator<'static, (String, Option<Vec<f32>>)>> {
    let source = given(source, "source")?;
    let name = model.map_or_else(settings::image_model, str::to_owned);
    let statement = Statement::new("embed_images", &name);
    with_image_model(&name, &statement, |_| Ok(()))?;
    let source = Source::open(source, &[required("id", Kind::Id), required("image", Kind::Bytes)])?;
    let read = |row: &Row| row.bytes(1)?.map(copied).transpose();
    let embed = move |images: &[(&str, Vec<u8>)], progress: &dyn Progress| {
        let images: Vec<(&str, &[u8])> = images.iter().map(|(id, image)| (*id, image.as_slice())).collect();
        with_image_model(&name, progress, |model| model.borrow_mut().embed_all(&images, settings::threads(), progress))
    };
    Ok(embedded(source, statement, (IMAGES, IMAGES), read, embed))
}

fn copied(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut copy = Vec::new();
    memory::extend(&mut copy, bytes)?;
    Ok(copy)
}

fn with_image_model<T>(
    name: &str,
    progress: &dyn Progress,
    body: impl FnOnce(&RefCell<ImageEmbedder>) -> Result<T>,
) -> Result<T> {
    let ready: Rc<Ready> = loaded::model(name, progress)?;
    match &*ready {
        Ready::Image(model) => body(model),
        other => Err(wrong_task(name, other, Task::ImageEmbedding)),
    }
}

fn model_name(model: Option<&str>) -> String {
    model.map_or_else(settings::embedding_model, str::to_owned)
}

fn role(input: Option<&str>) -> Result<Role> {
    match input {
        None | Some("passage") => Ok(Role::Passage),
        Some("query") => Ok(Role::Query),
        Some(other) => Err(Error::argument("input", format!("\"{other}\""), "Valid values are 'passage' and 'query'.")),
    }
}

fn with_text_model<T>(
    name: &str,
    progress: &dyn Progress,
    body: impl FnOnce(&RefCell<TextEmbedder>) -> Result<T>,
) -> Result<T> {
    let ready: Rc<Ready> = loaded::model(name, progress)?;
    match &*ready {
        Ready::Text(model) => body(model),
        other => Err(wrong_task(name, other, Task::TextEmbedding)),
    }
}

/// A vector for each text [texts, dimensions], from a model of the catalog.
pub(super) fn embed_texts(name: &str, texts: &[&str], progress: &dyn Progress) -> Result<Array2<f32>> {
    embed_as(name, texts, Role::Passage, progress)
}

/// The same for queries or passages.
pub(super) fn embed_as(name: &str, texts: &[&str], role: Role, progress: &dyn Progress) -> Result<Array2<f32>> {
    with_text_model(name, progress, |model| run(model, texts, role, progress))
}

fn run(model: &RefCell<TextEmbedder>, texts: &[&str], role: Role, progress: &dyn Progress) -> Result<Array2<f32>> {
    let (mut all, mut done, mut dimensions) = (Vec::new(), 0, 0);
    for window in texts.chunks(WINDOW) {
        let part = Part { whole: progress, phase: "texts embedded", before: done, total: texts.len() };
        let mut model = model.borrow_mut();
        let limits = Limits { max_batch: settings::max_batch(), threads: settings::threads() };
        let vectors = model.embed(window, role, limits, &part)?;
        if window.len() == texts.len() {
            return Ok(vectors);
        }
        (done, dimensions) = (done + window.len(), vectors.ncols());
        memory::extend(&mut all, flat(vectors.view()))?;
    }
    memory::shaped(texts.len(), dimensions, all)
}

pub(super) fn wrong_task(name: &str, found: &Ready, wanted: Task) -> Error {
    Error::WrongTask { name: name.into(), task: found.task().name().into(), wanted: wanted.name().into() }
}
