//! The rows of a query with their types, for training a synthesizer.

use std::ffi::CStr;

use pgrx::{Spi, pg_sys};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use crate::pg::declared;
use crate::pg::errors::SpiResult;
use crate::pg::row::{Field, type_name};
use crate::pg::secret::secret;
use crate::pg::source::{ResultColumn, Source};
use crate::service::dataset::empty_query;
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::progress::Progress;
use runtime::sealed::hex;
use runtime::sorting::sort_watched;
use synthesis::schema::{ColumnType, Description};
use tabular::{ColumnKind, Table, Value};

/// The types that a column of a source may have.
const POSSIBLE: &str = "text, boolean, an enum, a number, a date or a time, uuid, json, or an array of those; or leave it out with the option \"drop\"";

/// The rows of a query, and descriptions of its columns.
pub struct TypedRows {
    pub table: Table,
    pub descriptions: Vec<Description>,
    /// CHECK constraints of the underlying tables, and groups of columns that are unique together.
    pub checks: Vec<String>,
    pub unique: Vec<Vec<String>>,
    /// Columns that were left out, with their types.
    pub dropped: Vec<(String, String)>,
    /// The types of the columns that are kept.
    pub types: Vec<pg_sys::Oid>,
}

/// Replaces values that must not be disclosed. Equal values get equal pseudonyms during its lifetime.
pub struct Pseudonyms([u8; 32]);

impl Pseudonyms {
    pub fn new() -> Result<Self> {
        secret().map(Self)
    }

    fn of(&self, column: &str, value: &str) -> String {
        let mut hash = Sha256::new();
        hash.update(self.0);
        hash.update(column.as_bytes());
        hash.update([0]);
        hash.update(value.as_bytes());
        format!("{column}_{}", &hex(&hash.finalize())[..12])
    }
}

/// Columns to leave out, and columns whose values to replace.
#[derive(Default)]
pub struct Hidden {
    pub drop: Vec<String>,
    pub pseudonymize: Vec<String>,
}

impl TypedRows {
    /// Runs the query of the argument `what` with the caller's privileges.
    pub fn read(
        what: &'static str,
        query: &str,
        hidden: &Hidden,
        pseudonyms: &Pseudonyms,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let (rows, columns) = Source::open_columns(what, query)?;
        let found = || columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
        if let Some(missing) =
            hidden.drop.iter().chain(&hidden.pseudonymize).find(|name| !columns.iter().any(|c| c.name == **name))
        {
            return Err(Error::MissingColumn { column: missing.clone(), found: found() });
        }
        let doubled =
            columns.iter().enumerate().find(|(i, column)| columns[..*i].iter().any(|c| c.name == column.name));
        if let Some((_, column)) = doubled {
            let hint = "Give every column of the source its own name.";
            return Err(Error::invalid(format!("column name \"{}\" specified more than once", column.name), hint));
        }
        let mut kept: Vec<(usize, ResultColumn, Reading)> = Vec::new();
        let mut dropped = Vec::new();
        for (place, column) in columns.into_iter().enumerate() {
            if hidden.drop.contains(&column.name) {
                dropped.push((column.name.clone(), type_name(column.type_oid)));
                continue;
            }
            let reading = Reading::of(column.type_oid).ok_or_else(|| Error::ColumnType {
                column: column.name.clone(),
                found: type_name(column.type_oid),
                expected: POSSIBLE,
            })?;
            if hidden.pseudonymize.contains(&column.name) && reading.column_type() != ColumnType::Text {
                return Err(Error::ColumnType {
                    column: column.name.clone(),
                    found: type_name(column.type_oid),
                    expected: "text to be pseudonymized",
                });
            }
            kept.push((place, column, reading));
        }
        let kind = |reading: &Reading| match reading.column_type() {
            kind if kind.is_number() => ColumnKind::Number,
            _ => ColumnKind::Category,
        };
        let mut table =
            Table::new(kept.iter().map(|(_, column, reading)| (column.name.clone(), kind(reading))).collect());
        let secret: Vec<bool> = kept.iter().map(|(_, column, _)| hidden.pseudonymize.contains(&column.name)).collect();
        let mut read: Vec<Read> = Vec::with_capacity(kept.len());
        rows.read(progress, |row| {
            read.clear();
            for ((place, column, reading), &secret) in kept.iter().zip(&secret) {
                let value = row.field(*place).map_or(Ok(Read::Null), |field| reading.read(&field))?;
                read.push(match value {
                    Read::Text(text) if secret => Read::Text(pseudonyms.of(&column.name, &text)),
                    value => value,
                });
            }
            let values: Vec<Value> = read.iter().map(Read::value).collect();
            let number = table.rows() + 1;
            table.push(&values, || format!("row {number}"))
        })?;
        if table.rows() == 0 {
            return Err(empty_query(what));
        }
        let columns: Vec<&ResultColumn> = kept.iter().map(|(_, column, _)| column).collect();
        let declared = declared::read(&columns)?;
        let descriptions = kept.iter().zip(declared.columns).map(|((_, column, reading), declared)| {
            // What is a key of its table is none of a join in which it comes more than once: there it refers to that table.
            let key = declared.key && is_distinct(&table, &column.name, progress)?;
            Ok(Description {
                name: column.name.clone(),
                column_type: reading.column_type(),
                type_name: type_name(column.type_oid),
                scale: scale(column),
                not_null: declared.not_null,
                key,
                foreign_key: declared.foreign_key || (declared.key && !key),
                labels: reading.labels(column.type_oid),
                uuid: column.type_oid == pg_sys::UUIDOID,
            })
        });
        let descriptions = descriptions.collect::<Result<_>>()?;
        let types = columns.iter().map(|column| column.type_oid).collect();
        Ok(Self { descriptions, checks: declared.checks, unique: declared.unique, dropped, types, table })
    }
}

