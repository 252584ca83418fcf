//! What a query looks up: groups of terms of which one counts, the words that they stand for, required and excluded phrases.

use runtime::error::Result;
use tantivy::postings::TermInfo;

use super::steps::Step;
use crate::index::{Lexical, Segment, find};

/// The most groups of a query, one for each bit of a [`Mask`]. Of longer queries the rarest words are used.
pub const MAX_GROUPS: usize = 64;

/// The groups that a row matches.
pub type Mask = u64;

/// A term in every segment and field.
#[derive(Clone, Debug)]
pub struct Located {
    pub term: String,
    /// By segment and field.
    pub infos: Vec<Vec<Option<TermInfo>>>,
    /// Rows by field.
    pub frequencies: Vec<u64>,
}

impl Located {
    pub fn new(index: &Lexical, term: &str) -> Result<Self> {
        let of_segment =
            |segment: &Segment| segment.texts.iter().map(|reader| find(reader, term)).collect::<Result<Vec<_>>>();
        let infos = index.segments.iter().map(of_segment).collect::<Result<Vec<_>>>()?;
        let frequency = |field: usize| {
            infos.iter().filter_map(|fields| fields[field].as_ref()).map(|info| u64::from(info.doc_freq)).sum()
        };
        let frequencies = (0..index.fields.len()).map(frequency).collect();
        Ok(Self { term: term.to_string(), infos, frequencies })
    }

    pub fn is_known(&self) -> bool {
        self.frequencies.iter().any(|&frequency| frequency > 0)
    }

    /// The rows that have it, counted once for each field.
    pub fn rows(&self) -> u64 {
        self.frequencies.iter().sum()
    }
}

/// One way to match a group.
#[derive(Debug)]
pub struct Alternative {
    pub what: What,
    /// The weight beside the query's own term, whose weight is 1.
    pub factor: f32,
    /// By field.
    pub idf: Vec<f32>,
}

#[derive(Debug)]
pub enum What {
    Term(Located),
    Phrase(Vec<Step>),
}

/// Ways to match one term of the query. In each field the best of them counts.
#[derive(Debug, Default)]
pub struct Group {
    pub alternatives: Vec<Alternative>,
}

/// A word of the query, of one or several groups.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QueryWord {
    /// Any of these is the whole word.
    pub whole: Mask,
    /// These together are the word, each one a part of it, beside parts that no row has.
    pub parts: Mask,
    /// The number of all parts.
    pub part_count: u32,
    /// What all parts together count beside the whole word.
    pub of_parts: f32,
}

impl QueryWord {
    /// Whether some row has it.
    pub fn is_known(&self) -> bool {
        self.whole | self.parts != 0
    }

    /// The part of the word that is in a row, from 0 to 1.
    pub fn matched(&self, row: Mask) -> f32 {
        if self.whole & row != 0 {
            1.0
        } else {
            self.of_parts * (self.parts & row).count_ones() as f32 / self.part_count.max(1) as f32
        }
    }
}

/// A query, looked up.
#[derive(Debug, Default)]
pub struct Plan {
    pub groups: Vec<Group>,
    pub words: Vec<QueryWord>,
    /// Neighbours in the query: two groups, and how many steps the second one is behind the first.
    pub pairs: Vec<(usize, usize, u32)>,
    pub required: Vec<Vec<Step>>,
    pub excluded: Vec<Vec<Step>>,
}

impl Plan {
    /// The share of the words in a row: of all, and of those that some row has.
    pub fn share(&self, row: Mask) -> (f32, f32) {
        let matched: f32 = self.words.iter().map(|word| word.matched(row)).sum();
        let known = self.words.iter().filter(|word| word.is_known()).count();
        (matched / self.words.len().max(1) as f32, matched / known.max(1) as f32)
    }

    /// The share of the terms that a field has, each counted by its idf there.
    pub fn idf_share(&self, field: usize, has: Mask) -> f32 {
        let idf = |group: &Group| group.alternatives.first().map_or(0.0, |own| own.idf[field]);
        let (mut matched, mut all) = (0.0, 0.0);
        for (bit, idf) in self.groups.iter().map(idf).enumerate() {
            all += idf;
            matched += if has >> bit & 1 == 1 { idf } else { 0.0 };
        }
        if all > 0.0 { matched / all } else { 0.0 }
    }

    /// Whether a row has at least half of some word.
    pub fn is_match(&self, row: Mask) -> bool {
        self.words.iter().any(|word| word.matched(row) >= 0.5)
    }
}
