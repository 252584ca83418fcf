//! Removing, moving and restricting the fields of a schema.

use super::{Learned, Role, Schema};
use crate::frame::FieldKind;
use crate::synthesizer::Released;
use runtime::error::{Error, Result};

impl Learned {
    /// Removes the fields of free texts, which are of no use to synthesizers that do not draw donors.
    pub fn forget_free_texts(&mut self) {
        let gone: Vec<usize> = self
            .schema
            .columns
            .iter_mut()
            .filter_map(|column| match &mut column.role {
                Role::FreeText { field, .. } => field.take(),
                _ => None,
            })
            .collect();
        let mut fields = (0usize..).map(|field| !gone.contains(&field));
        self.schema.fields.retain(|_| fields.next().unwrap_or(true));
        let mut fields = (0usize..).map(|field| !gone.contains(&field));
        self.frame.columns.retain(|_| fields.next().unwrap_or(true));
        let moved = |field: &mut usize| *field -= gone.iter().filter(|&&other| other < *field).count();
        for column in &mut self.schema.columns {
            match &mut column.role {
                Role::Categories { field, .. } | Role::Number { field } | Role::Difference { field, .. } => {
                    moved(field)
                }
                Role::Elements { first, .. } => moved(first),
                _ => {}
            }
        }
    }
}

impl Schema {
    /// Moves all fields back by `by` places.
    pub fn shift(&mut self, by: usize) {
        for column in &mut self.columns {
            match &mut column.role {
                Role::Categories { field, .. }
                | Role::Number { field }
                | Role::Difference { field, .. }
                | Role::FreeText { field: Some(field), .. } => *field += by,
                Role::Elements { first, .. } => *first += by,
                _ => {}
            }
        }
    }

    /// Restricts categories and bounds to those that a private synthesizer disclosed.
    pub fn release(&mut self, released: &[Released]) -> Result<()> {
        let contradiction = || Error::Internal("a method released other fields than it was given".into());
        if released.len() != self.fields.len() {
            return Err(contradiction());
        }
        for (number, (field, released)) in self.fields.iter_mut().zip(released).enumerate() {
            match (released, &mut field.kind) {
                (Released::Number { low: least, high: most }, FieldKind::Number { low, high, .. }) => {
                    (*low, *high) = (*least, *most)
                }
                (Released::Category { codes }, FieldKind::Category { count }) => {
                    *count = codes.len();
                    for column in &mut self.columns {
                        if let Role::Categories { field, names, .. } = &mut column.role
                            && *field == number
                        {
                            let kept =
                                codes.iter().map(|&code| names.get(code as usize).cloned().ok_or_else(contradiction));
                            *names = kept.collect::<Result<_>>()?;
                        }
                    }
                }
                _ => return Err(contradiction()),
            }
        }
        Ok(())
    }
}
