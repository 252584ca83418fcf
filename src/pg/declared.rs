//! Constraints that the catalog declares on a query's columns: keys, references, checks, NOT NULL.

use std::ffi::CStr;

use pgrx::{Spi, pg_sys};

use crate::pg::errors::SpiResult;
use crate::pg::source::ResultColumn;
use runtime::error::Result;
use synthesis::constraints::{Comparison, Operand, parse};

#[derive(Clone, Copy, Default)]
pub struct DeclaredColumn {
    pub not_null: bool,
    /// A primary key or unique constraint on this column alone.
    pub key: bool,
    /// A foreign key on this column alone.
    pub foreign_key: bool,
}

pub struct Declared {
    /// One for each requested column.
    pub columns: Vec<DeclaredColumn>,
    /// CHECK expressions over these columns, which have the same names in the query.
    pub checks: Vec<String>,
    /// Groups of columns that are unique together.
    pub unique: Vec<Vec<String>>,
}

/// Looks up the constraints of the table columns that `columns` are copies of.
pub fn read(columns: &[&ResultColumn]) -> Result<Declared> {
    let mut declared =
        Declared { columns: vec![DeclaredColumn::default(); columns.len()], checks: Vec::new(), unique: Vec::new() };
    let mut tables: Vec<pg_sys::Oid> =
        columns.iter().filter_map(|column| column.origin).map(|(table, _)| table).collect();
    tables.sort_unstable_by_key(|table| table.to_u32());
    tables.dedup();
    for table in tables {
        read_table(table, columns, &mut declared)?;
    }
    Ok(declared)
}

fn read_table(table: pg_sys::Oid, columns: &[&ResultColumn], declared: &mut Declared) -> Result<()> {
    let of_table = |number: i16| columns.iter().position(|column| column.origin == Some((table, number)));
    Spi::connect(|client| {
        let query = "SELECT a.attnum, a.attnotnull FROM pg_catalog.pg_attribute a
                      WHERE a.attrelid OPERATOR(pg_catalog.=) $1 AND a.attnum OPERATOR(pg_catalog.>) 0";
        for row in client.select(query, None, &[table.into()]).spi()? {
            let number = row.get::<i16>(1).spi()?.unwrap_or(0);
            if let Some(column) = of_table(number) {
                declared.columns[column].not_null = row.get::<bool>(2).spi()?.unwrap_or(false);
            }
        }
        let query = "SELECT c.contype::pg_catalog.text, c.conkey, pg_catalog.pg_get_expr(c.conbin, c.conrelid)
                       FROM pg_catalog.pg_constraint c WHERE c.conrelid OPERATOR(pg_catalog.=) $1 ORDER BY c.oid";
        for row in client.select(query, None, &[table.into()]).spi()? {
            let kind = row.get::<String>(1).spi()?.unwrap_or_default();
            let numbers = row.get::<Vec<Option<i16>>>(2).spi()?.unwrap_or_default();
            let places: Option<Vec<usize>> = numbers.into_iter().flatten().map(of_table).collect();
            // A constraint over columns that the query leaves out says nothing of its rows.
            let Some(places) = places else { continue };
            match (kind.as_str(), places.as_slice()) {
                ("p" | "u", [column]) => declared.columns[*column].key = true,
                ("p" | "u", several) if several.len() > 1 => {
                    declared.unique.push(several.iter().map(|&place| columns[place].name.clone()).collect());
                }
                ("f", [column]) => declared.columns[*column].foreign_key = true,
                ("c", _) => {
                    if let Some(check) = row.get::<String>(3).spi()?
                        && has_own_names(&check, table, columns)
                    {
                        declared.checks.push(check);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    })
}

/// Whether the columns in a CHECK expression have the same names in the query. True for an expression that cannot be parsed, which is reported
/// later.
fn has_own_names(check: &str, table: pg_sys::Oid, columns: &[&ResultColumn]) -> bool {
    let own = |name: &String| {
        columns.iter().any(|column| match column.origin {
            // SAFETY: a look-up of a column that a query has named; `true` for a name that is gone.
            Some((origin, number)) if origin == table && column.name == *name => unsafe {
                let text = pg_sys::get_attname(table, number, true);
                !text.is_null() && CStr::from_ptr(text).to_str() == Ok(name)
            },
            _ => false,
        })
    };
    let named = |operand: &Operand| match operand {
        Operand::Column(name) => own(name),
        _ => true,
    };
    parse(check).is_none_or(|comparisons| {
        comparisons.iter().all(|comparison| match comparison {
            Comparison::Compare(left, _, right) => named(left) && named(right),
            Comparison::OneOf(name, _) | Comparison::NotNull(name) => own(name),
        })
    })
}

/// The labels of an enum in its order.
pub fn enum_labels(type_oid: pg_sys::Oid) -> Result<Vec<String>> {
    Spi::connect(|client| {
        let query = "SELECT e.enumlabel::pg_catalog.text FROM pg_catalog.pg_enum e
                      WHERE e.enumtypid OPERATOR(pg_catalog.=) $1 ORDER BY e.enumsortorder";
        client
            .select(query, None, &[type_oid.into()])
            .spi()?
            .map(|row| Ok(row.get::<String>(1).spi()?.unwrap_or_default()))
            .collect()
    })
}
