//! Grades from what people did with results: clicks and purchases, corrected for the position that they were shown at.
//!
//! Results high up are looked at more, whatever they are. In the position-based model (Craswell and others, WSDM 2008) a click needs that the
//! result is examined, with the probability θ of its position, and that it attracts. Where impressions are recorded, θ is estimated with
//! the attraction of each result by expectation maximization (Chuklin, Markov, de Rijke, "Click Models for Web Search", 2015, section
//! 4.2.2); without them it is 1 / position (Joachims, Swaminathan, Schnabel, WSDM 2017, equation 9 with η = 1). What a result got, divided by
//! how often it was examined, is its grade relative to the best of its query: clicks over expected clicks (Zhang, Jones, WWW 2007).

use std::collections::BTreeMap;

use runtime::error::Result;
use runtime::memory;
use runtime::progress::Progress;

/// Positions above count as this one.
const MAX_POSITION: usize = 100;
const ITERATIONS: usize = 50;
/// The grade of the best result of a query.
pub const BEST: f32 = 4.0;
/// An imagined examination without an event, so that a result that was shown once is not the best by luck.
const UNSEEN: f64 = 1.0;
/// Cells between two looks at progress.
const BLOCK: usize = 1 << 14;

/// What happened to a result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Event {
    pub query: u32,
    pub row: u32,
    /// From 1; `None` if it is unknown, which counts as the first.
    pub position: Option<u32>,
    /// What it is worth; 0 for an impression.
    pub weight: f32,
}

/// Events of a result at a position.
#[derive(Clone, Copy, Default)]
struct Counts {
    shown: f64,
    clicked: f64,
    worth: f64,
}

/// Events, counted. They are kept in order as they come: nothing is sorted at the end, which could not be canceled.
#[derive(Default)]
pub struct Events {
    /// By query, row, and position from 0.
    counts: BTreeMap<(u32, u32, u32), Counts>,
    has_impressions: bool,
}

/// A result of a query at a position.
struct Cell {
    query: u32,
    row: u32,
    position: usize,
    counts: Counts,
}

impl Events {
    pub fn add(&mut self, event: Event) {
        let position = event.position.unwrap_or(1).clamp(1, MAX_POSITION as u32) - 1;
        let counts = self.counts.entry((event.query, event.row, position)).or_default();
        match event.weight == 0.0 {
            true => counts.shown += 1.0,
            false => counts.clicked += 1.0,
        }
        counts.worth += f64::from(event.weight);
        self.has_impressions |= event.weight == 0.0;
    }

    /// Grades from 0 to [`BEST`] of the rows of each query, as (query, row, grade) in ascending order.
    pub fn grades(self, progress: &dyn Progress) -> Result<Vec<(u32, u32, f32)>> {
        let mut cells = Vec::new();
        for ((query, row, position), mut counts) in self.counts {
            progress.check()?;
            // A click is an impression, if nobody recorded one.
            counts.shown = counts.shown.max(counts.clicked);
            memory::push(&mut cells, Cell { query, row, position: position as usize, counts })?;
        }
        let theta = match self.has_impressions {
            true => examined(&cells, progress)?,
            false => (1..=MAX_POSITION).map(|position| 1.0 / position as f64).collect(),
        };
        let mut graded: Vec<(u32, u32, f32)> = Vec::new();
        for of_query in cells.chunk_by(|a, b| a.query == b.query) {
            progress.check()?;
            let start = graded.len();
            for of_row in of_query.chunk_by(|a, b| a.row == b.row) {
                let sum = |value: &dyn Fn(&Cell) -> f64| of_row.iter().map(value).sum::<f64>();
                let grade = match self.has_impressions {
                    true => {
                        let seen = sum(&|cell| cell.counts.shown * theta[cell.position]);
                        sum(&|cell| cell.counts.worth) / (UNSEEN + seen)
                    }
                    // The tenth click says less than the first.
                    false => sum(&|cell| cell.counts.worth / theta[cell.position]).ln_1p(),
                };
                memory::push(&mut graded, (of_row[0].query, of_row[0].row, grade as f32))?;
            }
            let best = graded[start..].iter().map(|(.., grade)| *grade).fold(0f32, f32::max);
            let of_best = |grade: f32| if best > 0.0 { grade / best * BEST } else { 0.0 };
            graded[start..].iter_mut().for_each(|(.., grade)| *grade = of_best(*grade));
        }
        Ok(graded)
    }
}

