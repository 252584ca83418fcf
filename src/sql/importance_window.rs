//! Scores and weights as window functions, and aggregates of scores and losses.

use pgrx::prelude::*;
use pgrx::{Internal, pg_sys};
use serde_json::Value as Json;

use crate::pg::arrays::vector;
use crate::pg::interrupts::Statement;
use crate::pg::window::Partition;
use crate::pg::{aggregate, errors, settings};
use importance::statistics::{LossStatistics, ScoreHistogram, Summary};
use importance::weights::{Weighting, weights};
use importance::{Method, Task};
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::options::Options;
use runtime::progress::Progress;
use tabular::{ColumnKind, Encoder, EncoderOptions, Labels, Samples, Table, Value};

/// Rows read between two checks for cancel requests.
const CHECK_EVERY: usize = 1024;

/// The type of the label. PostgreSQL has chosen the declaration.
#[derive(Clone, Copy)]
enum Label {
    Text,
    Number,
    Truth,
}

#[pg_extern(sql = false)]
fn importance_of_text(fcinfo: pg_sys::FunctionCallInfo) -> errors::Result<Option<f64>> {
    Ok(Partition::of(fcinfo)?.result(|partition| scores(partition, Label::Text))?)
}

#[pg_extern(sql = false)]
fn importance_of_number(fcinfo: pg_sys::FunctionCallInfo) -> errors::Result<Option<f64>> {
    Ok(Partition::of(fcinfo)?.result(|partition| scores(partition, Label::Number))?)
}

#[pg_extern(sql = false)]
fn importance_of_truth(fcinfo: pg_sys::FunctionCallInfo) -> errors::Result<Option<f64>> {
    Ok(Partition::of(fcinfo)?.result(|partition| scores(partition, Label::Truth))?)
}

/// A score for each row of a partition; NaN for rows without features or label, which do not affect the scores of others.
fn scores(partition: &Partition, label: Label) -> Result<Vec<f64>> {
    let method = partition.first([2], |[method]| Method::from_name(super::given(method, "method")?.text()?))?;
    if method.needs_validation() {
        let name = method.name();
        let hint =
            format!("It needs validation rows: use reco.importance('SELECT …', '{name}', validation => 'SELECT …').");
        return Err(Error::invalid(format!("method \"{name}\" cannot be used as a window function"), hint));
    }
    let statement = Statement::new("importance", "");
    let (table, known) = read(partition, label, &statement)?;
    let mut scores = memory::filled(f64::NAN, partition.rows())?;
    if known.is_empty() {
        return Ok(scores);
    }
    let encoder = Encoder::fit(&table, &["label"], &EncoderOptions::default(), &statement)?;
    let (_, column) = table.column("label").ok_or_else(|| Error::Internal("the label column is missing".into()))?;
    let samples =
        Samples { labels: Labels::fit("label", column, None)?, features: encoder.encode(&table, &statement)? };
    drop(table);
    let task =
        Task { samples: &samples, validation: None, seed: 0, threads: settings::threads(), progress: &statement };
    let mut options = Options::new(method.name(), &Json::Null)?;
    let computed = importance::score(&[method], &task, &mut options)?.into_iter().next().unwrap_or_default();
    for (row, score) in known.into_iter().zip(computed) {
        scores[row as usize] = score;
    }
    Ok(scores)
}

/// The rows that have features and a label, and their positions in the partition.
fn read(partition: &Partition, label: Label, progress: &dyn Progress) -> Result<(Table, Vec<u32>)> {
    let kind = match label {
        Label::Number => ColumnKind::Number,
        Label::Text | Label::Truth => ColumnKind::Category,
    };
    let mut table = Table::new(vec![("features".into(), ColumnKind::Vector), ("label".into(), kind)]);
    let mut known = Vec::new();
    partition.each(|row, [features, given]| {
        if row % CHECK_EVERY == 0 {
            progress.check()?;
        }
        let (Some(features), Some(given)) = (features, given) else { return Ok(()) };
        let number = || format!("row {} of the partition", row + 1);
        let features = features.reals()?;
        let given = match label {
            Label::Text => Value::Category(given.text()?),
            Label::Number => Value::Number(given.number()?),
            Label::Truth => Value::Category(if given.boolean()? { "true" } else { "false" }),
        };
        table.push(&[Value::Vector(vector(&features, format_args!("features of row {}", row + 1))?), given], number)?;
        memory::push(&mut known, row as u32)
    })?;
    Ok((table, known))
}

