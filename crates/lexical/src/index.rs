//! An index opened for search: its segments and the statistics of all of them together.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use runtime::error::Result;
use tantivy::columnar::ColumnValues;
use tantivy::fieldnorm::FieldNormReader;
use tantivy::index::{InvertedIndexReader, SegmentReader};
use tantivy::postings::TermInfo;
use tantivy::{DocId, Index};

use crate::builder::{KINDS, file_name};
use crate::constants::{B, K1};
use crate::directory::MappedFiles;
use crate::guard::{damaged, reading};
use crate::schema::{Fields, RECORD, ROW, Record, TextField, check_fields};
use crate::text::analyzer::Analyzer;
use crate::text::language::Language;

/// The most segments that are opened together.
pub const MAX_SEGMENTS: usize = 512;

/// One segment to open.
#[derive(Clone)]
pub struct SegmentFiles {
    /// What is added to the numbers of its rows: segments that were written apart are searched as one index.
    pub first_row: u32,
    /// By name, as [`crate::LexicalBuilder::finish`] gave them.
    pub files: Vec<(String, Bytes)>,
}

/// One or several segments, searched as one index.
pub struct Lexical {
    pub(crate) fields: Vec<TextField>,
    pub(crate) analyzer: Analyzer,
    pub(crate) segments: Vec<Segment>,
    /// Of all segments.
    pub(crate) documents: u64,
    /// For each field, K1·(1 − B + B·length / average length) by the code of the length.
    pub(crate) lengths: Vec<[f32; 256]>,
}

/// Readers of one segment.
pub(crate) struct Segment {
    pub documents: DocId,
    pub texts: Vec<Arc<InvertedIndexReader>>,
    pub lengths: Vec<FieldNormReader>,
    pub words: Arc<InvertedIndexReader>,
    rows: Arc<dyn ColumnValues<u64>>,
    first_row: u32,
    is_ascending: bool,
    /// The numbers of its rows are from the first to the second, as stored.
    span: (u64, u64),
}

impl Lexical {
    /// Opens segments whose files may have been damaged: their checksums are compared, which reads them once.
    pub fn open(segments: &[SegmentFiles]) -> Result<Self> {
        let records = segments.iter().map(|segment| checked(&segment.files)).collect::<Result<Vec<_>>>()?;
        reading(|| Self::read(segments, records))
    }

    /// Opens segments whose files the caller has compared with what was written. Reads a few pages of them.
    pub fn open_intact(segments: &[SegmentFiles]) -> Result<Self> {
        let records = segments.iter().map(|segment| Record::from_bytes(file(&segment.files, RECORD)?));
        let records = records.collect::<Result<Vec<_>>>()?;
        reading(|| Self::read(segments, records))
    }

    fn read(segments: &[SegmentFiles], records: Vec<Record>) -> Result<Self> {
        let first = records.first().ok_or_else(|| damaged("it has no segments"))?;
        if records.len() > MAX_SEGMENTS {
            return Err(damaged(format!("{} segments", records.len())));
        }
        if records.iter().any(|record| record.fields != first.fields || record.language != first.language) {
            return Err(damaged("its segments have different fields or languages"));
        }
        check_fields(&first.fields)?;
        let language = Language::named(&first.language)?;
        let fields = Fields::new(first.fields.len());
        let mut files = BTreeMap::from([("meta.json".to_string(), meta(&fields, &records)?)]);
        for (number, segment) in segments.iter().enumerate() {
            for kind in KINDS {
                files.insert(format!("{}.{kind}", id(number)), file(&segment.files, &file_name(kind))?.clone());
            }
        }
        let index = Index::open(MappedFiles::new(files)).map_err(damaged)?;
        let mut opened = Vec::new();
        for segment in index.searchable_segments().map_err(damaged)? {
            opened.push((segment.id(), segment));
        }
        opened.sort_by_key(|(id, _)| *id);
        let opened = opened.iter().zip(&records).zip(segments).map(|(((_, segment), record), files)| {
            let reader = SegmentReader::open(segment).map_err(damaged)?;
            Segment::new(&reader, &fields, record, files.first_row)
        });
        let segments = opened.collect::<Result<Vec<_>>>()?;
        let documents = segments.iter().map(|segment| u64::from(segment.documents)).sum();
        let lengths = (0..first.fields.len()).map(|field| lengths(&segments, field, documents)).collect();
        Ok(Self { fields: first.fields.clone(), analyzer: Analyzer::new(language), segments, documents, lengths })
    }

    /// The number of rows.
    pub fn rows(&self) -> u64 {
        self.documents
    }

    pub fn fields(&self) -> &[TextField] {
        &self.fields
    }

    /// The rows of all segments that have the word, as it is written, in any field.
    pub(crate) fn word_frequency(&self, word: &str) -> Result<u64> {
        self.segments
            .iter()
            .map(|segment| Ok(find(&segment.words, word)?.map_or(0, |info| u64::from(info.doc_freq))))
            .sum()
    }

