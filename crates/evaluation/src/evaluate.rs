//! Evaluation of one model: one list per user, from which all metrics are computed.

use std::ops::Range;

use super::cases::{Cases, Subject};
use super::catalogue::Catalogue;
use super::metrics::{Judged, Metric, MetricSet, Values};
use super::order::{self, Place};
use super::segments::{Group, Segments};
use recommendation::{Model, Request};
use runtime::error::Result;
use runtime::memory;
use runtime::parallel::for_each_chunk;
use runtime::pool::with_pool;
use runtime::progress::{Progress, Unwatched};

/// Most users, and most list entries, in memory at a time.
const BATCH: usize = 8192;
const PLACES: usize = 1 << 22;

/// Draws the negatives of a case.
pub type Draw<'a> = &'a (dyn Fn(usize) -> Result<Vec<u32>> + Sync);

/// The items that are ranked.
#[derive(Clone, Copy)]
pub enum Candidates<'a> {
    /// Every item of the model.
    Catalogue,
    /// Those given with the test.
    Given,
    /// This many sampled ones.
    Drawn(usize, Draw<'a>),
}

/// Settings of an evaluation.
#[derive(Clone, Copy)]
pub struct Protocol<'a> {
    pub k: usize,
    pub exclude_seen: bool,
    pub metrics: MetricSet,
    pub candidates: Candidates<'a>,
    pub threads: usize,
}

impl Protocol<'_> {
    /// The metrics that apply: with few candidates, those of relevance only.
    pub fn measured(&self) -> MetricSet {
        match self.candidates {
            Candidates::Catalogue => self.metrics,
            _ => self.metrics.iter().filter(|m| !m.is_of_lists()).collect(),
        }
    }

    fn request(&self) -> Request<'_> {
        Request { exclude_seen: self.exclude_seen, ..Request::new(self.k) }
    }

    fn wants(&self, metrics: &[Metric]) -> bool {
        let measured = self.measured();
        metrics.iter().any(|&metric| measured.contains(metric))
    }

    /// Whether [`Catalogue`] must keep the users of each item.
    pub fn wants_audiences(&self) -> bool {
        self.wants(&[Metric::Diversity])
    }
}

/// Results: a row of values for each case, and one for each item segment of a case.
pub struct Measured {
    pub rows: Vec<Values>,
    /// The group of all cases first.
    pub groups: Vec<Group>,
    /// Users for whom fewer candidates were available than wanted.
    pub short: usize,
}

/// The result of one case.
#[derive(Clone, Default)]
struct Outcome {
    list: Vec<u32>,
    values: Values,
    /// The same for the relevant items of each level.
    of_levels: Vec<(u8, Values)>,
    short: bool,
}

/// Evaluates `model` on all `cases`. Segments and catalogue belong to the cases and the model.
pub fn evaluate(
    model: &Model,
    cases: &Cases,
    segments: &Segments,
    catalogue: &Catalogue,
    protocol: &Protocol,
    progress: &dyn Progress,
) -> Result<Measured> {
    let exposed = protocol.wants(&[Metric::Coverage, Metric::Gini]).then(|| catalogue.items());
    let mut measured = Measured { rows: Vec::new(), groups: segments.groups(exposed)?, short: 0 };
    memory::reserve(&mut measured.rows, cases.len())?;
    let batch = (PLACES / protocol.k.min(catalogue.items()).max(1)).clamp(16, BATCH);
    let asked = Asked { model, cases, segments, catalogue, protocol };
    with_pool(protocol.threads, |_| {
        for start in (0..cases.len()).step_by(batch) {
            progress.report("users evaluated", start, cases.len());
            let end = cases.len().min(start + batch);
            let mut outcomes = asked.lists(start..end, progress)?;
            for_each_chunk(
                &mut outcomes,
                1,
                protocol.threads,
                progress,
                || (),
                |(), number, outcome| asked.measure(start + number, &mut outcome[0]),
            )?;
            for (case, outcome) in (start..end).zip(outcomes) {
                measured.short += usize::from(outcome.short);
                let row = measured.push(outcome.values)?;
                for group in segments.of_case(case, cases.subjects[case]) {
                    measured.groups[group].take(row, &outcome.list)?;
                }
                for (level, values) in outcome.of_levels {
                    let row = measured.push(values)?;
                    measured.groups[segments.of_items(level)].take(row, &[])?;
                }
            }
        }
        Ok(())
    })?;
    progress.report("users evaluated", cases.len(), cases.len());
    Ok(measured)
}

impl Measured {
    fn push(&mut self, values: Values) -> Result<u32> {
        memory::push(&mut self.rows, values)?;
        Ok(self.rows.len() as u32 - 1)
    }
}

/// Shared by all threads.
struct Asked<'a> {
    model: &'a Model,
    cases: &'a Cases,
    segments: &'a Segments,
    catalogue: &'a Catalogue,
    protocol: &'a Protocol<'a>,
}

