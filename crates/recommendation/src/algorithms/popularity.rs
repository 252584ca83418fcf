//! The same items for everyone: those with the most users, or the greatest sum of weights.
//!
//! `score(i) = |{u : (u, i) observed}|`, or `Σ_u w_ui` with `count = weight`. With `half_life = h`, in days, each term is worth
//! `2^(−age / h)`, where the newest interaction of all has age 0. No paper: the baseline every other must beat.
//!
//! Time is one pass over the interactions, memory 8 bytes an item.

use serde_json::{Map, Value};

use crate::algorithm::Algorithm;
use crate::ranker::{Query, Ranker};
use crate::training::{Parts, Training, history_graph};
use inner_products::Scored;
use interactions::Interactions;
use onnx::stored::{DataWriter, Files};
use runtime::error::{Error, Result};
use runtime::options::Options;
use runtime::progress::Progress;

/// Microseconds.
const DAY: f64 = 24.0 * 3600.0 * 1e6;

/// Interactions between two looks at progress.
const CHECK_EVERY: usize = 1 << 20;

/// Each interaction's worth by its age.
fn fading(interactions: &Interactions, half_life: f32) -> Result<impl Fn(usize) -> f64> {
    let Some(times) = &interactions.last_times else {
        return Err(Error::MissingColumn {
            column: "ts".into(),
            found: "no time, which the option half_life needs".into(),
        });
    };
    if times.contains(&i64::MIN) {
        let hint = "Leave out rows whose ts is null, or leave out the option.";
        return Err(Error::invalid("option \"half_life\" needs the time of every interaction", hint));
    }
    let newest = times.iter().copied().max().unwrap_or_default();
    if newest == i64::MAX {
        return Err(Error::InfiniteTime { column: "ts", row: None });
    }
    let rate = 1.0 / (DAY * f64::from(half_life));
    // The difference of two times may not fit their type.
    Ok(move |entry: usize| (-(i128::from(newest) - i128::from(times[entry])) as f64 * rate).exp2())
}

/// The sum over each item's interactions of `worth(entry, weight)`.
fn sums(training: &Training, worth: impl Fn(usize, f32) -> f64) -> Result<Vec<f32>> {
    let matrix = &training.interactions.by_user;
    let mut sums = runtime::memory::filled(0f64, matrix.columns)?;
    for (entry, (&item, &weight)) in matrix.indices.iter().zip(&matrix.values).enumerate() {
        if entry % CHECK_EVERY == 0 {
            training.progress.check()?;
        }
        sums[item as usize] += worth(entry, weight);
    }
    Ok(sums.into_iter().map(|sum| sum as f32).collect())
}

/// `popularity` in SQL.
pub struct Popularity;

impl Algorithm for Popularity {
    fn name(&self) -> &'static str {
        "popularity"
    }

    fn is_stochastic(&self) -> bool {
        false
    }

    fn is_component(&self) -> bool {
        false
    }

    fn train(&self, training: &Training, options: Options) -> Result<Parts> {
        train(training, options)
    }

    fn open(&self, _: &Files, _: &Value, _: usize, _: usize) -> Result<Box<dyn Ranker>> {
        Ok(Box::new(NothingPersonal))
    }
}

fn train(training: &Training, mut options: Options) -> Result<Parts> {
    let by_weight = options.choice("count", &[("users", false), ("weight", true)])?;
    let half_life = options.optional_float("half_life", 1e-3, 1e6)?;
    let options = options.finish()?;
    let value = |weight: f32| if by_weight { f64::from(weight) } else { 1.0 };
    let popularity = match half_life {
        None => sums(training, |_, weight| value(weight))?,
        Some(half_life) => {
            let fading = fading(training.interactions, half_life)?;
            sums(training, |entry, weight| value(weight) * fading(entry))?
        }
    };

    let mut graph = history_graph("popularity", popularity.len());
    // One small tensor in front keeps the padding of the large one out of the graph's name.
    let scale = graph.float("scale", 1.0);
    let scores = graph.floats("popularity", &[popularity.len()], &popularity);
    graph.node_to("Mul", &[&scores, &scale], Vec::new(), &["scores"]);
    Ok(Parts { options, graph, data: DataWriter::default(), figures: Map::new(), popularity })
}

/// Ranks no item: the model fills the list by popularity.
struct NothingPersonal;

impl Ranker for NothingPersonal {
    fn rank(&self, _: &Query, _: usize, _: &dyn Progress) -> Result<Vec<(f32, u32)>> {
        Ok(Vec::new())
    }

    fn score_all(&self, _: &Query, scores: &mut [f32], _: &dyn Progress) -> Result<()> {
        scores.fill(0.0);
        Ok(())
    }

    fn similarity(&self, _: u32, _: u32) -> Result<f32> {
        Ok(0.0)
    }

    fn similar_items(&self, _: u32, _: usize, _: &dyn Progress) -> Result<Vec<Scored>> {
        Err(Error::Unsupported {
            algorithm: "popularity",
            what: "similar items",
            hint: "Train a model with the algorithm item_knn or ials.".into(),
        })
    }
}