    /// ln(1 + (N − n + ½) / (n + ½)).
    pub(crate) fn idf(&self, frequency: u64) -> f32 {
        let (n, all) = (frequency.min(self.documents) as f32, self.documents as f32);
        (1.0 + (all - n + 0.5) / (n + 0.5)).ln()
    }
}

/// Where a term's postings are; `None` if the segment does not have it.
pub(crate) fn find(reader: &InvertedIndexReader, term: &str) -> Result<Option<TermInfo>> {
    reader.terms().get(term.as_bytes()).map_err(damaged)
}

impl Segment {
    fn new(reader: &SegmentReader, fields: &Fields, record: &Record, first_row: u32) -> Result<Self> {
        let documents = reader.max_doc();
        let column = reader.fast_fields().u64(ROW).map_err(damaged)?;
        let texts = fields
            .texts
            .iter()
            .map(|&field| reader.inverted_index(field).map_err(damaged))
            .collect::<Result<Vec<_>>>()?;
        let lengths = fields
            .texts
            .iter()
            .map(|&field| reader.get_fieldnorms_reader(field).map_err(damaged))
            .collect::<Result<Vec<_>>>()?;
        let rows = column.first_or_default_col(0);
        if lengths.iter().any(|lengths| lengths.num_docs() != documents) || rows.num_vals() != documents {
            return Err(damaged("its files have different numbers of rows"));
        }
        let words = reader.inverted_index(fields.words).map_err(damaged)?;
        let last = documents.saturating_sub(1);
        let span = match record.is_ascending && documents > 0 {
            true => (rows.get_val(0), rows.get_val(last)),
            false => (0, u64::MAX),
        };
        Ok(Self { documents, texts, lengths, words, rows, first_row, is_ascending: record.is_ascending, span })
    }

    /// The number of the row that is document `document`.
    pub fn row(&self, document: DocId) -> u32 {
        self.first_row.saturating_add(self.rows.get_val(document) as u32)
    }

    /// The document of a row, if this segment has it.
    pub fn document(&self, row: u32) -> Option<DocId> {
        // Of an index of many segments, most do not have the row.
        let stored = u64::from(row.checked_sub(self.first_row)?);
        if stored < self.span.0 || stored > self.span.1 {
            return None;
        }
        if !self.is_ascending {
            return (0..self.documents).find(|&document| self.row(document) == row);
        }
        let (mut low, mut high) = (0, self.documents);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.row(middle) < row { low = middle + 1 } else { high = middle }
        }
        (low < self.documents && self.row(low) == row).then_some(low)
    }
}

fn file<'a>(files: &'a [(String, Bytes)], name: &str) -> Result<&'a Bytes> {
    files
        .iter()
        .find(|(found, _)| found == name)
        .map(|(_, bytes)| bytes)
        .ok_or_else(|| damaged(format!("file \"{name}\" is missing")))
}

/// The record of a segment, all of whose files have the recorded checksums.
fn checked(files: &[(String, Bytes)]) -> Result<Record> {
    let record = Record::from_bytes(file(files, RECORD)?)?;
    for kind in KINDS {
        let name = file_name(kind);
        if record.checksums.get(&name) != Some(&crc32fast::hash(file(files, &name)?)) {
            return Err(damaged(format!("file \"{name}\" has another checksum")));
        }
    }
    Ok(record)
}

/// The id of a segment in tantivy's index, which only orders them.
fn id(number: usize) -> String {
    format!("{:032x}", number + 1)
}

/// tantivy's own record of the segments.
fn meta(fields: &Fields, records: &[Record]) -> Result<Bytes> {
    let segment = |(number, record): (usize, &Record)| {
        let id = hyphenated(&id(number));
        serde_json::json!({ "segment_id": id, "max_doc": record.documents, "deletes": null })
    };
    let segments: Vec<_> = records.iter().enumerate().map(segment).collect();
    let schema = serde_json::to_value(&fields.schema).map_err(damaged)?;
    let settings = serde_json::json!({ "docstore_compression": "none", "docstore_blocksize": 16384 });
    let meta = serde_json::json!({ "index_settings": settings, "segments": segments, "schema": schema, "opstamp": 0 });
    Ok(Bytes::from(meta.to_string()))
}

fn hyphenated(id: &str) -> String {
    format!("{}-{}-{}-{}-{}", &id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..])
}

fn lengths(segments: &[Segment], field: usize, documents: u64) -> [f32; 256] {
    let tokens: u64 = segments.iter().map(|segment| segment.texts[field].total_num_tokens()).sum();
    let average = tokens as f32 / documents as f32;
    std::array::from_fn(|code| K1 * (1.0 - B + B * FieldNormReader::id_to_fieldnorm(code as u8) as f32 / average))
}
