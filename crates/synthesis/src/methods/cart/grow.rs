//! Growing the tree of a column on those before it (Breiman et al. 1984), on codes.
//!
//! A node is split where the sum of squares falls most: of the class indicators (Gini impurity), or of the numbers
//! (variance). Time: O(rows · predictors · depth) and O(nodes · predictors · codes · classes). Memory: the rows twice.

use super::column::{CHECK_EVERY, CODES, Column};
use super::split::{Scratch, Split, Sums, best};
use super::target::Target;
use super::tree::{Node, Tree, holds};
use kernels::matrix::flat;
use runtime::error::Result;
use runtime::jobs::Signal;
use runtime::memory;

/// Minimum share of the impurity that a split must remove, so that rounding errors cause no split.
const MIN_GAIN: f64 = 1e-9;

/// A predictor: the codes of its rows, and whether they are ordered.
#[derive(Clone, Copy)]
pub(super) struct Predictor<'a> {
    pub codes: &'a [u8],
    pub ordered: bool,
}

struct Waiting {
    node: usize,
    start: usize,
    len: usize,
    /// Predictors that are not known to be constant.
    live: Vec<u32>,
}

struct Grower<'a> {
    predictors: &'a [Predictor<'a>],
    target: &'a Target,
    least: u32,
    /// [codes] and [codes, classes or outputs]: of the current predictor.
    rows: Vec<u32>,
    counts: Vec<u32>,
    sums: Vec<f64>,
    scratch: Scratch,
}

/// Grows the tree of `column` on `predictors`, with at least `least` rows in a leaf.
pub(super) fn grow(
    column: &Column,
    target: &Target,
    predictors: &[Predictor],
    least: usize,
    signal: &Signal,
) -> Result<Tree> {
    let rows = column.places.len();
    let outputs = target.outputs();
    let mut grower = Grower {
        predictors,
        target,
        least: least.max(1) as u32,
        rows: vec![0; CODES],
        counts: memory::filled(0, if target.is_classes() { CODES * outputs } else { 0 })?,
        sums: memory::filled(0.0, if target.is_classes() { 0 } else { CODES * outputs })?,
        scratch: Scratch::default(),
    };
    let mut order = Vec::new();
    memory::reserve(&mut order, rows)?;
    order.extend(0..rows as u32);
    let mut aside = memory::filled(0u32, rows)?;
    let mut tree = Tree { nodes: vec![Node::leaf(0)], starts: vec![0], donors: Vec::new() };
    memory::reserve(&mut tree.donors, rows)?;
    let mut waiting = vec![Waiting { node: 0, start: 0, len: rows, live: (0..predictors.len() as u32).collect() }];
    while let Some(Waiting { node, start, len, mut live }) = waiting.pop() {
        signal.check()?;
        let of_node = &mut order[start..start + len];
        let split = if len >= 2 * least.max(1) { grower.search(of_node, &mut live, signal)? } else { None };
        let Some((predictor, split)) = split else {
            let first = tree.donors.len();
            tree.nodes[node] = Node::leaf(tree.starts.len() as u32 - 1);
            tree.donors.extend(of_node.iter().map(|&row| column.places[row as usize]));
            tree.donors[first..].sort_unstable();
            memory::push(&mut tree.starts, tree.donors.len() as u32)?;
            signal.finished(len);
            continue;
        };
        let codes = predictors[predictor as usize].codes;
        let (mut left, mut right) = (0, 0);
        for i in 0..len {
            let row = of_node[i];
            let goes = holds(&split.mask, codes[row as usize]);
            // Both are written: no branch to be foretold.
            aside[right] = row;
            of_node[left] = row;
            right += usize::from(goes);
            left += usize::from(!goes);
        }
        of_node[left..].copy_from_slice(&aside[..right]);
        let next = tree.nodes.len() as u32;
        tree.nodes[node] = Node { mask: split.mask, predictor, next };
        memory::push(&mut tree.nodes, Node::leaf(0))?;
        memory::push(&mut tree.nodes, Node::leaf(0))?;
        let node = next as usize;
        waiting.push(Waiting { node: node + 1, start: start + left, len: right, live: live.clone() });
        waiting.push(Waiting { node, start, len: left, live });
    }
    Ok(tree)
}

