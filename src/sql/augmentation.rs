//! `reco.augment`: new rows from existing ones, without training.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use pgrx::prelude::*;
use pgrx::{AnyElement, pg_sys};
use serde_json::Value;

use super::synthesis::{Maker, Rows, Step, read};
use super::{given, row_count};
use crate::pg::interrupts::Statement;
use crate::pg::json::JsonB;
use crate::pg::{errors, settings};
use crate::service::synthesis_source::Pseudonyms;
use runtime::error::{Error, Result};
use runtime::options::Options;
use synthesis::augment;
use synthesis::augment::{Augmenter, balanced_counts};
use synthesis::conditions::Conditions;
use synthesis::sampler::Sampler;
use synthesis::schema::Learned;
use synthesis::{Draw, Frame, Generator, Part, RunGraph, Task, Values};

#[pg_extern(sql = false)]
fn augment(
    source: Option<&str>,
    method: Option<&str>,
    n: Option<i64>,
    label: Option<&str>,
    balance: Option<bool>,
    options: Option<JsonB>,
    seed: Option<i64>,
) -> errors::Result<SetOfIterator<'static, AnyElement>> {
    Ok(rows(source, method, n, label, balance, options, seed)?.into_json()?)
}

#[pg_extern(sql = false)]
fn augment_typed(
    _target: Option<AnyElement>,
    source: Option<&str>,
    method: Option<&str>,
    n: Option<i64>,
    label: Option<&str>,
    balance: Option<bool>,
    options: Option<JsonB>,
    seed: Option<i64>,
    call: pg_sys::FunctionCallInfo,
) -> errors::Result<SetOfIterator<'static, AnyElement>> {
    Ok(rows(source, method, n, label, balance, options, seed)?.into_typed(call)?)
}

/// Generates rows of one class at a time.
struct OfClass {
    augmenter: RefCell<Augmenter>,
    class: Rc<Cell<Option<u32>>>,
}

impl Generator for OfClass {
    fn sample(&self, draw: &Draw, _graph: &mut RunGraph) -> Result<Frame> {
        self.augmenter.borrow_mut().block(self.class.get(), draw.rows, draw.seed, draw.progress)
    }
}

fn rows(
    source: Option<&str>,
    method: Option<&str>,
    n: Option<i64>,
    label: Option<&str>,
    balance: Option<bool>,
    options: Option<JsonB>,
    seed: Option<i64>,
) -> Result<Rows> {
    let source = given(source, "source")?;
    let method = augment::by_name(given(method, "method")?)?;
    let seed = given(seed, "seed")? as u64;
    let statement = Statement::new("augment", "");
    let options = options.map_or(Value::Null, |options| options.0);
    let mut options = Options::new(method.name(), &options)?;
    let (learned, _) = read("source", source, false, &mut options, &Pseudonyms::new()?, &statement)?;
    let Learned { schema, frame, unique, .. } = learned;
    let label = match label {
        None => None,
        Some(name) => {
            let column = schema.column(name).ok_or_else(|| Error::MissingColumn {
                column: name.into(),
                found: schema.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", "),
            })?;
            let hint = "New values are generated for this column. Choose a column that the rows are classified by.";
            Some(
                schema
                    .field_of(column)
                    .ok_or_else(|| Error::invalid(format!("column \"{name}\" cannot be the label"), hint))?,
            )
        }
    };
    let counts = counts(n, given(balance, "balance")?, label, &frame)?;
    let frame = Rc::new(frame);
    let task = Task {
        fields: &schema.fields,
        rows: &frame,
        label,
        seed,
        secret: None,
        threads: settings::threads(),
        progress: &statement,
    };
    let augmenter = RefCell::new(Augmenter::new(&task, frame.clone(), method, &mut options)?);
    options.finish()?;
    let class = Rc::new(Cell::new(None));
    let generator = Box::new(OfClass { augmenter, class: class.clone() });
    let part = Part::new(schema, generator, unique, &statement)?;
    let (mut steps, mut before) = (VecDeque::new(), 0);
    for (of, wanted) in counts {
        let class = class.clone();
        let sampler =
            Sampler::new(&part, wanted, Conditions::default(), seed ^ u64::from(of.unwrap_or(0))).after(before);
        steps.push_back(Step { sampler, prepare: Box::new(move || class.set(of)) });
        before += wanted;
    }
    Ok(Rows::new("the source", Maker::Own(Box::new(part)), steps, statement))
}

/// The number of rows to generate for each class; a class of `None` stands for all.
fn counts(n: Option<i64>, balance: bool, label: Option<usize>, frame: &Frame) -> Result<Vec<(Option<u32>, u64)>> {
    match (n, balance) {
        (Some(n), false) => Ok(vec![(None, row_count(n)?)]),
        (None, false) => {
            Err(Error::invalid("argument \"n\" must not be null", "Pass the number of rows, or balance => true."))
        }
        (Some(_), true) => Err(Error::invalid(
            "cannot specify both \"n\" and \"balance\"",
            "With balance => true the number of rows follows from the classes of the label. Omit n.",
        )),
        (None, true) => match label.map(|label| &frame.columns[label]) {
            Some(Values::Codes(codes)) => {
                Ok(balanced_counts(codes).into_iter().map(|(class, rows)| (Some(class), rows as u64)).collect())
            }
            Some(_) => {
                Err(Error::invalid("cannot balance a label of numbers", "Cast numbers that are classes to text."))
            }
            None => Err(Error::invalid(
                "argument \"label\" must not be null",
                "With balance => true the label names the column of classes to balance.",
            )),
        },
    }
}
