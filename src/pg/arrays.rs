//! Arrays (`real[]` as slices, arrays of other numbers and of ids, `reco.scored_item[]`) and composite values.

use std::cell::Cell;
use std::ffi::CStr;
use std::fmt::Display;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{AnyArray, AnyElement, Array, FromDatum, Internal, IntoDatum, PgLogLevel, PgSqlErrorCode, pg_sys};

use crate::pg::id_type::IdType;
use crate::pg::ids::any_text;
use crate::pg::row::{Field, type_name};
use runtime::error::{Error, Result};

/// The elements of a vector, which errors call `what`, without a copy. A vector has one dimension, at least one element, no NULL, and only finite
/// elements.
pub fn vector<'a>(array: &'a Array<'_, f32>, what: impl Display) -> Result<&'a [f32]> {
    let hint = "A vector is a one-dimensional real[] of finite numbers, as returned by reco.embed.";
    if array.contains_nulls() {
        return Err(Error::invalid(format!("{what} must not contain nulls"), hint));
    }
    let values = array.as_slice().map_err(|e| Error::invalid(format!("{what} is not a vector: {e}"), hint))?;
    if values.is_empty() {
        return Err(Error::invalid(format!("{what} must not be empty"), hint));
    }
    if let Some(value) = values.iter().find(|v| !v.is_finite()) {
        return Err(Error::invalid(format!("{what} must not contain {value}"), hint));
    }
    Ok(values)
}

/// The elements of an array of any numeric type, as `f32`.
pub fn numbers(array: &AnyArray) -> Result<Vec<Option<f32>>> {
    let (type_oid, elements) = elements(array);
    let narrow = |element: pg_sys::Datum| {
        // SAFETY: the element has the type that the array says.
        let value = unsafe { Field::element(type_oid, element) }.number()?;
        let narrowed = value as f32;
        if narrowed.is_infinite() && value.is_finite() {
            return Err(Error::invalid(
                format!("vector element {value} is out of range for type real"),
                "Pass numbers that fit real.",
            ));
        }
        Ok(narrowed)
    };
    elements.into_iter().map(|element| element.map(narrow).transpose()).collect()
}

/// A `real[]` from its text.
pub fn read_reals(text: &CStr) -> Result<AnyElement> {
    // SAFETY: the input function of arrays takes a C string and the type of the elements, raises errors of its own, and gives an
    // array, whose type is named.
    let read = unsafe {
        let array = pg_sys::OidInputFunctionCall(
            pg_sys::Oid::from(pg_sys::F_ARRAY_IN),
            text.as_ptr().cast_mut(),
            pg_sys::FLOAT4OID,
            -1,
        );
        AnyElement::from_polymorphic_datum(array, false, pg_sys::FLOAT4ARRAYOID)
    };
    read.ok_or_else(|| Error::Internal("array input returned NULL".into()))
}

/// Ids in one argument, at most: reading so many, without a check for cancel requests, takes a tenth of a second.
const MAX_IDS: usize = 1_000_000;

/// Rejects a list of ids that is too long. `name` is the argument.
fn check_ids(name: &str, n: usize) -> Result<()> {
    if n <= MAX_IDS {
        return Ok(());
    }
    Err(Error::TooLarge {
        what: format!("argument \"{name}\""),
        needed: format!("{n} ids"),
        limit: format!("{MAX_IDS} ids"),
        hint: "Pass the most recent ids only.".into(),
    })
}

/// Ids in an array of any of their types, as text.
pub fn ids(array: &AnyArray, name: &str) -> Result<Vec<Option<String>>> {
    let (type_oid, elements) = elements(array);
    check_ids(name, elements.len())?;
    // SAFETY: getBaseType takes the oid of any type.
    let base = unsafe { pg_sys::getBaseType(type_oid) };
    if IdType::of(base).is_none() {
        let hint = "Pass an array of text, bigint, integer, smallint or uuid.";
        return Err(Error::invalid(format!("\"{name}\" must not be an array of {}", type_name(type_oid)), hint));
    }
    // SAFETY: the elements have this type.
    let text = |datum| unsafe { AnyElement::from_polymorphic_datum(datum, false, base) }.map(|id| any_text(&id));
    elements.into_iter().map(|element| element.and_then(text).transpose()).collect()
}

/// The element type of an array, and its elements; `None` for NULL.
fn elements(array: &AnyArray) -> (pg_sys::Oid, Vec<Option<pg_sys::Datum>>) {
    let (mut length, mut by_value, mut align) = (0, false, 0);
    let (mut values, mut nulls, mut count) = (std::ptr::null_mut(), std::ptr::null_mut(), 0);
    // SAFETY: PostgreSQL says that the datum is an array, which names the type of its elements itself. deconstruct_array gives as many
    // values and flags as it counts, in the current memory context.
    unsafe {
        let array: *mut pg_sys::ArrayType = pg_sys::pg_detoast_datum(array.datum().cast_mut_ptr()).cast();
        let type_oid = (*array).elemtype;
        pg_sys::get_typlenbyvalalign(type_oid, &mut length, &mut by_value, &mut align);
        let length = length.into();
        pg_sys::deconstruct_array(array, type_oid, length, by_value, align, &mut values, &mut nulls, &mut count);
        let element = |i: usize| (!*nulls.add(i)).then(|| *values.add(i));
        (type_oid, (0..count as usize).map(element).collect())
    }
}

