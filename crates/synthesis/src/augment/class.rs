//! The classes of the source's rows.

use super::neighbours::Index;
use super::pick::{Pick, spread_evenly};
use crate::{Frame, Task, Values};
use runtime::draw;
use runtime::error::Result;
use runtime::memory;
use tabular::NONE;

/// Maximum number of rows of a class that are drawn from and searched.
pub const MAX_ROWS: usize = 1 << 20;

/// The number of rows to add to each class so that all are as large as the largest, by ascending class. NULL is no
/// class here.
pub fn balanced_counts(labels: &[u32]) -> Vec<(u32, usize)> {
    let mut counts: Vec<usize> = Vec::new();
    for &label in labels.iter().filter(|&&label| label != NONE) {
        if counts.len() <= label as usize {
            counts.resize(label as usize + 1, 0);
        }
        counts[label as usize] += 1;
    }
    let most = counts.iter().copied().max().unwrap_or(0);
    (0..).zip(counts).filter(|&(_, rows)| rows > 0 && rows < most).map(|(label, rows)| (label, most - rows)).collect()
}

/// The rows of a class, with what was computed for them so far.
#[derive(Default)]
pub struct Class {
    pub rows: Vec<u32>,
    pub index: Option<Index>,
    /// [rows, neighbours]: valid where `known`.
    pub neighbours: Vec<u32>,
    pub known: Vec<bool>,
    /// [rows]: cumulative weights, for methods that prefer borders.
    pub weights: Option<Vec<f64>>,
}

/// All classes, as the source of values besides the base.
#[derive(Clone, Copy)]
pub struct Classes<'a> {
    pub classes: &'a [Class],
    /// Number of neighbours.
    pub k: usize,
}

impl<'a> Classes<'a> {
    /// The nearest rows to the base among those of its class.
    pub fn neighbours(self, pick: &Pick) -> &'a [u32] {
        let class = &self.classes[pick.class as usize];
        let k = self.k.min(class.rows.len() - 1);
        if k == 0 { &[] } else { &class.neighbours[pick.place as usize * k..][..k] }
    }

    /// A row of the pick's class, drawn evenly.
    pub fn any(self, pick: &Pick, place: u64) -> u32 {
        let rows = &self.classes[pick.class as usize].rows;
        rows[draw::below(pick.seed, place, rows.len())]
    }
}

/// The codes of the label, if it is one of classes.
pub fn label_classes(frame: &Frame, label: Option<usize>) -> Option<&[u32]> {
    match &frame.columns[label?] {
        Values::Codes(codes) => Some(codes),
        Values::Numbers(_) => None,
    }
}

/// The number of rows of each class and the rows used. The last class is NULL.
pub fn classes(rows: usize, labels: Option<&[u32]>, count: usize, task: &Task) -> Result<Vec<(usize, Vec<u32>)>> {
    let Some(labels) = labels else { return Ok(vec![(rows, spread_evenly(rows, MAX_ROWS)?)]) };
    let mut classes: Vec<(usize, Vec<u32>)> = vec![(0, Vec::new()); count];
    let class = |label: u32| if label == NONE { count - 1 } else { label as usize };
    for (row, &label) in (0u32..).zip(labels) {
        if row.is_multiple_of(1 << 20) {
            task.progress.check()?;
        }
        let of = &mut classes[class(label)];
        of.0 += 1;
        memory::push(&mut of.1, row)?;
    }
    for (n, rows) in &mut classes {
        if *n > MAX_ROWS {
            *rows = spread_evenly(*n, MAX_ROWS)?.into_iter().map(|place| rows[place as usize]).collect();
        }
    }
    Ok(classes)
}
