//! The distribution of a field as cells of a standard normal variable.
//!
//! A cell holds a share of the rows: a category, a number, NULL, or the numbers between two. Cells are ordered by
//! value, NULL first, and the line is cut at Φ⁻¹ of the cumulative shares. With at most [`FEW`] distinct numbers each
//! has its own cell; with more, those that [`SPIKE`] of the rows have. All others share [`GRID`] cells of about equal
//! numbers of rows, between whose ends values are linear in z.

use super::normal::{density, quantile};
use tabular::NONE;

/// Up to this many distinct numbers, each is kept exactly.
pub const FEW: usize = 512;
/// Number of cells of a column with more.
pub const GRID: usize = 1024;
/// A number with this share of the rows has its own cell.
const SPIKE: f64 = 1.0 / 512.0;
/// Terms of the expansion in Hermite polynomials.
pub const TERMS: usize = 48;

/// A cell without its position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cell {
    pub rows: f64,
    /// Both NaN for a number that is NULL, and −1 for a category that is.
    pub low: f64,
    pub high: f64,
}

#[derive(Clone, Debug, Default)]
pub struct Margin {
    pub cells: Vec<Cell>,
    /// [cells]: start of each; that of the first is −∞.
    pub starts: Vec<f64>,
    /// [cells]: E(Z | Z in the cell), the score of its rows.
    pub scores: Vec<f64>,
    /// [TERMS]: coefficients of the scores in the normalized Hermite polynomials 1, 2, …
    pub coefficients: Vec<f64>,
    /// Number of rows of all cells.
    total: f64,
    /// The cell of each category.
    of_code: Vec<u32>,
    /// Whether the first cell is NULL.
    nulls: bool,
}

impl Margin {
    /// The margin of categories, from the rows of each, the number of NULLs, and their order.
    pub fn of_categories(counts: &[usize], nulls: usize, order: &[u32]) -> Self {
        let mut cells = Vec::new();
        let mut of_code = vec![NONE; counts.len()];
        if nulls > 0 {
            cells.push(Cell { rows: nulls as f64, low: -1.0, high: -1.0 });
        }
        for &code in order.iter().filter(|&&code| counts[code as usize] > 0) {
            of_code[code as usize] = cells.len() as u32;
            cells.push(Cell { rows: counts[code as usize] as f64, low: f64::from(code), high: f64::from(code) });
        }
        if cells.is_empty() {
            cells.push(Cell { rows: 1.0, low: -1.0, high: -1.0 });
        }
        Self { of_code, ..Self::of(cells, nulls > 0) }
    }

    /// The margin of numbers. `values` are those that are not NULL, in any order.
    pub fn of_numbers(mut values: Vec<f64>, nulls: usize) -> Self {
        // −0 is 0.
        values.iter_mut().for_each(|x| *x += 0.0);
        values.sort_unstable_by(f64::total_cmp);
        let mut runs: Vec<(f64, usize)> = Vec::new();
        for &x in &values {
            match runs.last_mut() {
                Some((last, rows)) if *last == x => *rows += 1,
                _ => runs.push((x, 1)),
            }
        }
        let mut cells = Vec::new();
        if nulls > 0 || values.is_empty() {
            cells.push(Cell { rows: nulls.max(1) as f64, low: f64::NAN, high: f64::NAN });
        }
        let few = runs.len() <= FEW;
        let n = values.len() as f64;
        let mut open: Option<Cell> = None;
        for &(x, rows) in &runs {
            let rows = rows as f64;
            if few || rows >= SPIKE * n {
                cells.extend(open.take());
                cells.push(Cell { rows, low: x, high: x });
                continue;
            }
            let cell = open.get_or_insert(Cell { rows: 0.0, low: x, high: x });
            cell.rows += rows;
            cell.high = x;
            if cell.rows * GRID as f64 >= n {
                cells.extend(open.take());
            }
        }
        cells.extend(open);
        Self::of(cells, nulls > 0 || values.is_empty())
    }

    fn of(cells: Vec<Cell>, nulls: bool) -> Self {
        let total: f64 = cells.iter().map(|cell| cell.rows).sum();
        let mut below = 0.0;
        let starts: Vec<f64> = cells
            .iter()
            .map(|cell| {
                let start = quantile(below / total);
                below += cell.rows;
                start
            })
            .collect();
        let end = |cell: usize| starts.get(cell + 1).copied().unwrap_or(f64::INFINITY);
        let scores: Vec<f64> =
            (0..cells.len()).map(|i| (density(starts[i]) - density(end(i))) * total / cells[i].rows).collect();
        let mut coefficients = vec![0.0; TERMS];
        let (mut left, mut right) = ([0.0; TERMS], [0.0; TERMS]);
        for (i, score) in scores.iter().enumerate() {
            hermite_integrals(starts[i], &mut left);
            hermite_integrals(end(i), &mut right);
            let parts = left.iter().zip(&right);
            coefficients.iter_mut().zip(parts).for_each(|(sum, (l, r))| *sum += score * (l - r));
        }
        Self { cells, starts, scores, coefficients, total, of_code: Vec::new(), nulls }
    }

