//! Rows of features as a source gives them, in memory by columns.

use std::sync::Arc;

use ahash::AHashMap;

use crate::error::{Error, Result};
use crate::interactions::Id;
use crate::memory;

/// What a column of a source holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// A name, a truth value, a code: equal or not.
    Category,
    Number,
    /// Such as the embedding of a text or an image: one length for all rows.
    Vector,
}

/// A row's value in one column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    Null,
    Category(&'a str),
    Number(f64),
    Vector(&'a [f32]),
}

/// Stands for NULL among codes and places.
const NONE: u32 = u32::MAX;

#[derive(Clone, Debug)]
pub(super) enum Column {
    Category {
        /// [rows]: a number in `names`, or [`NONE`].
        codes: Vec<u32>,
        names: Vec<Arc<str>>,
        numbers: AHashMap<Arc<str>, u32>,
    },
    /// [rows]: NaN for NULL.
    Number(Vec<f64>),
    Vector {
        /// 0 before the first vector.
        width: usize,
        /// [rows]: a row of `values`, or [`NONE`].
        places: Vec<u32>,
        /// [vectors, width]
        values: Vec<f32>,
    },
}

impl Column {
    fn new(kind: ColumnKind) -> Self {
        match kind {
            ColumnKind::Category => {
                Self::Category { codes: Vec::new(), names: Vec::new(), numbers: AHashMap::default() }
            }
            ColumnKind::Number => Self::Number(Vec::new()),
            ColumnKind::Vector => Self::Vector { width: 0, places: Vec::new(), values: Vec::new() },
        }
    }

    /// `Err` says what is wrong with the value, and what would be right.
    fn push(&mut self, value: Value) -> Result<std::result::Result<(), (String, String)>> {
        let wrong = |value: String, hint: &str| Ok(Err((value, hint.to_owned())));
        match (self, value) {
            (Self::Category { codes, .. }, Value::Null) => memory::push(codes, NONE)?,
            (Self::Category { codes, names, numbers }, Value::Category(name)) => {
                let code = match numbers.get(name) {
                    Some(&code) => code,
                    None => {
                        let (code, name): (_, Arc<str>) = (names.len() as u32, name.into());
                        memory::push(names, name.clone())?;
                        numbers.insert(name, code);
                        code
                    }
                };
                memory::push(codes, code)?;
            }
            (Self::Number(values), Value::Null) => memory::push(values, f64::NAN)?,
            (Self::Number(values), Value::Number(number)) => {
                if !number.is_finite() {
                    return wrong(number.to_string(), "A feature is a finite number, or NULL where it is not known.");
                }
                memory::push(values, number)?;
            }
            (Self::Vector { places, .. }, Value::Null) => memory::push(places, NONE)?,
            (Self::Vector { width, places, values }, Value::Vector(vector)) => {
                if vector.is_empty() || (*width != 0 && *width != vector.len()) {
                    let hint = "All vectors of a column have one length, above 0; NULL stands for none.";
                    let known = if *width == 0 { String::new() } else { format!(" after others of {width}") };
                    return wrong(format!("a vector of {} dimensions{known}", vector.len()), hint);
                }
                if let Some(bad) = vector.iter().find(|x| !x.is_finite()) {
                    return wrong(format!("a vector with {bad}"), "The numbers of a vector are finite.");
                }
                *width = vector.len();
                memory::push(places, (values.len() / vector.len()) as u32)?;
                memory::extend(values, vector)?;
            }
            (_, value) => return Err(Error::Internal(format!("a column of another kind was given {value:?}"))),
        }
        Ok(Ok(()))
    }

    pub(super) fn kind(&self) -> ColumnKind {
        match self {
            Self::Category { .. } => ColumnKind::Category,
            Self::Number(_) => ColumnKind::Number,
            Self::Vector { .. } => ColumnKind::Vector,
        }
    }

    pub(super) fn get(&self, row: usize) -> Value<'_> {
        match self {
            Self::Category { codes, names, .. } => {
                names.get(codes[row] as usize).map_or(Value::Null, |name| Value::Category(name))
            }
            Self::Number(values) if values[row].is_nan() => Value::Null,
            Self::Number(values) => Value::Number(values[row]),
            Self::Vector { width, places, values } => match places[row] {
                NONE => Value::Null,
                place => Value::Vector(&values[place as usize * width..][..*width]),
            },
        }
    }
}

/// Collects the features of items or of users, a row each.
#[derive(Clone, Debug)]
pub struct FeatureTable {
    names: Vec<String>,
    columns: Vec<Column>,
    ids: Vec<Arc<str>>,
    rows: AHashMap<Arc<str>, u32>,
}

impl FeatureTable {
    pub fn new(columns: Vec<(String, ColumnKind)>) -> Self {
        let (names, columns) = columns.into_iter().map(|(name, kind)| (name, Column::new(kind))).unzip();
        Self { names, columns, ids: Vec::new(), rows: AHashMap::default() }
    }

    /// Takes a row: a value for each column. An id seen before, a number or vector that is not finite, and a vector of
    /// another length than those before are errors; the table is then to be thrown away.
    pub fn push(&mut self, id: Id, values: &[Value]) -> Result<()> {
        if values.len() != self.columns.len() {
            return Err(Error::Internal(format!("{} values for {} columns", values.len(), self.columns.len())));
        }
        let id: Arc<str> = id.to_text().into();
        let row = u32::try_from(self.ids.len()).ok().filter(|&row| row != NONE).ok_or_else(|| Error::TooLarge {
            what: "the source of features".into(),
            needed: "more rows".into(),
            limit: format!("{NONE}"),
            hint: "Give one row for each item or user.".into(),
        })?;
        if self.rows.insert(id.clone(), row).is_some() {
            let hint = "The source of features gives one row for each id: aggregate it, or use SELECT DISTINCT ON.";
            return Err(Error::argument(
                format!("the number of rows with features of \"{id}\""),
                "more than one",
                hint,
            ));
        }
        for ((column, &value), name) in self.columns.iter_mut().zip(values).zip(&self.names) {
            if let Err((value, hint)) = column.push(value)? {
                return Err(Error::argument(format!("column \"{name}\" of \"{id}\""), value, hint));
            }
        }
        memory::push(&mut self.ids, id)
    }

    pub fn rows(&self) -> usize {
        self.ids.len()
    }

    /// Ids in the order of the rows.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.ids.iter().map(|id| &**id)
    }

    pub fn row_of(&self, id: &str) -> Option<usize> {
        self.rows.get(id).map(|&row| row as usize)
    }

    pub(super) fn columns(&self) -> impl Iterator<Item = (&str, &Column)> {
        self.names.iter().map(String::as_str).zip(&self.columns)
    }
}
