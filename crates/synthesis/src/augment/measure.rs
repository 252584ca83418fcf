//! Distances between rows.
//!
//! A number is measured in standard deviations of its column, over all rows that have it. Two unequal categories are as
//! far apart as the median of the numbers' standard deviations among the searched rows (Chawla et al. 2002, 6.1, for
//! SMOTE-NC). A number that is NULL stands at the mean and differs from any number as two unequal categories do; a
//! category that is NULL is one more category. Constant columns and the label are left out.

use crate::{Frame, Values};
use runtime::error::Result;
use runtime::jobs::{Signal, jobs};
use runtime::memory;
use tabular::NONE;

/// Rows between two checks of the signal.
const CHECK_EVERY: usize = 1 << 20;

/// A dimension of the space of rows.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Dimension {
    /// (x − mean) / deviation
    Number {
        column: usize,
        mean: f64,
        inverse: f64,
    },
    /// Whether a number is NULL.
    Null {
        column: usize,
    },
    Category {
        column: usize,
    },
}

pub struct Measure {
    dimensions: Vec<Dimension>,
    numbers: usize,
}

/// Mean and standard deviation of the non-NULL numbers of a column. Halves are summed to avoid overflow.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    pub mean: f64,
    pub deviation: f64,
    pub nulls: bool,
}

impl Spread {
    pub fn of(numbers: &[f64], signal: &Signal) -> Result<Self> {
        let (mut n, mut mean, mut most, mut nulls) = (0.0, 0.0, 0f64, false);
        for part in numbers.chunks(CHECK_EVERY) {
            signal.check()?;
            for &x in part {
                if x.is_nan() {
                    nulls = true;
                } else {
                    n += 1.0;
                    mean += 0.5 * x / numbers.len() as f64;
                    most = most.max(x.abs());
                }
            }
        }
        if n == 0.0 || most == 0.0 {
            return Ok(Self { nulls, ..Self::default() });
        }
        mean *= 2.0 * (numbers.len() as f64 / n);
        let mut sum = 0.0;
        for part in numbers.chunks(CHECK_EVERY) {
            signal.check()?;
            sum += part.iter().filter(|x| !x.is_nan()).map(|x| (x / most - mean / most).powi(2)).sum::<f64>();
        }
        let deviation = (sum / n).sqrt() * most;
        // What is left of a constant is rounding.
        let deviation = if deviation > 1e-12 * most { deviation } else { 0.0 };
        Ok(Self { mean, deviation, nulls })
    }

    /// The spread of each column; categories have the default.
    pub fn of_columns(frame: &Frame, threads: usize, progress: &dyn runtime::progress::Progress) -> Result<Vec<Self>> {
        let n = frame.columns.len();
        jobs(n, threads, progress, ("columns", n), |signal, column| {
            let spread = match &frame.columns[column] {
                Values::Numbers(numbers) => Self::of(numbers, signal)?,
                Values::Codes(_) => Self::default(),
            };
            signal.finished(1);
            Ok(spread)
        })
    }
}

impl Measure {
    /// The distance over all columns except the label.
    pub fn new(frame: &Frame, spreads: &[Spread], label: Option<usize>) -> Self {
        let (mut dimensions, mut codes) = (Vec::new(), Vec::new());
        for (column, (values, spread)) in frame.columns.iter().zip(spreads).enumerate() {
            match values {
                _ if label == Some(column) => {}
                Values::Codes(_) => codes.push(Dimension::Category { column }),
                Values::Numbers(_) => {
                    if spread.deviation > 0.0 {
                        let inverse = 1.0 / spread.deviation;
                        dimensions.push(Dimension::Number { column, mean: spread.mean, inverse });
                    }
                    if spread.nulls {
                        codes.push(Dimension::Null { column });
                    }
                }
            }
        }
        let numbers = dimensions.len();
        dimensions.append(&mut codes);
        Self { dimensions, numbers }
    }

    /// Number of numeric dimensions, and of all dimensions.
    pub fn shape(&self) -> (usize, usize) {
        (self.numbers, self.dimensions.len())
    }

