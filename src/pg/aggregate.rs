//! Aggregate states: Rust values in the aggregate's memory context, which are dropped with it.

use pgrx::{Internal, PgMemoryContexts, pg_sys};

use runtime::error::{Error, Result};

/// Applies `change` to the state; the first call creates it with `make`.
pub fn update<T>(
    mut state: Internal,
    fcinfo: pg_sys::FunctionCallInfo,
    make: impl FnOnce() -> T,
    change: impl FnOnce(&mut T) -> Result<()>,
) -> Result<Internal> {
    if !state.initialized() {
        state = adopt(fcinfo, make())?;
    }
    // SAFETY: the aggregate's definition passes this state only between functions of the same T.
    match unsafe { state.get_mut::<T>() } {
        Some(value) => change(value)?,
        None => return Err(Error::Internal("aggregate has no state".into())),
    }
    Ok(state)
}

/// The state; `None` if there were no rows.
pub fn read<T>(state: &Internal) -> Option<&T> {
    // SAFETY: as in `update`.
    unsafe { state.get::<T>() }
}

/// Moves a value into the memory context of the current aggregate.
pub fn adopt<T>(fcinfo: pg_sys::FunctionCallInfo, value: T) -> Result<Internal> {
    let mut context: pg_sys::MemoryContext = std::ptr::null_mut();
    // SAFETY: fcinfo is that of the running call; PostgreSQL writes the context of an aggregate's call.
    if unsafe { pg_sys::AggCheckCallContext(fcinfo, &mut context) } == 0 {
        return Err(Error::Internal("aggregate function called outside of an aggregate".into()));
    }
    // SAFETY: the context was just given by PostgreSQL; Internal::new allocates in the current one.
    Ok(unsafe { PgMemoryContexts::For(context).switch_to(|_| Internal::new(value)) })
}
