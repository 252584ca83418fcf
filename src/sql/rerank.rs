//! Texts ranked by a cross-encoder, which reads a query and a text together.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::rc::Rc;

use pgrx::prelude::*;

use super::embedding::wrong_task;
use crate::pg::errors;
use crate::pg::interrupts::Statement;
use crate::pg::settings;
use crate::service::catalog::Task;
use crate::service::loaded;
use crate::service::loaded::Ready;
use embedding::CrossEncoder;
use embedding::text_graph::Limits;
use runtime::error::{Error, Result};
use runtime::progress::{Part, Progress};

/// Texts of a call. A cross-encoder is run for each; on one processor, a small one takes about a minute for so many.
const MAX_TEXTS: usize = 10_000;

#[pg_extern(sql = false)]
fn rerank(
    query: &str,
    texts: Array<&str>,
    model: &str,
) -> errors::Result<TableIterator<'static, (i32, i64, Option<f32>)>> {
    let statement = Statement::new("rerank", model);
    require_few(texts.len())?;
    let texts: Vec<Option<&str>> = texts.iter().collect();
    let present: Vec<&str> = texts.iter().flatten().copied().collect();
    let mut scores = rerank_texts(model, query, &present, &statement)?.into_iter();
    let mut rows: Vec<(i64, Option<f32>)> =
        (1..).zip(&texts).map(|(ordinal, text)| (ordinal, text.and_then(|_| scores.next()))).collect();
    // NULL texts last. The sort is stable: ties stay in the order of the array.
    rows.sort_by(|(_, left), (_, right)| match (left, right) {
        (Some(left), Some(right)) => right.partial_cmp(left).unwrap_or(Ordering::Equal),
        _ => right.is_some().cmp(&left.is_some()),
    });
    Ok(TableIterator::new((1..).zip(rows).map(|(rank, (ordinal, score))| (rank, ordinal, score))))
}

/// The score of `query` with each of `texts`, in their order, by a cross-encoder of the catalog: the greater, the more relevant. An error if the
/// caller does not have the privilege serve on it, or for more than [`MAX_TEXTS`].
pub(super) fn rerank_texts(model: &str, query: &str, texts: &[&str], progress: &dyn Progress) -> Result<Vec<f32>> {
    require_few(texts.len())?;
    with_cross_encoder(model, progress, |encoder| {
        let part = Part { whole: progress, phase: "texts scored", before: 0, total: texts.len() };
        let limits = Limits { max_batch: settings::max_batch(), threads: settings::threads() };
        encoder.borrow_mut().score(query, texts, limits, &part)
    })
}

fn require_few(texts: usize) -> Result<()> {
    if texts > MAX_TEXTS {
        return Err(Error::TooLarge {
            what: "argument \"texts\"".into(),
            needed: format!("{texts} elements"),
            limit: MAX_TEXTS.to_string(),
            hint: "Pass only the best texts of a search.".into(),
        });
    }
    Ok(())
}

fn with_cross_encoder<T>(
    name: &str,
    progress: &dyn Progress,
    body: impl FnOnce(&RefCell<CrossEncoder>) -> Result<T>,
) -> Result<T> {
    let ready: Rc<Ready> = loaded::model(name, progress)?;
    match &*ready {
        Ready::Pair(model) => body(model),
        other => Err(wrong_task(name, other, Task::TextPair)),
    }
}
