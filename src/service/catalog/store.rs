//! Storing, promoting and dropping versions.

use pgrx::Spi;
use pgrx::datum::Uuid;
use pgrx::spi::SpiClient;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::entry::Task;
use super::lookup::files;
use super::privilege::check_author;
use super::tables::{as_owner, owned, require_ownership, require_writable, required};
use super::versions::remove;
use crate::pg::errors::SpiResult;
use crate::pg::identity::caller;
use crate::service::cache_folder::{self, FileEntry, remove_at_abort};
use runtime::error::{Error, Result};
use runtime::progress::Progress;
use runtime::sealed::hex;

/// Bytes of a file kept in one row.
const PART: usize = 4 << 20;

/// A version to store.
pub struct NewVersion<'a> {
    pub name: &'a str,
    /// The model that it refreshes, if any. A refresh reads the stored source with the owner's privileges, so any member of the owner's role may
    /// store it.
    pub refreshes: Option<Uuid>,
    pub task: Task,
    pub algorithm: Option<&'a str>,
    pub config: &'a Value,
    pub source: Option<&'a str>,
    pub metrics: Option<&'a Value>,
    /// The ONNX file first.
    pub files: &'a [(&'a str, &'a [u8])],
    /// Files of an earlier version of the model that this one has as well: their content is not stored again.
    pub shared: &'a [FileEntry],
    /// Whether it is promoted; the first version always is.
    pub in_use: bool,
}

/// Stores a new version of a model and returns its number. The caller becomes the owner of a new name. Only the owner itself can add versions
/// to an existing name; members of the owner's role can add refreshes.
pub fn insert(new: &NewVersion, progress: &dyn Progress) -> Result<i32> {
    if new.name.is_empty() || new.name.len() > 200 || new.name.chars().any(char::is_control) {
        let hint = "A name has 1 to 200 bytes and no control characters.";
        return Err(Error::argument("name", format!("\"{}\"", new.name.escape_debug()), hint));
    }
    require_writable();
    let caller = caller();
    let config = pgrx::JsonB(new.config.clone());
    let metrics = new.metrics.map(|m| pgrx::JsonB(m.clone()));
    let hashed = new.files.iter().map(|&(_, bytes)| Ok((sha256(bytes, progress)?, bytes.len() as i64)));
    let hashed: Vec<(String, i64)> = hashed.collect::<Result<_>>()?;
    let (sha256, size) = hashed.first().ok_or_else(|| Error::Internal("version has no files".into()))?;
    let version = as_owner(|| {
        Spi::connect_mut(|client| {
            // The row is locked until the end of the transaction, so that concurrent inserts get different numbers.
            match new.refreshes {
                Some(id) => require_ownership(client, new.name, Some(id), caller)?,
                None => {
                    client.update(
                        "INSERT INTO reco.model AS m (name, owner, version_in_use) VALUES ($1, $2::pg_catalog.oid, 0) ON CONFLICT DO NOTHING",
                        None,
                        &[new.name.into(), caller.into()],
                    ).spi()?;
                    check_author(client, new.name, caller, true)?;
                }
            }
            let version: i32 = required(
                client
                    .update(
                        "INSERT INTO reco.model_version
                             (name, version, task, algorithm, config, source, metrics, sha256, size)
                         SELECT $1, COALESCE(pg_catalog.max(v.version), 0) OPERATOR(pg_catalog.+) 1,
                                $2, $3, $4, $5, $6, $7, $8
                           FROM reco.model_version v WHERE v.name OPERATOR(pg_catalog.=) $1
                         RETURNING version",
                        None,
                        &[
                            new.name.into(),
                            new.task.name().into(),
                            new.algorithm.into(),
                            config.into(),
                            new.source.into(),
                            metrics.into(),
                            sha256.as_str().into(),
                            (*size).into(),
                        ],
                    )
                    .spi()?
                    .first()
                    .get(1)
                    .spi()?,
            )?;
            if new.in_use || version == 1 {
                set_in_use(client, new.name, version)?;
            }
            Ok::<_, Error>(version)
        })
    })?;
    for file in new.shared {
        // The earlier version may have been removed since its files were looked up.
        if !share(new.name, version, &file.name, &file.sha256)? {
            let message = format!("model \"{}\" was changed while it was refreshed", new.name);
            return Err(Error::invalid(message, "Try again."));
        }
    }
    for ((file, bytes), (sha256, _)) in new.files.iter().zip(&hashed) {
        let is_of_part = file.contains('/');
        if !(is_of_part && share(new.name, version, file, sha256)?) {
            insert_file(new.name, version, file, bytes, sha256, progress)?;
        }
    }
    let stored = as_owner(|| Spi::connect(|client| files(client, new.name, version)))?;
    let shared = cache_folder::names(new.shared);
    cache_folder::names(&stored).into_iter().filter(|name| !shared.contains(name)).for_each(remove_at_abort);
    Ok(version)
}