/// θ of each position, that of the first as 1.
fn examined(cells: &[Cell], progress: &dyn Progress) -> Result<Vec<f64>> {
    let mut theta: Vec<f64> = (1..=MAX_POSITION).map(|position| 1.0 / position as f64).collect();
    let results = cells.chunk_by(|a, b| (a.query, a.row) == (b.query, b.row)).count();
    let mut attraction = memory::filled(0.5f64, results)?;
    for _ in 0..ITERATIONS {
        let (mut seen, mut shown) = ([0f64; MAX_POSITION], [0f64; MAX_POSITION]);
        let of_results = cells.chunk_by(|a, b| (a.query, a.row) == (b.query, b.row));
        for (number, (of_result, gamma)) in of_results.zip(&mut attraction).enumerate() {
            if number % BLOCK == 0 {
                progress.check()?;
            }
            // A prior of one click in two impressions keeps estimates inside (0, 1).
            let (mut liked, mut of) = (1.0, 2.0);
            for Cell { position, counts, .. } in of_result {
                let (theta, missed) = (theta[*position], counts.shown - counts.clicked);
                let none = (1.0 - theta * *gamma).max(1e-12);
                seen[*position] += counts.clicked + missed * theta * (1.0 - *gamma) / none;
                shown[*position] += counts.shown;
                liked += counts.clicked + missed * *gamma * (1.0 - theta) / none;
                of += counts.shown;
            }
            *gamma = liked / of;
        }
        let first = if shown[0] > 0.0 { (seen[0] / shown[0]).max(1e-6) } else { 1.0 };
        for position in 0..MAX_POSITION {
            if shown[position] > 0.0 {
                theta[position] = (seen[position] / shown[position] / first).clamp(1e-3, 1.0);
            }
        }
    }
    Ok(theta)
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::draw;
    use runtime::progress::Unwatched;

    fn grades(all: Vec<Event>, progress: &dyn Progress) -> Result<Vec<(u32, u32, f32)>> {
        let mut events = Events::default();
        all.into_iter().for_each(|event| events.add(event));
        events.grades(progress)
    }

    fn click(query: u32, row: u32, position: u32) -> Event {
        Event { query, row, position: Some(position), weight: 1.0 }
    }

    #[test]
    fn a_click_far_down_is_worth_more_than_one_at_the_top() {
        let found = grades(vec![click(0, 5, 1), click(0, 6, 10), click(1, 5, 3)], &Unwatched).unwrap();
        assert_eq!(found.iter().map(|(q, row, _)| (*q, *row)).collect::<Vec<_>>(), [(0, 5), (0, 6), (1, 5)]);
        assert!(found[0].2 < found[1].2 && found[1].2 == BEST && found[2].2 == BEST);
        assert!(grades(Vec::new(), &Unwatched).unwrap().is_empty());
    }

    #[test]
    fn attraction_is_told_from_position_where_impressions_are_recorded() {
        // Three results in a drawn order; people look at position p with 1 / p and click by attraction.
        let attraction = [0.2, 0.5, 0.8];
        let mut events = Vec::new();
        for visit in 0..6000u64 {
            // The worst is mostly on top.
            let order: [u32; 3] = match draw::below(1, visit, 4) {
                0 => [2, 1, 0],
                1 => [1, 0, 2],
                _ => [0, 1, 2],
            };
            for (row, position) in order.into_iter().zip(1..) {
                let uniform = |stream: u64| draw::below(stream, visit * 3 + u64::from(row), 10_000) as f64 / 1e4;
                events.push(Event { query: 0, row, position: Some(position), weight: 0.0 });
                if uniform(2) < 1.0 / f64::from(position) && uniform(3) < attraction[row as usize] {
                    events.push(Event { query: 0, row, position: Some(position), weight: 1.0 });
                }
            }
        }
        let found = grades(events, &Unwatched).unwrap();
        for ((.., grade), attraction) in found.iter().zip(attraction) {
            assert!((f64::from(*grade) / 4.0 - attraction / 0.8).abs() < 0.08, "{found:?}");
        }
    }

    #[test]
    fn positions_that_are_unknown_or_out_of_range_are_no_error() {
        let odd = [None, Some(0), Some(u32::MAX)].map(|position| Event { query: 0, row: 1, position, weight: 2.5 });
        assert_eq!(grades(odd.to_vec(), &Unwatched).unwrap(), [(0, 1, BEST)]);
        let shown = Event { query: 0, row: 1, position: None, weight: 0.0 };
        assert_eq!(grades(vec![shown], &Unwatched).unwrap(), [(0, 1, 0.0)]);
    }
}
