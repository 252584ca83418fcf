//! How both legs are fused, found from judgements: by reciprocal ranks, by the share of the words that ranks best, or by a learned score. Each is
//! judged by queries that it was not fitted on.
//!
//! What is learned is a linear score ([`linear`](super::linear)) and trees that correct it: LambdaMART (Burges, 2010) that starts from that score.
//! Judgements are few. A handful of weights gain from a hundred queries already, while trees alone take their noise for rules.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::features::linear as linear_columns;
use super::fusion::{Candidate, Fusion};
use super::judged::Judgements;
use super::linear::Group;
use super::model::{Model, POOL, Query};
use inner_products::ItemSet;
use kernels::Csr;
use ndarray::Array2;
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
/// Rows of a query that are learned from, drawn where there are more: their pairs are compared.
const MAX_LEARNED: usize = 100;
/// Rows without a grade that a query contributes, as examples of grade 0, if all its grades are alike.
const UNJUDGED: usize = 30;
/// What is fitted must gain so much over what needs no judgements, and what is learned over what is fitted: less may be luck.
const MIN_GAIN: f64 = 0.002;

/// What the linear score starts from: both legs' standard scores, the first two columns.
const START: [f64; 2] = [0.3, 0.7];
/// Small trees, slowly: some thousand graded rows are little.
const OPTIONS: BoostingOptions =
    BoostingOptions { rounds: 160, learning_rate: 0.05, leaves: 4, l2: 1.0, least_rows: 50, columns: 0.5 };
/// Numbers of trees that are tried, the last one all: few judgements bear none, many bear many.
const ROUNDS: [usize; 6] = [0, 10, 20, 40, 80, 160];

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

/// A judged query as it is measured: the rows that a search finds. And as it is learned from: rows with grades.
struct Example {
    found: Vec<Candidate>,
    /// [found][features]
    features: Vec<Vec<f32>>,
    /// [rows][features]
    learned: Vec<Vec<f32>>,
    grades: Vec<f32>,
}

impl Example {
    fn of(model: &Model, judged: &Judged, seed: u64, progress: &dyn Progress) -> Result<Self> {
        let query = Query { text: &judged.text, vector: judged.vector.as_deref(), allowed: None };
        let judgements = &judged.judgements;
        let found = model.candidates(&query, POOL.min(model.len()), progress)?;
        let graded: Vec<u32> = judgements.rows().take(MAX_GRADED).collect();
        let is_alike = graded.windows(2).all(|pair| judgements.given(pair[0]) == judgements.given(pair[1]));
        // A search among the graded rows alone: others have no grade since nobody looked at them, not since they are bad. Only where that leaves
        // nothing to compare are they taken for bad.
        let mut allowed = ItemSet::new(model.len());
        graded.iter().for_each(|&row| allowed.insert(row));
        let among = Query { allowed: (!is_alike).then_some(&allowed), ..query };
        let mut candidates = match is_alike {
            true => found.clone(),
            false => model.candidates(&among, graded.len(), progress)?,
        };
        let listed: HashSet<u32> = candidates.iter().map(|candidate| candidate.row).collect();
        let missing: Vec<u32> = graded.iter().copied().filter(|row| !listed.contains(row)).collect();
        candidates.extend(model.describe(&query, &missing, progress)?);
        let described = model.features(&query, &candidates, progress)?;
        let features =
            if is_alike { described[..found.len()].to_vec() } else { model.features(&query, &found, progress)? };
        let rows = learned_from(&candidates, judgements, seed);
        let learned = rows.iter().map(|&place| described[place].clone()).collect();
        let grades = rows.iter().map(|&place| judgements.grade(candidates[place].row)).collect();
        Ok(Self { found, features, learned, grades })
    }

    fn ndcg(&self, judgements: &Judgements, ranking: &[u32]) -> f64 {
        judgements.measure(ranking, MEASURED_AT, 1.0).ndcg
    }

    fn fused(&self, fusion: Fusion) -> Vec<u32> {
        fusion.rank(&self.found).iter().map(|(_, candidate)| candidate.row).collect()
    }

    fn ranked(&self, ranker: &Ensemble) -> Vec<u32> {
        let scored = self.found.iter().zip(&self.features);
        let mut scored: Vec<(f32, u32)> = scored.map(|(c, features)| (ranker.score(features), c.row)).collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        scored.into_iter().map(|(_, row)| row).collect()
    }
}

