//! Growing one tree of boosting, best first: the leaf whose split gains most is split next.

use std::ops::Range;

use super::binned::Binned;
use super::split::{self, Cell, Scales, Split};
use super::tree::Tree;
use runtime::draw;
use runtime::error::Result;
use runtime::jobs::Signal;
use runtime::memory;

/// Rows whose codes stay in the L2 cache while column after column is summed, and rows between two checks for a cancel
/// request.
const BLOCK_ROWS: usize = 4096;
/// Cells of a histogram that stay in the L1 cache.
const BLOCK_CELLS: usize = 1024;

/// Buffers for growing trees, reused from tree to tree.
pub(super) struct Grower<'a> {
    binned: &'a Binned,
    /// [columns]: first cell in a histogram.
    offsets: Vec<usize>,
    bins: usize,
    /// The training rows, ascending.
    rows: &'a [u32],
    /// The same, grouped by leaf.
    ordered: Vec<u32>,
    scratch: Vec<u32>,
    free: Vec<Vec<Cell>>,
    /// The columns that the current tree may split by, ascending, and their offsets.
    used: Vec<(usize, usize)>,
}

struct Leaf {
    node: usize,
    rows: Range<usize>,
    sums: Cell,
    histogram: Vec<Cell>,
    split: Option<Split>,
}

impl<'a> Grower<'a> {
    pub fn new(binned: &'a Binned, rows: &'a [u32]) -> Result<Self> {
        let mut bins = 0;
        let offsets = binned
            .columns
            .iter()
            .map(|column| {
                bins += column.bins;
                bins - column.bins
            })
            .collect();
        let ordered = memory::filled(0, rows.len())?;
        let scratch = memory::filled(0, rows.len())?;
        Ok(Self { binned, offsets, bins, rows, ordered, scratch, free: Vec::new(), used: Vec::new() })
    }

    /// Draws the columns that the next tree may split by: this share of them, at least one.
    pub fn draw_columns(&mut self, share: f32, seed: u64) {
        let n = self.offsets.len();
        let keep = ((n as f32 * share).round() as usize).clamp(n.min(1), n);
        let mut order = vec![0u32; n];
        draw::shuffled(&mut order, seed);
        order.truncate(keep);
        order.sort_unstable();
        self.used.clear();
        self.used.extend(order.iter().map(|&column| (column as usize, self.offsets[column as usize])));
    }

    /// `gradients` [binned rows]: gradient and second derivative in units of `scales`. `visit` is told of each leaf's
    /// rows and step.
    pub fn grow(
        &mut self,
        gradients: &[[i32; 2]],
        scales: &Scales,
        most_leaves: usize,
        signal: &Signal,
        mut visit: impl FnMut(&[u32], f32) -> f32,
    ) -> Result<Tree> {
        let mut tree = Tree::new();
        self.ordered.copy_from_slice(self.rows);
        let mut sums = Cell::default();
        for &row in self.rows {
            let [g, h] = gradients[row as usize];
            sums.add(Cell::new(g, h));
        }
        let mut root = Leaf { node: 0, rows: 0..self.rows.len(), sums, histogram: Vec::new(), split: None };
        if most_leaves > 1 && sums.rows() >= 2 * scales.least_rows {
            root.histogram = self.histogram(&root.rows, gradients, signal)?;
            self.search(&mut root, scales);
        }
        let mut leaves = vec![root];
        while leaves.len() < most_leaves {
            signal.check()?;
            let Some((place, split)) = best_leaf(&leaves) else { break };
            let last = leaves.len() + 1 == most_leaves;
            let leaf = &mut leaves[place];
            let left_node = tree.split(leaf.node, split.column, split.how);
            let middle = self.partition(&leaf.rows, &split);
            let mut right_sums = leaf.sums;
            right_sums.subtract(split.left);
            let mut left = Leaf {
                node: left_node,
                rows: leaf.rows.start..middle,
                sums: split.left,
                histogram: vec![],
                split: None,
            };
            let mut right = Leaf {
                node: left_node + 1,
                rows: middle..leaf.rows.end,
                sums: right_sums,
                histogram: vec![],
                split: None,
            };
            let mut whole = std::mem::take(&mut leaf.histogram);
            let (small, large) =
                if left.rows.len() <= right.rows.len() { (&mut left, &mut right) } else { (&mut right, &mut left) };
            let can_split = |leaf: &Leaf| !last && leaf.rows.len() >= 2 * scales.least_rows.max(1);
            if can_split(large) {
                small.histogram = self.histogram(&small.rows, gradients, signal)?;
                whole.iter_mut().zip(&small.histogram).for_each(|(whole, &small)| whole.subtract(small));
                large.histogram = whole;
                self.search(large, scales);
                if can_split(small) {
                    self.search(small, scales);
                }
            } else {
                self.free.push(whole);
            }
            for child in [small, large] {
                if child.split.is_none() && !child.histogram.is_empty() {
                    self.free.push(std::mem::take(&mut child.histogram));
                }
            }
            leaves[place] = left;
            leaves.push(right);
        }
        for leaf in leaves {
            let value = visit(&self.ordered[leaf.rows], scales.step(leaf.sums));
            tree.set_values(leaf.node, [(0, value)]);
            if !leaf.histogram.is_empty() {
                self.free.push(leaf.histogram);
            }
        }
        Ok(tree)
    }

