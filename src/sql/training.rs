//! Training a recommender from a query.

use std::time::Instant;

use pgrx::prelude::*;
use pgrx::{JsonB, Spi};
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::interactions::InteractionsBuilder;
use crate::pg::catalog::{self, DATA_FILE, NewVersion, ONNX_FILE, Task};
use crate::pg::errors;
use crate::pg::interrupts::Statement;
use crate::pg::settings;
use crate::pg::source::{Kind, Source, Wanted, optional, required};
use crate::progress::Progress;
use crate::recommendation::{self, Algorithm, Training};

/// Rows fetched from the source at a time: their memory is given back in between.
pub const FETCH: usize = 10_000;

/// What an interaction is made of, for training and for evaluation alike.
pub const INTERACTION: [Wanted; 4] = [
    required("user_id", Kind::Id),
    required("item_id", Kind::Id),
    optional("weight", Kind::Number),
    optional("ts", Kind::Time),
];

#[pg_extern(sql = false)]
fn train(name: &str, source: &str, algorithm: &str, options: JsonB, seed: i64) -> errors::Result<i32> {
    let start = Instant::now();
    catalog::require_writable();
    let statement = Statement::new("train", name);
    let algorithm = Algorithm::from_name(algorithm)?;
    let mut options = match options.0 {
        Value::Object(options) => options,
        Value::Null => Map::new(),
        other => return Err(Error::argument("options", other, "Give a JSON object, as in '{\"factors\": 64}'.").into()),
    };
    if algorithm.is_stochastic() {
        // Any bigint is a seed.
        options.entry("seed").or_insert((seed as u64).into());
    }

    let mut rows = Source::open(source, &INTERACTION)?;
    let config = json!({
        "search_path": search_path()?,
        "user_id_type": rows.id_type(0).name(),
        "item_id_type": rows.id_type(1).name(),
        "has_weight": rows.has(2),
    });
    let mut builder = InteractionsBuilder::new();
    loop {
        let (has_weight, has_time) = (rows.has(2), rows.has(3));
        let fetched = rows.fetch(FETCH, |row| {
            let weight = if has_weight { row.number(2)? } else { 1.0 };
            builder.push(row.id(0)?, row.id(1)?, weight as f32, has_time.then(|| row.time(3)))
        })?;
        if fetched == 0 {
            break;
        }
        statement.check()?;
        statement.report("rows read from the source", builder.rows(), 0);
    }
    rows.close()?;

    let interactions = builder.finish_watched(&statement)?;
    let read = start.elapsed().as_secs_f64();
    let training = Training {
        interactions: &interactions,
        item_features: None,
        user_features: None,
        previous: None,
        threads: settings::threads(),
        progress: &statement,
    };
    let mut trained = recommendation::train(&training, algorithm, &Value::Object(options))?;
    drop(interactions);
    trained.metadata["seconds"]["read"] = read.into();
    let new = NewVersion {
        name,
        task: Task::Recommendation,
        algorithm: Some(algorithm.name()),
        config: &config,
        source: Some(source),
        metrics: Some(&trained.metadata),
        files: &[(ONNX_FILE, &trained.onnx), (DATA_FILE, &trained.data)],
    };
    Ok(catalog::insert(&new, &statement)?)
}

/// The schemas in which the source's names were found, with the temporary one last: there anybody could put a table in
/// front of another's.
fn search_path() -> Result<String> {
    let path: Option<String> = Spi::get_one(
        "SELECT pg_catalog.string_agg(pg_catalog.quote_ident(name), ', ')
           FROM pg_catalog.unnest(pg_catalog.current_schemas(true)) AS name WHERE name !~~ 'pg_temp%'",
    )?;
    Ok(format!("{}, pg_temp", path.unwrap_or_else(|| "pg_catalog".into())))
}
