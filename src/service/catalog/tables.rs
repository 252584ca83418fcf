//! Access to the catalog tables as their owner, and checks of model ownership.

use std::cell::Cell;

use pgrx::datum::Uuid;
use pgrx::spi::{OwnedPreparedStatement, SpiClient};
use pgrx::{PgBuiltInOids, PgOid, Spi, pg_sys};

use crate::pg::errors::SpiResult;
use crate::pg::identity::{as_role, caller};
use runtime::error::{Error, Result};

/// Runs `body` as the owner of the catalog tables.
pub(super) fn as_owner<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    // SAFETY: a look-up in the system cache; a missing schema is PostgreSQL's own error.
    let schema = unsafe { pg_sys::get_namespace_oid(c"reco".as_ptr(), false) };
    as_role(owner(schema), || {
        check_version(schema)?;
        body()
    })
}

/// The versions of library and SQL objects must match. If only one of them was updated, calls would otherwise fail without a clear reason.
/// Checked once for each oid of the schema, and again until they match.
fn check_version(schema: pg_sys::Oid) -> Result<()> {
    thread_local! {
        static CHECKED: Cell<pg_sys::Oid> = const { Cell::new(pg_sys::InvalidOid) };
    }
    if CHECKED.get() == schema {
        return Ok(());
    }
    let library = env!("CARGO_PKG_VERSION");
    let objects = Spi::connect(|client| {
        let query =
            "SELECT e.extversion FROM pg_catalog.pg_extension e WHERE e.extname OPERATOR(pg_catalog.=) 'pg_reco'";
        let row = client.select(query, Some(1), &[]).spi()?.first();
        Ok::<_, Error>(if row.is_empty() { None } else { row.get::<String>(1).spi()? })
    })?;
    match objects {
        // There is a schema of this name, but not the extension.
        None => Err(Error::VersionMismatch { library, objects: "none".into() }),
        Some(objects) if objects != library => Err(Error::VersionMismatch { library, objects }),
        Some(_) => {
            CHECKED.set(schema);
            Ok(())
        }
    }
}

/// The role that owns the catalog tables. Looked up at each call, since it can change.
fn owner(schema: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: look-ups in the system cache; the tuple is released after its only use.
    unsafe {
        let table = pg_sys::get_relname_relid(c"model".as_ptr(), schema);
        let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::RELOID as _, table.into());
        if tuple.is_null() {
            // Without the table every query here fails by itself, under the caller's own rights.
            return pg_sys::GetUserId();
        }
        let owner = (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_class>()).relowner;
        pg_sys::ReleaseSysCache(tuple);
        owner
    }
}

/// SQL for the creation time of a version, in microseconds.
pub(super) const CREATED: &str = "(EXTRACT(epoch FROM v.created) OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8";

/// Raises PostgreSQL's error in a read-only transaction and on a standby. Call it before long work whose result will be stored.
pub fn require_writable() {
    // SAFETY: reads this backend's state and raises; the name is a C string constant.
    unsafe {
        pg_sys::PreventCommandIfReadOnly(c"storing a model".as_ptr());
        pg_sys::PreventCommandDuringRecovery(c"storing a model".as_ptr());
    }
}

/// Runs `body` with write access to the model `name`. The caller must be a member of the owner's role.
pub(super) fn owned<T>(name: &str, body: impl FnOnce(&mut SpiClient) -> Result<T>) -> Result<T> {
    require_writable();
    let caller = caller();
    as_owner(|| {
        Spi::connect_mut(|client| {
            require_ownership(client, name, None, caller)?;
            body(client)
        })
    })
}

/// An error if `caller` is not a member of the owner's role, or if the model does not have this `id`. Runs as the owner of the catalog and locks
/// the model's row until the end of the transaction.
pub(super) fn require_ownership(
    client: &mut SpiClient,
    name: &str,
    id: Option<Uuid>,
    caller: pg_sys::Oid,
) -> Result<()> {
    let row = client
        .update(
            "SELECT pg_catalog.pg_has_role($2, m.owner::pg_catalog.oid, 'USAGE'), m.id
               FROM reco.model m WHERE m.name OPERATOR(pg_catalog.=) $1 FOR UPDATE",
            None,
            &[name.into(), caller.into()],
        )
        .spi()?
        .first();
    if row.is_empty() {
        return Err(if id.is_some() { Error::ModelGone(name.into()) } else { Error::UnknownModel(name.into()) });
    }
    if id.is_some() && row.get::<Uuid>(2).spi()? != id {
        return Err(Error::ModelGone(name.into()));
    }
    match row.get::<bool>(1).spi()? {
        Some(true) => Ok(()),
        _ => Err(Error::NotModelOwner(name.into())),
    }
}

/// The saved plan of a frequent query, prepared once for each connection.
pub(super) fn kept<'a>(
    plan: &'a mut Option<OwnedPreparedStatement>,
    client: &SpiClient,
    types: &[PgBuiltInOids],
    query: impl FnOnce() -> String,
) -> Result<&'a OwnedPreparedStatement> {
    if plan.is_none() {
        let types: Vec<PgOid> = types.iter().map(|&t| PgOid::BuiltIn(t)).collect();
        *plan = Some(client.prepare(query().as_str(), &types).spi()?.keep());
    }
    plan.as_ref().ok_or_else(|| Error::Internal("plan was not saved".into()))
}

pub(super) fn required<T>(value: Option<T>) -> Result<T> {
    value.ok_or_else(|| Error::Internal("unexpected NULL in the catalog".into()))
}
