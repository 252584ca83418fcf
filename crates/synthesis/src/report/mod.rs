//! The report on synthetic rows: real and synthetic rows compared by columns, by pairs of columns, by what a learner
//! can learn from them, and by distances to single real rows.
//!
//! | section | contents | module |
//! |---|---|---|
//! | `quality` | shapes of columns, trends of pairs, coverage and boundaries, as in SDMetrics 0.32 | [`shapes`], [`pairs`] |
//! | `efficacy` | a label learned from synthetic rows, evaluated on real ones | [`models`] |
//! | `two_sample_test` | how well real and synthetic rows can be told apart | [`models`] |
//! | `copies` | synthetic rows that equal a real one | [`copies`] |
//! | `distance_to_closest_record`, `membership_attack` | distances to real rows | [`privacy`] |
//!
//! Copies of the real rows score best on quality, so read it together with the copies, the two-sample test and the
//! attack. No figure proves privacy.

mod columns;
mod copies;
mod distance;
mod distribution;
mod html;
mod models;
mod pairs;
mod privacy;
mod sample;
mod shapes;

use serde_json::{Map, Value, json};

use kernels::statistics::mean;
use runtime::draw::mix;
use runtime::error::{Error, Result};
use runtime::jobs::jobs;
use runtime::options::Options;
use runtime::progress::Progress;
use tabular::{ColumnKind, LabelKind, NONE, Table};

use columns::{Compared, HOLDOUT, REAL, SYNTHETIC, Tables, Values};
use models::ModelOptions;
use pairs::{PairOptions, Trend};
use shapes::Shape;

pub use html::html;

/// A greater share of copies gives a warning if there is no holdout to compare with.
const COPIES: f64 = 0.01;
/// Standard errors above the holdout's rate that give a warning.
const FAR: f64 = 3.0;
/// A greater AUC gives a warning: real and synthetic rows are easily told apart.
const TOLD_APART: f64 = 0.9;
/// Maximum number of warnings of one kind.
const MAX_WARNINGS: usize = 10;
/// Minimum number of rows to detect an identifier.
const IDENTIFIER_ROWS: usize = 20;

const PRIVACY_NOTE: &str = "No figure of this report proves that rows are private. Distances, copies and the membership attack can show \
    that rows leak what was learned from; that they show nothing does not mean that nothing leaks. A bound on what can leak is given \
    only by training with epsilon.";

