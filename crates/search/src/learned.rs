//! How both legs are fused, found from judgements: by reciprocal ranks, by the share of the words that ranks best, or by LambdaMART over what
//! both legs say of a row (Burges, 2010). Each is judged by queries that it was not fitted on.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::fusion::{Candidate, Fusion};
use super::judged::Judgements;
use super::model::{Model, POOL, Query};
use kernels::Csr;
use runtime::draw;
use runtime::error::{Error, Result};
use runtime::jobs::{Signal, jobs};
use runtime::memory;
use runtime::progress::Progress;
use tabular::Features;
use tabular::trees::{Binning, Boosting, BoostingOptions, Ensemble, Ranks};

/// Shares of the words that are tried.
const SHARES: usize = 20;
const MEASURED_AT: usize = 10;
const FOLDS: usize = 5;
/// Fewer judged queries are too few to learn a ranking from.
const MIN_QUERIES: usize = 20;
/// Queries that are fitted on, drawn where there are more, and graded rows of each that no search finds: more take memory and time, and change
/// little.
const MAX_QUERIES: usize = 2000;
const MAX_GRADED: usize = 1000;
/// Rows without a grade that each query contributes, as examples of grade 0.
const UNJUDGED: usize = 30;
/// What is fitted must gain so much over what needs no judgements, and what is learned over what is fitted: less may be luck.
const MIN_GAIN: f64 = 0.002;

/// Small trees, slowly: some thousand graded rows are little.
const OPTIONS: BoostingOptions =
    BoostingOptions { rounds: 120, learning_rate: 0.05, leaves: 8, l2: 1.0, least_rows: 20, columns: 0.8 };

/// What was found.
pub struct Fitted {
    pub fusion: Fusion,
    /// For [`Fusion::Learned`].
    pub ranker: Option<Ensemble>,
    /// NDCG at 10 of each way on held-out queries, for the metadata.
    pub measured: Value,
}

/// A judged query.
pub struct Judged {
    pub text: String,
    pub vector: Option<Vec<f32>>,
    pub judgements: Judgements,
    /// How often it was asked.
    pub occurrences: u64,
}

/// The rows of a judged query, with what is known of them.
struct Example {
    candidates: Vec<Candidate>,
    /// How many of them a search would find; the others only have grades.
    found: usize,
    /// [candidates][features]
    features: Vec<Vec<f32>>,
    grades: Vec<f32>,
}

impl Example {
    fn of(model: &Model, judged: &Judged, progress: &dyn Progress) -> Result<Self> {
        let query = Query { text: &judged.text, vector: judged.vector.as_deref(), allowed: None };
        let mut candidates = model.candidates(&query, POOL.min(model.len()), progress)?;
        let found = candidates.len();
        let found_rows: HashSet<u32> = candidates.iter().map(|candidate| candidate.row).collect();
        let graded = judged.judgements.rows().filter(|row| !found_rows.contains(row));
        let missing: Vec<u32> = graded.take(MAX_GRADED).collect();
        candidates.extend(model.describe(&query, &missing, progress)?);
        let features = model.features(&query, &candidates, progress)?;
        let grades = candidates.iter().map(|candidate| judged.judgements.grade(candidate.row)).collect();
        Ok(Self { candidates, found, features, grades })
    }

    /// The rows to learn from: those with a grade, and some of the others.
    fn learned_from(&self, judgements: &Judgements, seed: u64) -> Vec<usize> {
        let is_graded = |place: usize| judgements.given(self.candidates[place].row).is_some();
        let mut rows: Vec<usize> = (0..self.candidates.len()).filter(|&place| is_graded(place)).collect();
        let others: Vec<usize> = (0..self.found).filter(|&place| !is_graded(place)).collect();
        let mut order = vec![0u32; others.len()];
        draw::shuffled(&mut order, seed);
        rows.extend(order.iter().take(UNJUDGED).map(|&n| others[n as usize]));
        rows.sort_unstable();
        rows
    }

    /// NDCG of the rows that a search finds, ranked by score.
    fn ndcg(&self, judgements: &Judgements, ranking: &[u32]) -> f64 {
        judgements.measure(ranking, MEASURED_AT, 1.0).ndcg
    }

    fn fused(&self, fusion: Fusion) -> Vec<u32> {
        fusion.rank(&self.candidates[..self.found]).iter().map(|(_, candidate)| candidate.row).collect()
    }

    fn ranked(&self, ranker: &Ensemble) -> Vec<u32> {
        let scored = self.candidates[..self.found].iter().zip(&self.features);
        let mut scored: Vec<(f32, u32)> = scored.map(|(c, features)| (ranker.score(features), c.row)).collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        scored.into_iter().map(|(_, row)| row).collect()
    }
}

