//! The catalog's tables, as their owner; who may write to a model's rows.

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

/// The SQL objects must be those of this library: after an update of the one without the other, nothing else would say why
/// things fail. Asked once for each schema that the extension lives in, and again until it is right.
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
        // Without the extension there is a schema of that name with tables of somebody else's.
        None => Err(Error::VersionMismatch { library, objects: "none".into() }),
        Some(objects) if objects != library => Err(Error::VersionMismatch { library, objects }),
        Some(_) => {
            CHECKED.set(schema);
            Ok(())
        }
    }
}

/// The role that owns the catalog tables. Looked up at each call: it can change.
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

/// When a version was made, in microseconds.
pub(super) const CREATED: &str = "(EXTRACT(epoch FROM v.created) OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8";

/// Raises PostgreSQL's error where nothing may be written: in a read-only transaction, on a standby. To be called before long
/// work whose result is to be stored.
pub fn require_writable() {
    // SAFETY: reads this backend's state and raises; the name is a C string constant.
    unsafe {
        pg_sys::PreventCommandIfReadOnly(c"storing a model".as_ptr());
        pg_sys::PreventCommandDuringRecovery(c"storing a model".as_ptr());
    }
}

/// Runs `body` with write access to the model `name`, if the caller owns it.
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

/// An error where the caller is not the model's owner, nor of that role, inside a query of the catalog's owner; the model must be the one with this `id`, where one is given. Its row is
/// locked till the transaction ends.
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

/// The plan of a query that is asked at every call: made at the first of a connection.
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
    plan.as_ref().ok_or_else(|| Error::Internal("a plan was not kept".into()))
}

pub(super) fn required<T>(value: Option<T>) -> Result<T> {
    value.ok_or_else(|| Error::Internal("the catalog holds a NULL where none may be".into()))
}
