//! The types of ids in SQL: `text`, `bigint`, `integer`, `smallint`, `uuid`.

use pgrx::datum::Uuid;
use pgrx::{IntoDatum, pg_sys};

/// The type of ids in a source. Stored with the model, so that views and functions return ids of the same type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdType {
    Bigint,
    Integer,
    Smallint,
    Text,
    Uuid,
}

impl IdType {
    pub fn of(oid: pg_sys::Oid) -> Option<Self> {
        Some(match oid {
            pg_sys::INT8OID => Self::Bigint,
            pg_sys::INT4OID => Self::Integer,
            pg_sys::INT2OID => Self::Smallint,
            pg_sys::TEXTOID | pg_sys::VARCHAROID | pg_sys::BPCHAROID => Self::Text,
            pg_sys::UUIDOID => Self::Uuid,
            _ => return None,
        })
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Bigint, Self::Integer, Self::Smallint, Self::Text, Self::Uuid].into_iter().find(|t| t.name() == name)
    }

    /// The SQL type's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bigint => "bigint",
            Self::Integer => "integer",
            Self::Smallint => "smallint",
            Self::Text => "text",
            Self::Uuid => "uuid",
        }
    }

    /// The schema-qualified name, for generated SQL.
    pub fn qualified_name(self) -> &'static str {
        match self {
            Self::Bigint => "pg_catalog.int8",
            Self::Integer => "pg_catalog.int4",
            Self::Smallint => "pg_catalog.int2",
            Self::Text => "pg_catalog.text",
            Self::Uuid => "pg_catalog.uuid",
        }
    }

    pub fn oid(self) -> pg_sys::Oid {
        match self {
            Self::Bigint => pg_sys::INT8OID,
            Self::Integer => pg_sys::INT4OID,
            Self::Smallint => pg_sys::INT2OID,
            Self::Text => pg_sys::TEXTOID,
            Self::Uuid => pg_sys::UUIDOID,
        }
    }

    /// The id as a value of this type; `None` if the text is not valid for the type, so that no such user can exist.
    pub fn datum(self, id: &str) -> Option<pg_sys::Datum> {
        match self {
            Self::Bigint => id.parse::<i64>().ok()?.into_datum(),
            Self::Integer => id.parse::<i32>().ok()?.into_datum(),
            Self::Smallint => id.parse::<i16>().ok()?.into_datum(),
            Self::Text => id.into_datum(),
            Self::Uuid => {
                let digits: String = id.chars().filter(|c| *c != '-').collect();
                let value = u128::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 32)?;
                Uuid::from_bytes(value.to_be_bytes()).into_datum()
            }
        }
    }
}