/// The places of the rows to learn from: those with a grade, and some of the others.
fn learned_from(candidates: &[Candidate], judgements: &Judgements, seed: u64) -> Vec<usize> {
    let is_graded = |place: &usize| judgements.given(candidates[*place].row).is_some();
    let (graded, others): (Vec<usize>, Vec<usize>) = (0..candidates.len()).partition(is_graded);
    let drawn = |places: Vec<usize>, most: usize| {
        let mut order = vec![0u32; places.len()];
        draw::shuffled(&mut order, seed);
        order.into_iter().take(most).map(move |n| places[n as usize])
    };
    let mut rows: Vec<usize> = drawn(graded, MAX_LEARNED).chain(drawn(others, UNJUDGED)).collect();
    rows.sort_unstable();
    rows
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
        examples.push(Example::of(model, query, draw::mix(seed ^ number as u64), progress)?);
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
    let columns = linear_columns(model.lexical().fields().len());
    // The sums of all queries' NDCG, for each number of rounds.
    let mut learned = (judged.len() >= MIN_QUERIES).then_some([0.0; ROUNDS.len()]);
    for fold in 0..FOLDS {
        let (held, rest) = (split(fold, true), split(fold, false));
        let best = best_of(&rest);
        weighted += held.iter().map(|&query| ndcg[best][query]).sum::<f64>();
        if let Some(sums) = &mut learned {
            let whole = train(&examples, columns, &rest, seed, threads, progress)?;
            for (sum, &rounds) in sums.iter_mut().zip(&ROUNDS) {
                progress.check()?;
                let mut ranker = whole.clone();
                ranker.truncate(rounds);
                let of =
                    |&query: &usize| examples[query].ndcg(&judged[query].judgements, &examples[query].ranked(&ranker));
                *sum += held.iter().map(of).sum::<f64>();
            }
        }
    }
    let mean = |sum: f64| sum / judged.len().max(1) as f64;
    let of = |way: usize| mean(ndcg[way].iter().sum());
    // More trees must gain as much as anything else that is fitted: most often the linear score is best.
    let best = |sums: [f64; ROUNDS.len()]| {
        (1..sums.len()).fold((ROUNDS[0], sums[0]), |best, n| {
            if mean(sums[n]) > mean(best.1) + MIN_GAIN { (ROUNDS[n], sums[n]) } else { best }
        })
    };
    let learned = learned.map(best).map(|(rounds, sum)| (rounds, mean(sum)));
    let gains = |(_, learned): &(usize, f64)| *learned > mean(weighted).max(of(0)) + MIN_GAIN;
    let rounds = learned.filter(gains).map(|(rounds, _)| rounds);
    let chosen = if rounds.is_some() {
        Fusion::Learned
    } else if mean(weighted) > of(0) + MIN_GAIN {
        ways[best_of(&all)]
    } else {
        ways[0]
    };
    let ranker = match rounds {
        Some(rounds) => {
            let mut ranker = train(&examples, columns, &all, seed, threads, progress)?;
            ranker.truncate(rounds);
            Some(ranker)
        }
        None => None,
    };
    let measured = json!({
        "queries": judged.len(),
        "metric": format!("ndcg@{MEASURED_AT}"),
        "meaning": of(1),
        "words": of(ways.len() - 1),
        "reciprocal_ranks": of(0),
        "weighted": mean(weighted),
        "learned": learned.map(|(_, ndcg)| ndcg),
    });
    Ok(Fitted { fusion: chosen, ranker, measured })
}

/// A linear score of the first `linear` columns and LambdaMART's trees on it, from the rows of `queries`.
fn train(
    examples: &[Example],
    linear: usize,
    queries: &[usize],
    seed: u64,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Ensemble> {
    let mut matrix = Csr { indptr: vec![0], ..Csr::default() };
    let (mut grades, mut starts, mut groups) = (Vec::new(), vec![0], Vec::new());
    for &query in queries {
        progress.check()?;
        let example = &examples[query];
        for features in &example.learned {
            matrix.columns = features.len();
            for (column, &value) in (0..).zip(features).filter(|(_, value)| **value != 0.0) {
                memory::push(&mut matrix.indices, column)?;
                memory::push(&mut matrix.values, value)?;
            }
            matrix.indptr.push(matrix.indices.len() as u64);
        }
        grades.extend(&example.grades);
        starts.push(grades.len());
        let rows = &example.learned;
        let rows = Array2::from_shape_fn((rows.len(), linear), |(row, column)| f64::from(rows[row][column]));
        groups.push(Group::new(rows, &example.grades));
    }
    let mut start = vec![0.0; linear];
    start.iter_mut().zip(START).for_each(|(weight, start)| *weight = start);
    let weights = super::linear::fit(&groups, &start, progress)?;
    let score = Ensemble { linear: weights.iter().map(|&weight| weight as f32).collect(), ..Ensemble::default() };
    let rows = queries.iter().flat_map(|&query| &examples[query].learned);
    let base: Vec<f32> = rows.map(|features| score.score(features)).collect();
    let features = Features { matrix, categories: Vec::new() };
    let binning = Binning::learn(&features, None, threads, progress)?;
    let binned = binning.apply(&features, threads, progress)?;
    let ranks = Ranks { grades: &grades, starts: &starts, base: Some(&base) };
    let fit = |signal: &Signal, _| Boosting::fit_ranks(&binned, ranks, &OPTIONS, seed, signal);
    let boosting = jobs(1, threads, progress, ("trees", 0), fit)?.pop();
    let boosting = boosting.ok_or_else(|| Error::Internal("a training gave nothing".into()))?;
    let trees = Ensemble::of(&boosting, &binning);
    let trees = trees.ok_or_else(|| Error::Internal("a ranking cannot be stored".into()))?;
    Ok(Ensemble { linear: score.linear, ..trees })
}
