//! Values of new rows, column by column.

use super::class::Classes;
use super::measure::Spread;
use super::pick::{Pick, spread_evenly, unit};
use crate::{Frame, Task, Values};
use runtime::draw;
use runtime::error::Result;
use runtime::jobs::jobs;

/// A number that at least this share of the rows have is a spike.
const SPIKE: f64 = 0.05;
/// Maximum number of rows searched for spikes.
const SAMPLE: usize = 1 << 16;
/// Offset of a row's random numbers for its columns; those before are for the row itself.
const COLUMNS: u64 = 64;

/// The noise of the numbers.
pub struct Noise {
    /// [columns]
    deviations: Vec<f64>,
    /// [columns]: numbers that get none, ascending.
    spikes: Vec<Vec<f64>>,
    /// As a share of the deviation.
    share: f64,
}

impl Noise {
    pub fn new(frame: &Frame, spreads: &[Spread], share: f64, keeps_spikes: bool, task: &Task) -> Result<Self> {
        let n = if keeps_spikes { frame.columns.len() } else { 0 };
        let sample = if keeps_spikes { spread_evenly(frame.rows, SAMPLE)? } else { Vec::new() };
        let spikes = jobs(n, task.threads, task.progress, ("columns", n), |signal, column| {
            signal.finished(1);
            Ok(match &frame.columns[column] {
                Values::Numbers(numbers) => spikes(sample.iter().map(|&row| numbers[row as usize]).collect()),
                Values::Codes(_) => Vec::new(),
            })
        })?;
        Ok(Self { deviations: spreads.iter().map(|spread| spread.deviation).collect(), spikes, share })
    }
}

/// A column of numbers of the source, and what new rows take from it.
pub struct NumberColumn<'a> {
    numbers: &'a [f64],
    pub is_label: bool,
    noise: &'a Noise,
    column: usize,
    place: u64,
}

impl<'a> NumberColumn<'a> {
    pub fn new(numbers: &'a [f64], column: usize, is_label: bool, noise: &'a Noise) -> Self {
        Self { numbers, is_label, noise, column, place: place(column) }
    }

    pub fn base(&self, pick: &Pick) -> f64 {
        self.numbers[pick.base as usize]
    }

    /// The base's number with noise; NULL and spikes stay.
    pub fn jittered(&self, pick: &Pick) -> f64 {
        let x = self.base(pick);
        let stays = |spikes: &Vec<f64>| spikes.binary_search_by(|spike| spike.total_cmp(&(x + 0.0))).is_ok();
        if x.is_nan() || self.noise.spikes.get(self.column).is_some_and(stays) {
            return x;
        }
        let deviation = self.noise.share * self.noise.deviations[self.column];
        let moved = x + deviation * f64::from(draw::normal(pick.seed, self.place));
        if moved.is_finite() { moved } else { x }
    }

    /// Between the numbers of the two rows, by their weights. Where one is NULL, one of the two with the weights as probabilities.
    pub fn between(&self, pick: &Pick) -> f64 {
        let (x, y) = (self.base(pick), self.numbers[pick.other as usize]);
        if x == y {
            x
        } else if x.is_nan() || y.is_nan() {
            if unit(pick.seed, self.place) < pick.weight { y } else { x }
        } else {
            x * (1.0 - pick.weight) + y * pick.weight
        }
    }
}

/// A column of categories of the source, and what new rows take from it.
pub struct CodeColumn<'a> {
    codes: &'a [u32],
    classes: Classes<'a>,
    place: u64,
    counted: Vec<(u32, u32)>,
}

impl<'a> CodeColumn<'a> {
    pub fn new(codes: &'a [u32], column: usize, classes: Classes<'a>) -> Self {
        Self { codes, classes, place: place(column), counted: Vec::new() }
    }

    pub fn base(&self, pick: &Pick) -> u32 {
        self.codes[pick.base as usize]
    }

    pub fn other(&self, pick: &Pick) -> u32 {
        self.codes[pick.other as usize]
    }

    /// The most frequent category of the base's neighbours, the base's own where there are none.
    pub fn majority(&mut self, pick: &Pick) -> u32 {
        let near = self.classes.neighbours(pick).iter().map(|&row| self.codes[row as usize]);
        majority(near, &mut self.counted, draw::mix(pick.seed ^ self.place)).unwrap_or_else(|| self.base(pick))
    }

    /// The category of a row of the same class, drawn evenly.
    pub fn resampled(&self, pick: &Pick) -> u32 {
        self.codes[self.classes.any(pick, self.place + 1) as usize]
    }

    /// From 0 to below 1.
    pub fn uniform(&self, pick: &Pick) -> f64 {
        unit(pick.seed, self.place)
    }
}

/// Offset of a column's random numbers.
fn place(column: usize) -> u64 {
    COLUMNS + 4 * column as u64
}

/// The most frequent code; ties are drawn by `seed`.
fn majority(codes: impl Iterator<Item = u32>, counted: &mut Vec<(u32, u32)>, seed: u64) -> Option<u32> {
    counted.clear();
    for code in codes {
        match counted.iter_mut().find(|(_, other)| *other == code) {
            Some((count, _)) => *count += 1,
            None => counted.push((1, code)),
        }
    }
    let most = counted.iter().map(|(count, _)| *count).max()?;
    let mut first = counted.iter().filter(|(count, _)| *count == most);
    let ties = first.clone().count();
    first.nth(draw::below(seed, 0, ties)).map(|(_, code)| *code)
}

/// The spikes of a sample, ascending.
fn spikes(mut sample: Vec<f64>) -> Vec<f64> {
    let least = (SPIKE * sample.len() as f64).max(2.0);
    // −0 is 0.
    sample.iter_mut().for_each(|x| *x += 0.0);
    sample.sort_unstable_by(f64::total_cmp);
    sample.chunk_by(|a, b| a == b).filter(|run| run.len() as f64 >= least).map(|run| run[0]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_neighbours_decide_and_ties_are_drawn() {
        let mut counted = Vec::new();
        assert_eq!(majority([3, 1, 3, 2, 1, 3].into_iter(), &mut counted, 1), Some(3));
        assert_eq!(majority([].into_iter(), &mut counted, 1), None);
        let drawn: Vec<u32> = (0..200).filter_map(|s| majority([5, 6, 5, 6, 9].into_iter(), &mut counted, s)).collect();
        let fives = drawn.iter().filter(|&&code| code == 5).count();
        assert!(drawn.len() == 200 && drawn.iter().all(|&code| code < 9) && (60..140).contains(&fives), "{fives}");
    }

    #[test]
    fn what_many_rows_have_is_a_spike() {
        let values = (0..100).map(|i| if i < 60 { -0.0 } else { f64::from(i) }).collect();
        assert_eq!(spikes(values), [0.0]);
        assert!(spikes(vec![1.0]).is_empty());
    }
}
