//! Privileges on models: owners have all, other roles have what was granted to them, and members of `reco_reader` can read every model.

use std::cell::RefCell;
use std::collections::HashSet;
use std::ffi::CString;

use pgrx::datum::{DatumWithOid, Uuid};
use pgrx::spi::{OwnedPreparedStatement, SpiClient};
use pgrx::{PgBuiltInOids, Spi, pg_sys};

use super::tables::{as_owner, kept, owned, required};
use crate::pg::errors::SpiResult;
use crate::pg::identity::caller;
use runtime::error::{Error, Result};

/// A privilege on a model. Each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// To get results of the model: recommendations, vectors, generated rows.
    Serve,
    /// To also see its training data: its users, their histories, its source and its files.
    Read,
}

impl Privilege {
    const ALL: [Self; 2] = [Self::Serve, Self::Read];

    pub fn name(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Read => "read",
        }
    }

    pub fn from_name(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|p| p.name() == name).ok_or_else(|| Error::UnknownName {
            what: "privilege",
            name: name.into(),
            known: Self::ALL.map(Self::name).join(", "),
        })
    }

    /// The error for a role without this privilege.
    pub(super) fn denied(self, name: &str) -> Error {
        match self {
            Self::Serve => Error::ModelPermission(name.into()),
            Self::Read => Error::ReadPermission(name.into()),
        }
    }
}

/// Whether `role` may read every model.
pub(super) fn reads_all(role: pg_sys::Oid) -> bool {
    // SAFETY: look-ups of roles; one that is not there is number 0.
    unsafe {
        let readers = pg_sys::get_role_oid(c"reco_reader".as_ptr(), true);
        readers != pg_sys::InvalidOid && pg_sys::has_privs_of_role(role, readers)
    }
}

/// An SQL condition: whether the role $2 has the privilege serve on the model `m`, or the privilege read if the condition `read` is true. $3 is
/// whether the role can read every model.
pub(super) fn held(read: &str) -> String {
    format!(
        "($3 OR pg_catalog.pg_has_role($2, m.owner::pg_catalog.oid, 'USAGE') OR EXISTS (
            SELECT FROM reco.model_grant g
             WHERE g.name OPERATOR(pg_catalog.=) m.name
               AND (g.privilege OPERATOR(pg_catalog.=) 'read' OR NOT {read})
               AND CASE WHEN g.grantee::pg_catalog.oid OPERATOR(pg_catalog.=) 0::pg_catalog.oid THEN true
                        ELSE pg_catalog.pg_has_role($2, g.grantee::pg_catalog.oid, 'USAGE') END))"
    )
}

/// The name of the model `id`. An error if it was dropped, or if the caller has no privilege on it.
pub fn name_of(id: Uuid) -> Result<String> {
    thread_local! {
        static PLAN: RefCell<Option<OwnedPreparedStatement>> = const { RefCell::new(None) };
    }
    let caller = caller();
    let reads_all = reads_all(caller);
    as_owner(|| {
        Spi::connect(|client| {
            PLAN.with_borrow_mut(|plan| {
                let types = [PgBuiltInOids::UUIDOID, PgBuiltInOids::OIDOID, PgBuiltInOids::BOOLOID];
                let plan = kept(plan, client, &types, || {
                    format!("SELECT m.name, {} FROM reco.model m WHERE m.id OPERATOR(pg_catalog.=) $1", held("false"))
                })?;
                let row = client.select(plan, Some(1), &[id.into(), caller.into(), reads_all.into()]).spi()?.first();
                if row.is_empty() {
                    return Err(Error::DroppedModel(id.to_string()));
                }
                match row.get::<bool>(2).spi()? {
                    Some(true) => required(row.get(1).spi()?),
                    // Its name is for those who may use it.
                    _ => Err(Error::UnnamedModelPermission(id.to_string())),
                }
            })
        })
    })
}

/// The models whose statistics the caller may see: those that it has privileges on, or all for members of `pg_read_all_stats`.
pub fn with_visible_statistics() -> Result<HashSet<String>> {
    let caller = caller();
    let reads_all = reads_all(caller);
    as_owner(|| {
        Spi::connect(|client| {
            let query = format!(
                "SELECT m.name FROM reco.model m
                  WHERE pg_catalog.pg_has_role($2, $1::pg_catalog.name, 'USAGE') OR {}",
                held("false")
            );
            client
                .select(query.as_str(), None, &["pg_read_all_stats".into(), caller.into(), reads_all.into()])
                .spi()?
                .map(|row| required(row.get(1).spi()?))
                .collect()
        })
    })
}