    pub fn score_of_code(&self, code: u32) -> f64 {
        // NULL stands first; a category that no row had when cells were made has no score.
        let cell = if code == NONE { 0 } else { self.of_code.get(code as usize).copied().unwrap_or(NONE) };
        self.scores.get(cell as usize).copied().unwrap_or(0.0)
    }

    pub fn score_of_number(&self, x: f64) -> f64 {
        if x.is_nan() {
            return self.scores[0];
        }
        let first = usize::from(self.nulls);
        let place = self.cells[first..].partition_point(|cell| cell.low <= x);
        self.scores[(first + place).saturating_sub(1).max(first.min(self.scores.len() - 1))]
    }

    /// The interval over which the values of a cell are spread: the cell, and for the first and the last one an
    /// interval with half of its rows on either side of the middle.
    pub fn span(&self, cell: usize) -> (f64, f64) {
        let half = 0.5 * self.cells[cell].rows / self.total;
        let (start, end) = (self.starts[cell], self.starts.get(cell + 1).copied().unwrap_or(f64::INFINITY));
        match (start.is_finite(), end.is_finite()) {
            (true, true) => (start, end),
            (false, true) => (2.0 * quantile(half) - end, end),
            (true, false) => (start, -2.0 * quantile(half) - start),
            (false, false) => (-1.0, 1.0),
        }
    }
}

/// ∫ₓ^∞ hₖ φ for the normalized Hermite polynomials k = 1, 2, …: hₖ₋₁(x) φ(x) / √k.
fn hermite_integrals(x: f64, out: &mut [f64; TERMS]) {
    if !x.is_finite() {
        out.fill(0.0);
        return;
    }
    let (mut before, mut h) = (0.0, density(x));
    for (k, out) in (1..).map(f64::from).zip(out) {
        *out = h / k.sqrt();
        (before, h) = (h, (x * h - (k - 1.0).sqrt() * before) / k.sqrt());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_cells_and_scores_are_their_means() {
        let margin = Margin::of_categories(&[25, 0, 50], 25, &[0, 1, 2]);
        assert_eq!(margin.cells.iter().map(|cell| cell.low).collect::<Vec<_>>(), [-1.0, 0.0, 2.0]);
        assert!((margin.starts[1] - quantile(0.25)).abs() < 1e-12 && margin.starts[2].abs() < 1e-12);
        // E(Z | Z > 0) = √(2/π)
        assert!((margin.scores[2] - (2.0 / std::f64::consts::PI).sqrt()).abs() < 1e-12);
        let mean: f64 = margin.scores.iter().zip(&margin.cells).map(|(s, cell)| s * cell.rows).sum();
        assert!(mean.abs() < 1e-12);
        assert_eq!(margin.score_of_code(NONE), margin.scores[0]);
        assert_eq!((margin.score_of_code(0), margin.score_of_code(1)), (margin.scores[1], 0.0));
    }

    #[test]
    fn the_first_coefficient_is_the_variance_of_the_scores() {
        let margin = Margin::of_categories(&[10, 60, 30], 0, &[2, 0, 1]);
        let variance: f64 = margin.scores.iter().zip(&margin.cells).map(|(s, cell)| s * s * cell.rows / 100.0).sum();
        assert!((margin.coefficients[0] - variance).abs() < 1e-12);
        // Parseval: all squares sum to the variance, all but the rest past the last term.
        let all: f64 = margin.coefficients.iter().map(|a| a * a).sum();
        assert!(all < variance + 1e-12 && all > 0.9 * variance, "{all} {variance}");
    }

    #[test]
    fn many_numbers_share_cells_and_a_spike_keeps_its_own() {
        let mut values: Vec<f64> = (0..10_000).map(f64::from).collect();
        values.extend([500.5; 5000]);
        let margin = Margin::of_numbers(values, 1000);
        assert!(margin.cells[0].low.is_nan() && margin.cells[0].rows == 1000.0);
        let spike: Vec<_> = margin.cells.iter().filter(|cell| cell.rows > 4000.0).collect();
        assert_eq!(spike, [&Cell { rows: 5000.0, low: 500.5, high: 500.5 }]);
        assert!((600..=GRID + 3).contains(&margin.cells.len()), "{}", margin.cells.len());
        assert!(margin.cells[1..].windows(2).all(|pair| pair[0].high < pair[1].low));
        assert_eq!(margin.score_of_number(f64::NAN), margin.scores[0]);
        assert_eq!(margin.score_of_number(-1.0), margin.scores[1]);
        assert_eq!(margin.score_of_number(1e9), *margin.scores.last().unwrap());
        assert!(margin.score_of_number(500.4) < margin.score_of_number(500.5));
    }

    #[test]
    fn nothing_but_null_and_one_value_alone_are_one_cell() {
        for margin in [
            Margin::of_numbers(Vec::new(), 3),
            Margin::of_numbers(vec![7.0; 9], 0),
            Margin::of_categories(&[0, 0], 2, &[0, 1]),
            Margin::of_categories(&[], 0, &[]),
        ] {
            assert_eq!((margin.cells.len(), margin.scores[0]), (1, 0.0));
            assert_eq!((margin.score_of_number(7.0), margin.score_of_number(f64::NAN)), (0.0, 0.0));
            assert!(margin.coefficients.iter().all(|&a| a == 0.0));
        }
    }
}
