//! Search of texts by words: BM25 over weighted fields.
//!
//! tantivy keeps the term dictionary, the postings and the positions. Analysis, the reading of queries and scoring are this crate's, since
//! they need what tantivy's queries do not have: exact filters, the share of the query's words in a score, Chinese queries without a
//! dictionary, and the same answer for any division into segments.

mod builder;
mod complete;
mod constants;
mod directory;
mod guard;
mod handover;
mod highlight;
mod index;
mod postings;
mod proximity;
mod query;
mod scan;
mod schema;
mod scores;
mod search;
mod text;

pub use builder::{LexicalBuilder, MAX_TEXT, is_file};
pub use index::{Lexical, MAX_SEGMENTS, SegmentFiles};
pub use query::parse::{MAX_QUERY, has_operators};
pub use query::synonyms::Synonyms;
pub use schema::TextField;
pub use scores::{FieldScores, RowScores};
pub use search::Allowed;
pub use text::language::Language;

#[cfg(test)]
mod tests;
