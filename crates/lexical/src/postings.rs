//! Cursors over the documents of one segment that have a term or a phrase.

use runtime::error::Result;
use runtime::progress::Progress;
use tantivy::postings::{BlockSegmentPostings, Postings, SegmentPostings};
use tantivy::schema::IndexRecordOption;
use tantivy::{DocId, DocSet, TERMINATED};

use crate::guard::damaged;
use crate::index::{Segment, find};
use crate::query::steps::Step;

/// Documents between two checks for cancel requests.
const CHECKED: usize = 1 << 12;

/// Documents in ascending order, each with the number of times that it has the term.
pub enum Cursor {
    Term { postings: Box<BlockSegmentPostings>, at: usize },
    Counted { counted: Vec<(DocId, u32)>, at: usize },
}

impl Cursor {
    pub fn of_term(postings: BlockSegmentPostings) -> Self {
        Self::Term { postings: Box::new(postings), at: 0 }
    }

    /// The next document; [`TERMINATED`] after the last one.
    pub fn document(&self) -> DocId {
        match self {
            Self::Term { postings, at } => postings.docs().get(*at).copied().unwrap_or(TERMINATED),
            Self::Counted { counted, at } => counted.get(*at).map_or(TERMINATED, |&(document, _)| document),
        }
    }

    /// Goes to the first document from `target` on.
    pub fn seek(&mut self, target: DocId) {
        match self {
            Self::Term { postings, at } => {
                let docs = postings.docs();
                if docs.last().is_none_or(|&last| last < target) {
                    *at = postings.seek(target);
                } else {
                    *at += docs[*at..].partition_point(|&document| document < target);
                }
            }
            Self::Counted { counted, at } => *at += counted[*at..].partition_point(|&(document, _)| document < target),
        }
    }

    /// How often `document` has the term. Documents must be asked for in ascending order.
    pub fn count(&mut self, document: DocId) -> u32 {
        self.seek(document);
        match self {
            _ if self.document() != document => 0,
            Self::Term { postings, at } => postings.freqs().get(*at).copied().unwrap_or(0),
            Self::Counted { counted, at } => counted[*at].1,
        }
    }

    /// Visits the documents before `end`.
    #[inline]
    pub fn visit(&mut self, end: DocId, mut visit: impl FnMut(DocId, u32)) {
        match self {
            Self::Term { postings, at } => loop {
                let (docs, counts) = (postings.docs(), postings.freqs());
                while let Some((&document, &count)) = docs.get(*at).zip(counts.get(*at)) {
                    if document >= end {
                        return;
                    }
                    visit(document, count);
                    *at += 1;
                }
                if docs.is_empty() {
                    return;
                }
                postings.advance();
                *at = 0;
            },
            Self::Counted { counted, at } => {
                while let Some(&(document, count)) = counted.get(*at).filter(|(document, _)| *document < end) {
                    visit(document, count);
                    *at += 1;
                }
            }
        }
    }
}

/// The documents that have the steps of a phrase in their order in one field, and how often.
pub fn phrase(segment: &Segment, field: usize, steps: &[Step], progress: &dyn Progress) -> Result<Vec<(DocId, u32)>> {
    let reader = &segment.texts[field];
    let mut of_steps: Vec<(u32, SegmentPostings)> = Vec::new();
    for step in steps {
        let Some(info) = find(reader, &step.term)? else { return Ok(Vec::new()) };
        let postings =
            reader.read_postings_from_terminfo(&info, IndexRecordOption::WithFreqsAndPositions).map_err(damaged)?;
        of_steps.push((step.offset, postings));
    }
    // The rarest term leads.
    of_steps.sort_by_key(|(_, postings)| postings.doc_freq());
    let Some(((first, lead), others)) = of_steps.split_first_mut() else { return Ok(Vec::new()) };
    let (mut found, mut starts, mut positions) = (Vec::new(), Vec::new(), Vec::new());
    let mut seen = 0usize;
    while lead.doc() != TERMINATED {
        seen += 1;
        if seen.is_multiple_of(CHECKED) {
            progress.check()?;
        }
        let document = lead.doc();
        let missing = others
            .iter_mut()
            .map(|(_, postings)| if postings.doc() < document { postings.seek(document) } else { postings.doc() });
        if let Some(next) = missing.into_iter().find(|&other| other != document) {
            if next == TERMINATED {
                break;
            }
            lead.seek(next);
            continue;
        }
        lead.positions(&mut positions);
        starts.clear();
        starts.extend(positions.iter().filter_map(|position| position.checked_sub(*first)));
        for (offset, postings) in others.iter_mut() {
            if starts.is_empty() {
                break;
            }
            postings.positions(&mut positions);
            starts.retain(|start| positions.binary_search(&(start + *offset)).is_ok());
        }
        if !starts.is_empty() {
            found.push((document, starts.len() as u32));
        }
        lead.advance();
    }
    Ok(found)
}

/// The documents that have the phrase in some field, in ascending order.
pub fn documents_with(segment: &Segment, steps: &[Step], progress: &dyn Progress) -> Result<Vec<DocId>> {
    let mut found = Vec::new();
    for (field, reader) in segment.texts.iter().enumerate() {
        match steps {
            [step] => {
                let Some(info) = find(reader, &step.term)? else { continue };
                let mut cursor = Cursor::of_term(
                    reader.read_block_postings_from_terminfo(&info, IndexRecordOption::Basic).map_err(damaged)?,
                );
                runtime::memory::reserve(&mut found, info.doc_freq.min(segment.documents) as usize)?;
                while cursor.document() != TERMINATED {
                    progress.check()?;
                    let end = cursor.document().saturating_add(CHECKED as u32);
                    cursor.visit_documents(end, |document| found.push(document));
                }
            }
            steps => found.extend(phrase(segment, field, steps, progress)?.into_iter().map(|(document, _)| document)),
        }
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

impl Cursor {
    /// As [`visit`](Self::visit), without the counts.
    fn visit_documents(&mut self, end: DocId, mut visit: impl FnMut(DocId)) {
        while self.document() < end {
            visit(self.document());
            match self {
                Self::Term { postings, at } => {
                    *at += 1;
                    if *at == postings.docs().len() {
                        postings.advance();
                        *at = 0;
                    }
                }
                Self::Counted { at, .. } => *at += 1,
            }
        }
    }
}
