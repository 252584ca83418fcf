//! What is known of a source's column before its values are read.

use serde::{Deserialize, Serialize};

/// The types that columns may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    Boolean,
    /// smallint, integer, bigint.
    Integer,
    /// real, double precision.
    Float,
    Numeric,
    /// Days since 2000.
    Date,
    /// Microseconds of the day.
    Time,
    /// Microseconds since 2000.
    Timestamp,
    /// The same, in UTC.
    Timestamptz,
    /// Also enums, uuid.
    Text,
    Json,
    Array,
}

impl ColumnType {
    /// Whether its values are read as numbers.
    pub fn is_number(self) -> bool {
        matches!(
            self,
            Self::Integer | Self::Float | Self::Numeric | Self::Date | Self::Time | Self::Timestamp | Self::Timestamptz
        )
    }
}

/// What is known of a column before its values are.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    pub name: String,
    pub column_type: ColumnType,
    /// As SQL writes it.
    pub type_name: String,
    /// Digits after the point that the type allows.
    pub scale: Option<u8>,
    pub not_null: bool,
    /// All values differ, says the catalog.
    pub key: bool,
    /// The values are keys of another table, says the catalog.
    pub foreign_key: bool,
    /// All the values that the type has.
    pub labels: Option<Vec<String>>,
    pub uuid: bool,
}
