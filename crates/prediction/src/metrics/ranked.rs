//! Metrics of scores that rank rows.

use super::{Check, State, cut, numbers};
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::sorting::sort_watched;

/// More do not fit a state that goes from one process to another.
const MAX_ROWS: usize = 60_000_000;

/// Rows between two checks for a cancel request.
const CHECK_EVERY: usize = 1 << 16;

/// Scores of rows with what they are worth: 1 and 0 for labels, or a gain.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ranked {
    /// (score, worth)
    rows: Vec<[f64; 2]>,
}

/// Rows whose probabilities lie in one part of the range from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bin {
    pub low: f64,
    pub high: f64,
    pub rows: u64,
    /// The mean of their probabilities, and the share of them whose label is true.
    pub probability: f64,
    pub rate: f64,
}

/// Rows of one score.
#[derive(Clone, Copy, Debug, Default)]
struct Tie {
    rows: f64,
    worth: f64,
}

impl Ranked {
    pub fn add(&mut self, score: f64, worth: f64) -> Result<()> {
        self.admit(1)?;
        memory::push(&mut self.rows, [score, worth])
    }

    fn admit(&self, more: usize) -> Result<()> {
        let rows = self.rows.len() + more;
        if rows <= MAX_ROWS {
            return Ok(());
        }
        Err(Error::TooLarge {
            what: "a group of ranked rows".into(),
            needed: format!("{rows} rows"),
            limit: MAX_ROWS.to_string(),
            hint: "Take a sample of them.".into(),
        })
    }

    /// The ties of equal scores, highest first.
    fn ties(&self, check: Check) -> Result<Vec<Tie>> {
        let mut rows = Vec::new();
        memory::extend(&mut rows, &self.rows)?;
        // By worth too, so that sums do not depend on the order of the rows.
        sort_watched(&mut rows, check, |a, b| b[0].total_cmp(&a[0]).then(b[1].total_cmp(&a[1])))?;
        let mut ties: Vec<Tie> = Vec::new();
        let mut last = f64::NAN;
        for (place, [score, worth]) in rows.into_iter().enumerate() {
            if place % CHECK_EVERY == 0 {
                check()?;
            }
            match ties.last_mut() {
                Some(tie) if score == last => *tie = Tie { rows: tie.rows + 1.0, worth: tie.worth + worth },
                _ => memory::push(&mut ties, Tie { rows: 1.0, worth })?,
            }
            last = score;
        }
        Ok(ties)
    }

    fn totals(&self) -> (f64, f64) {
        let positives = self.rows.iter().filter(|[_, worth]| *worth > 0.0).count() as f64;
        (positives, self.rows.len() as f64 - positives)
    }

    /// The probability that a row whose label is true scores above one whose label is false, ties counting half (Mann, Whitney 1947).
    pub fn auc(&self, check: Check) -> Result<Option<f64>> {
        let (positives, negatives) = self.totals();
        if positives == 0.0 || negatives == 0.0 {
            return Ok(None);
        }
        let (mut above, mut pairs) = (0.0, 0.0);
        for tie in self.ties(check)? {
            pairs += (tie.rows - tie.worth) * (above + tie.worth / 2.0);
            above += tie.worth;
        }
        Ok(Some(pairs / positives / negatives))
    }

    /// Σ (Rₙ − Rₙ₋₁) Pₙ over the thresholds: the area below the steps of precision by recall.
    pub fn average_precision(&self, check: Check) -> Result<Option<f64>> {
        let (positives, _) = self.totals();
        if positives == 0.0 {
            return Ok(None);
        }
        let (mut rows, mut hits, mut sum) = (0.0, 0.0, 0.0);
        for tie in self.ties(check)? {
            rows += tie.rows;
            hits += tie.worth;
            sum += tie.worth / positives * (hits / rows);
        }
        Ok(Some(sum))
    }

