//! The target of a tree: classes, or standardized numbers and their ranks.

use ndarray::Array2;

use super::column::{CHECK_EVERY, Column, Distinct};
use kernels::matrix::flat;
use runtime::error::Result;
use runtime::jobs::Signal;
use runtime::memory;

/// Maximum number of classes that a tree distinguishes: the most frequent, and all others together. Leaves keep the
/// values.
const CLASSES: usize = 64;

#[derive(Clone, Debug)]
pub(super) enum Target {
    /// [rows]
    Classes { classes: Vec<u8>, count: usize },
    /// [rows, outputs]
    Numbers(Array2<f32>),
}

impl Target {
    pub fn new(column: &Column, signal: &Signal) -> Result<Self> {
        match &column.distinct {
            Distinct::Codes(_) => Self::classes(column, signal),
            Distinct::Numbers(numbers) => Self::numbers(column, numbers, signal),
        }
    }

    /// A number for each row, by which the categories of other columns are ordered: the number itself, or whether it is
    /// the most frequent category.
    pub fn lead(column: &Column, signal: &Signal) -> Result<Vec<f32>> {
        match Self::new(column, signal)? {
            Self::Numbers(values) => Ok(values.column(0).to_vec()),
            Self::Classes { .. } => {
                let top = (0..column.counts.len()).rev().max_by_key(|&place| column.counts[place]);
                spread(column, signal, |place, out| out.push(f32::from(u8::from(Some(place) == top))), 1)
            }
        }
    }

    pub fn is_classes(&self) -> bool {
        matches!(self, Self::Classes { .. })
    }

    /// Number of target sums of a code.
    pub fn outputs(&self) -> usize {
        match self {
            Self::Classes { count, .. } => *count,
            Self::Numbers(values) => values.ncols(),
        }
    }

    fn classes(column: &Column, signal: &Signal) -> Result<Self> {
        let distinct = column.distinct.len();
        let mut order: Vec<u32> = (0..distinct as u32).collect();
        if distinct > CLASSES {
            order.sort_by_key(|&place| std::cmp::Reverse(column.counts[place as usize]));
        }
        let mut class = memory::filled((CLASSES - 1) as u8, distinct)?;
        order.iter().zip(0..CLASSES as u8).for_each(|(&place, c)| class[place as usize] = c);
        let classes = spread(column, signal, |place, out: &mut Vec<u8>| out.push(class[place]), 1)?;
        Ok(Self::Classes { classes, count: distinct.min(CLASSES) })
    }

    /// The number, its rank, and whether it is NULL if some are, each of variance 1, with NULL at the mean. Ranks keep
    /// a few large numbers from dominating the tree.
    fn numbers(column: &Column, numbers: &[f64], signal: &Signal) -> Result<Self> {
        let nulls = usize::from(numbers.first().is_some_and(|x| x.is_nan()));
        let (values, counts) = (&numbers[nulls..], &column.counts[nulls..]);
        let value = standardised(values, counts);
        let mut before = 0.0;
        let ranks: Vec<f64> = counts
            .iter()
            .map(|&n| {
                before += f64::from(n);
                before - f64::from(n) / 2.0
            })
            .collect();
        let rank = standardised(&ranks, counts);
        let absent: f64 = column.counts[..nulls].iter().map(|&n| f64::from(n)).sum();
        let present = before.max(1.0);
        let both = nulls == 1 && !values.is_empty();
        let indicator = [(present / absent.max(1.0)).sqrt() as f32, -(absent / present).sqrt() as f32];
        let outputs = 2 + usize::from(both);
        let each = |place: usize, out: &mut Vec<f32>| {
            let null = place < nulls;
            out.extend(if null { [0.0; 2] } else { [value[place - nulls], rank[place - nulls]] });
            out.extend(both.then_some(indicator[usize::from(!null)]));
        };
        let values = spread(column, signal, each, outputs)?;
        Ok(Self::Numbers(memory::shaped(column.places.len(), outputs, values)?))
    }

    /// Sums over `rows`: of numbers, or of classes.
    pub fn totals(&self, rows: &[u32]) -> (Vec<f64>, Vec<u64>) {
        match self {
            Self::Classes { classes, count } => {
                let mut totals = vec![0; *count];
                rows.iter().for_each(|&row| totals[usize::from(classes[row as usize])] += 1);
                (Vec::new(), totals)
            }
            Self::Numbers(values) => {
                let (outputs, values) = (values.ncols(), flat(values.view()));
                let mut totals = vec![0.0; outputs];
                for &row in rows {
                    let values = &values[row as usize * outputs..][..outputs];
                    totals.iter_mut().zip(values).for_each(|(total, &x)| *total += f64::from(x));
                }
                (totals, Vec::new())
            }
        }
    }
}

/// Collects what `each` appends for the index of every row, `width` elements each.
fn spread<T>(column: &Column, signal: &Signal, each: impl Fn(usize, &mut Vec<T>), width: usize) -> Result<Vec<T>> {
    let mut out = Vec::new();
    memory::reserve(&mut out, column.places.len() * width)?;
    for places in column.places.chunks(CHECK_EVERY) {
        signal.check()?;
        places.iter().for_each(|&place| each(place as usize, &mut out));
    }
    Ok(out)
}

/// Standardizes values over their rows; 0 if they are constant.
fn standardised(values: &[f64], counts: &[u32]) -> Vec<f32> {
    let (Some(&low), Some(&high)) = (values.first(), values.last()) else { return Vec::new() };
    // Halves: the range of the largest numbers is none itself.
    let range = high / 2.0 - low / 2.0;
    let share = |x: f64| if range > 0.0 { (x / 2.0 - low / 2.0) / range } else { 0.0 };
    let n: f64 = counts.iter().map(|&n| f64::from(n)).sum();
    let mean = values.iter().zip(counts).map(|(&x, &n)| share(x) * f64::from(n)).sum::<f64>() / n;
    let variance = values.iter().zip(counts).map(|(&x, &n)| (share(x) - mean).powi(2) * f64::from(n)).sum::<f64>() / n;
    let unit = if variance > 0.0 { variance.sqrt() } else { 1.0 };
    values.iter().map(|&x| ((share(x) - mean) / unit) as f32).collect()
}
