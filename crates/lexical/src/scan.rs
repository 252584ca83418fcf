//! Scores the rows of a segment, a window of documents at a time.
//!
//! In each window every term adds what it scores to the documents that have it, in the order of the plan, so that sums do not depend on how
//! rows are divided into segments. Only then are the documents that were touched looked at.

use std::cmp::Ordering;

use runtime::error::Result;
use runtime::progress::Progress;
use tantivy::fieldnorm::FieldNormReader;
use tantivy::schema::IndexRecordOption;
use tantivy::{DocId, TERMINATED};

use crate::constants::{FLOOR, K1};
use crate::guard::damaged;
use crate::index::{Lexical, Segment};
use crate::postings::{Cursor, documents_with, phrase};
use crate::query::plan::{Mask, Plan, What};

/// Documents of a window: its scores and masks stay in the processor's second cache.
const WINDOW: usize = 1 << 12;

/// The documents of one way to match a group in one field.
pub struct List<'a> {
    pub cursor: Cursor,
    /// What the term scores at most.
    weight: f32,
    lengths: &'a FieldNormReader,
    table: &'a [f32; 256],
}

impl List<'_> {
    /// BM25 of a document that has the term `count` times, with all weights.
    #[inline]
    fn score(weight: f32, lengths: &FieldNormReader, table: &[f32; 256], document: DocId, count: u32) -> f32 {
        let count = count as f32;
        weight * (count / (count + table[lengths.fieldnorm_id(document) as usize]))
    }

    /// What the term scores in a document. Documents must be asked for in ascending order.
    pub fn score_of(&mut self, document: DocId) -> f32 {
        match self.cursor.count(document) {
            0 => 0.0,
            count => Self::score(self.weight, self.lengths, self.table, document, count),
        }
    }
}

/// The lists of a segment: for each group, for each field, one of each alternative that the segment has.
pub struct Lists<'a>(pub Vec<Vec<Vec<List<'a>>>>);

impl<'a> Lists<'a> {
    pub fn open(index: &'a Lexical, number: usize, plan: &Plan, progress: &dyn Progress) -> Result<Self> {
        let segment = &index.segments[number];
        let mut groups = Vec::new();
        for group in &plan.groups {
            progress.check()?;
            let mut fields: Vec<Vec<List>> = Vec::new();
            for (field, reader) in segment.texts.iter().enumerate() {
                let mut lists = Vec::new();
                for alternative in &group.alternatives {
                    let cursor = match &alternative.what {
                        What::Term(located) => match &located.infos[number][field] {
                            Some(info) => {
                                let record = IndexRecordOption::WithFreqs;
                                Cursor::of_term(
                                    reader.read_block_postings_from_terminfo(info, record).map_err(damaged)?,
                                )
                            }
                            None => continue,
                        },
                        What::Phrase(steps) => {
                            Cursor::Counted { counted: phrase(segment, field, steps, progress)?, at: 0 }
                        }
                    };
                    if cursor.document() != TERMINATED {
                        let weight =
                            alternative.idf[field] * (K1 + 1.0) * index.fields[field].weight * alternative.factor;
                        lists.push(List {
                            cursor,
                            weight,
                            lengths: &segment.lengths[field],
                            table: &index.lengths[field],
                        });
                    }
                }
                fields.push(lists);
            }
            groups.push(fields);
        }
        Ok(Self(groups))
    }

    fn all(&mut self) -> impl Iterator<Item = &mut List<'a>> {
        self.0.iter_mut().flatten().flatten()
    }
}

/// The score of a row whose terms score `sum` and that has a share of the query's words.
pub fn total(sum: f32, share: f32) -> f32 {
    // A share of 1 leaves the sum as it is, to the last bit.
    sum * (1.0 - (1.0 - FLOOR) * (1.0 - share))
}

/// A row that was found: a greater one has a higher score, or the same and a lower row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    pub score: f32,
    pub row: u32,
    /// The segment and the document in it.
    pub number: usize,
    pub document: DocId,
}

impl Eq for Found {}

impl Ord for Found {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.row.cmp(&self.row))
    }
}

impl PartialOrd for Found {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Takes the rows that a scan finds.
pub trait Collect {
    /// Rows with lower scores need not be offered.
    fn threshold(&self) -> f32;

    fn offer(&mut self, found: Found) -> Result<()>;
}

/// Documents that must or must not be found, and a place in them.
struct Listed {
    documents: Vec<DocId>,
    at: usize,
}

impl Listed {
    fn has(&mut self, document: DocId) -> bool {
        self.at += self.documents[self.at..].partition_point(|&listed| listed < document);
        self.documents.get(self.at) == Some(&document)
    }

