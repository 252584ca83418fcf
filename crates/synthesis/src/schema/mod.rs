//! What a source's columns are, how they become the fields that methods learn, and how fields become columns again.
//!
//! | column | becomes |
//! |---|---|
//! | boolean, text of few values, enum, uuid, json, an array | categories; each whole value is one |
//! | an array of up to 16 numbers, of one length | a number for each element |
//! | a number, a date, a time | a number with the source's precision and bounds |
//! | the greater of two columns that a constraint orders | the difference to the other, so that every row keeps the order |
//! | a foreign key | categories: the keys that are there |
//! | a key | nothing: its values are counted on, or drawn, and never repeat |
//! | free text | categories for the methods that draw donors; the text itself is put together anew |
//! | NULL in all rows | nothing: NULL |

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

/// A column of the rows that are made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    #[serde(rename = "type")]
    pub column_type: ColumnType,
    pub type_name: String,
    pub role: Role,
    /// Known to the model alone.
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
        /// What stands for them in JSON, where that is not the name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        json: Option<Vec<serde_json::Value>>,
    },
    Number {
        field: usize,
    },
    /// The value of column `from` and the field's together, from `low` to `high`.
    Difference {
        field: usize,
        from: usize,
        low: f64,
        high: f64,
    },
    /// An array of numbers, a field for each.
    Elements {
        first: usize,
        count: usize,
    },
    Key(Key),
    /// The value of this column of the parent's row.
    Parent {
        column: usize,
    },
    /// Texts put together anew from those in `names`, beginning with one that `field` draws, or chance where the method has no use for it.
    FreeText {
        field: Option<usize>,
        names: Vec<String>,
    },
    Null,
}

/// How fields and columns belong together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Schema {
    pub columns: Vec<Column>,
    pub fields: Vec<Field>,
    pub constraints: Vec<Constraint>,
    /// Columns that no two rows have alike.
    pub unique: Vec<Vec<usize>>,
}

impl Schema {
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// The field that alone makes a column.
    pub fn field_of(&self, column: usize) -> Option<usize> {
        match self.columns.get(column)?.role {
            Role::Categories { field, .. } | Role::Number { field } => Some(field),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