/// Grants a privilege on the model to `grantee` (0 for PUBLIC). A stronger privilege that it has is kept.
pub fn grant(name: &str, grantee: pg_sys::Oid, privilege: Privilege) -> Result<()> {
    owned(name, |client| {
        client
            .update(
                "INSERT INTO reco.model_grant AS g (name, grantee, privilege) VALUES ($1, $2::pg_catalog.oid, $3)
                 ON CONFLICT (name, grantee) DO UPDATE SET privilege = EXCLUDED.privilege
                 WHERE EXCLUDED.privilege OPERATOR(pg_catalog.=) 'read'",
                None,
                &[name.into(), oid_number(grantee), privilege.name().into()],
            )
            .spi()?;
        Ok(())
    })
}

/// Revokes a privilege, and those that include it.
pub fn revoke(name: &str, grantee: pg_sys::Oid, privilege: Privilege) -> Result<()> {
    let change = match privilege {
        Privilege::Serve => "DELETE FROM reco.model_grant",
        Privilege::Read => "UPDATE reco.model_grant SET privilege = 'serve'",
    };
    owned(name, |client| {
        let query = format!(
            "{change}
              WHERE name OPERATOR(pg_catalog.=) $1
                AND grantee::pg_catalog.oid OPERATOR(pg_catalog.=) $2::pg_catalog.oid"
        );
        client.update(query.as_str(), None, &[name.into(), oid_number(grantee)]).spi()?;
        Ok(())
    })
}

/// The oid as a number: pgrx turns oid 0, which stands for PUBLIC here, into NULL.
fn oid_number(oid: pg_sys::Oid) -> DatumWithOid<'static> {
    i64::from(oid.to_u32()).into()
}

/// The oid of a role; 0 for `public`.
pub fn role(name: &str) -> Result<pg_sys::Oid> {
    if name == "public" {
        return Ok(pg_sys::InvalidOid);
    }
    let c_name =
        CString::new(name).map_err(|_| Error::invalid("role name contains a zero byte", "Pass the name of a role."))?;
    // SAFETY: a look-up by a C string; an unknown role is PostgreSQL's own error.
    Ok(unsafe { pg_sys::get_role_oid(c_name.as_ptr(), false) })
}

/// An error if the name belongs to another role, to be raised before long work. Takes no lock. Any role can use a free name.
pub fn require_author(name: &str) -> Result<()> {
    let caller = caller();
    as_owner(|| Spi::connect_mut(|client| check_author(client, name, caller, false)))
}

/// The check of [`require_author`]. With `lock` the model must exist, and its row is locked until the end of the transaction.
///
/// Members of the owner's role and superusers cannot add versions as themselves either: another role may have taken the name first and would
/// own what they trained.
pub(super) fn check_author(client: &mut SpiClient, name: &str, caller: pg_sys::Oid, lock: bool) -> Result<()> {
    let query = format!(
        "SELECT m.owner::pg_catalog.oid OPERATOR(pg_catalog.=) $2, pg_catalog.pg_has_role($2, m.owner::pg_catalog.oid, 'USAGE'),
                m.owner::pg_catalog.text
           FROM reco.model m WHERE m.name OPERATOR(pg_catalog.=) $1{}",
        if lock { " FOR UPDATE" } else { "" }
    );
    let row = client.update(query.as_str(), None, &[name.into(), caller.into()]).spi()?.first();
    if row.is_empty() {
        // Where a row was to be locked there was one: it has just been dropped.
        return if lock { Err(Error::UnknownModel(name.into())) } else { Ok(()) };
    }
    if row.get::<bool>(1).spi()? == Some(true) {
        return Ok(());
    }
    match row.get::<bool>(2).spi()? {
        Some(true) => Err(Error::AnothersName { name: name.into(), owner: row.get(3).spi()?.unwrap_or_default() }),
        _ => Err(Error::NotModelOwner(name.into())),
    }
}
