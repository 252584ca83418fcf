//! Conditions and training-by-sampling (section 4.3 of the paper): a head with few values is chosen uniformly, one of
//! its classes by the logarithm of its frequency, and one of its rows, so that rare classes are seen often. When rows
//! are drawn, classes are chosen by frequency.

use crate::methods::modes::{Encoded, Encoding};
use runtime::draw::{below, mix, uniform};
use runtime::error::Result;
use runtime::memory;

/// The condition of a row: a class of a head, by its index among all conditions.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Condition {
    pub number: u32,
    /// Its column, and the first and last column of its head.
    pub column: u32,
    pub first: u32,
    pub end: u32,
}

#[derive(Default)]
pub struct Conditions {
    /// All conditions.
    all: Vec<Condition>,
    /// Start of each head's conditions, and the end.
    starts: Vec<usize>,
    /// Cumulative share of each condition within its head, by log-frequency.
    shares: Vec<f64>,
    /// Rows of condition i: `rows[firsts[i]..firsts[i + 1]]`.
    firsts: Vec<usize>,
    rows: Vec<u32>,
}

impl Conditions {
    /// The conditions of all heads without modes.
    pub fn new(encoding: &Encoding, encoded: &Encoded) -> Result<Self> {
        let mut conditions = Self { starts: vec![0], firsts: vec![0], ..Self::default() };
        let mut number_of = memory::filled(u32::MAX, encoding.columns)?;
        for head in encoding.heads.iter().filter(|head| head.number.is_none()) {
            let end = head.first + head.classes.len();
            let logs: Vec<f64> = head.counts.iter().map(|&n| (n as f64 + 1.0).ln()).collect();
            let (mut sum, total) = (0.0, logs.iter().sum::<f64>());
            for (column, log) in (head.first..end).zip(&logs) {
                sum += log / total;
                conditions.shares.push(sum);
                number_of[column] = conditions.all.len() as u32;
                let number = conditions.all.len() as u32;
                conditions.all.push(Condition {
                    number,
                    column: column as u32,
                    first: head.first as u32,
                    end: end as u32,
                });
            }
            conditions.starts.push(conditions.all.len());
        }
        let numbers = || encoded.classes.iter().map(|&class| number_of[class as usize]).enumerate();
        let mut counts = memory::filled(0usize, conditions.all.len())?;
        numbers().filter(|&(_, c)| c != u32::MAX).for_each(|(_, c)| counts[c as usize] += 1);
        for count in counts {
            conditions.firsts.push(conditions.firsts[conditions.firsts.len() - 1] + count);
        }
        conditions.rows = memory::filled(0u32, conditions.firsts[conditions.firsts.len() - 1])?;
        let mut next = conditions.firsts.clone();
        for (at, c) in numbers().filter(|&(_, c)| c != u32::MAX) {
            conditions.rows[next[c as usize]] = (at / encoding.heads.len()) as u32;
            next[c as usize] += 1;
        }
        Ok(conditions)
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Draws a condition for training; `None` if there are no conditions.
    pub fn draw(&self, seed: u64, place: u64) -> Option<Condition> {
        let heads = self.starts.len() - 1;
        if heads == 0 {
            return None;
        }
        let head = below(seed, place, heads);
        let (start, end) = (self.starts[head], self.starts[head + 1]);
        let u = f64::from(uniform(mix(seed), place)) / 2.0 + 0.5;
        let at = start + self.shares[start..end].partition_point(|&share| share <= u);
        Some(self.all[at.min(end - 1)])
    }

    /// Draws a row that meets a condition; any of `rows` without one.
    pub fn row(&self, condition: Option<Condition>, rows: usize, seed: u64, place: u64) -> u32 {
        let Some(condition) = condition else { return below(seed, place, rows) as u32 };
        let of = &self.rows[self.firsts[condition.number as usize]..self.firsts[condition.number as usize + 1]];
        // Modes aside, every class has a row: it was learned from one.
        if of.is_empty() { below(seed, place, rows) as u32 } else { of[below(seed, place, of.len())] }
    }

    /// Cumulative frequencies of the conditions for drawing rows, with equal weight for each head.
    pub fn frequencies(&self) -> Vec<u64> {
        self.firsts[1..].iter().map(|&first| first as u64).collect()
    }
}