/// Finds the fusion of `model` that ranks judged rows best.
pub fn fit(model: &Model, judged: &[Judged], seed: u64, threads: usize, progress: &dyn Progress) -> Result<Fitted> {
    let mut drawn = vec![0u32; judged.len()];
    draw::shuffled(&mut drawn, seed);
    drawn.truncate(MAX_QUERIES);
    drawn.sort_unstable();
    let judged: Vec<&Judged> = drawn.iter().map(|&query| &judged[query as usize]).collect();
    let mut examples = Vec::new();
    for (number, query) in judged.iter().enumerate() {
        progress.report("judged queries", number, judged.len());
        examples.push(Example::of(model, query, progress)?);
    }
    let ways =
        [Fusion::ReciprocalRanks].into_iter().chain((0..=SHARES).map(|n| Fusion::Weighted(n as f32 / SHARES as f32)));
    let ways: Vec<Fusion> = ways.collect();
    // [ways][queries]
    let mut ndcg = vec![Vec::new(); ways.len()];
    for (fusion, of) in ways.iter().zip(&mut ndcg) {
        for (example, judged) in examples.iter().zip(&judged) {
            progress.check()?;
            of.push(example.ndcg(&judged.judgements, &example.fused(*fusion)));
        }
    }
    let all: Vec<usize> = (0..judged.len()).collect();
    let best_of = |queries: &[usize]| {
        let sum = |way: usize| queries.iter().map(|&query| ndcg[way][query]).sum::<f64>();
        // Of equal ones the first: judgements that tell nothing change nothing.
        (1..ways.len()).fold(0, |best, way| if sum(way) > sum(best) { way } else { best })
    };
    let folds: Vec<usize> = all.iter().map(|&query| draw::below(seed, query as u64, FOLDS)).collect();
    let split = |fold: usize, inside: bool| -> Vec<usize> {
        all.iter().copied().filter(|&query| (folds[query] == fold) == inside).collect()
    };
    let mut weighted = 0.0;
    let mut learned = (judged.len() >= MIN_QUERIES).then_some(0.0);
    for fold in 0..FOLDS {
        let (held, rest) = (split(fold, true), split(fold, false));
        let best = best_of(&rest);
        weighted += held.iter().map(|&query| ndcg[best][query]).sum::<f64>();
        if let Some(sum) = &mut learned {
            let ranker = train(&examples, &judged, &rest, seed, threads, progress)?;
            let each = held.iter().map(|&q| examples[q].ndcg(&judged[q].judgements, &examples[q].ranked(&ranker)));
            *sum += each.sum::<f64>();
        }
    }
    let mean = |sum: f64| sum / judged.len().max(1) as f64;
    let of = |way: usize| mean(ndcg[way].iter().sum());
    let is_learned = learned.is_some_and(|learned| mean(learned) > mean(weighted).max(of(0)) + MIN_GAIN);
    let chosen = if is_learned {
        Fusion::Learned
    } else if mean(weighted) > of(0) + MIN_GAIN {
        ways[best_of(&all)]
    } else {
        ways[0]
    };
    let ranker = is_learned.then(|| train(&examples, &judged, &all, seed, threads, progress)).transpose()?;
    let measured = json!({
        "queries": judged.len(),
        "metric": format!("ndcg@{MEASURED_AT}"),
        "meaning": of(1),
        "words": of(ways.len() - 1),
        "reciprocal_ranks": of(0),
        "weighted": mean(weighted),
        "learned": learned.map(mean),
    });
    Ok(Fitted { fusion: chosen, ranker, measured })
}

/// LambdaMART on the rows of `queries`.
fn train(
    examples: &[Example],
    judged: &[&Judged],
    queries: &[usize],
    seed: u64,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Ensemble> {
    let mut matrix = Csr { indptr: vec![0], ..Csr::default() };
    let (mut grades, mut starts) = (Vec::new(), vec![0]);
    for &query in queries {
        progress.check()?;
        let example = &examples[query];
        for place in example.learned_from(&judged[query].judgements, draw::mix(seed ^ query as u64)) {
            let features = &example.features[place];
            matrix.columns = features.len();
            for (column, &value) in (0..).zip(features).filter(|(_, value)| **value != 0.0) {
                memory::push(&mut matrix.indices, column)?;
                memory::push(&mut matrix.values, value)?;
            }
            matrix.indptr.push(matrix.indices.len() as u64);
            grades.push(example.grades[place]);
        }
        starts.push(grades.len());
    }
    let features = Features { matrix, categories: Vec::new() };
    let binning = Binning::learn(&features, None, threads, progress)?;
    let binned = binning.apply(&features, threads, progress)?;
    let ranks = Ranks { grades: &grades, starts: &starts };
    let fit = |signal: &Signal, _| Boosting::fit_ranks(&binned, ranks, &OPTIONS, seed, signal);
    let boosting = jobs(1, threads, progress, ("trees", 0), fit)?.pop();
    let boosting = boosting.ok_or_else(|| Error::Internal("a training gave nothing".into()))?;
    Ensemble::of(&boosting, &binning).ok_or_else(|| Error::Internal("a ranking cannot be stored".into()))
}
