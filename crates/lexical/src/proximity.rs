//! Neighbours of the query that are neighbours in a row.

use runtime::error::Result;
use tantivy::postings::{Postings, SegmentPostings};
use tantivy::schema::IndexRecordOption;
use tantivy::{DocId, DocSet};

use crate::constants::NEIGHBOURS;
use crate::guard::damaged;
use crate::index::Lexical;
use crate::query::plan::{Plan, What};
use crate::scores::FieldScores;

/// The postings, with positions, of the groups that have neighbours, and positions of the current document.
pub struct Proximity<'a> {
    plan: &'a Plan,
    /// By field and group.
    fields: Vec<Vec<Option<SegmentPostings>>>,
    /// What a pair adds: by field and pair.
    weights: Vec<Vec<f32>>,
    positions: Vec<Vec<u32>>,
}

impl<'a> Proximity<'a> {
    pub fn open(index: &Lexical, number: usize, plan: &'a Plan) -> Result<Self> {
        let segment = &index.segments[number];
        let mut fields = Vec::new();
        let mut weights = Vec::new();
        for (field, reader) in segment.texts.iter().enumerate() {
            let mut groups = Vec::new();
            for (at, group) in plan.groups.iter().enumerate() {
                let info = match group.alternatives.first().map(|own| &own.what) {
                    Some(What::Term(own)) if plan.pairs.iter().any(|pair| pair.0 == at || pair.1 == at) => {
                        own.infos[number][field].as_ref()
                    }
                    _ => None,
                };
                let open = |info| {
                    reader.read_postings_from_terminfo(info, IndexRecordOption::WithFreqsAndPositions).map_err(damaged)
                };
                groups.push(info.map(open).transpose()?);
            }
            fields.push(groups);
            let idf = |group: usize| {
                plan.groups[group].alternatives[0].idf[field] * plan.groups[group].alternatives[0].factor
            };
            let weight =
                |pair: &(usize, usize, u32)| NEIGHBOURS * index.fields[field].weight * idf(pair.0).min(idf(pair.1));
            weights.push(plan.pairs.iter().map(weight).collect());
        }
        Ok(Self { plan, fields, weights, positions: vec![Vec::new(); plan.groups.len()] })
    }

    /// What the neighbours in a document add to its score. Documents must be asked for in ascending order.
    pub fn score_of(&mut self, document: DocId) -> f32 {
        self.score_and_shares(document, &mut [])
    }

    /// [`score_of`](Self::score_of), with what each of `fields` has of the query's neighbours, as shares of all.
    pub fn score_and_shares(&mut self, document: DocId, fields: &mut [FieldScores]) -> f32 {
        let mut sum = 0.0;
        let part = 1.0 / self.plan.pairs.len().max(1) as f32;
        for (field, (groups, weights)) in self.fields.iter_mut().zip(&self.weights).enumerate() {
            for (postings, positions) in groups.iter_mut().zip(&mut self.positions) {
                positions.clear();
                if let Some(postings) = postings
                    && (postings.doc() == document || postings.doc() < document && postings.seek(document) == document)
                {
                    postings.positions(positions);
                }
            }
            for (&(left, right, distance), weight) in self.plan.pairs.iter().zip(weights) {
                let (left, right) = (&self.positions[left], &self.positions[right]);
                if left.iter().any(|position| right.binary_search(&(position + distance)).is_ok()) {
                    sum += weight;
                    fields.get_mut(field).into_iter().for_each(|field| field.neighbours += part);
                }
                if left.first().zip(right.last()).is_some_and(|(left, right)| left < right) {
                    fields.get_mut(field).into_iter().for_each(|field| field.ordered += part);
                }
            }
        }
        sum
    }
}