impl Grower<'_> {
    /// Finds the best split of these rows, and removes constant predictors from `live`.
    fn search(&mut self, rows: &[u32], live: &mut Vec<u32>, signal: &Signal) -> Result<Option<(u32, Split)>> {
        let outputs = self.target.outputs();
        let (all, classes) = self.target.totals(rows);
        let impure = match self.target {
            Target::Classes { .. } => {
                let squares: u64 = classes.iter().map(|&n| n * n).sum();
                rows.len() as f64 - squares as f64 / rows.len() as f64
            }
            Target::Numbers { .. } => f64::INFINITY,
        };
        if impure <= 0.0 {
            return Ok(None);
        }
        let before = match self.target {
            Target::Classes { .. } => rows.len() as f64 - impure,
            Target::Numbers { .. } => all.iter().map(|x| x * x).sum::<f64>() / rows.len() as f64,
        };
        let least_gain = MIN_GAIN * rows.len() as f64;
        let mut found: Option<(u32, Split)> = None;
        let (mut failed, predictors) = (Ok(()), self.predictors);
        live.retain(|&place| {
            let predictor = &predictors[place as usize];
            if failed.is_ok() {
                failed = self.count(predictor.codes, rows, signal);
            }
            let sums = match self.target {
                Target::Classes { .. } => Sums::Classes { counts: &self.counts, classes: outputs },
                Target::Numbers(_) => Sums::Numbers { sums: &self.sums, outputs },
            };
            let split = best(&self.rows, &sums, predictor.ordered, self.least, &mut self.scratch, (&all, &classes));
            if let Some(split) = split
                && split.score > before + least_gain
                && found.as_ref().is_none_or(|(_, best)| split.score > best.score)
            {
                found = Some((place, split));
            }
            let codes = self.rows.iter().filter(|&&n| n > 0).count();
            self.clear(outputs);
            codes > 1
        });
        failed.map(|()| found)
    }

    fn clear(&mut self, outputs: usize) {
        for code in 0..CODES {
            if self.rows[code] > 0 {
                self.rows[code] = 0;
                match self.target {
                    Target::Classes { .. } => self.counts[code * outputs..][..outputs].fill(0),
                    Target::Numbers { .. } => self.sums[code * outputs..][..outputs].fill(0.0),
                }
            }
        }
    }

    fn count(&mut self, codes: &[u8], rows: &[u32], signal: &Signal) -> Result<()> {
        for rows in rows.chunks(CHECK_EVERY) {
            signal.check()?;
            match self.target {
                Target::Classes { classes, count } => {
                    for &row in rows {
                        let code = usize::from(codes[row as usize]);
                        self.rows[code] += 1;
                        self.counts[code * count + usize::from(classes[row as usize])] += 1;
                    }
                }
                Target::Numbers(values) if values.ncols() == 2 => {
                    let values = flat(values.view());
                    for &row in rows {
                        let code = usize::from(codes[row as usize]);
                        self.rows[code] += 1;
                        self.sums[2 * code] += f64::from(values[2 * row as usize]);
                        self.sums[2 * code + 1] += f64::from(values[2 * row as usize + 1]);
                    }
                }
                Target::Numbers(values) => {
                    let (outputs, values) = (values.ncols(), flat(values.view()));
                    for &row in rows {
                        let code = usize::from(codes[row as usize]);
                        self.rows[code] += 1;
                        let values = &values[row as usize * outputs..][..outputs];
                        let sums = &mut self.sums[code * outputs..][..outputs];
                        sums.iter_mut().zip(values).for_each(|(sum, &x)| *sum += f64::from(x));
                    }
                }
            }
        }
        Ok(())
    }
}
