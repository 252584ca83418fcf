//! The tables of a report side by side: columns matched by name, categories with common codes.

use std::borrow::Cow;
use std::sync::Arc;

use ahash::AHashMap;

use runtime::error::{Error, Result};
use runtime::memory;
use tabular::{Column, ColumnKind, NONE, Table};

/// Indices of the three tables. The holdout is empty if there is none.
pub const REAL: usize = 0;
pub const SYNTHETIC: usize = 1;
pub const HOLDOUT: usize = 2;

/// The values of a column in each table.
pub enum Values<'a> {
    /// NaN for NULL.
    Numbers([&'a [f64]; 3]),
    /// Names that only the other tables have follow the codes of the real table; [`NONE`] for NULL.
    Codes { of: [Cow<'a, [u32]>; 3], names: Vec<Arc<str>> },
}

pub struct Compared<'a> {
    pub name: &'a str,
    pub kind: ColumnKind,
    pub values: Values<'a>,
}

impl Compared<'_> {
    /// Numbers and times.
    pub fn is_continuous(&self) -> bool {
        matches!(self.values, Values::Numbers(_))
    }

    /// Bits of a value, equal for equal values of all tables.
    pub fn bits(&self, table: usize, row: usize) -> u64 {
        match &self.values {
            Values::Numbers(of) if of[table][row].is_nan() => u64::MAX,
            // −0 is 0.
            Values::Numbers(of) => (of[table][row] + 0.0).to_bits(),
            Values::Codes { of, .. } => of[table][row].into(),
        }
    }
}

/// The tables of a report.
pub struct Tables<'a> {
    pub columns: Vec<Compared<'a>>,
    /// Number of rows of each table.
    pub rows: [usize; 3],
    /// Columns of vectors, which are not compared.
    pub vectors: Vec<&'a str>,
}

impl<'a> Tables<'a> {
    /// Matches columns by name, in the order of the real table. A column that another table lacks or has with another
    /// type is an error, and so are a table without rows and no column at all.
    pub fn match_columns(
        real: &'a Table,
        synthetic: &'a Table,
        holdout: Option<&'a Table>,
        leave_out: &[&str],
    ) -> Result<Self> {
        let others = [Some((synthetic, "synthetic")), holdout.map(|table| (table, "holdout"))];
        for (table, which) in [Some((real, "real"))].into_iter().chain(others).flatten() {
            if table.rows() == 0 {
                return Err(Error::invalid(format!("there are no {which} rows"), "Select at least one row."));
            }
        }
        for (table, which) in others.into_iter().flatten() {
            if let Some((name, ..)) = table.columns().find(|(name, ..)| real.column(name).is_none()) {
                return Err(differs(name, format!("is in the {which} rows and not in the real rows")));
            }
        }
        if let Some(name) = leave_out.iter().find(|name| real.column(name).is_none()) {
            return Err(Error::argument("option \"leave_out\"", format!("\"{name}\""), "Name columns of the rows."));
        }
        let (mut columns, mut vectors) = (Vec::new(), Vec::new());
        for (name, kind, column) in real.columns() {
            let mut found = [Some(column), None, None];
            for (place, (table, which)) in
                [SYNTHETIC, HOLDOUT].into_iter().zip(others).filter_map(|(p, t)| Some((p, t?)))
            {
                let Some((_, other)) = table.column(name) else {
                    return Err(differs(name, format!("is not in the {which} rows")));
                };
                if other.kind() != column.kind() {
                    return Err(differs(name, format!("has another type in the {which} rows")));
                }
                found[place] = Some(other);
            }
            match column {
                _ if leave_out.contains(&name) => {}
                Column::Vector { .. } => vectors.push(name),
                Column::Number(_) => columns.push(Compared { name, kind, values: numbers(found) }),
                Column::Category { .. } => columns.push(Compared { name, kind, values: codes(found)? }),
            }
        }
        if columns.is_empty() {
            let hint = "Select at least one column of numbers, times, booleans or categories.";
            return Err(Error::invalid("there are no columns to compare", hint));
        }
        let rows = [real.rows(), synthetic.rows(), holdout.map_or(0, Table::rows)];
        Ok(Self { columns, rows, vectors })
    }
}

fn differs(name: &str, how: String) -> Error {
    let hint = "Select the same columns in all queries, and cast those whose types differ.";
    Error::invalid(format!("column \"{name}\" {how}"), hint)
}

fn numbers(found: [Option<&Column>; 3]) -> Values<'_> {
    Values::Numbers(found.map(|column| match column {
        Some(Column::Number(values)) => &values[..],
        _ => &[],
    }))
}

fn codes(found: [Option<&Column>; 3]) -> Result<Values<'_>> {
    let mut of = [const { Cow::Borrowed(&[] as &[u32]) }; 3];
    let (mut all, mut numbers): (Vec<Arc<str>>, AHashMap<Arc<str>, u32>) = (Vec::new(), AHashMap::default());
    for (table, column) in found.into_iter().enumerate() {
        let Some(Column::Category { codes, names, numbers: own }) = column else { continue };
        if table == REAL {
            (all, numbers) = (names.clone(), own.clone());
            of[table] = Cow::Borrowed(codes);
            continue;
        }
        let mut places = memory::filled(0u32, names.len())?;
        for (name, place) in names.iter().zip(&mut places) {
            *place = *numbers.entry(name.clone()).or_insert_with(|| {
                all.push(name.clone());
                all.len() as u32 - 1
            });
        }
        let mut mapped = Vec::new();
        memory::reserve(&mut mapped, codes.len())?;
        mapped.extend(codes.iter().map(|&code| if code == NONE { NONE } else { places[code as usize] }));
        of[table] = Cow::Owned(mapped);
    }
    Ok(Values::Codes { of, names: all })
}
