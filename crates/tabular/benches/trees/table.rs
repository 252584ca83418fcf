//! UCI Adult where it lies, and a generated table otherwise.

use std::collections::HashMap;

use kernels::Csr;
use runtime::draw::{below, normal, uniform};
use tabular::Features;

use crate::datasets;

/// Rows of numbers, and a class 0 or 1 for each.
pub struct Table {
    pub name: &'static str,
    pub columns: usize,
    /// [rows, columns]
    pub values: Vec<f32>,
    /// [rows]
    pub labels: Vec<u32>,
}

impl Table {
    pub fn load() -> Self {
        datasets::read("adult/adult.csv.gz").and_then(|text| Self::adult(&text)).unwrap_or_else(|| {
            println!("trees: a generated table instead");
            Self::generated(32_561)
        })
    }

    /// Its authors' file with a line of names; `None` where it is another one. Categories are numbered in the order in which they appear.
    fn adult(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let columns = lines.next()?.split(',').count() - 1;
        let mut known: Vec<HashMap<&str, usize>> = vec![HashMap::new(); columns];
        let mut table = Self { name: "Adult", columns, values: Vec::new(), labels: Vec::new() };
        for line in lines.filter(|line| !line.is_empty()) {
            let mut fields = line.split(',').map(str::trim);
            for known in &mut known {
                let field = fields.next()?;
                let numbered = || {
                    let next = known.len();
                    *known.entry(field).or_insert(next) as f32
                };
                table.values.push(field.parse().ok().unwrap_or_else(numbered));
            }
            table.labels.push(u32::from(fields.next()?.starts_with('>')));
        }
        (table.rows() > 0).then_some(table)
    }

    /// Six numbers and eight codes, of which some tell of the class.
    fn generated(rows: usize) -> Self {
        const COLUMNS: usize = 14;
        let value = |row: usize, column: usize| match column {
            0..6 => normal(column as u64, row as u64),
            _ => below(column as u64, row as u64, 3 * column) as f32,
        };
        let label = |row: usize| {
            let at = |column| value(row, column);
            let sum = 1.5 * at(0) + at(1) * at(2) + (at(6) % 3.0) - 0.3 * (at(7) - 8.0).abs() + at(13) / 40.0;
            u32::from(sum + 1.5 * uniform(99, row as u64) > 0.8)
        };
        Self {
            name: "generated",
            columns: COLUMNS,
            values: (0..rows * COLUMNS).map(|place| value(place / COLUMNS, place % COLUMNS)).collect(),
            labels: (0..rows).map(label).collect(),
        }
    }

    pub fn rows(&self) -> usize {
        self.labels.len()
    }

    pub fn all(&self) -> Vec<u32> {
        (0..self.rows() as u32).collect()
    }

    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.columns..][..self.columns]
    }

    pub fn each_row(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.columns)
    }

    fn subset(&self, keep: impl Fn(usize) -> bool) -> Self {
        let rows = || (0..self.rows()).filter(|&row| keep(row));
        let values = rows().flat_map(|row| self.row(row)).copied().collect();
        Self { values, labels: rows().map(|row| self.labels[row]).collect(), ..*self }
    }

    /// All but one in `n` rows, and these.
    pub fn split(&self, n: usize) -> (Self, Self) {
        (self.subset(|row| row % n > 0), self.subset(|row| row % n == 0))
    }

    pub fn first(&self, rows: usize) -> Self {
        self.subset(|row| row < rows)
    }

    /// All columns as numbers; zeros are not stored.
    pub fn features(&self) -> Features {
        let mut matrix = Csr { indptr: vec![0], columns: self.columns, ..Csr::default() };
        for row in self.each_row() {
            for (column, &value) in (0..).zip(row).filter(|(_, value)| **value != 0.0) {
                matrix.indices.push(column);
                matrix.values.push(value);
            }
            matrix.indptr.push(matrix.indices.len() as u64);
        }
        Features { matrix, categories: Vec::new() }
    }
}
