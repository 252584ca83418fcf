//! The columns of a source, the fields that synthesizers learn instead of them, and how fields become columns again.
//!
//! | column | becomes |
//! |---|---|
//! | boolean, text with few values, enum, uuid, json, array | categories, one for each whole value |
//! | array of up to 16 numbers, all of the same length | a number for each element |
//! | number, date, time | a number with the source's precision and bounds |
//! | the greater of two columns ordered by a constraint | the difference from the other, so that every row keeps the order |
//! | foreign key | categories: the keys that occur |
//! | key | nothing: its values are counted on or random, and unique |
//! | free text | categories for synthesizers that draw donors; the text itself is composed anew |
//! | NULL in all rows | nothing |

mod fields;
mod learn;
mod precision;
mod whole;
mod wishes;

use serde::{Deserialize, Serialize};

use super::constraints::Constraint;
use super::frame::Field;
use super::keys::Key;

pub use crate::description::{ColumnType, Description};
pub use learn::{Learned, hash};
pub use wishes::{Wishes, names};

/// A column of the drawn rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    #[serde(rename = "type")]
    pub column_type: ColumnType,
    pub type_name: String,
    pub role: Role,
    /// Whether only the model uses it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hidden: bool,
}

/// Where a column's values come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Categories {
        field: usize,
        names: Vec<String>,
        /// Their JSON values, where those differ from the names.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        json: Option<Vec<serde_json::Value>>,
    },
    Number {
        field: usize,
    },
    /// The sum of column `from` and the field, from `low` to `high`.
    Difference {
        field: usize,
        from: usize,
        low: f64,
        high: f64,
    },
    /// An array of numbers, with a field for each element.
    Elements {
        first: usize,
        count: usize,
    },
    Key(Key),
    /// The value of this column in the parent's row.
    Parent {
        column: usize,
    },
    /// Texts composed from those in `names`. Each begins like the one that `field` draws, or a random one if there is
    /// no field.
    FreeText {
        field: Option<usize>,
        names: Vec<String>,
    },
    Null,
}

/// The mapping between fields and columns.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Schema {
    pub columns: Vec<Column>,
    pub fields: Vec<Field>,
    pub constraints: Vec<Constraint>,
    /// Groups of columns that are unique together.
    pub unique: Vec<Vec<usize>>,
}

impl Schema {
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// The field of a column that consists of one field.
    pub fn field_of(&self, column: usize) -> Option<usize> {
        match self.columns.get(column)?.role {
            Role::Categories { field, .. } | Role::Number { field } => Some(field),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
