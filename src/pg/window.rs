//! Window functions: the rows of a partition, and the results stored for it.
//!
//! pgrx has no bindings for PostgreSQL's `windowapi.h`. They are declared here and called through pgrx's FFI boundary, so that a PostgreSQL
//! error unwinds Rust's frames instead of jumping over them.

use std::ffi::{c_int, c_void};

use pgrx::pg_sys::submodules::ffi::pg_guard_ffi_boundary as guarded;
use pgrx::{PgMemoryContexts, pg_sys};

use crate::pg::row::Field;
use runtime::error::{Error, Result};

type WindowObject = *mut pg_sys::WindowObjectData;

/// Counts rows from the first of the partition.
const WINDOW_SEEK_HEAD: c_int = 1;
/// The largest block that PostgreSQL allocates (`MaxAllocSize`).
const MAX_BYTES: usize = 0x3fff_ffff;

unsafe extern "C-unwind" {
    fn WinGetPartitionLocalMemory(winobj: WindowObject, size: pg_sys::Size) -> *mut c_void;
    fn WinGetCurrentPosition(winobj: WindowObject) -> i64;
    fn WinGetPartitionRowCount(winobj: WindowObject) -> i64;
    fn WinGetFuncArgInPartition(
        winobj: WindowObject,
        argno: c_int,
        relpos: c_int,
        seektype: c_int,
        set_mark: bool,
        isnull: *mut bool,
        isout: *mut bool,
    ) -> pg_sys::Datum;
}

/// The partition that a window function is called for, once for each of its rows.
pub struct Partition {
    window: WindowObject,
    rows: usize,
    /// The types of the arguments.
    types: Vec<pg_sys::Oid>,
}

/// The header in the partition's memory, followed by a result for each row. PostgreSQL zeroes the memory and frees it with the partition.
#[repr(C)]
struct Kept {
    /// Not 0 once the results have been computed.
    done: u64,
}

impl Partition {
    /// The partition of the current call; an error if it is not a call of a window function. Reads the partition to its end.
    pub fn of(fcinfo: pg_sys::FunctionCallInfo) -> Result<Self> {
        // SAFETY: fcinfo is that of the running call; its context is null or a node, and as a WindowObjectData the window of this call.
        unsafe {
            let context = (*fcinfo).context;
            if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_WindowObjectData {
                return Err(Error::Internal("window function called outside of a window".into()));
            }
            let window = context.cast();
            let function = (*fcinfo).flinfo;
            let types = (0..(*fcinfo).nargs).map(|i| pg_sys::get_fn_expr_argtype(function, i.into())).collect();
            Ok(Self { window, rows: guarded(|| WinGetPartitionRowCount(window)) as usize, types })
        }
    }

    /// The number of its rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The argument number `argument` of a row, which is below [`rows`](Self::rows); `None` for NULL. Returns a copy in the current memory
    /// context: PostgreSQL returns a pointer into its current row, which is freed when the row is read for the next argument.
    fn argument(&self, argument: usize, row: usize) -> Result<Option<Field<'_>>> {
        let (mut is_null, mut is_out) = (true, true);
        let place = c_int::try_from(row).map_err(|_| self.too_many_rows())?;
        // SAFETY: the window is that of the running call, and the flags are on this stack.
        let datum = unsafe {
            let (null, out): (*mut bool, *mut bool) = (&mut is_null, &mut is_out);
            let argument = argument as c_int;
            guarded(|| WinGetFuncArgInPartition(self.window, argument, place, WINDOW_SEEK_HEAD, false, null, out))
        };
        if is_out {
            return Err(Error::Internal(format!("partition of {} rows has no row {row}", self.rows)));
        }
        if is_null {
            return Ok(None);
        }
        let type_oid = self.types.get(argument).copied().unwrap_or(pg_sys::InvalidOid);
        let (mut length, mut by_value) = (0, true);
        // SAFETY: the call's expression gives the argument this type, and it is not NULL. A type of length -1 is a varlena.
        unsafe {
            pg_sys::get_typlenbyval(type_oid, &mut length, &mut by_value);
            let own = match (by_value, length) {
                (true, _) => datum,
                (false, -1) => pg_sys::Datum::from(pg_sys::pg_detoast_datum_copy(datum.cast_mut_ptr())),
                (false, _) => return Err(Error::Internal(format!("cannot read an argument of {length} bytes"))),
            };
            Ok(Some(Field::element(type_oid, own)))
        }
    }

    fn too_many_rows(&self) -> Error {
        Error::TooLarge {
            what: "window".into(),
            needed: format!("{} rows in one partition", self.rows),
            limit: ((MAX_BYTES - size_of::<Kept>()) / size_of::<f64>()).to_string(),
            hint: "Use smaller partitions: OVER (PARTITION BY …).".into(),
        }
    }

    /// Calls `read` with `N` arguments of the first row.
    pub fn first<T, const N: usize>(
        &self,
        arguments: [usize; N],
        read: impl FnOnce([Option<Field<'_>>; N]) -> Result<T>,
    ) -> Result<T> {
        let mut values = [const { None }; N];
        for (value, argument) in values.iter_mut().zip(arguments) {
            *value = self.argument(argument, 0)?;
        }
        read(values)
    }

    /// Calls `visit` with the number (from 0) and the first `N` arguments of each row. They are freed after the call of `visit`.
    pub fn each<const N: usize>(
        &self,
        mut visit: impl FnMut(usize, [Option<Field<'_>>; N]) -> Result<()>,
    ) -> Result<()> {
        let mut room = PgMemoryContexts::new("window function arguments");
        for row in 0..self.rows {
            // SAFETY: what the row before left in it is not used any more.
            unsafe { room.reset() };
            // SAFETY: switched back when the closure ends, also by an error.
            unsafe {
                room.switch_to(|_| {
                    let mut values = [const { None }; N];
                    for (argument, value) in values.iter_mut().enumerate() {
                        *value = self.argument(argument, row)?;
                    }
                    visit(row, values)
                })?;
            }
        }
        Ok(())
    }

    /// The result of the current row. `compute` is called at the first row of a partition and returns a result for every row; they are stored
    /// until the partition ends. NaN is NULL.
    pub fn result(&self, compute: impl FnOnce(&Self) -> Result<Vec<f64>>) -> Result<Option<f64>> {
        let size = size_of::<Kept>() + self.rows * size_of::<f64>();
        if size > MAX_BYTES {
            return Err(self.too_many_rows());
        }
        // SAFETY: the window is that of the running call. The memory is of this size, zeroed, aligned for any type, for this function in this partition alone,
        // and the same at each call.
        let (kept, results) = unsafe {
            let kept = guarded(|| WinGetPartitionLocalMemory(self.window, size)).cast::<Kept>();
            (&mut *kept, std::slice::from_raw_parts_mut(kept.add(1).cast::<f64>(), self.rows))
        };
        if kept.done == 0 {
            let computed = compute(self)?;
            if computed.len() != results.len() {
                return Err(Error::Internal(format!("{} results for {} rows", computed.len(), results.len())));
            }
            results.copy_from_slice(&computed);
            kept.done = 1;
        }
        // SAFETY: as above.
        let position = unsafe { guarded(|| WinGetCurrentPosition(self.window)) } as usize;
        let result =
            results.get(position).ok_or_else(|| Error::Internal(format!("partition has no row {position}")))?;
        Ok((!result.is_nan()).then_some(*result))
    }
}
