//! The label of each row: a class or a number.

use ahash::AHashSet;

use super::table::{Column, NONE};
use runtime::error::{Error, Result};
use runtime::memory;

/// Integers with at most this many distinct values are classes by default.
const FEW_NUMBERS: usize = 20;
/// With more, a matrix of classes by features gets large and most classes have few rows.
const MAX_CLASSES: usize = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelKind {
    Classes,
    Numbers,
}

impl LabelKind {
    /// By the name of a task; `None` for auto, which goes by the values of the column.
    pub fn from_task(task: &str) -> Result<Option<Self>> {
        match task {
            "auto" => Ok(None),
            "classification" => Ok(Some(Self::Classes)),
            "regression" => Ok(Some(Self::Numbers)),
            other => Err(Error::UnknownName {
                what: "task",
                name: other.into(),
                known: "auto, classification, regression".into(),
            }),
        }
    }
}

/// A label for each row.
#[derive(Clone, Debug, PartialEq)]
pub enum Labels {
    Classes {
        /// [rows]: indices into `names`.
        codes: Vec<u32>,
        /// Sorted: numbers by value, texts by bytes.
        names: Vec<String>,
    },
    /// [rows]
    Numbers(Vec<f32>),
}

impl Labels {
    /// Reads the column `name`. Texts, booleans and enums are classes; numbers are classes if they are integers with at most 20 distinct
    /// values, or if `kind` says so. NULL, and a single class, are errors.
    pub fn fit(name: &str, column: &Column, kind: Option<LabelKind>) -> Result<Self> {
        let kind = kind.unwrap_or_else(|| suggested(column));
        let labels = match (column, kind) {
            (Column::Number(values), LabelKind::Numbers) => {
                check_nulls(name, values.iter().map(|x| x.is_nan()))?;
                Self::Numbers(copy(values)?)
            }
            (Column::Number(values), LabelKind::Classes) => {
                check_nulls(name, values.iter().map(|x| x.is_nan()))?;
                let distinct = distinct(values);
                let names = distinct.iter().map(|x| x.to_string()).collect();
                let place = |x: &f64| distinct.partition_point(|d| d.total_cmp(&plain(*x)).is_lt()) as u32;
                Self::Classes { codes: values.iter().map(place).collect(), names }
            }
            (Column::Category { codes, names, .. }, LabelKind::Classes) => {
                check_nulls(name, codes.iter().map(|&code| code == NONE))?;
                let mut order: Vec<usize> = (0..names.len()).collect();
                order.sort_unstable_by_key(|&code| &names[code]);
                let mut place = memory::filled(0u32, names.len())?;
                order.iter().zip(0..).for_each(|(&code, p)| place[code] = p);
                let codes = codes.iter().map(|&code| place[code as usize]).collect();
                Self::Classes { codes, names: order.iter().map(|&code| names[code].to_string()).collect() }
            }
            (Column::Category { .. }, LabelKind::Numbers) => {
                let hint = "Cast it to a number in the source, or leave out task: texts are classes.";
                return Err(Error::invalid(format!("label \"{name}\" is text, not a number"), hint));
            }
            (Column::Vector { .. }, _) => {
                let hint = "Give a class (text, boolean, enum, integer) or a number.";
                return Err(Error::invalid(format!("label \"{name}\" is a vector"), hint));
            }
        };
        match &labels {
            Self::Classes { names, .. } if names.len() == 1 => {
                let hint = "Give rows of at least two classes.";
                Err(Error::invalid(format!("label \"{name}\" has only one class, \"{}\"", names[0]), hint))
            }
            Self::Classes { names, .. } if names.len() > MAX_CLASSES => Err(Error::TooLarge {
                what: format!("label \"{name}\""),
                needed: format!("{} classes", names.len()),
                limit: MAX_CLASSES.to_string(),
                hint: "Leave out identifiers, group rare classes, or give a number and task regression.".into(),
            }),
            Self::Numbers(values) if values.iter().any(|x| !x.is_finite()) => {
                let hint = "Divide it: labels are stored in single precision.";
                Err(Error::invalid(format!("label \"{name}\" has a value beyond the range of type real"), hint))
            }
            _ => Ok(labels),
        }
    }

    /// The labels of other rows, with the same classes. An unknown class is an error.
    pub fn like(&self, name: &str, column: &Column) -> Result<Self> {
        let Self::Classes { names, .. } = self else { return Self::fit(name, column, Some(LabelKind::Numbers)) };
        // One class alone is no error here.
        let (codes, own): (Vec<u32>, Vec<String>) = match column {
            Column::Number(values) => {
                check_nulls(name, values.iter().map(|x| x.is_nan()))?;
                let distinct = distinct(values);
                let place = |x: &f64| distinct.partition_point(|d| d.total_cmp(&plain(*x)).is_lt()) as u32;
                (values.iter().map(place).collect(), distinct.iter().map(|x| x.to_string()).collect())
            }
            Column::Category { codes, names, .. } => {
                check_nulls(name, codes.iter().map(|&code| code == NONE))?;
                (codes.clone(), names.iter().map(|name| name.to_string()).collect())
            }
            Column::Vector { .. } => {
                let hint = "Give a class (text, boolean, enum, integer) or a number.";
                return Err(Error::invalid(format!("label \"{name}\" is a vector"), hint));
            }
        };
        let places: Vec<u32> = own
            .iter()
            .map(|class| {
                names.iter().position(|other| other == class).map(|place| place as u32).ok_or_else(|| {
                    let hint = "Leave out the rows of classes that the source lacks.";
                    let message = format!(
                        "label \"{name}\" of the validation query has class \"{class}\", which the source lacks"
                    );
                    Error::invalid(message, hint)
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self::Classes { codes: codes.iter().map(|&code| places[code as usize]).collect(), names: names.clone() })
    }

    pub fn len(&self) -> usize {
        match self {
            Self::Classes { codes, .. } => codes.len(),
            Self::Numbers(values) => values.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of classes; `None` for numbers.
    pub fn classes(&self) -> Option<usize> {
        match self {
            Self::Classes { names, .. } => Some(names.len()),
            Self::Numbers(_) => None,
        }
    }
}

fn suggested(column: &Column) -> LabelKind {
    let Column::Number(values) = column else { return LabelKind::Classes };
    let mut seen: Vec<f64> = Vec::new();
    for &x in values.iter().filter(|x| !x.is_nan()) {
        if x.fract() != 0.0 {
            return LabelKind::Numbers;
        }
        if !seen.contains(&x) {
            if seen.len() == FEW_NUMBERS {
                return LabelKind::Numbers;
            }
            seen.push(x);
        }
    }
    LabelKind::Classes
}

/// −0 is 0.
fn plain(x: f64) -> f64 {
    x + 0.0
}

fn distinct(values: &[f64]) -> Vec<f64> {
    // Classes are few: what is sorted is short.
    let different: AHashSet<u64> = values.iter().map(|&x| plain(x).to_bits()).collect();
    let mut distinct: Vec<f64> = different.into_iter().map(f64::from_bits).collect();
    distinct.sort_unstable_by(f64::total_cmp);
    distinct
}

fn copy(values: &[f64]) -> Result<Vec<f32>> {
    let mut out = Vec::new();
    memory::reserve(&mut out, values.len())?;
    out.extend(values.iter().map(|&x| x as f32));
    Ok(out)
}

fn check_nulls(name: &str, mut nulls: impl Iterator<Item = bool>) -> Result<()> {
    match nulls.position(|null| null) {
        None => Ok(()),
        Some(row) => Err(Error::NullColumn { column: name.into(), row: row + 1 }),
    }
}
