//! The questions to an index: rows by score, rows that match, scores of given rows.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use runtime::error::Result;
use runtime::memory;
use runtime::progress::Progress;

use crate::guard::reading;
use crate::index::Lexical;
use crate::proximity::Proximity;
use crate::query::plan::{Mask, Plan};
use crate::query::planner::plan;
use crate::query::synonyms::Synonyms;
use crate::scan::{Collect, Found, Lists, scan, total};
use crate::scores::{FieldScores, RowScores};

/// Which rows may be found.
pub type Allowed<'a> = Option<&'a (dyn Fn(u32) -> bool + Sync)>;

/// The rows whose neighbouring words are looked at: those with the highest scores without them, at least this many.
const LOOKED_AT: usize = 50;

impl Lexical {
    /// The `k` rows with the highest scores, equal ones by row.
    ///
    /// The score is the weighted sum of BM25 over fields, less if words of the query are missing, more if neighbours in the query are
    /// neighbours in the row. Only the best rows by the rest of the score are looked at for neighbours: 50, or 2·`k`.
    pub fn search(
        &self,
        query: &str,
        synonyms: &Synonyms,
        k: usize,
        allowed: Allowed,
        progress: &dyn Progress,
    ) -> Result<Vec<(f32, u32)>> {
        reading(|| {
            let plan = plan(self, query, synonyms, progress)?;
            let most = if plan.pairs.is_empty() || k == 0 { k } else { k.saturating_mul(2).max(LOOKED_AT) };
            let mut top = Top { most: most.min(self.documents as usize), heap: BinaryHeap::new() };
            if top.most > 0 {
                for number in 0..self.segments.len() {
                    scan(self, number, &plan, allowed, &mut top, progress)?;
                }
            }
            let mut found: Vec<Found> = top.heap.into_iter().map(|Reverse(found)| found).collect();
            self.add_neighbours(&plan, &mut found, progress)?;
            found.sort_unstable_by_key(|&found| Reverse(found));
            found.truncate(k);
            Ok(found.into_iter().map(|found| (found.score, found.row)).collect())
        })
    }

    /// All rows that match, in ascending order.
    pub fn matches(
        &self,
        query: &str,
        synonyms: &Synonyms,
        allowed: Allowed,
        progress: &dyn Progress,
    ) -> Result<Vec<u32>> {
        reading(|| {
            let plan = plan(self, query, synonyms, progress)?;
            let mut all = All(Vec::new());
            for number in 0..self.segments.len() {
                scan(self, number, &plan, allowed, &mut all, progress)?;
            }
            all.0.sort_unstable();
            Ok(all.0)
        })
    }

    /// The scores of given rows, in their order. Phrases and excluded words of the query are not looked at.
    pub fn scores_of(
        &self,
        query: &str,
        synonyms: &Synonyms,
        rows: &[u32],
        progress: &dyn Progress,
    ) -> Result<Vec<RowScores>> {
        reading(|| {
            let plan = plan(self, query, synonyms, progress)?;
            let fields = vec![FieldScores::default(); self.fields.len()];
            let empty = |&row: &u32| RowScores { row, score: 0.0, fields: fields.clone(), share: 0.0 };
            let mut scores: Vec<RowScores> = rows.iter().map(empty).collect();
            for (number, segment) in self.segments.iter().enumerate() {
                let mut documents = Vec::new();
                for (at, &row) in rows.iter().enumerate() {
                    progress.check()?;
                    documents.extend(segment.document(row).map(|document| (document, at)));
                }
                documents.sort_unstable();
                let mut lists = Lists::open(self, number, &plan, progress)?;
                let mut near = Proximity::open(self, number, &plan)?;
                let mut last: Option<(u32, usize)> = None;
                for (document, at) in documents {
                    progress.check()?;
                    match last.filter(|&(last, _)| last == document) {
                        Some((_, same)) => scores[at] = scores[same].clone(),
                        None => score(&plan, &mut lists, &mut near, document, &mut scores[at]),
                    }
                    last = Some((document, at));
                }
            }
            Ok(scores)
        })
    }

    /// Reads words and phrases with their synonyms, for queries to this index.
    pub fn synonyms(&self, entries: &[(String, Vec<String>)], progress: &dyn Progress) -> Result<Synonyms> {
        Synonyms::new(&self.analyzer, entries, progress)
    }

    fn add_neighbours(&self, plan: &Plan, found: &mut [Found], progress: &dyn Progress) -> Result<()> {
        if plan.pairs.is_empty() {
            return Ok(());
        }
        found.sort_unstable_by_key(|found| (found.number, found.document));
        for of_segment in found.chunk_by_mut(|left, right| left.number == right.number) {
            let mut near = Proximity::open(self, of_segment[0].number, plan)?;
            for found in of_segment {
                progress.check()?;
                found.score += near.score_of(found.document);
            }
        }
        Ok(())
    }
}

/// Fills in what a document scores.
fn score(plan: &Plan, lists: &mut Lists, near: &mut Proximity, document: u32, scores: &mut RowScores) {
    let mut sum = 0.0f32;
    let mut masks: Vec<Mask> = vec![0; scores.fields.len()];
    for (bit, fields) in lists.0.iter_mut().enumerate() {
        for ((of_field, mask), lists) in scores.fields.iter_mut().zip(&mut masks).zip(fields) {
            let best = lists.iter_mut().map(|list| list.score_of(document)).fold(0.0, f32::max);
            if best > 0.0 {
                *mask |= 1 << bit;
                sum += best;
                of_field.score += best;
            }
        }
    }
    let all = masks.iter().fold(0, |all, mask| all | mask);
    let (share, of_known) = plan.share(all);
    scores.share = share;
    for (number, (of_field, &mask)) in scores.fields.iter_mut().zip(&masks).enumerate() {
        (of_field.share, of_field.idf_share) = (plan.share(mask).0, plan.idf_share(number, mask));
    }
    let near = near.score_and_shares(document, &mut scores.fields);
    if plan.is_match(all) {
        scores.score = total(sum, of_known) + near;
    }
}

/// The best rows so far.
struct Top {
    most: usize,
    heap: BinaryHeap<Reverse<Found>>,
}

impl Collect for Top {
    fn threshold(&self) -> f32 {
        self.heap
            .peek()
            .filter(|_| self.heap.len() == self.most)
            .map_or(f32::NEG_INFINITY, |Reverse(least)| least.score)
    }

    fn offer(&mut self, found: Found) -> Result<()> {
        if self.heap.len() < self.most {
            self.heap.push(Reverse(found));
        } else if let Some(mut least) = self.heap.peek_mut()
            && found > least.0
        {
            *least = Reverse(found);
        }
        Ok(())
    }
}

/// All rows.
struct All(Vec<u32>);

impl Collect for All {
    fn threshold(&self) -> f32 {
        f32::NEG_INFINITY
    }

    fn offer(&mut self, found: Found) -> Result<()> {
        memory::push(&mut self.0, found.row)
    }
}
