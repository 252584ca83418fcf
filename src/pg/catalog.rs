//! Models as rows: finding, reading, writing, granting.
//!
//! The tables belong to the extension's owner and nobody else may touch them: each function here checks what the caller
//! may do, then reads or writes as that owner. Queries name every object and operator by schema, since the caller's
//! `search_path` is in force.

mod privilege;

use std::cell::{Cell, RefCell};

use pgrx::datum::Uuid;
use pgrx::spi::{OwnedPreparedStatement, SpiClient};
use pgrx::{PgBuiltInOids, PgOid, Spi, pg_sys};
use serde_json::Value;
use sha2::{Digest, Sha256};

pub use self::privilege::{Privilege, grant, name_of, require_author, revoke, role, with_visible_statistics};
use self::privilege::{check_author, held, reads_all};
use crate::error::{Error, Result};
use crate::pg::identity::{as_role, caller};
use crate::pg::{cache, transaction};
use crate::progress::Progress;
use crate::sealed::hex;

/// What a model is for; decides which functions take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    TextEmbedding,
    ImageEmbedding,
    Recommendation,
    /// Makes rows.
    Synthesis,
    /// Any other graph: `reco.predict` runs it.
    Predict,
}

impl Task {
    const ALL: [Self; 5] =
        [Self::TextEmbedding, Self::ImageEmbedding, Self::Recommendation, Self::Synthesis, Self::Predict];

    pub fn name(self) -> &'static str {
        match self {
            Self::TextEmbedding => "text_embedding",
            Self::ImageEmbedding => "image_embedding",
            Self::Recommendation => "recommendation",
            Self::Synthesis => "synthesis",
            Self::Predict => "predict",
        }
    }

    pub fn from_name(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|t| t.name() == name).ok_or_else(|| Error::UnknownName {
            what: "task",
            name: name.into(),
            known: Self::ALL.map(Self::name).join(", "),
        })
    }
}

/// Names of a version's files.
pub const ONNX_FILE: &str = "model.onnx";
pub const TOKENIZER_FILE: &str = "tokenizer.json";
pub const DATA_FILE: &str = "data.safetensors";

/// Bytes of a file kept in one row.
const PART: usize = 4 << 20;

#[derive(Clone, Debug)]
pub struct FileEntry {
    pub name: String,
    pub sha256: String,
    pub size: u64,
}

/// A version of a model, as the catalog describes it.
#[derive(Clone, Debug)]
pub struct Entry {
    pub name: String,
    /// Of the model: another one of this name, made later, has another.
    pub id: Uuid,
    pub stamp: Stamp,
    pub task: Task,
    pub algorithm: Option<String>,
    pub config: Value,
    pub source: Option<String>,
    pub files: Vec<FileEntry>,
    /// Whether the caller may see what the model was made from.
    pub readable: bool,
}

/// Which version a name stands for at the moment, and whether the caller may use it. Cheap: asked at each call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub version: i32,
    /// Microseconds; tells a model from one made later under the same name and version.
    pub created: i64,
    /// In whose name its queries run: a model can be handed over.
    pub owner: pg_sys::Oid,
}

/// A version to be stored.
pub struct NewVersion<'a> {
    pub name: &'a str,
    /// The model whose own source it was made from, under its owner's rights: whoever may act for the owner may add that one.
    pub refreshes: Option<Uuid>,
    pub task: Task,
    pub algorithm: Option<&'a str>,
    pub config: &'a Value,
    pub source: Option<&'a str>,
    pub metrics: Option<&'a Value>,
    /// The ONNX file first.
    pub files: &'a [(&'a str, &'a [u8])],
    /// Whether it takes the place of the version in use; the first one is in use in any case.
    pub in_use: bool,
}

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
        let row = client.select(query, Some(1), &[])?.first();
        Ok::<_, Error>(if row.is_empty() { None } else { row.get::<String>(1)? })
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

/// The version of `name` in use. An error where the caller has not this privilege on the model.
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
                let row = client.select(plan, Some(1), &arguments)?.first();
                if row.is_empty() {
                    return Err(Error::UnknownModel(name.into()));
                }
                if row.get::<bool>(3)? != Some(true) {
                    return Err(privilege.denied(name));
                }
                Ok(Stamp {
                    version: required(row.get(1)?)?,
                    created: required(row.get(2)?)?,
                    owner: required(row.get(4)?)?,
                })
            })
        })
    })
}

/// The plan of a query that is asked at every call: made at the first of a connection.
fn kept<'a>(
    plan: &'a mut Option<OwnedPreparedStatement>,
    client: &SpiClient,
    types: &[PgBuiltInOids],
    query: impl FnOnce() -> String,
) -> Result<&'a OwnedPreparedStatement> {
    if plan.is_none() {
        let types: Vec<PgOid> = types.iter().map(|&t| PgOid::BuiltIn(t)).collect();
        *plan = Some(client.prepare(query().as_str(), &types)?.keep());
    }
    plan.as_ref().ok_or_else(|| Error::Internal("a plan was not kept".into()))
}