/// Compares `synthetic` with `real`, which it was learned from, and with `holdout`, real rows that it was not learned
/// from. All have the same columns; `label` is the one to predict. Options: `max_rows` (2000: rows whose nearest
/// neighbours are searched), `pair_rows` (50,000: sample for contingencies), `correlation_threshold` (0.5) and
/// `association_threshold` (0.3) of the pairs that are scored, `model_rows` (100,000: rows of each table that models
/// are trained on), `rounds` (100: of boosting), `task` of the label (`auto`, `classification`, `regression`),
/// `leave_out` (columns that are not compared, such as identifiers).
pub fn report(
    real: &Table,
    synthetic: &Table,
    holdout: Option<&Table>,
    label: Option<&str>,
    options: &mut Options,
    seed: u64,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Value> {
    let max_rows = options.integer("max_rows", 2000, 1, 1 << 20)? as usize;
    // Single precision knows no 0.3.
    let exact = |x: f32| (f64::from(x) * 1e6).round() / 1e6;
    let pair_options = PairOptions {
        correlation_threshold: exact(options.float("correlation_threshold", 0.5, 0.0, 1.0)?),
        association_threshold: exact(options.float("association_threshold", 0.3, 0.0, 1.0)?),
        rows: options.integer("pair_rows", 50_000, 1, u32::MAX.into())? as usize,
    };
    let rows = options.integer("model_rows", 100_000, 1, 1 << 24)? as usize;
    let given = options.given("rounds").is_some();
    let rounds = options.integer("rounds", 100, 1, 10_000)? as usize;
    let model_options = ModelOptions { rows, rounds: given.then_some(rounds) };
    let tasks =
        [("auto", None), ("classification", Some(LabelKind::Classes)), ("regression", Some(LabelKind::Numbers))];
    let task = options.choice("task", &tasks)?;
    let leave_out = names(options)?;

    let tables = Tables::match_columns(real, synthetic, holdout, &leave_out)?;
    if let Some(label) = label {
        if real.column(label).is_none() {
            let found = real.columns().map(|(name, ..)| name).collect::<Vec<_>>().join(", ");
            return Err(Error::MissingColumn { column: label.into(), found });
        }
        if tables.vectors.contains(&label) {
            let message = format!("label \"{label}\" is a column of vectors");
            return Err(Error::invalid(
                message,
                "Name a column of classes (text, boolean, enum, integer) or of numbers.",
            ));
        }
    }
    let mut warnings = Vec::new();
    let columns = &tables.columns;
    let n = columns.len();
    let shapes = jobs(n, threads, progress, ("columns", n), |signal, c| {
        let shape = shapes::shape(&columns[c], signal)?;
        Ok((shape, distribution::distribution(&columns[c], signal)?))
    })?;
    let (shapes, distributions): (Vec<Shape>, Vec<Value>) = shapes.into_iter().unzip();
    let trends = pairs::trends(&tables, &shapes, &pair_options, mix(seed ^ 1), threads, progress)?;
    warn_of_columns(&tables, &shapes, &mut warnings);

    let copies = copies::copies(&tables, threads, progress)?;
    let copies = of_copies(&copies, &tables, &mut warnings);
    let near = privacy::privacy(&tables, max_rows, mix(seed ^ 2), threads, progress)?;
    warnings.extend(near.warnings);
    // Vectors are no part of what models see either.
    let unseen: Vec<&str> = leave_out.iter().chain(&tables.vectors).copied().collect();
    let two_sample = models::two_sample((real, synthetic), &unseen, &model_options, mix(seed ^ 3), threads, progress)?;
    if let Some(auc) = two_sample["auc"].as_f64().filter(|auc| *auc > TOLD_APART) {
        warnings.push(format!("real and synthetic rows are easily told apart: AUC {auc:.3} of the two-sample test"));
    }
    let efficacy = match label {
        Some(label) => {
            let of = (real, synthetic, holdout);
            models::efficacy(of, (label, task), &unseen, &model_options, mix(seed ^ 4), threads, progress)?
        }
        None => Value::Null,
    };
    if efficacy["augmenting_raises_f1"] == false && efficacy["unbalanced"] == true {
        warnings.push("adding these synthetic rows to the real ones does not raise F1 of the unbalanced label".into());
    }
    if !tables.vectors.is_empty() {
        warnings.push(format!("columns of vectors are not compared: {}", tables.vectors.join(", ")));
    }
    Ok(json!({
        "rows": {"real": tables.rows[REAL], "synthetic": tables.rows[SYNTHETIC],
                 "holdout": holdout.map(|_| tables.rows[HOLDOUT])},
        "columns": n,
        "warnings": warnings,
        "quality": quality(&tables, &shapes, distributions, &trends),
        "efficacy": efficacy,
        "two_sample_test": two_sample,
        "copies": copies,
        "distance_to_closest_record": near.distance,
        "membership_attack": near.membership,
        "privacy_note": PRIVACY_NOTE,
    }))
}

fn names<'a>(options: &mut Options<'a>) -> Result<Vec<&'a str>> {
    let given = options.given("leave_out");
    options.record("leave_out", given.cloned().unwrap_or_else(|| json!([])));
    let Some(given) = given else { return Ok(Vec::new()) };
    let names = given.as_array().and_then(|names| names.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
    names.ok_or_else(|| Error::argument("option \"leave_out\"", given, "It must be an array of column names."))
}

fn quality(tables: &Tables, shapes: &[Shape], distributions: Vec<Value>, trends: &[Trend]) -> Value {
    let of_shapes = mean(shapes.iter().filter_map(|shape| shape.similarity));
    let of_trends = mean(trends.iter().filter_map(|trend| trend.score));
    let name = |c: usize| tables.columns[c].name;
    let each: Vec<Value> = tables
        .columns
        .iter()
        .zip(shapes)
        .zip(distributions)
        .map(|((column, shape), distribution)| {
            let [similarity, coverage, adherence] = if column.is_continuous() {
                ["KSComplement", "RangeCoverage", "BoundaryAdherence"]
            } else {
                ["TVComplement", "CategoryCoverage", "CategoryAdherence"]
            };
            json!({
                "column": column.name, "kind": kind(column),
                "shape": {"metric": similarity, "score": shape.similarity},
                "coverage": {"metric": coverage, "score": shape.coverage},
                "boundary": {"metric": adherence, "score": shape.adherence},
                "nulls": {"real": shape.nulls[0], "synthetic": shape.nulls[1]},
                "distribution": distribution,
            })
        })
        .collect();
    let pairs: Vec<Value> = trends
        .iter()
        .map(|trend| {
            let mut pair = json!({"columns": [name(trend.columns.0), name(trend.columns.1)], "metric": trend.metric, "score": trend.score});
            let figures = if trend.metric == "CorrelationSimilarity" {
                vec![("real_correlation", trend.real), ("synthetic_correlation", trend.synthetic)]
            } else {
                vec![("real_association", trend.real)]
            };
            figures.into_iter().for_each(|(key, value)| pair[key] = value.into());
            pair
        })
        .collect();
    json!({
        "score": mean([of_shapes, of_trends].into_iter().flatten()),
        "column_shapes": of_shapes,
        "column_pair_trends": of_trends,
        "coverage": mean(shapes.iter().filter_map(|shape| shape.coverage)),
        "boundary": mean(shapes.iter().filter_map(|shape| shape.adherence)),
        "columns": each,
        "pairs": pairs,
    })
}