/// Warns, once in a statement, if a text is an array literal: a client that binds an array without its type calls the function for one
/// text.
pub fn warn_of_list(function: &str, text: &str) {
    thread_local! {
        static WARNED: Cell<pg_sys::TimestampTz> = const { Cell::new(0) };
    }
    if !is_array_literal(text) {
        return;
    }
    // SAFETY: a plain look at this backend's state.
    let now = unsafe { pg_sys::GetCurrentStatementStartTimestamp() };
    if WARNED.replace(now) != now {
        let message = format!("argument of {function} looks like an array but has type text");
        ErrorReport::new(PgSqlErrorCode::ERRCODE_WARNING, message, "pg_reco")
            .set_hint("To pass an array, cast it: $1::text[].")
            .report(PgLogLevel::WARNING);
    }
}

/// Whether a text is an array literal, such as `{a,"b c",NULL}`.
fn is_array_literal(text: &str) -> bool {
    #[derive(PartialEq)]
    enum At {
        Opened,
        Comma,
        Word,
        Quoted,
        /// After a quoted element or an inner array.
        Closed,
    }
    let Some(rest) = text.trim().strip_prefix('{') else { return false };
    let (mut at, mut depth, mut chars) = (At::Opened, 1, rest.chars());
    while let Some(c) = chars.next() {
        if depth == 0 {
            return false;
        }
        at = match (at, c) {
            (At::Quoted, '"') => At::Closed,
            (At::Quoted | At::Word, '\\') if chars.next().is_none() => return false,
            (At::Quoted, _) => At::Quoted,
            (At::Opened | At::Comma, '"') => At::Quoted,
            (At::Opened | At::Comma, '{') => {
                depth += 1;
                At::Opened
            }
            (At::Opened | At::Word | At::Closed, '}') => {
                depth -= 1;
                At::Closed
            }
            (At::Word | At::Closed, ',') => At::Comma,
            (at, c) if c.is_whitespace() => at,
            (At::Opened | At::Comma | At::Word, c) if !matches!(c, '{' | '}' | '"' | ',') => At::Word,
            _ => return false,
        };
    }
    depth == 0
}

/// A value of the composite type that the current function returns, with `N` columns; `None` for NULL.
pub fn row<const N: usize>(
    fcinfo: pg_sys::FunctionCallInfo,
    columns: [Option<pg_sys::Datum>; N],
) -> Result<pg_sys::Datum> {
    let mut nulls = columns.map(|column| column.is_none());
    let mut values = columns.map(|column| column.unwrap_or(pg_sys::Datum::from(0)));
    let mut description = std::ptr::null_mut();
    // SAFETY: fcinfo is that of the running call; the tuple is formed by the description of the type it returns, which has as many columns.
    unsafe {
        let class = pg_sys::get_call_result_type(fcinfo, std::ptr::null_mut(), &mut description);
        if class != pg_sys::TypeFuncClass::TYPEFUNC_COMPOSITE || (*description).natts as usize != N {
            return Err(Error::Internal(format!("function does not return {N} columns")));
        }
        let tuple = pg_sys::heap_form_tuple(description, values.as_mut_ptr(), nulls.as_mut_ptr());
        Ok(pg_sys::HeapTupleHeaderGetDatum((*tuple).t_data))
    }
}

/// A `reco.scored_item[]` of (item, score) pairs, in their order.
pub fn scored_items(rows: impl Iterator<Item = (String, f32)>) -> Result<Internal> {
    // SAFETY: the type is looked up by its qualified name and raises an error where it is missing; each tuple is formed
    // by that type's own description, of two columns; the array copies the tuples.
    unsafe {
        let schema = pg_sys::get_namespace_oid(c"reco".as_ptr(), false);
        let type_oid = pg_sys::GetSysCacheOid(
            pg_sys::SysCacheIdentifier::TYPENAMENSP as _,
            pg_sys::Anum_pg_type_oid as _,
            pg_sys::Datum::from(c"scored_item".as_ptr()),
            schema.into(),
            pg_sys::Datum::from(0),
            pg_sys::Datum::from(0),
        );
        let description = pg_sys::lookup_rowtype_tupdesc(type_oid, -1);
        let mut elements: Vec<pg_sys::Datum> = rows
            .map(|(item, score)| {
                let mut values = [item.into_datum(), score.into_datum()].map(|v| v.unwrap_or(pg_sys::Datum::from(0)));
                let mut nulls = [false; 2];
                let tuple = pg_sys::heap_form_tuple(description, values.as_mut_ptr(), nulls.as_mut_ptr());
                pg_sys::HeapTupleHeaderGetDatum((*tuple).t_data)
            })
            .collect();
        if (*description).tdrefcount >= 0 {
            pg_sys::DecrTupleDescRefCount(description);
        }
        let array = pg_sys::construct_array(
            elements.as_mut_ptr(),
            elements.len() as _,
            type_oid,
            -1,
            false,
            pg_sys::TYPALIGN_DOUBLE as _,
        );
        Ok(Internal::from(Some(pg_sys::Datum::from(array))))
    }
}

#[cfg(test)]
mod tests {
    use super::is_array_literal;

    #[test]
    fn a_list_is_told_from_a_text() {
        for list in ["{a,b}", "{}", " {red wine,\"a \\\" , } b\"} ", "{{1,2},{3,4}}", "{NULL}", "{红酒}"] {
            assert!(is_array_literal(list), "{list}");
        }
        for text in
            ["", "a", "{a,b", "a {b}", "{a} and {b}", "{a,}", "{,a}", "{\"a\":1}", "{\"a\" b}", "{{a}b}", "{a\\"]
        {
            assert!(!is_array_literal(text), "{text}");
        }
    }
}
