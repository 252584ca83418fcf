//! The rows of a query, typed, for learning to make more of them.

use std::ffi::CStr;

use pgrx::{Spi, pg_sys};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::pg::dataset::FETCH;
use crate::pg::declared;
use crate::pg::secret::secret;
use crate::pg::source::{self, ResultColumn, Source, type_name};
use crate::progress::Progress;
use crate::sealed::hex;
use crate::synthesis::schema::{ColumnType, Description};
use crate::tabular::{ColumnKind, Table, Value};

/// What the columns of a source can be.
const POSSIBLE: &str = "text, boolean, an enum, a number, a date or a time, uuid, json, or an array of those (or is left out by the option \"drop\")";

/// The rows of a query and what is known of its columns.
pub struct TypedRows {
    pub table: Table,
    pub descriptions: Vec<Description>,
    /// CHECK constraints of the tables behind it, and groups of columns that are unique together.
    pub checks: Vec<String>,
    pub unique: Vec<Vec<String>>,
    /// Columns that were left out, with their types.
    pub dropped: Vec<(String, String)>,
}

/// Stands for values that must not be told: the same one for the same value, for as long as it lives.
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

/// Columns to be left out, and columns whose values are to be replaced.
#[derive(Default)]
pub struct Hidden {
    pub drop: Vec<String>,
    pub pseudonymize: Vec<String>,
}