fn kind(column: &Compared) -> &'static str {
    match column.kind {
        ColumnKind::Category => "category",
        ColumnKind::Number => "number",
        ColumnKind::Integer => "integer",
        ColumnKind::Time => "time",
        ColumnKind::Vector => "vector",
    }
}

fn warn_of_columns(tables: &Tables, shapes: &[Shape], warnings: &mut Vec<String>) {
    let mut found = [Vec::new(), Vec::new(), Vec::new()];
    for (column, shape) in tables.columns.iter().zip(shapes) {
        let name = format!("\"{}\"", column.name);
        if let Values::Codes { of, .. } = &column.values {
            // The codes of the real rows are numbered as they come: the last is the greatest where all differ.
            let last = of[REAL].iter().rev().find(|&&code| code != NONE);
            if of[REAL].len() >= IDENTIFIER_ROWS && last.is_some_and(|&last| last as usize + 1 == of[REAL].len()) {
                found[0].push(name.clone());
            }
        }
        if shape.constant[1] && !shape.constant[0] {
            found[1].push(name.clone());
        }
        if (shape.nulls[0] - shape.nulls[1]).abs() > 0.05 {
            let [real, synthetic] = shape.nulls.map(|share| 100.0 * share);
            found[2].push(format!("{name} ({real:.1} % of the real rows, {synthetic:.1} % of the synthetic ones)"));
        }
    }
    let texts = [
        "columns with another value in every real row, as an identifier has: name them in leave_out",
        "columns that vary in the real rows and are constant in the synthetic ones",
        "columns whose share of NULL differs",
    ];
    for (text, names) in texts.into_iter().zip(found).filter(|(_, names)| !names.is_empty()) {
        let more = names.len().saturating_sub(MAX_WARNINGS);
        let names = names.into_iter().take(MAX_WARNINGS).collect::<Vec<_>>().join(", ");
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        warnings.push(format!("{text}: {names}{more}"));
    }
}

fn of_copies(copies: &copies::Copies, tables: &Tables, warnings: &mut Vec<String>) -> Value {
    let share = |count: usize, table: usize| count as f64 / tables.rows[table].max(1) as f64;
    let found = share(copies.synthetic, SYNTHETIC);
    let repeated = share(copies.real, REAL);
    let natural = copies.holdout.map(|count| share(count, HOLDOUT));
    let warning = match natural {
        Some(natural) => {
            // Two shares that chance alone would let differ so much hardly ever.
            let [n, m] = [tables.rows[SYNTHETIC], tables.rows[HOLDOUT]].map(|rows| rows as f64);
            let both = (found * n + natural * m) / (n + m);
            let error = (both * (1.0 - both) * (1.0 / n + 1.0 / m)).sqrt();
            (found - natural > FAR * error).then(|| {
                format!(
                    "{:.2} % of the synthetic rows are copies of real ones; of real rows that were not learned from it is {:.2} %",
                    100.0 * found,
                    100.0 * natural
                )
            })
        }
        None => (found > COPIES.max(repeated)).then(|| {
            format!(
                "{:.2} % of the synthetic rows are copies of real ones; {:.2} % of the real rows are there more than once",
                100.0 * found,
                100.0 * repeated
            )
        }),
    };
    warnings.extend(warning.clone());
    let mut out = Map::new();
    out.insert("rows".into(), copies.synthetic.into());
    out.insert("share".into(), found.into());
    out.insert("natural_share".into(), natural.into());
    out.insert("real_rows_repeated".into(), repeated.into());
    out.insert("warning".into(), warning.into());
    Value::Object(out)
}

#[cfg(test)]
mod tests;
