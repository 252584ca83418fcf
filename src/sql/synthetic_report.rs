//! Reports on synthetic rows, and their alignment with real rows.

use pgrx::prelude::*;
use serde_json::Value;

use super::given;
use crate::pg::interrupts::Statement;
use crate::pg::json::JsonB;
use crate::pg::{errors, settings};
use crate::service::samples::Rows;
use runtime::error::Result;
use runtime::options::Options;
use runtime::pool::with_pool;
use runtime::progress::Progress;
use synthesis::{align, report};

/// The real and the synthetic rows.
struct Both {
    real: Rows,
    synthetic: Rows,
}

impl Both {
    fn read(real: Option<&str>, synthetic: Option<&str>, progress: &dyn Progress) -> Result<Self> {
        Ok(Self {
            real: Rows::read_anonymous("real_source", given(real, "real_source")?, progress)?,
            synthetic: Rows::read_anonymous("synthetic_source", given(synthetic, "synthetic_source")?, progress)?,
        })
    }
}

#[pg_extern(sql = false)]
fn synthetic_report(
    real_source: Option<&str>,
    synthetic_source: Option<&str>,
    holdout: Option<&str>,
    label: Option<&str>,
    options: Option<JsonB>,
    seed: Option<i64>,
) -> errors::Result<JsonB> {
    Ok(JsonB(make("synthetic_report", real_source, synthetic_source, holdout, label, options, seed)?))
}

#[pg_extern(sql = false)]
fn synthetic_report_html(
    real_source: Option<&str>,
    synthetic_source: Option<&str>,
    holdout: Option<&str>,
    label: Option<&str>,
    options: Option<JsonB>,
    seed: Option<i64>,
) -> errors::Result<String> {
    Ok(report::html(&make("synthetic_report_html", real_source, synthetic_source, holdout, label, options, seed)?))
}

fn make(
    function: &'static str,
    real_source: Option<&str>,
    synthetic_source: Option<&str>,
    holdout: Option<&str>,
    label: Option<&str>,
    options: Option<JsonB>,
    seed: Option<i64>,
) -> Result<Value> {
    let statement = Statement::new(function, "");
    let seed = given(seed, "seed")? as u64;
    let options = options.map_or(Value::Null, |options| options.0);
    let mut options = Options::new("synthetic_report", &options)?;
    let both = Both::read(real_source, synthetic_source, &statement)?;
    let holdout = holdout.map(|query| Rows::read_anonymous("holdout", query, &statement)).transpose()?;
    let holdout = holdout.as_ref().map(|rows| &rows.table);
    let threads = settings::threads();
    let (real, synthetic) = (&both.real.table, &both.synthetic.table);
    let report = with_pool(threads, |_| {
        report::report(real, synthetic, holdout, label, &mut options, seed, threads, &statement)
    })?;
    options.finish()?;
    Ok(report)
}

#[pg_extern(sql = false)]
fn alignment_weights(
    real_source: Option<&str>,
    synthetic_source: Option<&str>,
    id: Option<&str>,
    options: Option<JsonB>,
    seed: Option<i64>,
) -> errors::Result<TableIterator<'static, (String, f64)>> {
    let (ids, weights) =
        weigh(&Statement::new("alignment_weights", ""), real_source, synthetic_source, id, options, seed)?;
    Ok(TableIterator::new(ids.into_iter().zip(weights).collect::<Vec<_>>()))
}

#[pg_extern(sql = false)]
fn resample_aligned(
    real_source: Option<&str>,
    synthetic_source: Option<&str>,
    n: Option<i64>,
    id: Option<&str>,
    options: Option<JsonB>,
    seed: Option<i64>,
) -> errors::Result<TableIterator<'static, (i64, String)>> {
    let n = super::row_count(given(n, "n")?)?;
    let statement = Statement::new("resample_aligned", "");
    let (ids, weights) = weigh(&statement, real_source, synthetic_source, id, options, seed)?;
    let drawn = align::resample(&weights, n as usize, given(seed, "seed")? as u64, &statement)?;
    let rows = (1..).zip(drawn).map(move |(ordinal, row)| (ordinal, ids[row as usize].clone()));
    Ok(TableIterator::new(rows))
}

fn weigh(
    statement: &Statement,
    real_source: Option<&str>,
    synthetic_source: Option<&str>,
    id: Option<&str>,
    options: Option<JsonB>,
    seed: Option<i64>,
) -> Result<(Vec<String>, Vec<f64>)> {
    let seed = given(seed, "seed")? as u64;
    let options = options.map_or(Value::Null, |options| options.0);
    let mut options = Options::new(statement.function(), &options)?;
    let real = Rows::read_anonymous("real_source", given(real_source, "real_source")?, statement)?;
    let synthetic =
        Rows::read_compared("synthetic_source", given(synthetic_source, "synthetic_source")?, id, statement)?;
    let threads = settings::threads();
    let weights =
        with_pool(threads, |_| align::weights(&real.table, &synthetic.table, seed, threads, statement, &mut options))?;
    options.finish()?;
    Ok((synthetic.ids, weights))
}