    fn search(&self, leaf: &mut Leaf, scales: &Scales) {
        leaf.split = split::best(&self.binned.columns, &self.used, &leaf.histogram, leaf.sums, scales);
    }

    fn histogram(&mut self, rows: &Range<usize>, gradients: &[[i32; 2]], signal: &Signal) -> Result<Vec<Cell>> {
        let mut cells = match self.free.pop() {
            Some(mut cells) => {
                cells.fill(Cell::default());
                cells
            }
            None => memory::filled(Cell::default(), self.bins)?,
        };
        for rows in self.ordered[rows.clone()].chunks(BLOCK_ROWS) {
            signal.check()?;
            for used in self.used.chunk_by(|a, b| a.1 / BLOCK_CELLS == b.1 / BLOCK_CELLS) {
                for &row in rows {
                    let [g, h] = gradients[row as usize];
                    let cell = Cell::new(g, h);
                    let codes = self.binned.row(row as usize);
                    for &(column, offset) in used {
                        // SAFETY: `used` holds columns of those binned. A code is below the number of bins of its
                        // column, and a histogram has as many cells as the columns have bins, those of a column from
                        // its offset on.
                        unsafe {
                            let code = usize::from(*codes.get_unchecked(column));
                            cells.get_unchecked_mut(offset + code).add(cell);
                        }
                    }
                }
            }
        }
        Ok(cells)
    }

    /// Moves the rows that go left to the front, keeping their order. Returns the start of the others.
    fn partition(&mut self, range: &Range<usize>, split: &Split) -> usize {
        let rows = &mut self.ordered[range.clone()];
        let (mut left, mut right) = (0, 0);
        for i in 0..rows.len() {
            let row = rows[i];
            let goes_left = split.how.has(self.binned.row(row as usize)[split.column]);
            // Both are written, one counts: no branch to guess.
            rows[left] = row;
            self.scratch[right] = row;
            left += usize::from(goes_left);
            right += usize::from(!goes_left);
        }
        rows[left..].copy_from_slice(&self.scratch[..right]);
        range.start + left
    }
}

fn best_leaf(leaves: &[Leaf]) -> Option<(usize, Split)> {
    let mut best: Option<(usize, Split)> = None;
    for (place, leaf) in leaves.iter().enumerate() {
        if let Some(split) = leaf.split
            && best.is_none_or(|(_, best)| split.gain > best.gain)
        {
            best = Some((place, split));
        }
    }
    best
}
