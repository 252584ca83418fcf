//! The values of new rows, column by column.

use super::measure::Spread;
use super::{Method, Pick, spread_evenly, unit};
use crate::{Frame, Task, Values};
use runtime::draw;
use runtime::error::Result;
use runtime::jobs::{Signal, jobs};
use runtime::memory;

/// Share of the rows that makes a number one that jitter leaves alone.
const SPIKE: f64 = 0.05;
/// Rows that tell which numbers these are.
const SAMPLE: usize = 1 << 16;
/// Rows between two looks at the signal.
const CHECK_EVERY: usize = 1 << 14;
/// Where a row's random numbers for its columns begin; those before are for the row.
const COLUMNS: u64 = 64;

/// How values are made.
pub struct Filling {
    deviations: Vec<f64>,
    /// [columns]: numbers that stay, ascending.
    spikes: Vec<Vec<f64>>,
    /// As a share of the deviation.
    noise: f64,
    /// How often a category is another row's.
    resampled: f64,
}

impl Filling {
    pub fn new(
        frame: &Frame,
        spreads: &[Spread],
        (noise, resampled): (f64, f64),
        jitter: bool,
        task: &Task,
    ) -> Result<Self> {
        let n = if jitter { frame.columns.len() } else { 0 };
        let sample = if jitter { spread_evenly(frame.rows, SAMPLE)? } else { Vec::new() };
        let spikes = jobs(n, task.threads, task.progress, ("columns", n), |signal, column| {
            signal.finished(1);
            Ok(match &frame.columns[column] {
                Values::Numbers(numbers) => spikes(sample.iter().map(|&row| numbers[row as usize]).collect()),
                Values::Codes(_) => Vec::new(),
            })
        })?;
        Ok(Self { deviations: spreads.iter().map(|spread| spread.deviation).collect(), spikes, noise, resampled })
    }

    /// A column of the rows that `picks` say. `near` gives the neighbours of a pick's base, `same_class` a row of its class.
    #[allow(clippy::too_many_arguments, reason = "what a value may depend on")]
    pub fn column<'n>(
        &self,
        frame: &Frame,
        column: usize,
        is_label: bool,
        method: Method,
        picks: &[Pick],
        near: impl Fn(&Pick) -> &'n [u32],
        same_class: impl Fn(&Pick, u64) -> u32,
        signal: &Signal,
    ) -> Result<Values> {
        let place = COLUMNS + 4 * column as u64;
        match &frame.columns[column] {
            Values::Numbers(numbers) => {
                let value = |pick: &Pick| {
                    let x = numbers[pick.base as usize];
                    match method {
                        Method::Bootstrap => x,
                        Method::Jitter if is_label => x,
                        Method::Jitter => self.jittered(x, column, pick, place),
                        _ if pick.other == tabular::NONE => self.jittered(x, column, pick, place),
                        _ => between(x, numbers[pick.other as usize], pick, place),
                    }
                };
                by_parts(picks, value, signal).map(Values::Numbers)
            }
            Values::Codes(codes) => {
                let mut counted = Vec::new();
                let value = |pick: &Pick| {
                    let own = codes[pick.base as usize];
                    match method {
                        _ if is_label => own,
                        Method::Smote | Method::SmoteNc | Method::Adasyn => {
                            let near = near(pick).iter().map(|&row| codes[row as usize]);
                            majority(near, &mut counted, draw::mix(pick.seed ^ place)).unwrap_or(own)
                        }
                        Method::Mixup if unit(pick.seed, place) < pick.weight => codes[pick.other as usize],
                        Method::Jitter if unit(pick.seed, place) < self.resampled => {
                            codes[same_class(pick, place + 1) as usize]
                        }
                        _ => own,
                    }
                };
                by_parts(picks, value, signal).map(Values::Codes)
            }
        }
    }

    fn jittered(&self, x: f64, column: usize, pick: &Pick, place: u64) -> f64 {
        let stays = |spikes: &Vec<f64>| spikes.binary_search_by(|spike| spike.total_cmp(&(x + 0.0))).is_ok();
        if x.is_nan() || self.spikes.get(column).is_some_and(stays) {
            return x;
        }
        let moved = x + self.noise * self.deviations[column] * f64::from(draw::normal(pick.seed, place));
        if moved.is_finite() { moved } else { x }
    }
}

fn by_parts<T>(picks: &[Pick], mut value: impl FnMut(&Pick) -> T, signal: &Signal) -> Result<Vec<T>> {
    let mut values = Vec::new();
    memory::reserve(&mut values, picks.len())?;
    for picks in picks.chunks(CHECK_EVERY) {
        signal.check()?;
        values.extend(picks.iter().map(&mut value));
    }
    Ok(values)
}

/// The number as far from x to y as the pick says. Of equal ones that number, of NULL and a number one of the two.
fn between(x: f64, y: f64, pick: &Pick, place: u64) -> f64 {
    if x == y {
        x
    } else if x.is_nan() || y.is_nan() {
        if unit(pick.seed, place) < pick.weight { y } else { x }
    } else {
        x * (1.0 - pick.weight) + y * pick.weight
    }
}

/// The code that most have; of several the one that the seed draws.
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

/// The numbers that many rows have, ascending.
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