impl TypedRows {
    /// The values of a column as texts; NULL is an error.
    pub fn ids(&self, name: &str) -> Result<Vec<String>> {
        let found = || self.descriptions.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
        let missing = || Error::MissingColumn { column: name.into(), found: found() };
        let (_, column) = self.table.column(name).ok_or_else(missing)?;
        let id = |row: usize| match column.get(row) {
            Value::Category(text) => Ok(text.to_owned()),
            Value::Number(number) => Ok(number.to_string()),
            _ => Err(Error::NullColumn { column: name.into(), row: row + 1 }),
        };
        (0..self.table.rows()).map(id).collect()
    }
}

/// Whether all values of a column differ and none is NULL.
fn is_distinct(table: &Table, name: &str, progress: &dyn Progress) -> Result<bool> {
    Ok(match table.column(name) {
        Some((_, tabular::Column::Category { codes, names, .. })) => names.len() == codes.len(),
        Some((_, tabular::Column::Number(values))) => {
            let mut sorted = Vec::new();
            memory::extend(&mut sorted, values)?;
            sort_watched(&mut sorted, &|| progress.check(), f64::total_cmp)?;
            sorted.windows(2).all(|pair| pair[0] < pair[1]) && !sorted.last().is_some_and(|x| x.is_nan())
        }
        _ => false,
    })
}

/// The scale in the type modifier of a numeric.
fn scale(column: &ResultColumn) -> Option<u8> {
    const HEADER: i32 = 4;
    if column.type_oid != pg_sys::NUMERICOID || column.modifier < HEADER {
        return None;
    }
    // Eleven bits with a sign since PostgreSQL 15, where a scale may be below 0.
    let scale = (((column.modifier - HEADER) & 0x7ff) ^ 1024) - 1024;
    u8::try_from(scale).ok()
}

/// How values of a type are read.
#[derive(Clone, Copy)]
enum Reading {
    Boolean,
    Number(ColumnType),
    Date,
    Microseconds(ColumnType),
    Text,
    /// By the type's output function.
    Printed(ColumnType),
}

enum Read {
    Null,
    Number(f64),
    Text(String),
}

impl Read {
    fn value(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Number(number) => Value::Number(*number),
            Self::Text(text) => Value::Category(text),
        }
    }
}

