//! All versions of a model: listing and pruning.

use std::collections::BTreeSet;

use pgrx::Spi;
use pgrx::spi::SpiClient;

use super::lookup::files;
use super::tables::{as_owner, owned, required};
use crate::pg::errors::SpiResult;
use crate::pg::identity::caller;
use crate::pg::settings;
use crate::service::cache_folder::{self, FileEntry};
use runtime::error::{Error, Result};

/// A version and its files.
pub struct Version {
    pub name: String,
    pub version: i32,
    pub files: Vec<FileEntry>,
}

/// Every version in this database's catalog, of any owner.
pub fn all() -> Result<Vec<Version>> {
    as_owner(|| {
        Spi::connect(|client| {
            let rows = client
                .select(
                    "SELECT f.name, f.version, f.file, f.sha256, f.size, COALESCE(f.stored_in, f.version)
                   FROM reco.model_file f ORDER BY f.name, f.version, f.file",
                    None,
                    &[],
                )
                .spi()?;
            let mut all: Vec<Version> = Vec::new();
            for row in rows {
                let (name, version): (String, i32) = (required(row.get(1).spi()?)?, required(row.get(2).spi()?)?);
                if all.last().is_none_or(|last| last.name != name || last.version != version) {
                    all.push(Version { name, version, files: Vec::new() });
                }
                let size = required::<i64>(row.get(5).spi()?)?.max(0) as u64;
                let (file, sha256) = (required(row.get(3).spi()?)?, required(row.get(4).spi()?)?);
                let file = FileEntry { name: file, sha256, size, stored_in: required(row.get(6).spi()?)? };
                all.last_mut().into_iter().for_each(|last| last.files.push(file.clone()));
            }
            Ok(all)
        })
    })
}

/// The number of versions to keep after training: the argument, or else the setting; 0 for all.
pub fn kept(keep: Option<i32>) -> Result<i32> {
    match keep {
        Some(keep) if keep < 0 => {
            Err(Error::argument("keep", keep, "The number of versions to keep must be 1 or more, or 0 for all."))
        }
        Some(keep) => Ok(keep),
        None => Ok(settings::keep_versions()),
    }
}

/// [`prune`], unless `keep` is 0.
pub fn keep(name: &str, keep: i32) -> Result<()> {
    if keep > 0 {
        prune(name, keep)?;
    }
    Ok(())
}

/// Removes all but the newest `keep` versions and the one in use. Returns the removed versions.
pub fn prune(name: &str, keep: i32) -> Result<Vec<i32>> {
    let (pruned, gone): (Vec<i32>, Vec<Vec<FileEntry>>) = owned(name, |client| {
        let pruned: Vec<i32> = client
            .select(
                "SELECT v.version
                   FROM (SELECT version FROM reco.model_version WHERE name OPERATOR(pg_catalog.=) $1
                          ORDER BY version DESC OFFSET $2) v
                   JOIN reco.model m ON m.name OPERATOR(pg_catalog.=) $1
                  WHERE v.version OPERATOR(pg_catalog.<>) m.version_in_use
                  ORDER BY v.version",
                None,
                &[name.into(), i64::from(keep).into()],
            )
            .spi()?
            .map(|row| required(row.get(1).spi()?))
            .collect::<Result<_>>()?;
        let gone = pruned.iter().map(|&version| remove(client, name, version)).collect::<Result<_>>()?;
        Ok((pruned, gone))
    })?;
    remove_at_commit(&gone)?;
    Ok(pruned)
}

/// Deletes the rows of a version and returns its files. Contents that another version has too stay.
pub(super) fn remove(client: &mut SpiClient, name: &str, version: i32) -> Result<Vec<FileEntry>> {
    let gone = files(client, name, version)?;
    let mut deleted = false;
    for table in ["model_file", "model_version"] {
        let query = format!(
            "DELETE FROM reco.{table}
              WHERE name OPERATOR(pg_catalog.=) $1 AND version OPERATOR(pg_catalog.=) $2 RETURNING version"
        );
        deleted = !client.update(query.as_str(), None, &[name.into(), version.into()]).spi()?.is_empty();
    }
    if !deleted {
        return Err(Error::UnknownVersion { name: name.into(), version });
    }
    client
        .update(
            "DELETE FROM reco.model_part p
              WHERE p.name OPERATOR(pg_catalog.=) $1
                AND NOT EXISTS (SELECT FROM reco.model_file f
                                 WHERE f.name OPERATOR(pg_catalog.=) p.name AND f.file OPERATOR(pg_catalog.=) p.file
                                   AND COALESCE(f.stored_in, f.version) OPERATOR(pg_catalog.=) p.version)",
            None,
            &[name.into()],
        )
        .spi()?;
    Ok(gone)
}

/// An error if the caller is not a member of the owner's role. Takes no lock: the check is repeated before writing.
pub fn require_owner(name: &str) -> Result<()> {
    let caller = caller();
    as_owner(|| {
        Spi::connect(|client| {
            let row = client
                .select(
                    "SELECT pg_catalog.pg_has_role($2, m.owner::pg_catalog.oid, 'USAGE')
                       FROM reco.model m WHERE m.name OPERATOR(pg_catalog.=) $1",
                    Some(1),
                    &[name.into(), caller.into()],
                )
                .spi()?
                .first();
            if row.is_empty() {
                return Err(Error::UnknownModel(name.into()));
            }
            match row.get::<bool>(1).spi()? {
                Some(true) => Ok(()),
                _ => Err(Error::NotModelOwner(name.into())),
            }
        })
    })
}

/// Removes the folders of removed versions at commit, unless another version has the same files.
pub fn remove_at_commit(gone: &[Vec<FileEntry>]) -> Result<()> {
    let named = named()?;
    let gone = gone.iter().flat_map(|files| cache_folder::names(files)).filter(|name| !named.contains(name));
    gone.for_each(cache_folder::remove_at_commit);
    Ok(())
}

/// The folders that this database's catalog refers to.
pub fn named() -> Result<BTreeSet<String>> {
    Ok(all()?.iter().flat_map(|version| cache_folder::names(&version.files)).collect())
}
