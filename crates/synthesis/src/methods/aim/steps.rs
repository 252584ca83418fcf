//! The steps of the sampler: each field with the distribution of its cells given its parents' cells.

use super::domain::Column;
use super::select::Learned;
use super::tree::{places, size_of_set, union};
use runtime::error::Result;
use runtime::memory;

/// The padded length of a row of `n` numbers: 2^m − 1.
pub fn padded(n: usize) -> usize {
    (n + 1).next_power_of_two() - 1
}

/// A field with its conditional distribution.
pub struct Step {
    pub field: usize,
    /// Parent fields with the stride of their cells in the row index.
    pub parents: Vec<(usize, usize)>,
    pub cells: usize,
    pub cumulative: Vec<f32>,
}

/// For each output except the last: the number of its cell plus the cumulative shares within the cell.
pub fn keys(column: &Column) -> Vec<f64> {
    let mut keys = Vec::new();
    for (cell, bounds) in column.starts.windows(2).enumerate() {
        let mut sum = 0.0;
        for (at, output) in (bounds[0]..).zip(&column.outputs[bounds[0]..bounds[1]]) {
            sum += output.share;
            keys.push(cell as f64 + if at + 1 == bounds[1] { 1.0 } else { sum.min(1.0) });
        }
    }
    keys.pop();
    keys.resize(padded(keys.len()), f64::MAX);
    keys
}

/// The steps in drawing order: each field given the earlier ones of its clique.
pub fn steps(learned: &Learned, label: Option<usize>) -> Result<Vec<Step>> {
    let (model, fields) = (&learned.model, &learned.fields);
    let mut steps = Vec::new();
    for (number, (clique, separator)) in model.tree.cliques.iter().zip(&model.tree.separators).enumerate() {
        let mut before = separator.clone();
        let mut new: Vec<usize> = clique.iter().copied().filter(|var| separator.binary_search(var).is_err()).collect();
        // The label first; else from few cells to many, so that the large table is one only.
        new.sort_by_key(|&var| (Some(fields[var]) != label, var));
        for var in new {
            let set = union(&before, &[var]);
            let joint = model.project(number, &set)?;
            let cells = model.cells[var];
            let rows = size_of_set(&model.cells, &before);
            let mut table = memory::filled(0.0, rows * cells)?;
            let row = places(&model.cells, &set, &before)?;
            let value = places(&model.cells, &set, &[var])?;
            let mut whole = vec![0.0; cells];
            for ((p, row), value) in joint.iter().zip(row).zip(value) {
                table[row as usize * cells + value as usize] += p;
                whole[value as usize] += p;
            }
            let length = padded(cells - 1);
            let mut cumulative = memory::filled(2.0, rows * length)?;
            for (row, to) in table.chunks_exact(cells).zip(cumulative.chunks_exact_mut(length.max(1))) {
                // What has no probability may still come up by rounding, and is then drawn as if nothing were known.
                let row = if row.iter().sum::<f64>() > 0.0 { row } else { &whole };
                let sum: f64 = row.iter().sum();
                let mut up_to = 0.0;
                for (to, p) in to.iter_mut().zip(&row[..cells - 1]) {
                    up_to += p / sum;
                    *to = up_to.min(1.0) as f32;
                }
            }
            let mut stride = rows;
            let parents = before.iter().map(|&parent| {
                stride /= model.cells[parent];
                (fields[parent], stride)
            });
            steps.push(Step { field: fields[var], parents: parents.collect(), cells, cumulative });
            before = set;
        }
    }
    Ok(steps)
}