    pub fn value(&self, frame: &Frame, dimension: usize, row: u32) -> f32 {
        let row = row as usize;
        match (self.dimensions[dimension], |column: usize| &frame.columns[column]) {
            (Dimension::Number { column, mean, inverse }, columns) => match columns(column) {
                Values::Numbers(numbers) if !numbers[row].is_nan() => (numbers[row] * inverse - mean * inverse) as f32,
                _ => 0.0,
            },
            (Dimension::Null { column }, columns) => f32::from(u8::from(columns(column).is_null(row))),
            (Dimension::Category { column }, columns) => match columns(column) {
                // As a float exact up to 2²⁴ categories; NULL is below all.
                Values::Codes(codes) if codes[row] != NONE => codes[row] as f32,
                _ => -1.0,
            },
        }
    }

    pub fn row(&self, frame: &Frame, row: u32, out: &mut [f32]) {
        out.iter_mut().enumerate().for_each(|(dimension, out)| *out = self.value(frame, dimension, row));
    }

    /// Squared distance of two unequal categories among `rows`.
    pub fn unequal(&self, frame: &Frame, rows: &[u32], signal: &Signal) -> Result<f32> {
        let mut deviations = Vec::new();
        let mut values: Vec<f64> = Vec::new();
        memory::reserve(&mut values, rows.len())?;
        for dimension in 0..self.numbers {
            values.clear();
            values.extend(rows.iter().map(|&row| f64::from(self.value(frame, dimension, row))));
            deviations.push(Spread::of(&values, signal)?.deviation);
        }
        deviations.sort_unstable_by(f64::total_cmp);
        let n = deviations.len();
        let median = if n == 0 { 1.0 } else { 0.5 * (deviations[(n - 1) / 2] + deviations[n / 2]) };
        Ok(if median > 0.0 { (median * median) as f32 } else { 1.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deviations_of_huge_tiny_and_constant_numbers_are_finite() {
        let of = |numbers: &[f64]| Spread::of(numbers, &Signal::default()).unwrap();
        let plain = of(&[1.0, 3.0, f64::NAN]);
        assert!((plain.mean - 2.0).abs() < 1e-12 && (plain.deviation - 1.0).abs() < 1e-12 && plain.nulls);
        let huge = of(&[f64::MAX, -f64::MAX, f64::MAX, -f64::MAX]);
        assert!(huge.mean.abs() < 1e300 && (huge.deviation / f64::MAX - 1.0).abs() < 1e-9, "{huge:?}");
        assert!((of(&[1e-300, 3e-300]).deviation / 1e-300 - 1.0).abs() < 1e-9);
        assert_eq!((of(&[0.1; 7]).deviation, of(&[f64::NAN]).deviation, of(&[]).deviation), (0.0, 0.0, 0.0));
    }

    #[test]
    fn null_stands_at_the_mean_and_differs_from_numbers() {
        let frame = Frame {
            rows: 3,
            columns: vec![
                Values::Numbers(vec![1.0, 3.0, f64::NAN]),
                Values::Codes(vec![0, NONE, 1]),
                Values::Numbers(vec![5.0; 3]),
                Values::Codes(vec![0, 1, 1]),
            ],
        };
        let spreads = Spread::of_columns(&frame, 2, &runtime::progress::Unwatched).unwrap();
        let measure = Measure::new(&frame, &spreads, Some(3));
        assert_eq!(measure.shape(), (1, 3));
        let mut out = [0f32; 3];
        for (row, expected) in [(0, [-1.0, 0.0, 0.0]), (1, [1.0, 0.0, -1.0]), (2, [0.0, 1.0, 1.0])] {
            measure.row(&frame, row, &mut out);
            assert_eq!(out, expected);
        }
        let unequal = measure.unequal(&frame, &[0, 1], &Signal::default()).unwrap();
        assert!((unequal - 1.0).abs() < 1e-6);
        assert_eq!(measure.unequal(&frame, &[0], &Signal::default()).unwrap(), 1.0);
    }
}
