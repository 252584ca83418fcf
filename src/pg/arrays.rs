//! Arrays: `real[]` as slices, `reco.scored_item[]` from rows; and one row.

use pgrx::{Array, Internal, IntoDatum, pg_sys};

use crate::error::{Error, Result};

/// The values of a vector argument without a copy. A vector has one dimension, at least one element, no NULL, and
/// finite elements.
pub fn vector<'a>(array: &'a Array<'_, f32>, name: &str) -> Result<&'a [f32]> {
    let hint = "Give a real[] of finite numbers, as reco.embed returns it.";
    if array.contains_nulls() {
        return Err(Error::argument(name, "a vector with NULL elements", hint));
    }
    let values = array.as_slice().map_err(|e| Error::argument(name, format!("no vector ({e})"), hint))?;
    if values.is_empty() {
        return Err(Error::argument(name, "a vector without elements", hint));
    }
    if let Some(value) = values.iter().find(|v| !v.is_finite()) {
        return Err(Error::argument(name, format!("a vector with an element {value}"), hint));
    }
    Ok(values)
}

/// A row of the composite type that the running function returns, with `N` columns; `None` for NULL.
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
            return Err(Error::Internal(format!("a function does not return {N} columns")));
        }
        let tuple = pg_sys::heap_form_tuple(description, values.as_mut_ptr(), nulls.as_mut_ptr());
        Ok(pg_sys::HeapTupleHeaderGetDatum((*tuple).t_data))
    }
}

/// A `reco.scored_item[]` of (item, score) rows, in their order.
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
