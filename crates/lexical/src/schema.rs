//! The fields of tantivy's index, and what is recorded beside it.

use std::collections::BTreeMap;

use runtime::error::{Error, Result};
use serde::{Deserialize, Serialize};
use tantivy::schema::{FAST, Field, IndexRecordOption, NumericOptions, Schema, TextFieldIndexing, TextOptions};

use crate::guard::damaged;
use crate::handover::TOKENIZER;
use crate::text::language::Language;

/// The most fields of an index.
pub const MAX_FIELDS: usize = 16;

/// The version of the files.
const FORMAT: u32 = 1;

/// The file with the record of the index.
pub const RECORD: &str = "lexical.json";

/// A field of the rows that are searched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextField {
    pub name: String,
    /// A match in this field counts this many times one in a field of weight 1.
    pub weight: f32,
}

impl TextField {
    pub fn new(name: impl Into<String>, weight: f32) -> Self {
        Self { name: name.into(), weight }
    }
}

/// Checks names and weights of fields.
pub fn check_fields(fields: &[TextField]) -> Result<()> {
    if fields.is_empty() || fields.len() > MAX_FIELDS {
        return Err(Error::argument(
            "fields",
            fields.len(),
            format!("The number of fields must be from 1 to {MAX_FIELDS}."),
        ));
    }
    for (at, field) in fields.iter().enumerate() {
        if !(field.weight > 0.0 && field.weight <= 1000.0) {
            let name = format!("weight of field \"{}\"", field.name);
            return Err(Error::argument(name, field.weight, "The weight must be above 0 and at most 1000."));
        }
        if fields[..at].iter().any(|other| other.name == field.name) {
            return Err(Error::invalid(format!("duplicate field \"{}\"", field.name), "Name each field once."));
        }
    }
    Ok(())
}

/// The fields in tantivy's schema.
#[derive(Clone, Debug)]
pub struct Fields {
    pub schema: Schema,
    /// Terms with positions, a field for each of the rows'.
    pub texts: Vec<Field>,
    /// Words of all fields as they are written: to complete, to correct, and to cut Chinese queries.
    pub words: Field,
    /// The number of the row.
    pub row: Field,
}

/// The name of the column of row numbers.
pub const ROW: &str = "row";

impl Fields {
    pub fn new(texts: usize) -> Self {
        let mut builder = Schema::builder();
        let indexed = |record| TextFieldIndexing::default().set_tokenizer(TOKENIZER).set_index_option(record);
        let words = indexed(IndexRecordOption::Basic).set_fieldnorms(false);
        let words = builder.add_text_field("words", TextOptions::default().set_indexing_options(words));
        let row = builder.add_u64_field(ROW, NumericOptions::from(FAST));
        let options = TextOptions::default().set_indexing_options(indexed(IndexRecordOption::WithFreqsAndPositions));
        let texts =
            (0..texts).map(|number| builder.add_text_field(&format!("text{number}"), options.clone())).collect();
        Self { schema: builder.build(), texts, words, row }
    }
}

/// What [`RECORD`] holds: what the texts were analyzed with, and the checksums of the other files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    format: u32,
    pub language: String,
    pub fields: Vec<TextField>,
    pub documents: u32,
    /// Whether the row numbers increase from document to document, so that a row can be found by bisection.
    pub is_ascending: bool,
    /// CRC-32 by file name.
    pub checksums: BTreeMap<String, u32>,
}

impl Record {
    pub fn new(language: Language, fields: Vec<TextField>, documents: u32, is_ascending: bool) -> Self {
        let language = language.name().to_string();
        Self { format: FORMAT, language, fields, documents, is_ascending, checksums: BTreeMap::new() }
    }

    /// JSON with its own checksum before it.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let json = serde_json::to_string(self).map_err(|e| Error::Internal(format!("record of an index: {e}")))?;
        Ok(format!("{:08x}\n{json}\n", crc32fast::hash(json.as_bytes())).into_bytes())
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(bytes).map_err(damaged)?;
        let (sum, json) = text.split_once('\n').ok_or_else(|| damaged("its record is cut short"))?;
        let json = json.strip_suffix('\n').ok_or_else(|| damaged("its record is cut short"))?;
        if sum != format!("{:08x}", crc32fast::hash(json.as_bytes())) {
            return Err(damaged("its record has another checksum"));
        }
        let record: Self = serde_json::from_str(json).map_err(damaged)?;
        if record.format != FORMAT {
            return Err(damaged(format!("format {} instead of {FORMAT}", record.format)));
        }
        Ok(record)
    }
}
