//! Sequential trees: each column is drawn from a leaf of a tree on the columns before it (Reiter 2005, "Using CART to
//! generate partially synthetic, public use microdata"; Nowok, Raab, Dibben 2016, "synthpop", JSS 74(11)).
//!
//! p(x₁, …, x_d) = p(x₁) Π p(x_k | x₁ … x_{k−1}). The first column is drawn from its own distribution. For each later
//! one a classification or regression tree is grown on the real rows; the values in its leaves are donors, of which one
//! is drawn.
//!
//! Options:
//! - `min_leaf` (100): minimum number of rows of a leaf. Fewer follow the rows more closely, and reveal more about
//!   each.
//! - `smoothing` (true): a number is drawn between its donor and the next one of the leaf, at most half-way, so that it
//!   is rarely a number of the source. Columns with up to 50 distinct numbers are not smoothed.
//! - `shared` (10): numbers that at least so many rows have are not smoothed: prices, steps of a scale. If fewer than
//!   half of the rows share their number with that many others, only numbers of 1 % of the rows and more are exempt.
//! - `first`: names of fields that come before all others, in that order. They can then be given, and the others are
//!   drawn conditional on them. After them comes the label, then the others by number of distinct values.
//!
//! NULL is a value of its own; as a predictor it is below all others. A given category that did not occur follows the
//! majority of the rows at every split.
//!
//! Cost of training: O(rows · fields² · depth) time, a tree a thread; 10 bytes a row and field. Drawing a row costs the
//! depths of the trees. The model holds 4 bytes a row and field, and 8 a distinct number.

mod column;
mod graph;
mod grow;
mod sample;
mod settings;
mod split;
mod stored;
mod target;
mod tree;

use serde_json::Map;

use crate::{Field, Generator, Parts, Synthesizer, Task};
use column::{Column, Distinct};
use grow::{Predictor, grow};
use onnx::stored::Files;
use runtime::error::{Error, Result};
use runtime::jobs::jobs;
use runtime::options::Options;
use settings::Settings;
use stored::store;
use target::Target;
use tree::Tree;

/// `cart`, see the [module](self).
pub struct Cart;

impl Synthesizer for Cart {
    fn name(&self) -> &'static str {
        "cart"
    }

    fn train(&self, task: &Task, options: &mut Options) -> Result<Parts> {
        train(task, options)
    }

    fn open(&self, files: &Files, fields: &[Field]) -> Result<Box<dyn Generator>> {
        sample::open(files, fields)
    }

    fn draws_donors(&self) -> bool {
        true
    }
}

/// Grows a tree for each column.
fn train(task: &Task, options: &mut Options) -> Result<Parts> {
    let settings = Settings::read(task.fields, options)?;
    let (order, columns, trees) = learn(task, &settings)?;

    let mut figures = Map::new();
    let names: Vec<&str> = order.iter().map(|&field| task.fields[field].name.as_str()).collect();
    figures.insert("order".into(), names.into());
    let leaves: Vec<usize> = trees.iter().map(|tree| tree.starts.len() - 1).collect();
    figures.insert("leaves".into(), leaves.into());
    let graph = graph::build(&order, &columns, &trees, task.progress)?;
    let data = store(&order, columns, trees);
    Ok(Parts { graph, data, figures, released: None })
}

/// Returns the order of the fields, and columns and trees in that order.
fn learn(task: &Task, settings: &Settings) -> Result<(Vec<usize>, Vec<Column>, Vec<Tree>)> {
    let (fields, rows) = (task.fields, task.rows.rows);
    if rows == 0 {
        return Err(Error::EmptySource(String::new()));
    }
    let all = fields.len();
    let learned = jobs(all, task.threads, task.progress, ("columns", all), |signal, field| {
        let column = Column::learn(&fields[field], &task.rows.columns[field], settings, signal)?;
        signal.finished(1);
        Ok(column)
    })?;
    let order = order(&learned, settings, task.label);
    let lead = jobs(1, 1, task.progress, ("codes", all), |signal, _| match order.first() {
        Some(&field) => Target::lead(&learned[field], signal),
        None => Ok(Vec::new()),
    })?;
    let lead = lead.into_iter().flatten().collect::<Vec<f32>>();
    let learned: Vec<_> = learned.into_iter().map(|column| std::sync::Mutex::new(Some(column))).collect();
    let columns = jobs(all, task.threads, task.progress, ("codes", all), |signal, place| {
        let field = order[place];
        let taken = learned[field].lock().ok().and_then(|mut column| column.take());
        let mut column = taken.ok_or_else(|| Error::Internal("a column was learned twice".into()))?;
        column.encode(&fields[field], &lead, signal)?;
        signal.finished(1);
        Ok(column)
    })?;
    let predictors: Vec<Predictor> = columns
        .iter()
        .map(|column| Predictor { codes: &column.codes, ordered: matches!(column.distinct, Distinct::Numbers(_)) })
        .collect();
    // The last has the most predictors: it begins first.
    let mut trees = jobs(all, task.threads, task.progress, ("trees", all * rows), |signal, job| {
        let place = all - 1 - job;
        let column = &columns[place];
        if place == 0 {
            return Tree::trunk(column.places.clone());
        }
        let target = Target::new(column, signal)?;
        grow(column, &target, &predictors[..place], settings.min_leaf, signal)
    })?;
    trees.reverse();
    Ok((order, columns, trees))
}

/// The order of fields: those that come first, the label, the others by number of distinct values.
fn order(columns: &[Column], settings: &Settings, label: Option<usize>) -> Vec<usize> {
    let mut order = settings.first.clone();
    order.extend(label.filter(|label| !settings.first.contains(label)));
    let mut rest: Vec<usize> = (0..columns.len()).filter(|field| !order.contains(field)).collect();
    rest.sort_by_key(|&field| columns[field].distinct.len());
    order.extend(rest);
    order
}

#[cfg(test)]
mod evaluator;
#[cfg(test)]
mod tests;
