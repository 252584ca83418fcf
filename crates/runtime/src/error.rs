//! Every error that a user can meet: its message, its SQLSTATE and its hint.

use std::fmt::Display;
use std::io::ErrorKind;

/// One variant for each cause. Messages follow PostgreSQL's style: lower case, no full stop, names in double quotes. Hints are whole
/// sentences that say what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller asked to stop. Never shown: `pg::errors` raises PostgreSQL's own error instead.
    #[error("canceled")]
    Canceled,

    /// An argument, an option, a setting or data that cannot be used: see [`argument`](Error::argument) and [`invalid`](Error::invalid).
    #[error("{message}")]
    Invalid { message: String, hint: String },

    /// A type or a row type changed between two reads.
    #[error("{0} changed while it was being read")]
    Changed(String),

    /// The cursor on the query of this argument.
    #[error("cursor for argument \"{0}\" was closed")]
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

    #[error("column \"{column}\" is infinite in {}", row.map_or("a row of the source".into(), |row| format!("row {row} of the source")))]
    InfiniteTime { column: &'static str, row: Option<usize> },

    #[error("{0} is out of range")]
    OutOfRange(&'static str),

    #[error("invalid weight for user \"{user}\" and item \"{item}\": {weight}")]
    InvalidWeight { user: String, item: String, weight: f64 },

    /// The rows that are missing, as in "with a weight above 0"; empty for any row.
    #[error("the source has no rows{}", if .0.is_empty() { String::new() } else { format!(" {}", .0) })]
    EmptySource(String),

    #[error("model \"{0}\" does not exist")]
    UnknownModel(String),

    /// A process ended while it ran the model, and so did the one after it.
    #[error("model worker ended twice while it ran model \"{0}\"")]
    WorkerEnded(String),

    #[error("model \"{0}\" was dropped or replaced concurrently")]
    ModelGone(String),

    #[error("model \"{name}\" has no version {version}")]
    UnknownVersion { name: String, version: i32 },

    #[error("permission denied for model \"{0}\"")]
    ModelPermission(String),

    #[error("permission denied for model \"{0}\": privilege \"read\" is required")]
    ReadPermission(String),

    /// The name is left out: the caller may not see it.
    #[error("permission denied for model with id {0}")]
    UnnamedModelPermission(String),

    #[error("model with id {0} was dropped")]
    DroppedModel(String),

    #[error("must be owner of model \"{0}\"")]
    NotModelOwner(String),

    /// The name belongs to another role. `owner` is empty if that role no longer exists.
    #[error("only {} can add versions to model \"{name}\"", if owner.is_empty() { "its owner".into() } else { format!("role \"{owner}\"") })]
    AnothersName { name: String, owner: String },

    #[error("must be owner of model \"{model}\" to use a condition on its items query as \"{argument}\"")]
    ForeignQuery { model: String, argument: &'static str },

    #[error("model \"{name}\" is for {task}, not for {wanted}")]
    WrongTask { name: String, task: String, wanted: String },

    #[error("invalid ONNX model: {0}")]
    NotOnnx(String),

    #[error("cannot use ONNX model: {reason}")]
    RefusedOnnx { reason: String, hint: String },

    #[error("invalid tokenizer: {0}")]
    NotTokenizer(String),

    #[error("could not read image: {0}")]
    NotImage(String),

    #[error("input \"{input}\" of model \"{model}\" {problem}")]
    ModelInput { model: String, input: String, problem: String, hint: String },

    #[error("model \"{model}\" failed: {reason}")]
    ModelRun { model: String, reason: String },

    #[error("different vector dimensions {left} and {right}")]
    Dimensions { left: usize, right: usize },

    #[error("{what} needs {needed}, but the limit is {limit}")]
    TooLarge { what: String, needed: String, limit: String, hint: String },

    #[error("\"{algorithm}\" does not support {what}")]
    Unsupported { algorithm: &'static str, what: &'static str, hint: String },

    #[error("stored model \"{model}\" is corrupted: {reason}")]
    DamagedModel { model: String, reason: String },

    #[error("pg_reco's library is version {library}, but its SQL objects are version {objects}")]
    VersionMismatch { library: &'static str, objects: String },

    /// Files differ from their recorded hashes. The caller knows the model and turns it into [`Error::DamagedModel`].
    #[error("{0}")]
    Damaged(String),

    #[error("could not load ONNX Runtime from \"{path}\": {reason}")]
    RuntimeMissing { path: String, reason: String },

    #[error("{0} requires pg_reco to be loaded via \"shared_preload_libraries\"")]
    NotPreloaded(&'static str),

    #[error("CUDA is not available: {0}")]
    CudaMissing(String),

    #[error("insufficient resources: {0}")]
    Resources(String),

    #[error("could not {action} \"{path}\": {source}")]
    File { action: &'static str, path: String, source: std::io::Error },

    /// A defect of this code. Never used for what a caller did.
    #[error("internal error: {0}")]
    Internal(String),
}

pub type Result<T> = std::result::Result<T, Error>;

/// Values that do not fill the shape they are given. What comes from outside is checked where it enters.
impl From<ndarray::ShapeError> for Error {
    fn from(error: ndarray::ShapeError) -> Self {
        Self::Internal(format!("a matrix: {error}"))
    }
}

impl Error {
    /// An invalid value of the argument, option or setting `name`: `invalid value for k: 0`. The hint says which values are valid.
    pub fn argument(name: impl Display, value: impl Display, hint: impl Into<String>) -> Self {
        Self::invalid(format!("invalid value for {name}: {value}"), hint)
    }

    /// Any other invalid input, with its whole message: `duplicate id "x"`, `inputs must be a JSON object`.
    pub fn invalid(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Invalid { message: message.into(), hint: hint.into() }
    }

    /// The SQLSTATE, from appendix A of PostgreSQL's documentation.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            Self::Canceled => "57014",
            Self::Invalid { .. }
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
            Self::WorkerEnded(_) => "58000",
            Self::File { source, .. } if source.kind() == ErrorKind::StorageFull => "53100",
            Self::File { .. } => "58030",
            Self::Internal(_) => "XX000",
        }
    }

    /// What the user can do.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Canceled | Self::Damaged(_) | Self::Internal(_) => return None,
            Self::Invalid { hint, .. }
            | Self::RefusedOnnx { hint, .. }
            | Self::ModelInput { hint, .. }
            | Self::TooLarge { hint, .. }
            | Self::Unsupported { hint, .. } => hint.clone(),
            Self::Changed(_) => "Run the statement again.".into(),
            Self::CursorClosed(_) => {
                "Fetch all rows in the transaction that called the function, and do not close the cursor before.".into()
            }
            Self::UnknownOption { known, .. } => format!("Known options: {known}."),
            Self::UnknownName { known, .. } => format!("Valid values: {known}."),
            Self::MissingColumn { column, found } => {
                let found = if found.is_empty() { String::new() } else { format!(" The source has: {found}.") };
                format!("Name the column in the source, as in SELECT … AS {column}.{found}")
            }
            Self::ColumnType { column, expected, .. } => {
                format!("The column must be {expected}. Cast it in the source, as in {column}::….")
            }
            Self::NullColumn { column, .. } => format!("Exclude such rows: … WHERE {column} IS NOT NULL."),
            Self::InfiniteTime { column, .. } => {
                format!("Ages cannot be computed from an infinite time. Exclude such rows: … WHERE isfinite({column}).")
            }
            Self::OutOfRange(_) => "Normalize the vectors first, or scale the weights down.".into(),
            Self::InvalidWeight { .. } => "A weight must be a finite number; below 0 it is negative feedback.".into(),
            Self::EmptySource(_) => "The query must return at least one row that the current role can see.".into(),
            Self::UnknownModel(_) => "Query reco.models for the models that you may use.".into(),
            Self::ModelGone(_) => "Nothing was stored. Query reco.models for the current models.".into(),
            Self::UnknownVersion { name, .. } => {
                format!("Query reco.models WHERE name = '{name}' for its versions.")
            }
            Self::ModelPermission(name) => format!("The owner can grant it: SELECT reco.grant_model('{name}', role)."),
            Self::ReadPermission(name) => {
                format!(
                    "The owner can grant the privilege, which also shows the training data: SELECT reco.grant_model('{name}', role, 'read')."
                )
            }
            Self::UnnamedModelPermission(_) => {
                "The owner, who finds its name in reco.models, can grant it: SELECT reco.grant_model(name, role)."
                    .into()
            }
            Self::DroppedModel(_) => {
                "Views and functions refer to a model by its id, not by its name. Create them again for another model."
                    .into()
            }
            Self::AnothersName { owner, .. } if owner.is_empty() => {
                "The owner no longer exists. Choose another name, or drop the model first.".into()
            }
            Self::AnothersName { owner, .. } => {
                format!("Run SET ROLE \"{owner}\" first, or choose another name.")
            }
            Self::NotModelOwner(_) => "Ask the owner, shown in reco.models, or a superuser.".into(),
            Self::ForeignQuery { argument, .. } => {
                let columns = if *argument == "filter" { "item_id" } else { "item_id, … AS group_name" };
                format!("Use a query of your own: {argument} => 'SELECT {columns} FROM …'.")
            }
            Self::WrongTask { wanted, .. } => {
                format!("Query reco.models WHERE task = '{wanted}' for suitable models.")
            }
            Self::NotOnnx(_) => "Pass the complete contents of an .onnx file.".into(),
            Self::NotTokenizer(_) => "Pass the complete contents of a Hugging Face tokenizer.json.".into(),
            Self::NotImage(_) => "Pass the complete contents of a PNG, JPEG or WebP file.".into(),
            Self::ModelRun { model, .. } => {
                format!("Query reco.describe_model('{model}') for the model's inputs.")
            }
            Self::Dimensions { .. } => "Vectors must come from the same model.".into(),
            Self::DamagedModel { model, .. } => {
                format!("Import or train \"{model}\" again, or restore it from a backup.")
            }
            Self::RuntimeMissing { .. } => {
                "Ask a superuser to set reco.onnxruntime_library to the path of libonnxruntime.so.".into()
            }
            Self::VersionMismatch { library, .. } => {
                let update = format!("ALTER EXTENSION pg_reco UPDATE TO '{library}'");
                format!("Run {update}. If the SQL objects are newer, install their library and reconnect.")
            }
            Self::NotPreloaded(_) => "Add pg_reco to shared_preload_libraries and restart the server.".into(),
            Self::CudaMissing(_) => "Set reco.execution_provider to cpu to run without CUDA.".into(),
            Self::Resources(_) => {
                "Reduce reco.threads or reco.max_batch, or try again when the server is less busy.".into()
            }
            Self::WorkerEnded(_) => "The server log says why it ended. Run the statement again.".into(),
            Self::File { .. } => "Check free space and permissions of the data directory.".into(),
        };
        Some(hint)
    }
}
