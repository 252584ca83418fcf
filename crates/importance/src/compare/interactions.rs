//! Comparison of a recommender trained with and without weights.

use bytes::Bytes;
use serde_json::Value;

use super::comparison::{Comparison, Repeats, check_weights};
use evaluation::{Bootstrap, Candidates, Cases, Catalogue, Metric, MetricSet, Protocol, Segments, evaluate, summarise};
use interactions::Interactions;
use recommendation::{Algorithm, Model, Training, train};
use runtime::error::{Error, Result};

/// The held-out items of each user.
type Wanted = Vec<(u32, Vec<u32>)>;

const METRICS: [Metric; 3] = [Metric::Ndcg, Metric::Recall, Metric::HitRate];

/// `weights` multiply those of the entries of `interactions.by_user`. `test` has the held-out items of users; without it they are drawn from
/// the interactions. Lists have `k` items.
pub fn compare_recommenders(
    training: &Training,
    weights: &[f32],
    test: Option<&Wanted>,
    algorithm: &dyn Algorithm,
    options: &Value,
    k: usize,
    repeats: &Repeats,
) -> Result<Vec<Comparison>> {
    let Training { interactions, progress, .. } = *training;
    if weights.len() != interactions.by_user.entries() {
        return Err(Error::Internal("weights of other interactions".into()));
    }
    check_weights(weights)?;
    // The latest would be the same for every seed.
    let drawn = Interactions { last_times: None, ..interactions.clone() };
    let weighted = weigh(&drawn, weights);
    let mut pairs = vec![Vec::new(); METRICS.len()];
    for (number, seed) in repeats.each().enumerate() {
        progress.report("seeds", number, repeats.seeds);
        let held_out = drawn.hold_out(repeats.held_out, seed, progress)?;
        let (whole, wanted) = (held_out.training, test.unwrap_or(&held_out.validation));
        let counts = |user: usize, item: u32| whole.by_user.row(user).0.binary_search(&item).is_ok();
        let part = weighted.keep(
            |user, entry| weighted.by_user.values[entry] > 0.0 && counts(user, weighted.by_user.indices[entry]),
            progress,
        )?;
        // Only users known to both models are evaluated.
        let wanted: Wanted =
            wanted.iter().filter(|(user, _)| !part.by_user.row(*user as usize).0.is_empty()).cloned().collect();
        let mut options = options.clone();
        if algorithm.is_stochastic()
            && let Value::Object(map) = &mut options
        {
            map.entry("seed").or_insert_with(|| (seed >> 12).into());
        }
        let unweighted = measure(training, &whole, algorithm, &options, &wanted, k)?;
        let weighted = measure(training, &part, algorithm, &options, &wanted, k)?;
        for (pairs, pair) in pairs.iter_mut().zip(unweighted.into_iter().zip(weighted)) {
            pairs.push(pair);
        }
    }
    progress.report("seeds", repeats.seeds, repeats.seeds);
    Ok(METRICS.iter().zip(&pairs).map(|(metric, pairs)| repeats.summarise(metric.name(), pairs)).collect())
}

fn weigh(interactions: &Interactions, weights: &[f32]) -> Interactions {
    let mut weighted = interactions.clone();
    weighted.by_user.values.iter_mut().zip(weights).for_each(|(value, weight)| *value *= weight);
    weighted
}

/// The metrics of a model trained on `part`.
fn measure(
    training: &Training,
    part: &Interactions,
    algorithm: &dyn Algorithm,
    options: &Value,
    wanted: &Wanted,
    k: usize,
) -> Result<[f64; METRICS.len()]> {
    let progress = training.progress;
    let trained = train(&Training { interactions: part, ..*training }, algorithm, options)?;
    let model = Model::open("a model to compare", Bytes::from(trained.onnx), Bytes::from(trained.data))?;
    let catalogue = Catalogue::of(&model, false, progress)?;
    let cases = Cases::stored(&model, wanted.iter().cloned())?;
    if cases.is_empty() {
        let hint = "Give more interactions, or a test query.";
        return Err(Error::invalid("no user has both training and held-out interactions", hint));
    }
    let protocol = Protocol {
        k,
        exclude_seen: true,
        metrics: METRICS.into_iter().collect::<MetricSet>(),
        candidates: Candidates::Catalogue,
        threads: training.threads,
    };
    let measured = evaluate(&model, &cases, &Segments::default(), &catalogue, &protocol, progress)?;
    let lines = summarise(&measured, protocol.measured(), &Bootstrap::new(0, 0.95, 0)?, training.threads, progress)?;
    Ok(METRICS.map(|metric| lines.iter().find(|line| line.metric == metric).and_then(|line| line.value).unwrap_or(0.0)))
}
