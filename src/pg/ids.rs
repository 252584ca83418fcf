//! Ids as arguments of functions that are overloaded on the id types.

use pgrx::AnyElement;

use crate::pg::id_type::IdType;
use crate::pg::row::{Field, type_name};
use runtime::error::{Error, Result};

/// The text of an id given to a function that is overloaded on the id types.
pub fn id_text(id: &AnyElement) -> Result<String> {
    match IdType::of(id.oid()) {
        Some(_) => any_text(id),
        None => Err(Error::ColumnType {
            column: "id".into(),
            found: type_name(id.oid()),
            expected: "text, bigint, integer or uuid",
        }),
    }
}

/// The text of any value, as `::text` gives it.
pub fn any_text(value: &AnyElement) -> Result<String> {
    let field = Field::of_argument(value);
    match IdType::of(value.oid()) {
        Some(IdType::Uuid) | None => field.output(),
        Some(_) => Ok(field.id()?.to_text()),
    }
}
