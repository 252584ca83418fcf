//! Metrics of predicted classes.

use std::collections::BTreeMap;

use super::{Check, State, cut};
use runtime::error::{Error, Result};

/// More pairs of a label and a prediction are no classes.
const MAX_PAIRS: usize = 1_000_000;
/// Most bytes of their texts.
const MAX_BYTES: usize = 256 << 20;

/// How the classes' values become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Average {
    /// The mean over classes.
    Macro,
    /// Of the sums over classes; where each row has one class, the accuracy.
    Micro,
    /// The mean over classes, each as often as it is a label.
    Weighted,
}

impl Average {
    pub fn from_name(name: &str) -> Result<Self> {
        match name {
            "macro" => Ok(Self::Macro),
            "micro" => Ok(Self::Micro),
            "weighted" => Ok(Self::Weighted),
            other => {
                let hint =
                    "The average is macro (all classes alike), weighted (by their rows) or micro (over all rows).";
                Err(Error::argument("average", format!("\"{other}\""), hint))
            }
        }
    }
}

/// How often each label was predicted as each class.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Confusion {
    /// label → prediction → rows
    counts: BTreeMap<String, BTreeMap<String, u64>>,
    pairs: usize,
    bytes: usize,
}

/// Rows of a class: predicted and right, predicted, labelled.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    hits: f64,
    predicted: f64,
    labelled: f64,
}

impl Tally {
    fn precision(self) -> f64 {
        if self.predicted > 0.0 { self.hits / self.predicted } else { 0.0 }
    }

    fn recall(self) -> f64 {
        if self.labelled > 0.0 { self.hits / self.labelled } else { 0.0 }
    }

    fn f1(self) -> f64 {
        let both = self.predicted + self.labelled;
        if both > 0.0 { 2.0 * self.hits / both } else { 0.0 }
    }
}

impl Confusion {
    pub fn add(&mut self, predicted: &str, label: &str) -> Result<()> {
        self.add_rows(predicted, label, 1)
    }

    fn add_rows(&mut self, predicted: &str, label: &str, rows: u64) -> Result<()> {
        if let Some(count) = self.counts.get_mut(label).and_then(|of_label| of_label.get_mut(predicted)) {
            *count += rows;
            return Ok(());
        }
        self.pairs += 1;
        self.bytes += label.len() + predicted.len();
        if self.pairs > MAX_PAIRS || self.bytes > MAX_BYTES {
            return Err(Error::TooLarge {
                what: "the classes".into(),
                needed: "more pairs of a prediction and a label".into(),
                limit: format!("{MAX_PAIRS}, of {MAX_BYTES} bytes"),
                hint: "Numbers are measured by reco.rmse, reco.mae and reco.r2.".into(),
            });
        }
        self.counts.entry(label.to_owned()).or_default().insert(predicted.to_owned(), rows);
        Ok(())
    }

    /// label → prediction → rows, both in the order of their bytes.
    pub fn counts(&self) -> &BTreeMap<String, BTreeMap<String, u64>> {
        &self.counts
    }

    fn pairs(&self) -> impl Iterator<Item = (&str, &str, f64)> {
        self.counts.iter().flat_map(|(label, of_label)| {
            of_label.iter().map(move |(predicted, &rows)| (label.as_str(), predicted.as_str(), rows as f64))
        })
    }

    fn tally(&self, class: &str) -> Tally {
        let mut tally = Tally::default();
        for (label, predicted, rows) in self.pairs() {
            tally.labelled += if label == class { rows } else { 0.0 };
            tally.predicted += if predicted == class { rows } else { 0.0 };
            tally.hits += if label == class && predicted == class { rows } else { 0.0 };
        }
        tally
    }

    /// The share of rows whose class was predicted.
    pub fn accuracy(&self) -> Option<f64> {
        let (mut hits, mut all) = (0.0, 0.0);
        self.pairs().for_each(|(label, predicted, rows)| {
            all += rows;
            hits += if label == predicted { rows } else { 0.0 };
        });
        (all > 0.0).then(|| hits / all)
    }

    /// Of the class `class`: the share of its predictions that are right.
    pub fn precision(&self, class: &str) -> Option<f64> {
        (!self.counts.is_empty()).then(|| self.tally(class).precision())
    }

    /// The share of its labels that are predicted.
    pub fn recall(&self, class: &str) -> Option<f64> {
        (!self.counts.is_empty()).then(|| self.tally(class).recall())
    }

    /// The harmonic mean of both.
    pub fn f1(&self, class: &str) -> Option<f64> {
        (!self.counts.is_empty()).then(|| self.tally(class).f1())
    }

    /// Precision, recall and F1 over all classes that are labels or predictions.
    pub fn averaged(&self, average: Average) -> Option<[f64; 3]> {
        let mut tallies: BTreeMap<&str, Tally> = BTreeMap::new();
        for (label, predicted, rows) in self.pairs() {
            tallies.entry(label).or_default().labelled += rows;
            tallies.entry(predicted).or_default().predicted += rows;
            if label == predicted {
                tallies.entry(label).or_default().hits += rows;
            }
        }
        let all = tallies.values().map(|tally| tally.labelled).sum::<f64>();
        if all == 0.0 {
            return None;
        }
        if average == Average::Micro {
            let hits = tallies.values().map(|tally| tally.hits).sum::<f64>();
            return Some([hits / all; 3]);
        }
        let mut means = [0.0; 3];
        for tally in tallies.values() {
            let weight = if average == Average::Macro { 1.0 / tallies.len() as f64 } else { tally.labelled / all };
            let values = [tally.precision(), tally.recall(), tally.f1()];
            means.iter_mut().zip(values).for_each(|(mean, value)| *mean += weight * value);
        }
        Some(means)
    }
}

impl State for Confusion {
    fn merge(&mut self, other: &Self, _check: Check) -> Result<()> {
        for (label, of_label) in &other.counts {
            for (predicted, &rows) in of_label {
                self.add_rows(predicted, label, rows)?;
            }
        }
        Ok(())
    }

    fn serialize(&self, _check: Check) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for (label, of_label) in &self.counts {
            for (predicted, rows) in of_label {
                bytes.extend(rows.to_le_bytes());
                for text in [label, predicted] {
                    bytes.extend((text.len() as u32).to_le_bytes());
                    bytes.extend(text.as_bytes());
                }
            }
        }
        Ok(bytes)
    }

    fn deserialize(mut bytes: &[u8], _check: Check) -> Result<Self> {
        fn text<'a>(bytes: &mut &'a [u8]) -> Result<&'a str> {
            let (length, rest) = bytes.split_first_chunk::<4>().ok_or_else(cut)?;
            let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(cut)?;
            *bytes = rest;
            std::str::from_utf8(text).map_err(|_| cut())
        }
        let mut state = Self::default();
        while !bytes.is_empty() {
            let (rows, rest) = bytes.split_first_chunk::<8>().ok_or_else(cut)?;
            bytes = rest;
            let (label, predicted) = (text(&mut bytes)?, text(&mut bytes)?);
            state.add_rows(predicted, label, u64::from_le_bytes(*rows))?;
        }
        Ok(state)
    }
}
