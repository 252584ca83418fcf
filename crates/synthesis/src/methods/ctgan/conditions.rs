//! Conditions and training by sampling (section 4.3 of the paper): a head whose values are few is chosen evenly, one of
//! its classes by the logarithm of how many rows have it, and one of those rows. So rare classes are seen often. Where
//! rows are made, classes are chosen by how many rows have them.

use crate::methods::modes::{Encoded, Encoding};
use runtime::draw::{below, mix, uniform};
use runtime::error::Result;
use runtime::memory;

/// The condition of one row: a class of a head, by its number among all conditions.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Condition {
    pub number: u32,
    /// Its column, and where its head's columns start and end.
    pub column: u32,
    pub first: u32,
    pub end: u32,
}

#[derive(Default)]
pub struct Conditions {
    /// Of each condition.
    all: Vec<Condition>,
    /// Where each head's conditions start, and one more.
    starts: Vec<usize>,
    /// Of each condition within its head: the share of it and all before, by the logarithms of the counts.
    shares: Vec<f64>,
    /// Rows of each condition: `rows[firsts[i]..firsts[i + 1]]`.
    firsts: Vec<usize>,
    rows: Vec<u32>,
}

impl Conditions {
    /// Of the heads that have no modes.
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

    /// A condition for training; none where there are none.
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

    /// A row that meets a condition; any of `rows` where there is none.
    pub fn row(&self, condition: Option<Condition>, rows: usize, seed: u64, place: u64) -> u32 {
        let Some(condition) = condition else { return below(seed, place, rows) as u32 };
        let of = &self.rows[self.firsts[condition.number as usize]..self.firsts[condition.number as usize + 1]];
        // Modes aside, every class has a row: it was learned from one.
        if of.is_empty() { below(seed, place, rows) as u32 } else { of[below(seed, place, of.len())] }
    }

    /// For making rows: how often each condition comes up, itself and all before it: every head as often as every
    /// other.
    pub fn frequencies(&self) -> Vec<u64> {
        self.firsts[1..].iter().map(|&first| first as u64).collect()
    }
}
