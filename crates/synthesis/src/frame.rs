//! Rows by columns, as synthesizers learn and draw them.

use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

use runtime::error::Result;
use runtime::memory;
use tabular::NONE;

/// A column of a frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Field {
    /// Used in messages.
    pub name: String,
    pub kind: FieldKind,
    /// Whether it may be NULL.
    pub nulls: bool,
    /// Whether its categories or bounds were declared instead of read from the rows.
    pub declared: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FieldKind {
    /// Codes from 0 to `count` − 1.
    Category { count: usize },
    /// Numbers, days or microseconds from `low` to `high`, multiples of `step` if that is above 0.
    Number { low: f64, high: f64, step: f64 },
}

/// The values of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// [`NONE`] for NULL.
    Codes(Vec<u32>),
    /// NaN for NULL.
    Numbers(Vec<f64>),
}

impl Values {
    pub fn len(&self) -> usize {
        match self {
            Self::Codes(codes) => codes.len(),
            Self::Numbers(numbers) => numbers.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Codes(codes) => codes[row] == NONE,
            Self::Numbers(numbers) => numbers[row].is_nan(),
        }
    }

    /// The values of `rows`, in that order.
    pub fn take(&self, rows: &[usize]) -> Self {
        match self {
            Self::Codes(codes) => Self::Codes(rows.iter().map(|&row| codes[row]).collect()),
            Self::Numbers(numbers) => Self::Numbers(rows.iter().map(|&row| numbers[row]).collect()),
        }
    }
}

/// Rows: a column for each field, all of the same length.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Frame {
    pub rows: usize,
    pub columns: Vec<Values>,
}

impl Frame {
    /// From the output `rows` [n, d] of a graph: −1 for a category that is NULL, NaN for a number that is.
    pub fn of_rows(rows: ArrayView2<f64>, kinds: &[FieldKind]) -> Result<Self> {
        let n = rows.nrows();
        let mut frame = Self { rows: n, columns: Vec::new() };
        for (column, kind) in rows.columns().into_iter().zip(kinds) {
            frame.columns.push(match kind {
                FieldKind::Number { .. } => {
                    let mut numbers = Vec::new();
                    memory::reserve(&mut numbers, n)?;
                    numbers.extend(&column);
                    Values::Numbers(numbers)
                }
                FieldKind::Category { .. } => {
                    let mut codes = Vec::new();
                    memory::reserve(&mut codes, n)?;
                    codes.extend(column.iter().map(|&x| if x >= 0.0 { x as u32 } else { NONE }));
                    Values::Codes(codes)
                }
            });
        }
        Ok(frame)
    }
}

impl FieldKind {
    /// The nearest value that the field allows; NaN stays.
    pub fn snap(self, x: f64) -> f64 {
        match self {
            Self::Number { low, high, step } => {
                let x = match step {
                    0.0 => x,
                    // A power of ten: dividing by its whole inverse gives the number that its decimals are read as.
                    step if step < 1.0 => (x * (1.0 / step).round()).round() / (1.0 / step).round(),
                    step => (x / step).round() * step,
                };
                // NULL, which is NaN, is neither; bounds of a damaged model may be the wrong way round.
                if x < low {
                    low
                } else if x > high {
                    high
                } else {
                    x
                }
            }
            Self::Category { .. } => x,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(low: f64, high: f64, step: f64) -> FieldKind {
        FieldKind::Number { low, high, step }
    }

    #[test]
    fn a_number_becomes_the_nearest_that_the_field_can_have() {
        assert_eq!(number(0.0, 9.0, 0.01).snap(1.234_9), 1.23);
        assert_eq!(number(-90.0, 90.0, 5.0).snap(-7.6), -10.0);
        assert_eq!(number(0.0, 9.0, 0.0).snap(1.234_9), 1.234_9);
        assert_eq!(number(0.5, 9.0, 1.0).snap(-3.0), 0.5);
        assert_eq!(number(0.5, 8.5, 1.0).snap(f64::INFINITY), 8.5);
        assert!(number(0.0, 9.0, 1.0).snap(f64::NAN).is_nan());
    }

    #[test]
    fn bounds_of_a_damaged_model_are_no_panic() {
        assert_eq!(number(9.0, 0.0, 1.0).snap(5.0), 9.0);
        assert_eq!(number(f64::NAN, f64::NAN, 1.0).snap(5.0), 5.0);
        assert!(number(0.0, 9.0, f64::NAN).snap(5.0).is_nan());
    }
}
