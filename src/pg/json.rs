//! `jsonb` as an argument and as a result.
//!
//! pgrx's own type panics with the parser's message if a value cannot be read. This one raises an error with a hint.

use std::ffi::CStr;

use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use pgrx::{FromDatum, IntoDatum, datum, direct_function_call, pg_sys};
use serde_json::Value;

use crate::pg::errors::raise;
use runtime::error::{Error, Result};

/// Maximum nesting of arrays and objects, the outermost counted: the limit of serde_json.
const MAX_DEPTH: usize = 127;

/// A `jsonb`, parsed.
pub struct JsonB(pub Value);

/// Parses the output of `jsonb_out`.
fn parse(text: &str) -> Result<Value> {
    if depth(text) > MAX_DEPTH {
        let message = format!("jsonb argument is nested more than {MAX_DEPTH} levels deep");
        return Err(Error::invalid(message, format!("Nest at most {MAX_DEPTH} arrays and objects.")));
    }
    // A jsonb is valid JSON; only its numbers may be too large.
    serde_json::from_str(text)
        .map_err(|_| Error::invalid("jsonb argument contains a number out of range", "Use numbers that fit float8."))
}

fn depth(text: &str) -> usize {
    let (mut now, mut deepest, mut quoted, mut escaped) = (0usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'[' | b'{' => {
                now += 1;
                deepest = deepest.max(now);
            }
            b']' | b'}' => now = now.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

impl FromDatum for JsonB {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _: pg_sys::Oid) -> Option<Self> {
        if is_null {
            return None;
        }
        // SAFETY: the caller says that the datum is a jsonb, which its output function takes and prints as a C string.
        let printed = unsafe {
            let whole = pg_sys::pg_detoast_datum_packed(datum.cast_mut_ptr());
            direct_function_call::<&CStr>(pg_sys::jsonb_out, &[Some(whole.into())])
        };
        printed.map(|printed| Self(raise(parse(&printed.to_string_lossy()))))
    }
}

// SAFETY: an argument declared as jsonb is read as one.
unsafe impl<'fcx> ArgAbi<'fcx> for JsonB {
    unsafe fn unbox_arg_unchecked(argument: Arg<'_, 'fcx>) -> Self {
        let number = argument.index();
        let given = || Error::Internal(format!("argument {number} is null"));
        // SAFETY: as above.
        raise(unsafe { argument.unbox_arg_using_from_datum::<Self>() }.ok_or_else(given))
    }
}

impl IntoDatum for JsonB {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        datum::JsonB(self.0).into_datum()
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::JSONBOID
    }
}

// SAFETY: pgrx's own type is returned.
unsafe impl BoxRet for JsonB {
    unsafe fn box_into<'fcx>(self, call: &mut FcInfo<'fcx>) -> datum::Datum<'fcx> {
        // SAFETY: the caller's promise is passed on.
        unsafe { datum::JsonB(self.0).box_into(call) }
    }
}

// SAFETY: it is read from and written as jsonb.
unsafe impl SqlTranslatable for JsonB {
    const TYPE_IDENT: &'static str = <datum::JsonB as SqlTranslatable>::TYPE_IDENT;
    const TYPE_ORIGIN: TypeOrigin = <datum::JsonB as SqlTranslatable>::TYPE_ORIGIN;
    const ARGUMENT_SQL: std::result::Result<SqlMappingRef, ArgumentError> =
        <datum::JsonB as SqlTranslatable>::ARGUMENT_SQL;
    const RETURN_SQL: std::result::Result<ReturnsRef, ReturnsError> = <datum::JsonB as SqlTranslatable>::RETURN_SQL;
}