#[pg_extern(sql = false)]
fn importance_weights(fcinfo: pg_sys::FunctionCallInfo) -> errors::Result<Option<f32>> {
    let weight = Partition::of(fcinfo)?.result(|partition| {
        let (how, fraction) = partition.first([1, 2], |[method, fraction]| {
            let how = Weighting::from_name(super::given(method, "method")?.text()?)?;
            Ok((how, super::given(fraction, "fraction")?.number()?))
        })?;
        let statement = Statement::new("importance_weights", "");
        let mut scores = memory::filled(f64::NAN, partition.rows())?;
        partition.each(|row, [score]| {
            if row % CHECK_EVERY == 0 {
                statement.check()?;
            }
            if let Some(score) = score {
                scores[row] = score.number()?;
            }
            Ok(())
        })?;
        let weights = weights(&scores, how, fraction, &statement)?;
        scores.iter_mut().zip(weights).for_each(|(to, weight)| *to = weight.into());
        Ok(scores)
    })?;
    Ok(weight.map(|weight| weight as f32))
}

#[pg_extern(sql = false)]
fn loss_stats_accum(state: Internal, loss: Option<f64>, fcinfo: pg_sys::FunctionCallInfo) -> errors::Result<Internal> {
    Ok(aggregate::update(state, fcinfo, LossStatistics::default, |all| {
        // As with avg: NULL counts for nothing.
        loss.map_or(Ok(()), |loss| all.add(loss))
    })?)
}

#[pg_extern(sql = false)]
fn loss_stats_combine(state: Internal, other: Internal, fcinfo: pg_sys::FunctionCallInfo) -> errors::Result<Internal> {
    Ok(aggregate::update(state, fcinfo, LossStatistics::default, |all| {
        if let Some(other) = aggregate::read(&other) {
            all.merge(other);
        }
        Ok(())
    })?)
}

#[pg_extern(sql = false)]
fn loss_stats_serialize(state: Internal) -> Vec<u8> {
    aggregate::read(&state).map(LossStatistics::serialize).unwrap_or_else(|| LossStatistics::default().serialize())
}

#[pg_extern(sql = false)]
fn loss_stats_deserialize(
    bytes: &[u8],
    _internal: Internal,
    fcinfo: pg_sys::FunctionCallInfo,
) -> errors::Result<Internal> {
    Ok(aggregate::adopt(fcinfo, LossStatistics::deserialize(bytes)?)?)
}

/// Returns a `reco.loss_summary`. It has no Rust type: the datum is passed as is.
#[pg_extern(sql = false)]
fn loss_stats_final(state: Internal, fcinfo: pg_sys::FunctionCallInfo) -> errors::Result<Internal> {
    let all = aggregate::read::<LossStatistics>(&state);
    let count = all.map_or(0, LossStatistics::count) as i64;
    let summary = all.and_then(LossStatistics::summary);
    let number = |of: fn(&Summary) -> f64| summary.as_ref().and_then(|summary| of(summary).into_datum());
    let columns =
        [count.into_datum(), number(|s| s.mean), number(|s| s.deviation), number(|s| s.least), number(|s| s.most)];
    Ok(Internal::from(Some(crate::pg::arrays::row(fcinfo, columns)?)))
}

#[pg_extern(sql = false)]
fn importance_histogram_accum(
    state: Internal,
    score: Option<f64>,
    low: Option<f64>,
    high: Option<f64>,
    buckets: Option<i32>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> errors::Result<Internal> {
    Ok(aggregate::update(state, fcinfo, ScoreHistogram::default, |all| {
        let (low, high) = (super::given(low, "low")?, super::given(high, "high")?);
        all.set(low, high, super::given(buckets, "buckets")?)?;
        score.map_or(Ok(()), |score| all.add(score))
    })?)
}

#[pg_extern(sql = false)]
fn importance_histogram_accum_of_ten(
    state: Internal,
    score: Option<f64>,
    low: Option<f64>,
    high: Option<f64>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> errors::Result<Internal> {
    importance_histogram_accum(state, score, low, high, Some(10), fcinfo)
}

#[pg_extern(sql = false)]
fn importance_histogram_combine(
    state: Internal,
    other: Internal,
    fcinfo: pg_sys::FunctionCallInfo,
) -> errors::Result<Internal> {
    Ok(aggregate::update(state, fcinfo, ScoreHistogram::default, |all| {
        aggregate::read(&other).map_or(Ok(()), |other: &ScoreHistogram| all.merge(other))
    })?)
}

#[pg_extern(sql = false)]
fn importance_histogram_serialize(state: Internal) -> Vec<u8> {
    aggregate::read(&state).map(ScoreHistogram::serialize).unwrap_or_else(|| ScoreHistogram::default().serialize())
}

#[pg_extern(sql = false)]
fn importance_histogram_deserialize(
    bytes: &[u8],
    _internal: Internal,
    fcinfo: pg_sys::FunctionCallInfo,
) -> errors::Result<Internal> {
    Ok(aggregate::adopt(fcinfo, ScoreHistogram::deserialize(bytes)?)?)
}

#[pg_extern(sql = false)]
fn importance_histogram_final(state: Internal) -> Option<Vec<i64>> {
    let counts = aggregate::read(&state).and_then(ScoreHistogram::counts)?;
    Some(counts.iter().map(|&count| count as i64).collect())
}
