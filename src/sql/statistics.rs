//! The functions behind the views `reco.stat_models`, `reco.stat_workers` and `reco.stat_progress`.

use std::time::Duration;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;

use crate::pg::errors;
use crate::pg::shared::{models, progress, workers};
use crate::service::catalog;
use runtime::error::{Error, Result};

#[pg_extern(sql = false)]
fn stat_models() -> errors::Result<
    TableIterator<
        'static,
        (String, String, i64, f64, i64, i64, Option<i64>, Option<f64>, Option<f64>, i64, TimestampWithTimeZone),
    >,
> {
    let counts = models::read()?;
    let visible = catalog::with_visible_statistics()?;
    let rows = counts.into_iter().filter(|counts| visible.contains(&counts.model)).map(|counts| {
        let mean = (counts.runs > 0).then(|| milliseconds(counts.run_time) / counts.runs as f64);
        Ok((
            counts.model,
            counts.provider,
            counts.loads as i64,
            milliseconds(counts.load_time),
            counts.runs as i64,
            counts.rows as i64,
            (counts.tokens > 0).then_some(counts.tokens as i64),
            mean,
            counts.p99.map(milliseconds),
            counts.bytes as i64,
            time(counts.since)?,
        ))
    });
    Ok(TableIterator::new(rows.collect::<Result<Vec<_>>>()?))
}

#[pg_extern(sql = false)]
fn stat_progress() -> errors::Result<
    TableIterator<
        'static,
        (i32, pg_sys::Oid, pg_sys::Oid, String, Option<String>, String, i64, Option<i64>, TimestampWithTimeZone),
    >,
> {
    let rows = progress::read()?.into_iter().map(|row| {
        let model = Some(row.model.as_str()).filter(|model| !model.is_empty());
        Ok((
            row.pid,
            row.database,
            row.user,
            row.function.as_str().to_owned(),
            model.map(str::to_owned),
            row.phase.as_str().to_owned(),
            row.done as i64,
            (row.total > 0).then_some(row.total as i64),
            time(row.started)?,
        ))
    });
    Ok(TableIterator::new(rows.collect::<Result<Vec<_>>>()?))
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn stat_workers() -> errors::Result<
    TableIterator<
        'static,
        (
            i32,
            &'static str,
            Option<i32>,
            Option<i32>,
            Option<TimestampWithTimeZone>,
            i64,
            i32,
            i64,
            i64,
            i64,
            i64,
            i64,
            i64,
            i64,
            i64,
            i64,
            Option<f64>,
            i64,
            Option<f64>,
            f64,
        ),
    >,
> {
    // SAFETY: a plain read of the clock.
    let now = unsafe { pg_sys::GetCurrentTimestamp() };
    let rows = workers::statistics()?.into_iter().map(|row| {
        let started = if row.starts > 0 { Some(time(row.started)?) } else { None };
        let up = Duration::from_micros((now - row.started).max(1) as u64) * row.lanes.max(1);
        Ok((
            row.worker as i32,
            if row.worker == workers::CPU { "cpu" } else { "cuda" },
            (row.worker != workers::CPU).then(|| row.worker as i32 - 1),
            (row.pid != 0).then_some(row.pid),
            started,
            row.starts.saturating_sub(1) as i64,
            row.lanes as i32,
            row.models as i64,
            row.bytes as i64,
            row.requests as i64,
            row.waiting as i64,
            row.running as i64,
            row.failed as i64,
            row.withdrawn as i64,
            row.runs as i64,
            row.rows as i64,
            (row.runs > 0).then(|| row.rows as f64 / row.runs as f64),
            row.max_batch as i64,
            (row.requests > 0).then(|| milliseconds(row.waited) / row.requests as f64),
            (row.busy.as_secs_f64() / up.as_secs_f64()).min(1.0),
        ))
    });
    Ok(TableIterator::new(rows.collect::<Result<Vec<_>>>()?))
}

#[pg_extern(sql = false)]
fn reset_stat_models(model: Option<&str>) -> errors::Result<i64> {
    Ok(models::reset(model)? as i64)
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn time(microseconds: i64) -> Result<TimestampWithTimeZone> {
    TimestampWithTimeZone::try_from(microseconds)
        .map_err(|_| Error::Internal(format!("timestamp out of range: {microseconds} µs since 2000")))
}
