//! Makes the files of one segment from texts.

use std::path::Path;

use runtime::error::{Error, Result};
use runtime::memory;
use runtime::progress::Progress;
use tantivy::directory::RamDirectory;
use tantivy::schema::TantivyDocument;
use tantivy::tokenizer::TokenizerManager;
use tantivy::{Directory, Index, IndexSettings, SingleSegmentIndexWriter};

use crate::guard::{damaged, guarded};
use crate::handover::{TOKENIZER, Terms, written};
use crate::schema::{Fields, RECORD, Record, TextField, check_fields};
use crate::text::analyzer::Analyzer;
use crate::text::language::Language;
use crate::text::segmenter::Dictionary;
use crate::text::{Kind, Token};

/// The longest text of a field in one row, in bytes.
pub const MAX_TEXT: usize = 1 << 20;

/// tantivy addresses the memory of a segment with 32 bits: beyond this it cannot go on. Half of it leaves room for one more row.
const MAX_MEMORY: usize = 2 << 30;

/// The memory for which tantivy sizes its table of terms at first; it grows. A large one would take milliseconds to clear for few rows.
const FIRST_MEMORY: usize = 4 << 20;

/// The kinds of files that tantivy writes for a segment.
pub(crate) const KINDS: [&str; 6] = ["term", "idx", "pos", "fast", "fieldnorm", "store"];

/// Whether a segment has a file of this name.
pub fn is_file(name: &str) -> bool {
    name == RECORD || KINDS.iter().any(|kind| name == file_name(kind))
}

/// The name of the file of one kind.
pub(crate) fn file_name(kind: &str) -> String {
    format!("lexical.{kind}")
}

/// Collects rows in memory and writes one segment. The same rows give the same bytes.
pub struct LexicalBuilder {
    fields: Vec<TextField>,
    language: Language,
    analyzer: Analyzer,
    dictionary: Dictionary,
    index: Fields,
    directory: RamDirectory,
    writer: SingleSegmentIndexWriter,
    documents: u32,
    last_row: Option<u32>,
    is_ascending: bool,
}

impl LexicalBuilder {
    pub fn new(fields: Vec<TextField>, language: Language) -> Result<Self> {
        check_fields(&fields)?;
        let index = Fields::new(fields.len());
        let directory = RamDirectory::create();
        // Documents are not stored, and no thread is started to compress them.
        let settings = IndexSettings { docstore_compress_dedicated_thread: false, ..IndexSettings::default() };
        let tokenizers = TokenizerManager::default();
        tokenizers.register(TOKENIZER, Terms);
        let builder = Index::builder().schema(index.schema.clone()).settings(settings).tokenizers(tokenizers);
        let writer = builder.single_segment_index_writer(directory.clone(), FIRST_MEMORY).map_err(failed)?;
        let analyzer = Analyzer::new(language);
        let dictionary = Dictionary::default();
        Ok(Self {
            fields,
            language,
            analyzer,
            dictionary,
            index,
            directory,
            writer,
            documents: 0,
            last_row: None,
            is_ascending: true,
        })
    }

    /// Adds a row: a text, or none, for each field. Row numbers must be distinct in an index; if they increase, single rows are found faster.
    pub fn add(&mut self, row: u32, texts: &[Option<&str>], progress: &dyn Progress) -> Result<()> {
        if texts.len() != self.fields.len() {
            return Err(Error::Internal(format!("{} texts for {} fields", texts.len(), self.fields.len())));
        }
        let used = self.memory();
        if self.documents == u32::MAX >> 1 || used > MAX_MEMORY {
            return Err(Error::TooLarge {
                what: format!("a search index of {} rows", self.documents),
                needed: format!("{} MB of memory", used >> 20),
                limit: format!("{} MB", MAX_MEMORY >> 20),
                hint: "Index fewer rows or shorter texts.".into(),
            });
        }
        let mut document = TantivyDocument::new();
        document.add_u64(self.index.row, u64::from(row));
        let mut words: Vec<String> = Vec::new();
        for ((field, text), place) in self.fields.iter().zip(texts).zip(&self.index.texts) {
            let Some(text) = text else { continue };
            if text.len() > MAX_TEXT {
                return Err(Error::TooLarge {
                    what: format!("the text of field \"{}\" in row {row}", field.name),
                    needed: format!("{} bytes", text.len()),
                    limit: format!("{MAX_TEXT} bytes"),
                    hint: "Index a shorter text, such as its beginning: left(…, 100000).".into(),
                });
            }
            let tokens = self.analyzer.tokens(text, &mut self.dictionary, progress)?;
            words.extend(tokens.iter().filter(|token| is_word(token)).map(|token| token.surface().to_string()));
            document.add_text(*place, written(tokens.iter().map(|token| (token.term.as_str(), token.position))));
        }
        words.sort_unstable();
        words.dedup();
        document.add_text(self.index.words, written(words.iter().map(String::as_str).zip(0..)));
        let writer = &mut self.writer;
        guarded(defect, || writer.add_document(document).map_err(failed))?;
        self.documents += 1;
        self.is_ascending &= self.last_row.is_none_or(|last| last < row);
        self.last_row = Some(row);
        Ok(())
    }

    /// Bytes that the rows take until they are written, about.
    pub fn memory(&self) -> usize {
        self.writer.mem_usage()
    }

    /// The rows added so far.
    pub fn rows(&self) -> u32 {
        self.documents
    }

    /// The files of the segment, by name. [`crate::Lexical::open`] takes them.
    pub fn finish(self, progress: &dyn Progress) -> Result<Vec<(String, Vec<u8>)>> {
        progress.check()?;
        // The files are smaller than the memory that they are written from.
        memory::require(self.memory())?;
        drop(self.dictionary);
        let writer = self.writer;
        let index = guarded(defect, || writer.finalize().map_err(failed))?;
        progress.check()?;
        // tantivy names files by a random number, which must not be in what is kept.
        let metas = index.searchable_segment_metas().map_err(failed)?;
        let segment =
            metas.first().ok_or_else(|| Error::Internal("a search index without a segment".into()))?.id().uuid_string();
        let mut record = Record::new(self.language, self.fields, self.documents, self.is_ascending);
        let mut files = Vec::new();
        for kind in KINDS {
            let path = format!("{segment}.{kind}");
            let bytes = self.directory.atomic_read(Path::new(&path)).map_err(damaged)?;
            record.checksums.insert(file_name(kind), crc32fast::hash(&bytes));
            files.push((file_name(kind), bytes));
            progress.check()?;
        }
        files.push((RECORD.into(), record.to_bytes()?));
        Ok(files)
    }
}

/// Whether a token is kept as a word to complete and to correct: numbers and characters are not.
fn is_word(token: &Token) -> bool {
    matches!(token.kind, Kind::Word | Kind::Part | Kind::Joined) && !token.is_number()
}

/// Memory is all that building needs, so that an error of tantivy's is a defect.
fn failed(error: tantivy::TantivyError) -> Error {
    defect(&error.to_string())
}

fn defect(reason: &str) -> Error {
    Error::Internal(format!("search index: {reason}"))
}
