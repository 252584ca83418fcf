//! Rows as the neural synthesizers see them: mode-specific normalization (Xu, Skoularidou, Cuesta-Infante,
//! Veeramachaneni, "Modeling tabular data using conditional GAN", NeurIPS 2019, section 4.2).
//!
//! Every field is a *head*: one of a few classes, and for some numbers the position within their class.
//!
//! | field | classes |
//! |---|---|
//! | category | one for each of the 256 most frequent codes, and one for all others, from which a code is drawn by frequency |
//! | number with few values | one for each value |
//! | other number | one for each value of 1 % of the rows and more (a spike), and modes of a Gaussian mixture for the rest |
//!
//! NULL is a class of its own. A number x in a mode with mean m and deviation s becomes the class of the mode and `α =
//! (x − m) / 4s`, clipped to ±1; the mode of a row is drawn by its posterior probability. A row is so one index for
//! each head and a few numbers, never a long one-hot vector.
//!
//! Cost: sorting each column of numbers, and expectation maximization on at most 512 points.

pub mod calibrate;
mod decode;
mod encode;
mod mixture;

use ahash::AHashMap;

use crate::{Field, FieldKind, Frame, Values};
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::progress::Progress;
use runtime::sorting::sort_watched;
use tabular::NONE;

pub use decode::{Decoder, Noise, decode_graph};
pub use encode::Encoded;

/// Maximum number of codes with a class of their own.
const MAX_CODES: usize = 256;
/// Numbers with at most this many distinct values have a class for each …
const FEW_VALUES: usize = 32;
/// … if each has this many rows on average: with fewer the table may just be short.
const ROWS_OF_A_VALUE: usize = 5;
/// A value with this share of the rows is a spike.
const SPIKE: f64 = 0.01;
const MAX_SPIKES: usize = 64;

/// A class of a head.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Class {
    Null,
    Code(u32),
    /// All codes without a class of their own.
    Others,
    Value(f64),
    Mode {
        mean: f64,
        deviation: f64,
    },
}

/// A field as a network learns it.
#[derive(Clone, Debug)]
pub struct Head {
    /// Column of its first class, among the classes of all heads.
    pub first: usize,
    pub classes: Vec<Class>,
    /// Number of rows of each class.
    pub counts: Vec<u64>,
    /// Index of its number among the numbers within modes.
    pub number: Option<usize>,
    /// Whether the field is a category.
    pub category: bool,
}

/// The heads of all fields, in order.
#[derive(Clone, Debug, Default)]
pub struct Encoding {
    pub heads: Vec<Head>,
    /// Number of classes of all heads.
    pub columns: usize,
    /// Number of heads with numbers within modes.
    pub numbers: usize,
    /// For each field with [`Class::Others`]: the field, the codes, and their cumulative numbers of rows.
    pub others: Vec<(usize, Vec<u32>, Vec<u64>)>,
}

impl Encoding {
    pub fn fit(fields: &[Field], rows: &Frame, progress: &dyn Progress) -> Result<Self> {
        if rows.rows == 0 {
            return Err(Error::EmptySource(String::new()));
        }
        let mut encoding = Self::default();
        for (at, (field, values)) in fields.iter().zip(&rows.columns).enumerate() {
            progress.check()?;
            let (mut classes, mut counts) = match (field.kind, values) {
                (FieldKind::Category { count }, Values::Codes(codes)) => encoding.fit_codes(at, count, codes)?,
                (_, Values::Numbers(numbers)) => fit_numbers(numbers, progress)?,
                _ => return Err(Error::Internal(format!("column \"{}\" is not of its field's kind", field.name))),
            };
            let nulls = (0..rows.rows).filter(|&row| values.is_null(row)).count();
            if nulls > 0 {
                classes.push(Class::Null);
                counts.push(nulls as u64);
            }
            let first = encoding.columns;
            encoding.columns += classes.len();
            let number = classes.iter().any(|class| matches!(class, Class::Mode { .. })).then_some(encoding.numbers);
            encoding.numbers += usize::from(number.is_some());
            let category = matches!(field.kind, FieldKind::Category { .. });
            encoding.heads.push(Head { first, classes, counts, number, category });
        }
        Ok(encoding)
    }

    fn fit_codes(&mut self, at: usize, count: usize, codes: &[u32]) -> Result<(Vec<Class>, Vec<u64>)> {
        let mut counts = memory::filled(0u64, count)?;
        codes.iter().filter(|&&code| code != NONE).for_each(|&code| counts[code as usize] += 1);
        // Codes that no row has cannot be learned.
        let mut order: Vec<u32> = (0..count as u32).filter(|&code| counts[code as usize] > 0).collect();
        order.sort_by_key(|&code| std::cmp::Reverse(counts[code as usize]));
        let own = order.len().min(MAX_CODES);
        let others = order.split_off(own);
        let mut classes: Vec<Class> = order.iter().map(|&code| Class::Code(code)).collect();
        let mut sizes: Vec<u64> = order.iter().map(|&code| counts[code as usize]).collect();
        if !others.is_empty() {
            let mut sum = 0;
            let cumulative = others.iter().map(|&code| {
                sum += counts[code as usize];
                sum
            });
            let cumulative: Vec<u64> = cumulative.collect();
            classes.push(Class::Others);
            sizes.push(sum);
            self.others.push((at, others, cumulative));
        }
        Ok((classes, sizes))
    }
}

/// The classes of a column of numbers, without NULL.
fn fit_numbers(numbers: &[f64], progress: &dyn Progress) -> Result<(Vec<Class>, Vec<u64>)> {
    let mut sorted = Vec::new();
    memory::reserve(&mut sorted, numbers.len())?;
    // −0 and 0 are one value.
    sorted.extend(numbers.iter().filter(|x| !x.is_nan()).map(|x| x + 0.0));
    sort_watched(&mut sorted, &|| progress.check(), f64::total_cmp)?;
    let runs = || sorted.chunk_by(|a, b| a == b);
    let values = runs().count();
    let few = values <= 1 || values <= FEW_VALUES && sorted.len() / values >= ROWS_OF_A_VALUE;
    let least = ((SPIKE * numbers.len() as f64).ceil() as usize).max(ROWS_OF_A_VALUE);
    let mut spikes: Vec<&[f64]> = runs().filter(|run| few || run.len() >= least).collect();
    spikes.sort_by_key(|run| std::cmp::Reverse(run.len()));
    if !few {
        spikes.truncate(MAX_SPIKES);
    }
    let mut classes: Vec<Class> = spikes.iter().map(|run| Class::Value(run[0])).collect();
    let mut counts: Vec<u64> = spikes.iter().map(|run| run.len() as u64).collect();
    let held: AHashMap<u64, ()> = spikes.iter().map(|run| (run[0].to_bits(), ())).collect();
    sorted.retain(|x| !held.contains_key(&x.to_bits()));
    for mode in mixture::fit(&sorted, progress)? {
        classes.push(Class::Mode { mean: mode.mean, deviation: mode.deviation });
        counts.push(((mode.weight * sorted.len() as f64).round() as u64).max(1));
    }
    Ok((classes, counts))
}

#[cfg(test)]
pub mod evaluate;
#[cfg(test)]
pub mod tests;