impl TypedRows {
    /// Runs `query`, the argument `what`, with the caller's rights.
    pub fn read(
        what: &'static str,
        query: &str,
        hidden: &Hidden,
        pseudonyms: &Pseudonyms,
        progress: &dyn Progress,
    ) -> Result<Self> {
        progress.report(&format!("reading {what}"), 0, 0);
        let (mut rows, columns) = Source::open_columns(what, query)?;
        let found = || columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
        if let Some(missing) =
            hidden.drop.iter().chain(&hidden.pseudonymize).find(|name| !columns.iter().any(|c| c.name == **name))
        {
            return Err(Error::MissingColumn { column: missing.clone(), found: found() });
        }
        let doubled =
            columns.iter().enumerate().find(|(i, column)| columns[..*i].iter().any(|c| c.name == column.name));
        if let Some((_, column)) = doubled {
            return Err(Error::argument(
                format!("the number of columns of the name \"{}\"", column.name),
                "more than one",
                "Give each column of the source a name of its own.",
            ));
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
                    expected: "text to be given other names",
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
        loop {
            let fetched = rows.fetch(FETCH, |row| {
                read.clear();
                for ((place, column, reading), &secret) in kept.iter().zip(&secret) {
                    let value = match row.datum(*place) {
                        None => Read::Null,
                        // SAFETY: the value is of the column's type and not NULL.
                        Some(datum) => unsafe { reading.read(datum, column)? },
                    };
                    read.push(match value {
                        Read::Text(text) if secret => Read::Text(pseudonyms.of(&column.name, &text)),
                        value => value,
                    });
                }
                let values: Vec<Value> = read.iter().map(Read::value).collect();
                let number = table.rows() + 1;
                table.push(&values, || format!("row {number}"))
            })?;
            if fetched == 0 {
                break;
            }
            progress.check()?;
            progress.report(&format!("rows read from {what}"), table.rows(), 0);
        }
        rows.close()?;
        if table.rows() == 0 {
            return Err(Error::EmptySource(if what == "source" { String::new() } else { format!("for {what}") }));
        }
        let columns: Vec<&ResultColumn> = kept.iter().map(|(_, column, _)| column).collect();
        let declared = declared::read(&columns)?;
        let distinct = |name: &str| is_distinct(&table, name);
        let descriptions = kept.iter().zip(declared.columns).map(|((_, column, reading), declared)| {
            // What is a key of its table is none of a join in which it comes more than once: there it refers to that table.
            let key = declared.key && distinct(&column.name);
            Description {
                name: column.name.clone(),
                column_type: reading.column_type(),
                type_name: type_name(column.type_oid),
                scale: scale(column),
                not_null: declared.not_null,
                key,
                foreign_key: declared.foreign_key || (declared.key && !key),
                labels: reading.labels(column.type_oid),
                uuid: column.type_oid == pg_sys::UUIDOID,
            }
        });
        let descriptions = descriptions.collect();
        Ok(Self { descriptions, checks: declared.checks, unique: declared.unique, dropped, table })
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
fn is_distinct(table: &Table, name: &str) -> bool {
    match table.column(name) {
        Some((_, crate::tabular::Column::Category { codes, names, .. })) => names.len() == codes.len(),
        Some((_, crate::tabular::Column::Number(values))) => {
            let mut sorted = values.clone();
            sorted.sort_unstable_by(f64::total_cmp);
            sorted.windows(2).all(|pair| pair[0] < pair[1]) && !sorted.last().is_some_and(|x| x.is_nan())
        }
        _ => false,
    }
}

/// Digits after the point of a numeric's modifier.
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

    /// All the values that the type has.
    fn labels(self, type_oid: pg_sys::Oid) -> Option<Vec<String>> {
        match self {
            Self::Boolean => Some(vec!["false".into(), "true".into()]),
            // SAFETY: takes any oid.
            Self::Printed(ColumnType::Text)
                if unsafe { pg_sys::get_typtype(type_oid) } as u8 == pg_sys::TYPTYPE_ENUM =>
            {
                declared::enum_labels(type_oid).ok()
            }
            _ => None,
        }
    }

    /// Reads a value of the type that this was made of.
    unsafe fn read(self, datum: pg_sys::Datum, column: &ResultColumn) -> Result<Read> {
        let unreadable = || Error::Internal(format!("column {} cannot be read", column.name));
        // Infinite times are refused as infinite numbers are.
        let count = |count: i64, least: i64, most: i64| match count {
            count if count == least => f64::NEG_INFINITY,
            count if count == most => f64::INFINITY,
            count => count as f64,
        };
        // SAFETY: the caller gives a value of the type that this was made of, not NULL.
        unsafe {
            Ok(match self {
                Self::Boolean => Read::Text(if datum.value() as u8 != 0 { "true" } else { "false" }.into()),
                Self::Number(_) => Read::Number(source::number(column.type_oid, datum).ok_or_else(unreadable)?),
                Self::Date => Read::Number(count(i64::from(datum.value() as i32), i32::MIN.into(), i32::MAX.into())),
                Self::Microseconds(_) => Read::Number(count(datum.value() as i64, i64::MIN, i64::MAX)),
                Self::Text => Read::Text(source::text(datum, &column.name)?.to_owned()),
                Self::Printed(_) => {
                    let (mut output, mut is_varlena) = (pg_sys::InvalidOid, false);
                    pg_sys::getTypeOutputInfo(column.type_oid, &mut output, &mut is_varlena);
                    let text = CStr::from_ptr(pg_sys::OidOutputFunctionCall(output, datum));
                    Read::Text(text.to_str().map_err(|_| unreadable())?.trim_end_matches(' ').to_owned())
                }
            })
        }
    }
}

/// Values of an array type, as PostgreSQL prints them, in JSON.
pub fn arrays_as_json(type_name: &str, names: &[String]) -> Result<Vec<Json>> {
    // The name is one that PostgreSQL gave, quoted where it must be.
    let query = format!(
        "SELECT pg_catalog.to_jsonb(x::{type_name}) FROM pg_catalog.unnest($1) WITH ORDINALITY AS u (x, i) ORDER BY i"
    );
    Spi::connect(|client| {
        let rows = client.select(query.as_str(), None, &[names.to_vec().into()])?;
        rows.map(|row| Ok(row.get::<pgrx::JsonB>(1)?.map(|json| json.0).unwrap_or_default())).collect()
    })
}
