//! Finding a model's version, and reading its files.

use std::cell::RefCell;

use pgrx::spi::{OwnedPreparedStatement, SpiClient};
use pgrx::{PgBuiltInOids, Spi};
use sha2::{Digest, Sha256};

use super::entry::{DATA_FILE, Entry, ONNX_FILE, Stamp, TOKENIZER_FILE, Task};
use super::privilege::{Privilege, held, reads_all};
use super::tables::{CREATED, as_owner, kept, required};
use crate::pg::errors::SpiResult;
use crate::pg::identity::caller;
use crate::service::cache_folder::FileEntry;
use runtime::error::{Error, Result};
use runtime::progress::Progress;
use runtime::sealed::hex;

/// The version of `name` in use. An error if the caller does not have the privilege.
pub fn stamp(name: &str, privilege: Privilege) -> Result<Stamp> {
    thread_local! {
        static PLAN: RefCell<Option<OwnedPreparedStatement>> = const { RefCell::new(None) };
    }
    let caller = caller();
    let (reads_all, read) = (reads_all(caller), privilege == Privilege::Read);
    as_owner(|| {
        Spi::connect(|client| {
            PLAN.with_borrow_mut(|plan| {
                let types =
                    [PgBuiltInOids::TEXTOID, PgBuiltInOids::OIDOID, PgBuiltInOids::BOOLOID, PgBuiltInOids::BOOLOID];
                let plan = kept(plan, client, &types, || {
                    format!(
                        "SELECT v.version, {CREATED}, {}, m.owner::pg_catalog.oid
                           FROM reco.model m
                           JOIN reco.model_version v
                             ON v.name OPERATOR(pg_catalog.=) m.name
                            AND v.version OPERATOR(pg_catalog.=) m.version_in_use
                          WHERE m.name OPERATOR(pg_catalog.=) $1",
                        held("$4")
                    )
                })?;
                let arguments = [name.into(), caller.into(), reads_all.into(), read.into()];
                let row = client.select(plan, Some(1), &arguments).spi()?.first();
                if row.is_empty() {
                    return Err(Error::UnknownModel(name.into()));
                }
                if row.get::<bool>(3).spi()? != Some(true) {
                    return Err(privilege.denied(name));
                }
                Ok(Stamp {
                    version: required(row.get(1).spi()?)?,
                    created: required(row.get(2).spi()?)?,
                    owner: required(row.get(4).spi()?)?,
                })
            })
        })
    })
}

/// A version of `name`, by default the one in use. An error if the caller does not have the privilege.
pub fn find(name: &str, version: Option<i32>, privilege: Privilege) -> Result<Entry> {
    let caller = caller();
    let reads_all = reads_all(caller);
    as_owner(|| {
        Spi::connect(|client| {
            let query = format!(
                "SELECT {}, v.version, {CREATED}, m.owner::pg_catalog.oid, v.task, v.algorithm, v.config, v.source, m.id, {}
                   FROM reco.model m
                   LEFT JOIN reco.model_version v
                     ON v.name OPERATOR(pg_catalog.=) m.name
                    AND v.version OPERATOR(pg_catalog.=) COALESCE($4, m.version_in_use)
                  WHERE m.name OPERATOR(pg_catalog.=) $1",
                held("false"),
                held("true")
            );
            let arguments = [name.into(), caller.into(), reads_all.into(), version.into()];
            let row = client.select(query.as_str(), Some(1), &arguments).spi()?.first();
            if row.is_empty() {
                return Err(Error::UnknownModel(name.into()));
            }
            let readable = row.get::<bool>(10).spi()? == Some(true);
            if row.get::<bool>(1).spi()? != Some(true) {
                return Err(Error::ModelPermission(name.into()));
            }
            if privilege == Privilege::Read && !readable {
                return Err(privilege.denied(name));
            }
            let Some(found) = row.get::<i32>(2).spi()? else {
                return Err(Error::UnknownVersion { name: name.into(), version: version.unwrap_or(0) });
            };
            let files = files(client, name, found)?;
            if !files.iter().any(|f| f.name == ONNX_FILE) {
                let reason = format!("{ONNX_FILE} is missing");
                return Err(Error::DamagedModel { model: name.into(), reason });
            }
            Ok(Entry {
                name: name.into(),
                id: required(row.get(9).spi()?)?,
                stamp: Stamp {
                    version: found,
                    created: required(row.get(3).spi()?)?,
                    owner: required(row.get(4).spi()?)?,
                },
                task: Task::from_name(&required::<String>(row.get(5).spi()?)?)?,
                algorithm: row.get(6).spi()?,
                config: row.get::<pgrx::JsonB>(7).spi()?.map(|j| j.0).unwrap_or_default(),
                source: row.get(8).spi()?,
                files,
                readable,
            })
        })
    })
}