impl Asked<'_> {
    /// An outcome for each case. Where all items are ranked, the lists of stored users are made in one batch, which is faster.
    fn lists(&self, cases: Range<usize>, progress: &dyn Progress) -> Result<Vec<Outcome>> {
        let mut outcomes = memory::filled(Outcome::default(), cases.len())?;
        if !matches!(self.protocol.candidates, Candidates::Catalogue) {
            return Ok(outcomes);
        }
        let (mut users, mut places) = (Vec::new(), Vec::new());
        for (place, case) in cases.enumerate() {
            if let Subject::Stored(user) = self.cases.subjects[case] {
                users.push(user);
                places.push(place);
            }
        }
        let lists =
            self.model.recommend_users(&users, &self.protocol.request(), self.protocol.threads, &Quiet(progress))?;
        for (place, list) in places.into_iter().zip(lists) {
            outcomes[place].list = list.into_iter().map(|r| r.item).collect();
        }
        Ok(outcomes)
    }

    /// Runs on a helper thread.
    fn measure(&self, case: usize, outcome: &mut Outcome) -> Result<()> {
        let relevant = self.cases.relevant.row(case);
        let (history, weights) = self.cases.history(self.model, case)?;
        let drawn;
        let others = match self.protocol.candidates {
            Candidates::Catalogue => None,
            Candidates::Given => self.cases.negatives.as_ref().map(|negatives| negatives.row(case)),
            Candidates::Drawn(wanted, draw) => {
                drawn = draw(case)?;
                outcome.short = drawn.len() < wanted;
                Some(&drawn[..])
            }
        };
        let mut field = Field::default();
        if others.is_some() || self.protocol.wants(&[Metric::Auc]) {
            let scores = self.model.score_all(self.cases.who(case), &Unwatched)?;
            let popularity = self.model.popularity_scores();
            let place = |item: u32| Place { score: scores[item as usize], popularity: popularity[item as usize] };
            field.relevant = relevant.iter().map(|&item| place(item)).collect();
            match others {
                Some(others) => {
                    let mut all: Vec<(Place, u32)> = relevant.iter().chain(others).map(|&i| (place(i), i)).collect();
                    order::sort(&mut all);
                    outcome.list = all.iter().take(self.protocol.k).map(|(_, item)| *item).collect();
                    (field.scores, field.popularity) =
                        others.iter().map(|&i| (scores[i as usize], popularity[i as usize])).unzip();
                }
                None => {
                    field.scores = scores;
                    let seen = if self.protocol.exclude_seen { history } else { &[] };
                    // Neither is one of the others.
                    seen.iter().chain(relevant).for_each(|&item| field.scores[item as usize] = f32::NAN);
                }
            }
        }
        let candidates = match others {
            Some(others) => relevant.len() + others.len(),
            None => {
                if !matches!(self.cases.subjects[case], Subject::Stored(_)) {
                    let list = self.model.recommend(self.cases.who(case), &self.protocol.request(), &Unwatched)?;
                    outcome.list = list.into_iter().map(|r| r.item).collect();
                }
                self.catalogue.items() - if self.protocol.exclude_seen { history.len() } else { 0 }
            }
        };

        outcome.values = self.judged(&outcome.list, relevant, relevant, candidates);
        let values = &mut outcome.values;
        if self.protocol.wants(&[Metric::Auc]) {
            let popularity = if others.is_some() { &field.popularity } else { self.model.popularity_scores() };
            values.set(Metric::Auc, order::auc(&field.relevant, &field.scores, popularity));
        }
        if self.protocol.wants(&[Metric::Diversity]) {
            values.set(Metric::Diversity, self.catalogue.diversity(&outcome.list));
        }
        if self.protocol.wants(&[Metric::Novelty]) {
            values.set(Metric::Novelty, self.catalogue.novelty(&outcome.list));
        }
        if self.protocol.wants(&[Metric::PopularityBias]) {
            let taken: Vec<u32> = history.iter().zip(weights).filter(|&(_, &w)| w > 0.0).map(|(&i, _)| i).collect();
            values.set_popularity(self.catalogue.popularity(&outcome.list), self.catalogue.popularity(&taken));
        }
        if self.cases.subjects[case] == Subject::Nobody {
            return Ok(());
        }
        for level in self.segments.levels_of(self.cases, case) {
            let of_level = self.segments.of_level(self.cases, case, level);
            let items: Vec<u32> = of_level.clone().map(|n| relevant[n]).collect();
            let mut values = self.judged(&outcome.list, &items, relevant, candidates);
            if self.protocol.wants(&[Metric::Auc]) {
                let places: Vec<Place> = of_level.map(|n| field.relevant[n]).collect();
                let popularity = if others.is_some() { &field.popularity } else { self.model.popularity_scores() };
                values.set(Metric::Auc, order::auc(&places, &field.scores, popularity));
            }
            outcome.of_levels.push((level, values));
        }
        Ok(())
    }

    fn judged(&self, list: &[u32], relevant: &[u32], all_relevant: &[u32], candidates: usize) -> Values {
        let mut values = Values::default();
        Judged { ranked: list, relevant, all_relevant, k: self.protocol.k, candidates }.measure(&mut values);
        values
    }
}

/// The relevant items and their competitors.
#[derive(Default)]
struct Field {
    relevant: Vec<Place>,
    scores: Vec<f32>,
    popularity: Vec<f32>,
}

/// Can be cancelled, and reports no progress of its own.
struct Quiet<'a>(&'a dyn Progress);

impl Progress for Quiet<'_> {
    fn check(&self) -> Result<()> {
        self.0.check()
    }
}