/// A version of `name`, or the one in use. An error where the caller has not this privilege on the model.
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
            let row = client.select(query.as_str(), Some(1), &arguments)?.first();
            if row.is_empty() {
                return Err(Error::UnknownModel(name.into()));
            }
            let readable = row.get::<bool>(10)? == Some(true);
            if row.get::<bool>(1)? != Some(true) {
                return Err(Error::ModelPermission(name.into()));
            }
            if privilege == Privilege::Read && !readable {
                return Err(privilege.denied(name));
            }
            let Some(found) = row.get::<i32>(2)? else {
                return Err(Error::UnknownVersion { name: name.into(), version: version.unwrap_or(0) });
            };
            let files = files(client, name, found)?;
            if !files.iter().any(|f| f.name == ONNX_FILE) {
                let reason = format!("{ONNX_FILE} is missing");
                return Err(Error::DamagedModel { model: name.into(), reason });
            }
            Ok(Entry {
                name: name.into(),
                id: required(row.get(9)?)?,
                stamp: Stamp { version: found, created: required(row.get(3)?)?, owner: required(row.get(4)?)? },
                task: Task::from_name(&required::<String>(row.get(5)?)?)?,
                algorithm: row.get(6)?,
                config: row.get::<pgrx::JsonB>(7)?.map(|j| j.0).unwrap_or_default(),
                source: row.get(8)?,
                files,
                readable,
            })
        })
    })
}

pub(super) fn files(client: &SpiClient, name: &str, version: i32) -> Result<Vec<FileEntry>> {
    client
        .select(
            "SELECT f.file, f.sha256, f.size FROM reco.model_file f
              WHERE f.name OPERATOR(pg_catalog.=) $1 AND f.version OPERATOR(pg_catalog.=) $2 ORDER BY f.file",
            None,
            &[name.into(), version.into()],
        )?
        .map(|row| {
            let file: String = required(row.get(1)?)?;
            // The name becomes that of a file on disk.
            if ![ONNX_FILE, TOKENIZER_FILE, DATA_FILE].contains(&file.as_str()) {
                let reason = format!("it has a file \"{}\"", file.escape_debug());
                return Err(Error::DamagedModel { model: name.into(), reason });
            }
            let size = required::<i64>(row.get(3)?)?.max(0) as u64;
            Ok(FileEntry { name: file, sha256: required(row.get(2)?)?, size })
        })
        .collect()
}

/// Hands the bytes of a file, part by part, to `sink`. An error at the end where they are not those that were stored.
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
                let rows = client.select(
                    "SELECT p.data FROM reco.model_part p
                      WHERE p.name OPERATOR(pg_catalog.=) $1 AND p.version OPERATOR(pg_catalog.=) $2
                        AND p.file OPERATOR(pg_catalog.=) $3 AND p.part OPERATOR(pg_catalog.=) $4",
                    Some(1),
                    &[entry.name.as_str().into(), entry.stamp.version.into(), file.name.as_str().into(), part.into()],
                )?;
                let row = rows.first();
                let bytes = if row.is_empty() { None } else { row.get::<&[u8]>(1)? };
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
        return Err(damaged(entry, format!("{} does not have its length and SHA-256", file.name)));
    }
    Ok(())
}

pub fn damaged(entry: &Entry, reason: String) -> Error {
    Error::DamagedModel { model: entry.name.clone(), reason }
}

/// Stores a new version of a model. The caller becomes the owner of a new name; a name that exists takes versions from its
/// owner alone, and from whoever may act for it those that were made of its own source.
pub fn insert(new: &NewVersion, progress: &dyn Progress) -> Result<i32> {
    if new.name.is_empty() || new.name.len() > 200 || new.name.chars().any(char::is_control) {
        let hint = "Give 1 to 200 bytes without control characters.";
        return Err(Error::argument("name", format!("\"{}\"", new.name.escape_debug()), hint));
    }
    require_writable();
    let caller = caller();
    let config = pgrx::JsonB(new.config.clone());
    let metrics = new.metrics.map(|m| pgrx::JsonB(m.clone()));
    let hashed = new.files.iter().map(|&(_, bytes)| Ok((sha256(bytes, progress)?, bytes.len() as i64)));
    let hashed: Vec<(String, i64)> = hashed.collect::<Result<_>>()?;
    let (sha256, size) = hashed.first().ok_or_else(|| Error::Internal("a version without files".into()))?;
    let version = as_owner(|| {
        Spi::connect_mut(|client| {
            // The row is locked till the transaction ends, so that two new versions get two numbers.
            match new.refreshes {
                Some(id) => require_ownership(client, new.name, Some(id), caller)?,
                None => {
                    client.update(
                        "INSERT INTO reco.model AS m (name, owner, version_in_use) VALUES ($1, $2::pg_catalog.oid, 0) ON CONFLICT DO NOTHING",
                        None,
                        &[new.name.into(), caller.into()],
                    )?;
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
                    )?
                    .first()
                    .get(1)?,
            )?;
            if new.in_use || version == 1 {
                set_in_use(client, new.name, version)?;
            }
            Ok::<_, Error>(version)
        })
    })?;
    for ((file, bytes), (sha256, _)) in new.files.iter().zip(&hashed) {
        insert_file(new.name, version, file, bytes, sha256, progress)?;
    }
    let stored = as_owner(|| Spi::connect(|client| files(client, new.name, version)))?;
    transaction::remove_at_abort(cache::name(&stored));
    Ok(version)
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
            client.update(
                "INSERT INTO reco.model_file (name, version, file, sha256, size) VALUES ($1, $2, $3, $4, $5)",
                None,
                &[name.into(), version.into(), file.into(), sha256.into(), (bytes.len() as i64).into()],
            )?;
            Ok::<_, Error>(())
        })
    })?;
    let phase = format!("bytes stored of {file}");
    for (part, data) in bytes.chunks(PART).enumerate() {
        progress.check()?;
        progress.report(&phase, part * PART, bytes.len());
        // A connection for each part: what SPI copies of it is given back before the next.
        as_owner(|| {
            Spi::connect_mut(|client| {
                client.update(
                    "INSERT INTO reco.model_part (name, version, file, part, data) VALUES ($1, $2, $3, $4, $5)",
                    None,
                    &[name.into(), version.into(), file.into(), (part as i32).into(), data.into()],
                )?;
                Ok::<_, Error>(())
            })
        })?;
    }
    Ok(())
}