    /// Discounted cumulative gain of the best `k` rows over that of the best order; the gain of tied rows is their mean (McSherry, Najork
    /// 2008). `None` unless a gain is above 0.
    pub fn ndcg(&self, k: usize, check: Check) -> Result<Option<f64>> {
        let discount = |place: usize| 1.0 / (place as f64 + 2.0).log2();
        let mut gained = 0.0;
        let mut place = 0;
        for tie in self.ties(check)? {
            let end = (place + tie.rows as usize).min(k);
            gained += tie.worth / tie.rows * (place..end).map(discount).sum::<f64>();
            place += tie.rows as usize;
            if place >= k {
                break;
            }
        }
        let mut gains = Vec::new();
        memory::reserve(&mut gains, self.rows.len())?;
        gains.extend(self.rows.iter().map(|[_, gain]| *gain));
        sort_watched(&mut gains, check, |a, b| b.total_cmp(a))?;
        let ideal: f64 = gains.iter().take(k).enumerate().map(|(place, gain)| gain * discount(place)).sum();
        Ok((ideal > 0.0).then(|| gained / ideal))
    }

    /// The rate of true labels in the `share` of rows that score highest, over the rate of all. Rows that tie at its end count in part.
    pub fn lift(&self, share: f64, check: Check) -> Result<Option<f64>> {
        let (positives, negatives) = self.totals();
        if positives == 0.0 {
            return Ok(None);
        }
        let wanted = share * (positives + negatives);
        let (mut rows, mut hits) = (0.0, 0.0);
        for tie in self.ties(check)? {
            let part = ((wanted - rows) / tie.rows).min(1.0);
            rows += part * tie.rows;
            hits += part * tie.worth;
            if rows >= wanted {
                break;
            }
        }
        Ok(Some(hits / rows / (positives / (positives + negatives))))
    }

    /// Rows by probability, in `bins` parts of equal width; those without rows are left out.
    pub fn calibration(&self, bins: usize, check: Check) -> Result<Vec<Bin>> {
        let mut sums = memory::filled([0f64; 3], bins)?;
        for rows in self.rows.chunks(1 << 16) {
            check()?;
            for [probability, label] in rows {
                // A bin holds its upper end.
                let place = ((probability * bins as f64).ceil() as usize).clamp(1, bins) - 1;
                let sum = &mut sums[place];
                *sum = [sum[0] + 1.0, sum[1] + probability, sum[2] + label];
            }
        }
        let width = 1.0 / bins as f64;
        let full = sums.iter().enumerate().filter(|(_, sum)| sum[0] > 0.0);
        let bins = full.map(|(place, [rows, probabilities, labels])| Bin {
            low: place as f64 * width,
            high: (place + 1) as f64 * width,
            rows: *rows as u64,
            probability: probabilities / rows,
            rate: labels / rows,
        });
        Ok(bins.collect())
    }
}

impl State for Ranked {
    fn merge(&mut self, other: &Self, check: Check) -> Result<()> {
        self.admit(other.rows.len())?;
        memory::reserve(&mut self.rows, other.rows.len())?;
        for rows in other.rows.chunks(CHECK_EVERY) {
            check()?;
            self.rows.extend_from_slice(rows);
        }
        Ok(())
    }

    fn serialize(&self, check: Check) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        memory::reserve(&mut bytes, self.rows.len() * 16)?;
        for rows in self.rows.chunks(CHECK_EVERY) {
            check()?;
            rows.iter().flatten().for_each(|number| bytes.extend(number.to_le_bytes()));
        }
        Ok(bytes)
    }

    fn deserialize(bytes: &[u8], check: Check) -> Result<Self> {
        if !bytes.len().is_multiple_of(16) {
            return Err(cut());
        }
        let mut state = Self::default();
        memory::reserve(&mut state.rows, bytes.len() / 16)?;
        for mut rows in bytes.chunks(16 * CHECK_EVERY) {
            check()?;
            while !rows.is_empty() {
                let (row, rest) = numbers(rows)?;
                state.rows.push(row);
                rows = rest;
            }
        }
        Ok(state)
    }
}
