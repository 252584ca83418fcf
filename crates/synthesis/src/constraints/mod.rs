//! Constraints on rows: CHECK-like expressions over one or two columns, from the catalog or the caller.
//!
//! ```text
//! expression = comparison { AND comparison }
//! comparison = operand (< | <= | > | >= | =) operand | operand BETWEEN operand AND operand
//!            | operand IN ( constant, … ) | operand = ANY (ARRAY[ constant, … ]) | operand IS NOT NULL
//! operand    = column | number | 'text' | 'date' , each with casts (::type) and parentheses
//! ```

mod parse;

use serde::{Deserialize, Serialize};

use crate::description::{ColumnType, Description};
use runtime::error::{Error, Result};

pub use parse::{Comparison, Operand, Operator, parse, time};

/// A constraint. Columns are numbered as in the schema.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Constraint {
    Order { less: usize, greater: usize, strict: bool },
    Low { column: usize, low: f64, strict: bool },
    High { column: usize, high: f64, strict: bool },
    OneOf { column: usize, names: Vec<String> },
    NotNull { column: usize },
}

impl Constraint {
    /// The lesser and the greater column of an order of two.
    pub fn order(&self) -> Option<(usize, usize)> {
        match *self {
            Self::Order { less, greater, .. } => Some((less, greater)),
            _ => None,
        }
    }

    pub fn columns(&self) -> Vec<usize> {
        match *self {
            Self::Order { less, greater, .. } => vec![less, greater],
            Self::Low { column, .. }
            | Self::High { column, .. }
            | Self::OneOf { column, .. }
            | Self::NotNull { column } => {
                vec![column]
            }
        }
    }

    /// The constraint as text, for messages.
    pub fn describe<'a>(&self, name: &dyn Fn(usize) -> &'a String) -> String {
        let sign = |strict: &bool, sign: &str| if *strict { sign.to_owned() } else { format!("{sign}=") };
        match self {
            Self::Order { less, greater, strict } => {
                format!("\"{}\" {} \"{}\"", name(*less), sign(strict, "<"), name(*greater))
            }
            Self::Low { column, low, strict } => format!("\"{}\" {} {low}", name(*column), sign(strict, ">")),
            Self::High { column, high, strict } => format!("\"{}\" {} {high}", name(*column), sign(strict, "<")),
            Self::OneOf { column, names } => format!("\"{}\" in {}", name(*column), names.join(", ")),
            Self::NotNull { column } => format!("\"{}\" not null", name(*column)),
        }
    }
}

/// Parses an expression into constraints. `None` if its form is not supported; an error if it names unknown columns or
/// compares values that cannot be compared.
pub fn understand(expression: &str, columns: &[Description]) -> Option<Result<Vec<Constraint>>> {
    let comparisons = parse(expression)?;
    Some(comparisons.into_iter().map(|comparison| resolve(expression, comparison, columns)).collect())
}

fn resolve(expression: &str, comparison: Comparison, columns: &[Description]) -> Result<Constraint> {
    let wrong = |hint: String| Error::invalid(format!("invalid constraint \"{expression}\""), hint);
    let find = |name: &str| {
        columns.iter().position(|column| column.name == name).ok_or_else(|| Error::MissingColumn {
            column: name.into(),
            found: columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", "),
        })
    };
    let (left, operator, right) = match comparison {
        Comparison::OneOf(column, values) => {
            let column = find(&column)?;
            let names = values.iter().map(|value| value.name(columns[column].column_type)).collect();
            return Ok(Constraint::OneOf { column, names });
        }
        Comparison::NotNull(column) => return Ok(Constraint::NotNull { column: find(&column)? }),
        Comparison::Compare(left, operator, right) => (left, operator, right),
    };
    match (left, right) {
        (Operand::Column(left), Operand::Column(right)) => {
            let (left, right) = (find(&left)?, find(&right)?);
            let (one, other) = (columns[left].column_type, columns[right].column_type);
            let comparable = one.is_number()
                && (one == other
                    || [one, other]
                        .iter()
                        .all(|kind| matches!(kind, ColumnType::Integer | ColumnType::Float | ColumnType::Numeric)));
            let (less, greater, strict) = match operator {
                Operator::Less => (left, right, true),
                Operator::AtMost => (left, right, false),
                Operator::Greater => (right, left, true),
                Operator::AtLeast => (right, left, false),
                Operator::Equal => return Err(wrong("Compare two columns by <, <=, > or >=.".into())),
            };
            if !comparable || less == greater {
                return Err(wrong("Compare two different columns, both numbers or both of one type of time.".into()));
            }
            Ok(Constraint::Order { less, greater, strict })
        }
        (Operand::Column(name), value) => constant(find(&name)?, operator, &value, columns, &wrong),
        (value, Operand::Column(name)) => constant(find(&name)?, operator.turned(), &value, columns, &wrong),
        _ => Err(wrong("Name a column on at least one side.".into())),
    }
}

fn constant(
    column: usize,
    operator: Operator,
    value: &Operand,
    columns: &[Description],
    wrong: &dyn Fn(String) -> Error,
) -> Result<Constraint> {
    let kind = columns[column].column_type;
    if operator == Operator::Equal {
        return Ok(Constraint::OneOf { column, names: vec![value.name(kind)] });
    }
    let number = match value {
        Operand::Number(number) if kind.is_number() => Some(*number),
        Operand::Text(text) if kind.is_number() => time(text, kind).or_else(|| text.parse().ok()),
        _ => None,
    };
    let number = number.ok_or_else(|| {
        wrong(format!(
            "Compare column \"{}\" to a value of its type, {}.",
            columns[column].name, columns[column].type_name
        ))
    })?;
    Ok(match operator {
        Operator::Less => Constraint::High { column, high: number, strict: true },
        Operator::AtMost => Constraint::High { column, high: number, strict: false },
        Operator::Greater => Constraint::Low { column, low: number, strict: true },
        _ => Constraint::Low { column, low: number, strict: false },
    })
}

#[cfg(test)]
mod tests;
