//! A column of the source, as described before its values are read.

use serde::{Deserialize, Serialize};

/// Type of a column.
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
    /// Also enums and uuid.
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

/// A column of the source, without its values.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    pub name: String,
    pub column_type: ColumnType,
    /// As SQL writes it.
    pub type_name: String,
    /// Digits after the decimal point that the type allows.
    pub scale: Option<u8>,
    pub not_null: bool,
    /// Whether the catalog declares it unique.
    pub key: bool,
    /// Whether the catalog declares it a foreign key.
    pub foreign_key: bool,
    /// All values of an enum.
    pub labels: Option<Vec<String>>,
    pub uuid: bool,
}
