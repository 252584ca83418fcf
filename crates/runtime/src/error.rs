//! Every cause a user can meet: its message, its SQLSTATE, its hint.

use std::io::ErrorKind;

/// One variant for each cause. Messages are in lower case and name the thing; hints say what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller asked to stop. Never shown: the layer that talks to PostgreSQL raises PostgreSQL's own error instead.
    #[error("canceled")]
    Canceled,

    #[error("invalid value for {name}: {value}")]
    InvalidArgument { name: String, value: String, hint: String },

    /// An argument or data that cannot be used, for a reason that is not its value alone.
    #[error("{message}")]
    Invalid { message: String, hint: String },

    /// Something held across other SQL is no longer what it was.
    #[error("{0} changed while it was read")]
    Changed(String),

    /// Of the argument that is named.
    #[error("the cursor that reads {0} was closed")]
    CursorClosed(&'static str),

    #[error("unknown option \"{option}\" of {of}")]
    UnknownOption { option: String, of: String, known: String },

    #[error("unknown {what} \"{name}\"")]
    UnknownName { what: &'static str, name: String, known: String },

    #[error("the source has no column \"{column}\"")]
    MissingColumn { column: String, found: String },

    #[error("column \"{column}\" has type {found}")]
    ColumnType { column: String, found: String, expected: &'static str },

    #[error("column \"{column}\" is null in row {row} of the source")]
    NullColumn { column: String, row: usize },

    #[error("column \"{column}\" is infinity in {}", row.map_or("a row of the source".into(), |row| format!("row {row} of the source")))]
    InfiniteTime { column: &'static str, row: Option<usize> },

    #[error("{0} is out of range")]
    OutOfRange(&'static str),

    #[error("the weight of user \"{user}\" and item \"{item}\" is {weight}")]
    InvalidWeight { user: String, item: String, weight: f64 },

    #[error("the source has no rows{}", if .0.is_empty() { String::new() } else { format!(" {}", .0) })]
    EmptySource(String),

    #[error("model \"{0}\" does not exist")]
    UnknownModel(String),

    #[error("model \"{0}\" was dropped, or made anew, while the call worked on it")]
    ModelGone(String),

    #[error("model \"{name}\" has no version {version}")]
    UnknownVersion { name: String, version: i32 },

    #[error("permission denied for model \"{0}\"")]
    ModelPermission(String),

    #[error("permission denied for model \"{0}\": it is granted for serving alone")]
    ReadPermission(String),

    /// Of a model whose name is not for the caller.
    #[error("permission denied for the model with id {0}")]
    UnnamedModelPermission(String),

    #[error("the model with id {0} was dropped")]
    DroppedModel(String),

    #[error("only the owner of model \"{0}\" may do this")]
    NotModelOwner(String),

    #[error("only its owner{} adds versions to model \"{name}\"", if owner.is_empty() { String::new() } else { format!(" \"{owner}\"") })]
    AnothersName { name: String, owner: String },

    #[error("only the owner of model \"{model}\" may give {argument} as a condition on its items query")]
    ForeignQuery { model: String, argument: &'static str },

    #[error("model \"{name}\" is a model for {task}, not for {wanted}")]
    WrongTask { name: String, task: String, wanted: String },

    #[error("this is no ONNX model: {0}")]
    NotOnnx(String),

    #[error("this ONNX model cannot be used: {reason}")]
    RefusedOnnx { reason: String, hint: String },

    #[error("this is no tokenizer: {0}")]
    NotTokenizer(String),

    #[error("the image cannot be read: {0}")]
    NotImage(String),

    #[error("input \"{input}\" of model \"{model}\" {problem}")]
    ModelInput { model: String, input: String, problem: String, hint: String },

    #[error("model \"{model}\" failed: {reason}")]
    ModelRun { model: String, reason: String },

    #[error("vectors of {left} and of {right} dimensions cannot be combined")]
    Dimensions { left: usize, right: usize },

    #[error("{what} needs {needed}, and the limit is {limit}")]
    TooLarge { what: String, needed: String, limit: String, hint: String },

    #[error("{algorithm} has no {what}")]
    Unsupported { algorithm: &'static str, what: &'static str, hint: String },

    #[error("the stored model \"{model}\" is damaged: {reason}")]
    DamagedModel { model: String, reason: String },

    #[error("pg_reco's library is version {library} and its SQL objects are version {objects}")]
    VersionMismatch { library: &'static str, objects: String },

    /// Files do not hold what was recorded of them; the layer that knows the model's name says it.
    #[error("{0}")]
    Damaged(String),

    #[error("ONNX Runtime cannot be loaded from \"{path}\": {reason}")]
    RuntimeMissing { path: String, reason: String },

    #[error("{0} needs shared memory")]
    NotPreloaded(&'static str),

    #[error("CUDA cannot be used: {0}")]
    CudaMissing(String),

    #[error("out of resources: {0}")]
    Resources(String),

    #[error("cannot {action} \"{path}\": {source}")]
    File { action: &'static str, path: String, source: std::io::Error },

    /// A broken promise of this code, never of its caller.
    #[error("internal error: {0}")]
    Internal(String),
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An argument whose value cannot be used, with what would be right.
    pub fn argument(name: impl Into<String>, value: impl ToString, hint: impl Into<String>) -> Self {
        Self::InvalidArgument { name: name.into(), value: value.to_string(), hint: hint.into() }
    }

    /// The whole message, where "invalid value for" would not say it: `duplicate id "x"`, `inputs must be a JSON object`.
    pub fn invalid(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Invalid { message: message.into(), hint: hint.into() }
    }

    /// The five characters of PostgreSQL's appendix A.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            Self::Canceled => "57014",
            Self::InvalidArgument { .. }
            | Self::Invalid { .. }
            | Self::UnknownOption { .. }
            | Self::UnknownName { .. }
            | Self::InvalidWeight { .. }
            | Self::EmptySource(_)
            | Self::ModelInput { .. } => "22023",
            Self::MissingColumn { .. } => "42703",
            Self::Changed(_) => "55000",
            Self::CursorClosed(_) => "34000",
            Self::ColumnType { .. } => "42804",
            Self::NullColumn { .. } => "22004",
            Self::InfiniteTime { .. } => "22008",
            Self::OutOfRange(_) => "22003",
            Self::UnknownModel(_) | Self::ModelGone(_) | Self::UnknownVersion { .. } | Self::DroppedModel(_) => "42704",
            Self::ModelPermission(_)
            | Self::ReadPermission(_)
            | Self::UnnamedModelPermission(_)
            | Self::NotModelOwner(_)
            | Self::AnothersName { .. }
            | Self::ForeignQuery { .. } => "42501",
            Self::WrongTask { .. } => "42809",
            Self::NotOnnx(_) | Self::NotTokenizer(_) | Self::NotImage(_) => "22P03",
            Self::RefusedOnnx { .. } | Self::Unsupported { .. } => "0A000",
            Self::Dimensions { .. } => "2202E",
            Self::TooLarge { .. } => "54000",
            Self::ModelRun { .. } => "38000",
            Self::DamagedModel { .. } | Self::Damaged(_) => "XX001",
            Self::RuntimeMissing { .. } => "58P01",
            Self::CudaMissing(_) | Self::VersionMismatch { .. } | Self::NotPreloaded(_) => "55000",
            Self::Resources(_) => "53000",
            Self::File { source, .. } if source.kind() == ErrorKind::StorageFull => "53100",
            Self::File { .. } => "58030",
            Self::Internal(_) => "XX000",
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Canceled | Self::Damaged(_) | Self::Internal(_) => return None,
            Self::InvalidArgument { hint, .. }
            | Self::Invalid { hint, .. }
            | Self::RefusedOnnx { hint, .. }
            | Self::ModelInput { hint, .. }
            | Self::TooLarge { hint, .. }
            | Self::Unsupported { hint, .. } => hint.clone(),
            Self::Changed(_) => "Run the statement again.".into(),
            Self::CursorClosed(_) => {
                "Read the rows to their end in the transaction that asked for them, and close no cursor on the way."
                    .into()
            }
            Self::UnknownOption { known, .. } => format!("Known options: {known}."),
            Self::UnknownName { known, .. } => format!("Known: {known}."),
            Self::MissingColumn { column, found } => {
                format!("Name the column in the source, as in SELECT … AS {column}. The source has: {found}.")
            }
            Self::ColumnType { column, expected, .. } => {
                format!("It must be {expected}: cast it in the source, as in {column}::….")
            }
            Self::NullColumn { column, .. } => format!("Leave such rows out: … WHERE {column} IS NOT NULL."),
            Self::InfiniteTime { column, .. } => {
                format!("No age counts from a time that is infinite. Leave such rows out: … WHERE isfinite({column}).")
            }
            Self::OutOfRange(_) => "Divide by the vectors' lengths or by the largest weight first.".into(),
            Self::InvalidWeight { .. } => "A weight is a finite number, below 0 for negative feedback.".into(),
            Self::EmptySource(_) => "The query must give at least one row to the role that calls.".into(),
            Self::UnknownModel(_) => "SELECT name FROM reco.models lists the models you may use.".into(),
            Self::ModelGone(_) => {
                "Nothing was stored. SELECT name FROM reco.models lists the models there are now.".into()
            }
            Self::UnknownVersion { name, .. } => {
                format!("SELECT version FROM reco.models WHERE name = '{name}' lists its versions.")
            }
            Self::ModelPermission(name) => format!("Its owner can grant it: SELECT reco.grant_model('{name}', role)."),
            Self::ReadPermission(name) => {
                format!(
                    "Its owner can grant what shows its training data too: SELECT reco.grant_model('{name}', role, 'read')."
                )
            }
            Self::UnnamedModelPermission(_) => {
                "Its owner can grant it: SELECT reco.grant_model(name, role), with the name that reco.models has for the id."
                    .into()
            }
            Self::DroppedModel(_) => {
                "What names a model by its id does not take a later one of the same name: make it anew for that one.".into()
            }
            Self::AnothersName { owner, .. } if owner.is_empty() => {
                "That role is gone: give another name, or drop the model first.".into()
            }
            Self::AnothersName { owner, .. } => {
                format!("SET ROLE \"{owner}\" first, so that the version is made in its name; or give another name.")
            }
            Self::NotModelOwner(_) => "Ask its owner, shown by reco.models, or a superuser.".into(),
            Self::ForeignQuery { argument, .. } => {
                let columns = if *argument == "filter" { "item_id" } else { "item_id, … AS group_name" };
                format!("Give a query of your own: {argument} => 'SELECT {columns} FROM …'.")
            }
            Self::WrongTask { wanted, .. } => {
                format!("SELECT name FROM reco.models WHERE task = '{wanted}' lists the models that fit.")
            }
            Self::NotOnnx(_) => "Give the whole bytes of an .onnx file.".into(),
            Self::NotTokenizer(_) => "Give the whole bytes of a Hugging Face tokenizer.json.".into(),
            Self::NotImage(_) => "Give the whole bytes of a PNG, JPEG or WebP file.".into(),
            Self::ModelRun { model, .. } => {
                format!("SELECT * FROM reco.describe_model('{model}') shows what the model takes.")
            }
            Self::Dimensions { .. } => "Both must come from the same model.".into(),
            Self::DamagedModel { model, .. } => {
                format!("Import or train \"{model}\" again, or restore it from a backup.")
            }
            Self::RuntimeMissing { .. } => {
                "A superuser sets reco.onnxruntime_library to the path of libonnxruntime.so.".into()
            }
            Self::VersionMismatch { library, .. } => {
                let update = format!("ALTER EXTENSION pg_reco UPDATE TO '{library}'");
                format!("Run {update}; if the SQL objects are the newer, install their library and connect anew.")
            }
            Self::NotPreloaded(_) => "Add pg_reco to shared_preload_libraries and restart the server.".into(),
            Self::CudaMissing(_) => "SET reco.execution_provider = 'cpu' runs without CUDA.".into(),
            Self::Resources(_) => {
                "Lower reco.threads or reco.max_batch, or try again when the server is less busy.".into()
            }
            Self::File { .. } => "Check the space and the permissions of the data directory.".into(),
        };
        Some(hint)
    }
}