/// Makes `version` the one in use.
pub fn promote(name: &str, version: i32) -> Result<()> {
    owned(name, |client| {
        if files(client, name, version)?.is_empty() {
            return Err(Error::UnknownVersion { name: name.into(), version });
        }
        set_in_use(client, name, version)
    })
}

/// Removes one version, or the model with all of them. Gives the files of each version removed.
pub fn drop(name: &str, version: Option<i32>) -> Result<Vec<Vec<FileEntry>>> {
    owned(name, |client| {
        let Some(version) = version else {
            let versions: Vec<i32> = client
                .select(
                    "SELECT version FROM reco.model_version WHERE name OPERATOR(pg_catalog.=) $1",
                    None,
                    &[name.into()],
                )?
                .map(|row| required(row.get(1)?))
                .collect::<Result<_>>()?;
            let gone = versions.into_iter().map(|v| files(client, name, v)).collect::<Result<_>>()?;
            for table in ["model_part", "model_file", "model_version", "model_grant", "model"] {
                let query = format!("DELETE FROM reco.{table} WHERE name OPERATOR(pg_catalog.=) $1");
                client.update(query.as_str(), None, &[name.into()])?;
            }
            return Ok(gone);
        };
        let in_use = client
            .select("SELECT version_in_use FROM reco.model WHERE name OPERATOR(pg_catalog.=) $1", None, &[name.into()])?
            .first()
            .get::<i32>(1)?;
        if in_use == Some(version) {
            let hint = "Promote another version first, or drop the whole model by leaving version out.";
            return Err(Error::argument("version", format!("{version}, the one in use"), hint));
        }
        let gone = files(client, name, version)?;
        let mut deleted = false;
        for table in ["model_part", "model_file", "model_version"] {
            let query = format!(
                "DELETE FROM reco.{table}
                  WHERE name OPERATOR(pg_catalog.=) $1 AND version OPERATOR(pg_catalog.=) $2 RETURNING version"
            );
            deleted = !client.update(query.as_str(), None, &[name.into(), version.into()])?.is_empty();
        }
        if deleted { Ok(vec![gone]) } else { Err(Error::UnknownVersion { name: name.into(), version }) }
    })
}

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
fn require_ownership(client: &mut SpiClient, name: &str, id: Option<Uuid>, caller: pg_sys::Oid) -> Result<()> {
    let row = client
        .update(
            "SELECT pg_catalog.pg_has_role($2, m.owner::pg_catalog.oid, 'USAGE'), m.id
               FROM reco.model m WHERE m.name OPERATOR(pg_catalog.=) $1 FOR UPDATE",
            None,
            &[name.into(), caller.into()],
        )?
        .first();
    if row.is_empty() {
        return Err(if id.is_some() { Error::ModelGone(name.into()) } else { Error::UnknownModel(name.into()) });
    }
    if id.is_some() && row.get::<Uuid>(2)? != id {
        return Err(Error::ModelGone(name.into()));
    }
    match row.get::<bool>(1)? {
        Some(true) => Ok(()),
        _ => Err(Error::NotModelOwner(name.into())),
    }
}

fn set_in_use(client: &mut SpiClient, name: &str, version: i32) -> Result<()> {
    client.update(
        "UPDATE reco.model SET version_in_use = $2 WHERE name OPERATOR(pg_catalog.=) $1",
        None,
        &[name.into(), version.into()],
    )?;
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

pub(super) fn required<T>(value: Option<T>) -> Result<T> {
    value.ok_or_else(|| Error::Internal("the catalog holds a NULL where none may be".into()))
}