    /// The first listed document from `document` on.
    fn next(&mut self, document: DocId) -> DocId {
        self.at += self.documents[self.at..].partition_point(|&listed| listed < document);
        self.documents.get(self.at).copied().unwrap_or(TERMINATED)
    }
}

/// The documents with all required phrases; `None` if there are none.
fn required(segment: &Segment, plan: &Plan, progress: &dyn Progress) -> Result<Option<Listed>> {
    let mut all: Option<Vec<DocId>> = None;
    for steps in &plan.required {
        let documents = documents_with(segment, steps, progress)?;
        all = Some(match all {
            None => documents,
            Some(all) => all.into_iter().filter(|document| documents.binary_search(document).is_ok()).collect(),
        });
    }
    Ok(all.map(|documents| Listed { documents, at: 0 }))
}

/// Offers the rows of a segment that match the plan and are allowed.
pub fn scan(
    index: &Lexical,
    number: usize,
    plan: &Plan,
    allowed: Option<&(dyn Fn(u32) -> bool + Sync)>,
    collect: &mut impl Collect,
    progress: &dyn Progress,
) -> Result<()> {
    let segment = &index.segments[number];
    let mut required = required(segment, plan, progress)?;
    let excluded =
        plan.excluded.iter().map(|steps| documents_with(segment, steps, progress)).collect::<Result<Vec<_>>>()?;
    let mut excluded: Vec<Listed> = excluded.into_iter().map(|documents| Listed { documents, at: 0 }).collect();
    let mut lists = Lists::open(index, number, plan, progress)?;
    let mut window = Window::new();
    loop {
        progress.check()?;
        let mut start = lists.all().map(|list| list.cursor.document()).min().unwrap_or(TERMINATED);
        if let Some(required) = &mut required {
            start = start.max(required.next(start));
            lists.all().for_each(|list| list.cursor.seek(start));
        }
        if start >= segment.documents {
            return Ok(());
        }
        window.fill(&mut lists, start);
        window.look(|document, sum, mask| {
            if total(sum, 1.0) < collect.threshold() || !plan.is_match(mask) {
                return Ok(());
            }
            let score = total(sum, plan.share(mask).1);
            if score < collect.threshold()
                || required.as_mut().is_some_and(|required| !required.has(document))
                || excluded.iter_mut().any(|excluded| excluded.has(document))
            {
                return Ok(());
            }
            let row = segment.row(document);
            if allowed.is_none_or(|allowed| allowed(row)) {
                collect.offer(Found { score, row, number, document })
            } else {
                Ok(())
            }
        })?;
    }
}

/// Sums of the scores of consecutive documents.
struct Window {
    start: DocId,
    sums: Box<[f32; WINDOW]>,
    masks: Box<[Mask; WINDOW]>,
    /// The best alternative of a group in one field.
    best: Box<[f32; WINDOW]>,
    /// A bit for each document that some term has.
    touched: [u64; WINDOW / 64],
}

impl Window {
    fn new() -> Self {
        Self {
            start: 0,
            sums: Box::new([0.0; WINDOW]),
            masks: Box::new([0; WINDOW]),
            best: Box::new([0.0; WINDOW]),
            touched: [0; WINDOW / 64],
        }
    }

    /// Adds the scores of the documents from `start` on.
    fn fill(&mut self, lists: &mut Lists, start: DocId) {
        self.start = start;
        let end = start.saturating_add(WINDOW as u32);
        for (bit, fields) in lists.0.iter_mut().enumerate() {
            let mask = 1 << bit;
            for lists in fields {
                match lists.as_mut_slice() {
                    [] => {}
                    [list] => self.add(list, end, mask),
                    lists => self.add_best(lists, end, mask),
                }
            }
        }
    }

    fn add(&mut self, list: &mut List, end: DocId, mask: Mask) {
        let List { cursor, weight, lengths, table } = list;
        cursor.visit(end, |document, count| {
            let at = (document - self.start) as usize % WINDOW;
            self.sums[at] += List::score(*weight, lengths, table, document, count);
            self.masks[at] |= mask;
            self.touched[at / 64] |= 1 << (at % 64);
        });
    }

    fn add_best(&mut self, lists: &mut [List], end: DocId, mask: Mask) {
        let mut touched = [0u64; WINDOW / 64];
        for list in lists {
            let List { cursor, weight, lengths, table } = list;
            cursor.visit(end, |document, count| {
                let at = (document - self.start) as usize % WINDOW;
                self.best[at] = self.best[at].max(List::score(*weight, lengths, table, document, count));
                touched[at / 64] |= 1 << (at % 64);
            });
        }
        each(&touched, |at| {
            self.sums[at] += std::mem::take(&mut self.best[at]);
            self.masks[at] |= mask;
        });
        self.touched.iter_mut().zip(touched).for_each(|(all, touched)| *all |= touched);
    }

    /// Passes the documents that were touched on, in ascending order, and clears the window.
    fn look(&mut self, mut look: impl FnMut(DocId, f32, Mask) -> Result<()>) -> Result<()> {
        let touched = std::mem::replace(&mut self.touched, [0; WINDOW / 64]);
        let mut result = Ok(());
        each(&touched, |at| {
            let (sum, mask) = (std::mem::take(&mut self.sums[at]), std::mem::take(&mut self.masks[at]));
            if result.is_ok() {
                result = look(self.start + at as u32, sum, mask);
            }
        });
        result
    }
}

/// The places of the bits that are set.
#[inline]
fn each(bits: &[u64], mut each: impl FnMut(usize)) {
    for (word, &bits) in bits.iter().enumerate() {
        let mut left = bits;
        while left != 0 {
            each(word * 64 + left.trailing_zeros() as usize);
            left &= left - 1;
        }
    }
}
