//! The type `reco.role`: a role's oid that is input and output as its name.

use std::ffi::{CStr, CString};

use pgrx::pg_sys;
use pgrx::prelude::*;

/// PUBLIC.
pub const EVERYBODY: pg_sys::Oid = pg_sys::InvalidOid;

const PUBLIC: &CStr = c"public";

/// An oid that no role has.
const NOBODY: u32 = u32::MAX;

/// Returns the bits of the oid as `i32`: pgrx turns oid 0 into NULL.
#[pg_extern(sql = false)]
fn role_in(name: &CStr) -> i32 {
    let oid = match name {
        public if public == PUBLIC => EVERYBODY.to_u32(),
        none if none.is_empty() => NOBODY,
        // SAFETY: a look-up by a C string, which gives 0 where there is no such role.
        name => match unsafe { pg_sys::get_role_oid(name.as_ptr(), true) }.to_u32() {
            0 => {
                warning!(
                    "role \"{}\" does not exist; only superusers can manage what refers to it",
                    name.to_string_lossy()
                );
                NOBODY
            }
            found => found,
        },
    };
    oid.cast_signed()
}

#[pg_extern(sql = false)]
fn role_out(role: i32) -> CString {
    let oid = pg_sys::Oid::from(role.cast_unsigned());
    if oid == EVERYBODY {
        return PUBLIC.to_owned();
    }
    // SAFETY: a look-up that gives a C string, or null where there is no such role.
    unsafe {
        match pg_sys::GetUserNameFromId(oid, true) {
            name if name.is_null() => CString::default(),
            name => CStr::from_ptr(name).to_owned(),
        }
    }
}
