//! Consistency of a stored schema.

use super::{Role, Schema};
use crate::frame::FieldKind;

impl Schema {
    /// Whether all fields and columns that it refers to exist and have the right kind.
    pub fn is_whole(&self) -> bool {
        let is_number =
            |field: usize| matches!(self.fields.get(field).map(|field| field.kind), Some(FieldKind::Number { .. }));
        let category = |field: usize| match self.fields.get(field).map(|field| field.kind) {
            Some(FieldKind::Category { count }) => Some(count),
            _ => None,
        };
        let columns = self.columns.iter().enumerate().all(|(number, column)| match &column.role {
            Role::Categories { field, names, json } => {
                category(*field) == Some(names.len()) && json.as_ref().is_none_or(|json| json.len() == names.len())
            }
            Role::Number { field } => is_number(*field),
            Role::Difference { field, from, .. } => is_number(*field) && *from != number && self.ends(number),
            Role::Elements { first, count } => (*first..first.saturating_add(*count)).all(is_number),
            Role::FreeText { field, names } => field.is_none_or(|field| category(field) == Some(names.len())),
            Role::Key(_) | Role::Parent { .. } | Role::Null => true,
        });
        let known = |column: usize| column < self.columns.len();
        columns
            && self.unique.iter().flatten().all(|&column| known(column))
            && self.constraints.iter().all(|constraint| constraint.columns().into_iter().all(known))
    }

    /// Whether a chain of differences ends in a column of numbers.
    fn ends(&self, mut column: usize) -> bool {
        for _ in 0..=self.columns.len() {
            match self.columns.get(column).map(|column| &column.role) {
                Some(Role::Difference { from, .. }) => column = *from,
                Some(Role::Number { .. }) => return true,
                _ => return false,
            }
        }
        false
    }
}