/// Records that a version has a file that an earlier one has too, unless there is none.
fn share(name: &str, version: i32, file: &str, sha256: &str) -> Result<bool> {
    as_owner(|| {
        Spi::connect_mut(|client| {
            let row = client
                .update(
                    "INSERT INTO reco.model_file (name, version, file, sha256, size, stored_in)
                     SELECT f.name, $2, f.file, f.sha256, f.size, COALESCE(f.stored_in, f.version)
                       FROM reco.model_file f
                      WHERE f.name OPERATOR(pg_catalog.=) $1 AND f.file OPERATOR(pg_catalog.=) $3
                        AND f.sha256 OPERATOR(pg_catalog.=) $4
                      LIMIT 1
                     RETURNING version",
                    None,
                    &[name.into(), version.into(), file.into(), sha256.into()],
                )
                .spi()?;
            Ok(!row.is_empty())
        })
    })
}

fn insert_file(
    name: &str,
    version: i32,
    file: &str,
    bytes: &[u8],
    sha256: &str,
    progress: &dyn Progress,
) -> Result<()> {
    as_owner(|| {
        Spi::connect_mut(|client| {
            client
                .update(
                    "INSERT INTO reco.model_file (name, version, file, sha256, size) VALUES ($1, $2, $3, $4, $5)",
                    None,
                    &[name.into(), version.into(), file.into(), sha256.into(), (bytes.len() as i64).into()],
                )
                .spi()?;
            Ok::<_, Error>(())
        })
    })?;
    let phase = format!("bytes stored of {file}");
    for (part, data) in bytes.chunks(PART).enumerate() {
        progress.check()?;
        progress.report(&phase, part * PART, bytes.len());
        // One SPI connection for each part, so that its copy is freed before the next.
        as_owner(|| {
            Spi::connect_mut(|client| {
                client
                    .update(
                        "INSERT INTO reco.model_part (name, version, file, part, data) VALUES ($1, $2, $3, $4, $5)",
                        None,
                        &[name.into(), version.into(), file.into(), (part as i32).into(), data.into()],
                    )
                    .spi()?;
                Ok::<_, Error>(())
            })
        })?;
    }
    Ok(())
}

/// Promotes `version`.
pub fn promote(name: &str, version: i32) -> Result<()> {
    owned(name, |client| {
        if files(client, name, version)?.is_empty() {
            return Err(Error::UnknownVersion { name: name.into(), version });
        }
        set_in_use(client, name, version)
    })
}

/// Removes one version, or the model with all versions. Returns the files of each removed version.
pub fn drop(name: &str, version: Option<i32>) -> Result<Vec<Vec<FileEntry>>> {
    owned(name, |client| {
        let Some(version) = version else {
            let versions: Vec<i32> = client
                .select(
                    "SELECT version FROM reco.model_version WHERE name OPERATOR(pg_catalog.=) $1",
                    None,
                    &[name.into()],
                )
                .spi()?
                .map(|row| required(row.get(1).spi()?))
                .collect::<Result<_>>()?;
            let gone = versions.into_iter().map(|v| files(client, name, v)).collect::<Result<_>>()?;
            for table in ["model_part", "model_file", "model_version", "model_grant", "model"] {
                let query = format!("DELETE FROM reco.{table} WHERE name OPERATOR(pg_catalog.=) $1");
                client.update(query.as_str(), None, &[name.into()]).spi()?;
            }
            return Ok(gone);
        };
        let in_use = client
            .select("SELECT version_in_use FROM reco.model WHERE name OPERATOR(pg_catalog.=) $1", None, &[name.into()])
            .spi()?
            .first()
            .get::<i32>(1)
            .spi()?;
        if in_use == Some(version) {
            let hint = "Promote another version first, or omit version to drop the model.";
            return Err(Error::invalid(
                format!("cannot drop version {version} of model \"{name}\" because it is in use"),
                hint,
            ));
        }
        Ok(vec![remove(client, name, version)?])
    })
}

fn set_in_use(client: &mut SpiClient, name: &str, version: i32) -> Result<()> {
    client
        .update(
            "UPDATE reco.model SET version_in_use = $2 WHERE name OPERATOR(pg_catalog.=) $1",
            None,
            &[name.into(), version.into()],
        )
        .spi()?;
    Ok(())
}

/// The SHA-256 of `bytes`, in hexadecimal.
fn sha256(bytes: &[u8], progress: &dyn Progress) -> Result<String> {
    let mut hash = Sha256::new();
    for part in bytes.chunks(PART) {
        progress.check()?;
        hash.update(part);
    }
    Ok(hex(&hash.finalize()))
}
