//! The best split of a leaf in boosting, from its histogram.

use super::binned::Column;
use super::tree::Left;

/// Sums over rows: gradient and second derivative as integers, in units of the tree, and the number of rows. Integer sums do
/// not depend on the order, and subtracting histograms is exact.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C, align(16))]
pub(super) struct Cell(pub [i32; 4]);

impl Cell {
    pub fn new(gradient: i32, hessian: i32) -> Self {
        Self([gradient, hessian, 1, 0])
    }

    #[inline(always)]
    pub fn add(&mut self, other: Self) {
        (0..4).for_each(|i| self.0[i] = self.0[i].wrapping_add(other.0[i]));
    }

    #[inline(always)]
    pub fn subtract(&mut self, other: Self) {
        (0..4).for_each(|i| self.0[i] = self.0[i].wrapping_sub(other.0[i]));
    }

    #[inline(always)]
    pub fn rows(self) -> usize {
        self.0[2] as usize
    }
}

/// Units of the sums of a tree, and regularisation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scales {
    pub gradient: f32,
    pub hessian: f32,
    pub l2: f32,
    pub least_rows: usize,
}

impl Scales {
    #[inline(always)]
    fn sums(&self, cell: Cell) -> (f32, f32) {
        (cell.0[0] as f32 * self.gradient, cell.0[1] as f32 * self.hessian)
    }

    /// −G / (H + λ): the step that minimises the second-order loss (Chen, Guestrin 2016, eq. 5).
    pub fn step(&self, cell: Cell) -> f32 {
        let (g, h) = self.sums(cell);
        if h + self.l2 > f32::MIN_POSITIVE { -g / (h + self.l2) } else { 0.0 }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Split {
    pub gain: f32,
    pub column: usize,
    pub how: Left,
    pub left: Cell,
}

/// The split with the greatest gain (Chen, Guestrin 2016, eq. 7), the first on ties; `None` if none gains. `used` are the
/// columns that may split, and the first cell of each.
pub(super) fn best(
    columns: &[Column],
    used: &[(usize, usize)],
    histogram: &[Cell],
    whole: Cell,
    scales: &Scales,
) -> Option<Split> {
    if whole.rows() < 2 * scales.least_rows {
        return None;
    }
    let (g, h) = scales.sums(whole);
    let mut search = Search { scales, whole, gradient: g, hessian: h, best: None, least: 0.0 };
    search.least = g * g / (h + scales.l2).max(f32::MIN_POSITIVE) * (1.0 + 1e-5) + f32::MIN_POSITIVE;
    let parent = search.least;
    for &(column, offset) in used {
        let kind = &columns[column];
        let cells = &histogram[offset..][..kind.bins];
        if kind.categories {
            search.categories(column, cells);
        } else {
            search.numbers(column, cells);
        }
    }
    search.best.map(|split| Split { gain: split.gain - parent, ..split })
}

struct Search<'a> {
    scales: &'a Scales,
    whole: Cell,
    gradient: f32,
    hessian: f32,
    best: Option<Split>,
    /// The gain to exceed.
    least: f32,
}

impl Search<'_> {
    /// G² / (H + λ) of both sides; below `least` where a side has too few rows.
    #[inline(always)]
    fn gain(&self, left: Cell) -> f32 {
        let (g, h) = self.scales.sums(left);
        let (other_g, other_h) = (self.gradient - g, self.hessian - h);
        let (a, b) = (h + self.scales.l2, other_h + self.scales.l2);
        (g * g * b + other_g * other_g * a) / (a * b)
    }

    #[inline(always)]
    fn offer(&mut self, column: usize, left: Cell, how: impl FnOnce() -> Left) {
        let gain = self.gain(left);
        // False for NaN, where neither side has a second derivative.
        if gain > self.least && gain.is_finite() {
            self.least = gain;
            self.best = Some(Split { gain, column, how: how(), left });
        }
    }

    fn numbers(&mut self, column: usize, cells: &[Cell]) {
        let (least, rows) = (self.scales.least_rows, self.whole.rows());
        let mut left = Cell::default();
        for (code, &cell) in cells.iter().enumerate() {
            if cell.rows() == 0 {
                continue;
            }
            left.add(cell);
            if rows - left.rows() < least.max(1) {
                return;
            }
            if left.rows() >= least {
                self.offer(column, left, || Left::UpTo(code as u8));
            }
        }
    }

    /// One category against all others: subsets ordered by gradient memorise wrong labels of rare categories.
    fn categories(&mut self, column: usize, cells: &[Cell]) {
        let (least, rows) = (self.scales.least_rows, self.whole.rows());
        for (code, &cell) in cells.iter().enumerate() {
            if cell.rows() >= least && rows - cell.rows() >= least {
                self.offer(column, cell, || alone(code as u8));
            }
        }
    }
}

/// The set of one code.
pub(super) fn alone(code: u8) -> Left {
    let mut set = [0; 4];
    set[usize::from(code >> 6)] = 1 << (code & 63);
    Left::Set(set)
}