impl Reading {
    fn of(type_oid: pg_sys::Oid) -> Option<Self> {
        Some(match type_oid {
            pg_sys::BOOLOID => Self::Boolean,
            pg_sys::INT2OID | pg_sys::INT4OID | pg_sys::INT8OID => Self::Number(ColumnType::Integer),
            pg_sys::FLOAT4OID | pg_sys::FLOAT8OID => Self::Number(ColumnType::Float),
            pg_sys::NUMERICOID => Self::Number(ColumnType::Numeric),
            pg_sys::DATEOID => Self::Date,
            pg_sys::TIMEOID => Self::Microseconds(ColumnType::Time),
            pg_sys::TIMESTAMPOID => Self::Microseconds(ColumnType::Timestamp),
            pg_sys::TIMESTAMPTZOID => Self::Microseconds(ColumnType::Timestamptz),
            pg_sys::TEXTOID | pg_sys::VARCHAROID => Self::Text,
            pg_sys::BPCHAROID | pg_sys::UUIDOID | pg_sys::NAMEOID => Self::Printed(ColumnType::Text),
            pg_sys::JSONOID | pg_sys::JSONBOID => Self::Printed(ColumnType::Json),
            // SAFETY: look-ups that take any oid.
            other => unsafe {
                let element = pg_sys::get_element_type(other);
                if pg_sys::get_typtype(other) as u8 == pg_sys::TYPTYPE_ENUM {
                    Self::Printed(ColumnType::Text)
                } else if element != pg_sys::InvalidOid && Self::of(pg_sys::getBaseType(element)).is_some() {
                    Self::Printed(ColumnType::Array)
                } else {
                    return None;
                }
            },
        })
    }

    fn column_type(self) -> ColumnType {
        match self {
            Self::Boolean => ColumnType::Boolean,
            Self::Number(kind) | Self::Microseconds(kind) | Self::Printed(kind) => kind,
            Self::Date => ColumnType::Date,
            Self::Text => ColumnType::Text,
        }
    }

    /// All values of the type, if it is an enum or boolean.
    fn labels(self, type_oid: pg_sys::Oid) -> Option<Vec<String>> {
        match self {
            Self::Boolean => Some(vec!["false".into(), "true".into()]),
            Self::Printed(ColumnType::Text)
                // SAFETY: takes any oid.
                if unsafe { pg_sys::get_typtype(type_oid) } as u8 == pg_sys::TYPTYPE_ENUM =>
            {
                declared::enum_labels(type_oid).ok()
            }
            _ => None,
        }
    }

    /// Reads a value of the type that this was created for.
    fn read(self, field: &Field) -> Result<Read> {
        // Infinite times are refused as infinite numbers are.
        let count = |count: i64, least: i64, most: i64| match count {
            count if count == least => f64::NEG_INFINITY,
            count if count == most => f64::INFINITY,
            count => count as f64,
        };
        Ok(match self {
            Self::Boolean => Read::Text(if field.boolean()? { "true" } else { "false" }.into()),
            Self::Number(_) => Read::Number(field.number()?),
            Self::Date => Read::Number(count(field.date()?.into(), i32::MIN.into(), i32::MAX.into())),
            Self::Microseconds(_) => Read::Number(count(field.microseconds()?, i64::MIN, i64::MAX)),
            Self::Text => Read::Text(field.text()?.to_owned()),
            Self::Printed(_) => Read::Text(field.printed()?),
        })
    }
}

/// The array type that the text of an array of type `type_oid` is parsed as, to convert it to JSON: always a built-in one, since a cast of a
/// user-defined type would run the code of its owner. Labels of an enum become text.
fn built_in_array(type_oid: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: look-ups that take any oid.
    unsafe {
        let element = pg_sys::getBaseType(pg_sys::get_element_type(type_oid));
        if element.to_u32() < pg_sys::FirstNormalObjectId {
            pg_sys::get_array_type(element)
        } else {
            pg_sys::TEXTARRAYOID
        }
    }
}

/// Array values, from their text, as JSON.
pub fn arrays_as_json(type_oid: pg_sys::Oid, names: &[String]) -> Result<Vec<Json>> {
    // SAFETY: the name of a type that is there, with its schema, as a C string.
    let type_name = unsafe {
        let flags = pg_sys::FORMAT_TYPE_FORCE_QUALIFY as _;
        CStr::from_ptr(pg_sys::format_type_extended(built_in_array(type_oid), -1, flags)).to_string_lossy()
    };
    let query = format!(
        "SELECT pg_catalog.to_jsonb(x::{type_name}) FROM pg_catalog.unnest($1) WITH ORDINALITY AS u (x, i) ORDER BY i"
    );
    Spi::connect(|client| {
        let rows = client.select(query.as_str(), None, &[names.to_vec().into()]).spi()?;
        rows.map(|row| Ok(row.get::<pgrx::JsonB>(1).spi()?.map(|json| json.0).unwrap_or_default())).collect()
    })
}
