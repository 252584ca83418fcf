//! The catalog entry of a model version.

use pgrx::datum::Uuid;
use pgrx::pg_sys;
use serde_json::Value;

use crate::service::cache_folder::FileEntry;
use runtime::error::{Error, Result};

/// The purpose of a model; determines which functions accept it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    TextEmbedding,
    ImageEmbedding,
    /// Scores a query with a text.
    TextPair,
    Recommendation,
    /// Generates rows.
    Synthesis,
    /// Searches texts.
    Search,
    /// Predicts a column of rows from their others.
    Prediction,
    /// Any other graph: `reco.predict` runs it.
    Predict,
}

impl Task {
    const ALL: [Self; 8] = [
        Self::TextEmbedding,
        Self::ImageEmbedding,
        Self::TextPair,
        Self::Recommendation,
        Self::Synthesis,
        Self::Search,
        Self::Prediction,
        Self::Predict,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::TextEmbedding => "text_embedding",
            Self::ImageEmbedding => "image_embedding",
            Self::TextPair => "text_pair",
            Self::Recommendation => "recommendation",
            Self::Synthesis => "synthesis",
            Self::Search => "search",
            Self::Prediction => "prediction",
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

/// A version of a model, as the catalog describes it.
#[derive(Clone, Debug)]
pub struct Entry {
    pub name: String,
    /// The id of the model. A later model of the same name has another id.
    pub id: Uuid,
    pub stamp: Stamp,
    pub task: Task,
    pub algorithm: Option<String>,
    pub config: Value,
    pub source: Option<String>,
    pub files: Vec<FileEntry>,
    /// Whether the caller has the privilege read.
    pub readable: bool,
}

/// The version in use of a model. Cheap: looked up at each call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub version: i32,
    /// Creation time in microseconds. It distinguishes a model from a later one of the same name and version.
    pub created: i64,
    /// The role that its queries run as. It can change.
    pub owner: pg_sys::Oid,
}
