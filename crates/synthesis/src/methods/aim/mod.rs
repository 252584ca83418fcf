//! AIM: rows from a model of noisy marginals, with a proven bound on what they reveal about any single row
//! (differential privacy).
//!
//! McKenna, Mullins, Sheldon, Miklau, "AIM: an adaptive and iterative mechanism for differentially private synthetic
//! data", VLDB 2022, on Private-PGM (McKenna, Sheldon, Miklau 2019). Fields are divided into cells ([`domain`]). The
//! pairs of fields that the model approximates worst are measured with noise, one after another ([`select`]). The model
//! is the graphical model that best fits all noisy counts ([`fit`], [`model`], [`tree`]), and rows are drawn along its
//! junction tree ([`sampler`]). Each access to the rows is charged in ρ of zero-concentrated differential privacy
//! ([`privacy`]).
//!
//! **Guarantee.** For tables that differ by one row added or removed, the probabilities of any model differ by a factor
//! of at most exp(ε), except with probability δ. This covers the model, its figures, the names and bounds that it
//! discloses, and every row drawn from it. It assumes that what [`domain`] treats as public is public, and that the key
//! of the noise is secret ([`noise`]).
//!
//! Options: `epsilon` (required), `delta`; `bins`, the maximum of a number; `max_model_size`, MB of the junction tree's
//! tables; `rounds` per field, if none ends early; `iterations` and `last_iterations` of a fit; `prior`, the weight of
//! the uniform distribution in rows; `label_weight`, the relative weight of pairs with the label.
//!
//! Time: O(rows × pairs of fields) for the counts, then O(rounds × (passes × tables + tables × cells)), whatever the
//! number of rows. Memory: the junction tree's tables in f64, at most `max_model_size` MB, some copies of them, and a
//! count for each cell of each pair. One thread, except for the counts and the scores of pairs.

mod domain;
mod fit;
mod graph;
mod model;
mod noise;
mod privacy;
mod sampler;
mod select;
mod steps;
mod tree;

#[cfg(test)]
mod tests;

use serde_json::{Map, json};

use self::domain::Plan;
use self::noise::Noise;
use self::privacy::Ledger;
use self::select::Limits;
use crate::{Field, Generator, Parts, Synthesizer, Task};
use onnx::stored::Files;
use runtime::error::{Error, Result};
use runtime::options::Options;

/// Shares of ρ: for undeclared names and bounds, for bins, and for the counts of single fields.
const DOMAIN: f64 = 0.1;
const BINS: f64 = 0.06;
const ONE_WAY: f64 = 0.12;
/// Share of δ for undeclared names.
const NAMES: f64 = 0.5;

/// `aim`, see the [module](self).
pub struct Aim;

impl Synthesizer for Aim {
    fn name(&self) -> &'static str {
        "aim"
    }

    fn train(&self, task: &Task, options: &mut Options) -> Result<Parts> {
        train(task, options)
    }

    fn open(&self, files: &Files, fields: &[Field]) -> Result<Box<dyn Generator>> {
        sampler::open(files, fields)
    }

    fn is_private(&self) -> bool {
        true
    }
}

/// The privacy budget ε. It is required.
fn epsilon(options: &mut Options) -> Result<f64> {
    let Some(value) = options.given("epsilon") else {
        let hint = "Give the privacy budget, as in {\"epsilon\": 1}: 1 is strong privacy, 10 weak.";
        return Err(Error::invalid("aim needs the option \"epsilon\"", hint));
    };
    options.record("epsilon", value.clone());
    value.as_f64().filter(|x| *x > 0.0 && *x <= 100.0).ok_or_else(|| {
        let hint = "It must be a number above 0, at most 100: 1 is strong privacy, 10 weak.";
        Error::argument("option \"epsilon\"", value, hint)
    })
}

/// An option in full precision: rounded to float32 the privacy could be weaker than what was asked for.
fn exact(options: &mut Options, name: &'static str, default: f64, least: f64, most: f64) -> Result<f64> {
    options.float(name, default, least, most)?;
    Ok(options.given(name).and_then(serde_json::Value::as_f64).unwrap_or(default))
}

fn train(task: &Task, options: &mut Options) -> Result<Parts> {
    let epsilon = epsilon(options)?;
    let delta = exact(options, "delta", 1e-9, 1e-30, 0.1)?;
    let megabytes = exact(options, "max_model_size", 4.0, 0.01, 64.0)?;
    let most_bins = options.integer("bins", 32, 2, 200)? as usize;
    let limits = Limits {
        size: (megabytes * (1 << 20) as f64 / 8.0) as usize,
        rounds: exact(options, "rounds", 16.0, 0.1, 1000.0)?,
        steps: options.integer("iterations", 40, 1, 10_000)? as usize,
        last_steps: options.integer("last_iterations", 400, 1, 100_000)? as usize,
        tau: exact(options, "prior", 200.0, 1e-3, 1e6)?,
        label: exact(options, "label_weight", 5.0, 1.0, 100.0)?,
    };
    if task.fields.is_empty() || task.rows.rows == 0 {
        return Err(Error::EmptySource(String::new()));
    }
    let discovers = task.fields.iter().any(|field| !field.declared);
    let names = if discovers { delta * NAMES } else { 0.0 };
    let rho = privacy::rho_of(epsilon, delta - names);
    let mut ledger = Ledger::new(rho);
    let mut noise = task.secret.map_or_else(|| Noise::of_seed(task.seed), Noise::of_secret);
    let plan = Plan { domain: rho * DOMAIN, bins: rho * BINS, one_way: rho * ONE_WAY, delta: names, most_bins };
    let (columns, released) = domain::prepare(task, &plan, &mut ledger, &mut noise)?;
    let learned = select::learn(task, &columns, &limits, &mut ledger, &mut noise)?;
    let (graph, data) = graph::write(&learned, &columns, task.label)?;
    let name = |field: &usize| task.fields[*field].name.clone();
    let marginals: Vec<Vec<String>> = learned.measured.iter().map(|set| set.iter().map(name).collect()).collect();
    let figures = json!({
        "epsilon": epsilon, "delta": delta, "rho": rho, "rho_spent": ledger.spent(), "spent": ledger.stages(),
        "marginals": marginals, "rounds": learned.rounds, "rows": learned.rows.round(),
        "model_size": learned.model.tree.size(&learned.model.cells) as f64 * 8.0 / (1 << 20) as f64,
        "cells": columns.iter().map(|column| column.cells()).collect::<Vec<_>>(),
    });
    let figures = if let serde_json::Value::Object(figures) = figures { figures } else { Map::new() };
    Ok(Parts { graph, data, figures, released: Some(released) })
}
