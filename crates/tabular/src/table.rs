//! Rows of a source in memory, by columns.

use std::sync::Arc;

use ahash::AHashMap;

use runtime::error::{Error, Result};
use runtime::memory;

/// The kind of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// A name, a boolean, a code: values that are only compared for equality.
    Category,
    Number,
    /// A whole number.
    Integer,
    /// Days since 2000.
    Time,
    /// Such as an embedding of a text or an image. All rows have the same length.
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

/// Marks NULL among codes and places.
pub const NONE: u32 = u32::MAX;

#[derive(Clone, Debug)]
pub enum Column {
    Category {
        /// [rows]: an index into `names`, or [`NONE`].
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
    pub fn new(kind: ColumnKind) -> Self {
        match kind {
            ColumnKind::Category => {
                Self::Category { codes: Vec::new(), names: Vec::new(), numbers: AHashMap::default() }
            }
            ColumnKind::Number | ColumnKind::Integer | ColumnKind::Time => Self::Number(Vec::new()),
            ColumnKind::Vector => Self::Vector { width: 0, places: Vec::new(), values: Vec::new() },
        }
    }

    /// Appends a value. `name` is what the column and the row are called in errors.
    fn push(&mut self, value: Value, unbounded: bool, name: impl FnOnce() -> String) -> Result<()> {
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
                if !number.is_finite() && !unbounded {
                    let hint = "Give a finite number, or NULL where it is unknown.";
                    return Err(Error::argument(name(), number, hint));
                }
                memory::push(values, number)?;
            }
            (Self::Vector { places, .. }, Value::Null) => memory::push(places, NONE)?,
            (Self::Vector { width, places, values }, Value::Vector(vector)) => {
                if vector.is_empty() || (*width != 0 && *width != vector.len()) {
                    let hint = "Give vectors of one length, above 0, or NULL where there is none.";
                    let known = if *width == 0 { String::new() } else { format!(", not {width} as before") };
                    return Err(Error::invalid(
                        format!("{} has a vector of {} dimensions{known}", name(), vector.len()),
                        hint,
                    ));
                }
                if let Some(bad) = vector.iter().find(|x| !x.is_finite()) {
                    let hint = "Give vectors of finite numbers.";
                    return Err(Error::invalid(format!("{} has a vector that contains {bad}", name()), hint));
                }
                *width = vector.len();
                memory::push(places, (values.len() / vector.len()) as u32)?;
                memory::extend(values, vector)?;
            }
            (_, value) => return Err(Error::Internal(format!("a column of another kind was given {value:?}"))),
        }
        Ok(())
    }

    /// Its kind; [`ColumnKind::Number`] for all numbers.
    pub fn kind(&self) -> ColumnKind {
        match self {
            Self::Category { .. } => ColumnKind::Category,
            Self::Number(_) => ColumnKind::Number,
            Self::Vector { .. } => ColumnKind::Vector,
        }
    }

    pub fn get(&self, row: usize) -> Value<'_> {
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

/// Rows of a source.
#[derive(Clone, Debug, Default)]
pub struct Table {
    names: Vec<String>,
    kinds: Vec<ColumnKind>,
    columns: Vec<Column>,
    rows: usize,
    /// Whether numbers may be infinite, or NaN, which counts as NULL.
    unbounded: bool,
}

impl Table {
    pub fn new(columns: Vec<(String, ColumnKind)>) -> Self {
        let kinds: Vec<ColumnKind> = columns.iter().map(|(_, kind)| *kind).collect();
        let (names, columns) = columns.into_iter().map(|(name, kind)| (name, Column::new(kind))).unzip();
        Self { names, kinds, columns, rows: 0, unbounded: false }
    }

    /// Takes infinite numbers as they are, and NaN as NULL.
    pub fn unbounded(self) -> Self {
        Self { unbounded: true, ..self }
    }

    /// Appends a row, with a value for each column. Numbers and vectors must be finite, and the vectors of a column of one length;
    /// errors name the column and `row()`. After an error the table must not be used.
    pub fn push(&mut self, values: &[Value], row: impl Fn() -> String) -> Result<()> {
        if values.len() != self.columns.len() {
            return Err(Error::Internal(format!("{} values for {} columns", values.len(), self.columns.len())));
        }
        if self.rows as u64 >= u64::from(NONE) {
            return Err(Error::TooLarge {
                what: "the source".into(),
                needed: "more rows".into(),
                limit: format!("{NONE}"),
                hint: "Take a sample of it.".into(),
            });
        }
        for ((column, &value), name) in self.columns.iter_mut().zip(values).zip(&self.names) {
            column.push(value, self.unbounded, || format!("column \"{name}\" of {}", row()))?;
        }
        self.rows += 1;
        Ok(())
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn columns(&self) -> impl Iterator<Item = (&str, ColumnKind, &Column)> {
        self.names
            .iter()
            .zip(&self.kinds)
            .zip(&self.columns)
            .map(|((name, &kind), column)| (name.as_str(), kind, column))
    }

    /// Replaces the column `name` by another one with as many rows.
    pub fn replace(&mut self, name: &str, kind: ColumnKind, column: Column) {
        if let Some(place) = self.names.iter().position(|other| other == name) {
            self.kinds[place] = kind;
            self.columns[place] = column;
        }
    }

    pub fn column(&self, name: &str) -> Option<(ColumnKind, &Column)> {
        self.columns().find(|(other, ..)| *other == name).map(|(_, kind, column)| (kind, column))
    }
}