pub(super) fn files(client: &SpiClient, name: &str, version: i32) -> Result<Vec<FileEntry>> {
    client
        .select(
            "SELECT f.file, f.sha256, f.size, COALESCE(f.stored_in, f.version) FROM reco.model_file f
              WHERE f.name OPERATOR(pg_catalog.=) $1 AND f.version OPERATOR(pg_catalog.=) $2 ORDER BY f.file",
            None,
            &[name.into(), version.into()],
        )
        .spi()?
        .map(|row| {
            let file: String = required(row.get(1).spi()?)?;
            // The name becomes that of a file on disk.
            if ![ONNX_FILE, TOKENIZER_FILE, DATA_FILE].contains(&file.as_str()) && !search::is_file(&file) {
                let reason = format!("unexpected file \"{}\"", file.escape_debug());
                return Err(Error::DamagedModel { model: name.into(), reason });
            }
            let size = required::<i64>(row.get(3).spi()?)?.max(0) as u64;
            let (sha256, stored_in) = (required(row.get(2).spi()?)?, required(row.get(4).spi()?)?);
            Ok(FileEntry { name: file, sha256, size, stored_in })
        })
        .collect()
}

/// Passes the bytes of a file, part by part, to `sink`. An error at the end if length or SHA-256 do not match.
pub fn read_file(
    entry: &Entry,
    file: &FileEntry,
    progress: &dyn Progress,
    mut sink: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let phase = format!("bytes read of {}", file.name);
    let mut hash = Sha256::new();
    let (mut part, mut read) = (0, 0);
    while read < file.size {
        progress.check()?;
        progress.report(&phase, read as usize, file.size as usize);
        as_owner(|| {
            Spi::connect(|client| {
                let rows = client
                    .select(
                        "SELECT p.data FROM reco.model_part p
                      WHERE p.name OPERATOR(pg_catalog.=) $1 AND p.version OPERATOR(pg_catalog.=) $2
                        AND p.file OPERATOR(pg_catalog.=) $3 AND p.part OPERATOR(pg_catalog.=) $4",
                        Some(1),
                        &[entry.name.as_str().into(), file.stored_in.into(), file.name.as_str().into(), part.into()],
                    )
                    .spi()?;
                let row = rows.first();
                let bytes = if row.is_empty() { None } else { row.get::<&[u8]>(1).spi()? };
                match bytes {
                    Some(bytes) if !bytes.is_empty() => {
                        hash.update(bytes);
                        read += bytes.len() as u64;
                        sink(bytes)
                    }
                    _ => Err(damaged(entry, format!("part {part} of {} is missing", file.name))),
                }
            })
        })?;
        part += 1;
    }
    if read != file.size || hex(&hash.finalize()) != file.sha256 {
        return Err(damaged(entry, format!("length or SHA-256 of {} does not match", file.name)));
    }
    Ok(())
}

pub fn damaged(entry: &Entry, reason: String) -> Error {
    Error::DamagedModel { model: entry.name.clone(), reason }
}
