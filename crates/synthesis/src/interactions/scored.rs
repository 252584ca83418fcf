//! Candidates from a recommender: its scores for every user's history, folded in.

use std::ops::Deref;

use serde_json::{Map, Value};

use super::source::{Augmentation, Candidates, Settings, Source, Task};
use interactions::Interactions;
use recommendation::{Model, TopK, Training, Who};
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::options::Options;
use runtime::parallel::for_each_chunk;
use runtime::progress::Unwatched;

/// Users whose scores are in memory at a time, and the maximum number of those scores.
const USERS: usize = 512;
const SCORES: usize = 1 << 24;
const NONE: u32 = u32::MAX;

/// The method `mult_vae`.
pub struct MultVae;

impl Augmentation for MultVae {
    fn name(&self) -> &'static str {
        "mult_vae"
    }

    fn settings(&self, options: &mut Options) -> Result<Settings> {
        let training = options.given("training").cloned().unwrap_or(Value::Null);
        options.record("training", training.clone());
        Ok(Settings { training, ..Settings::default() })
    }

    fn open<'a>(&self, settings: &Settings, task: &Task<'a>) -> Result<Box<dyn Source + 'a>> {
        let model = Held::Trained(Box::new(train(task, &settings.training)?));
        Ok(Box::new(Scored::new(task, model, Scale::Logits)?))
    }
}

/// The method `model`.
pub struct Recommender;

impl Augmentation for Recommender {
    fn name(&self) -> &'static str {
        "model"
    }

    fn needs_model(&self) -> bool {
        true
    }

    fn open<'a>(&self, _settings: &Settings, task: &Task<'a>) -> Result<Box<dyn Source + 'a>> {
        let model = task.model.ok_or_else(|| {
            let hint = "Name a trained recommender, as in model => 'shop', or use method => 'mult_vae' or 'neighbors'.";
            Error::invalid("method \"model\" needs a model", hint)
        })?;
        Ok(Box::new(Scored::new(task, Held::Given(model), Scale::Standard)?))
    }
}

/// A recommender trained here, or the caller's.
enum Held<'a> {
    Trained(Box<Model>),
    Given(&'a Model),
}

impl Deref for Held<'_> {
    type Target = Model;

    fn deref(&self) -> &Model {
        match self {
            Self::Trained(model) => model,
            Self::Given(model) => model,
        }
    }
}

/// The scale of a recommender's scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scale {
    /// Logits: a user's `z` is the log-probability `s − ln Σ_i exp s_i` over all items.
    Logits,
    /// Any ranking score: a user's `z` is `(s − mean) / standard deviation` over the items.
    Standard,
}

struct Scored<'a> {
    interactions: &'a Interactions,
    model: Held<'a>,
    scale: Scale,
    /// [items]: index in the model.
    numbers: Vec<u32>,
}

/// Running count, mean, and sum of squared deviations (Welford 1962).
#[derive(Clone, Copy, Default)]
struct Moments(f64, f64, f64);

impl Moments {
    fn with(self, score: f32) -> Self {
        let Self(n, mean, squares) = self;
        let from_mean = f64::from(score) - mean;
        let mean = mean + from_mean / (n + 1.0);
        Self(n + 1.0, mean, squares + from_mean * (f64::from(score) - mean))
    }

    /// Mean and standard deviation.
    fn finish(self) -> (f64, f64) {
        (self.1, (self.2 / self.0.max(1.0)).sqrt())
    }
}

/// Standardizes the best of scores with these moments. Empty if all scores are equal.
fn standardized(best: TopK, moments: Moments) -> Vec<(f32, u32)> {
    let (mean, deviation) = moments.finish();
    if !(deviation > 0.0 && deviation.is_finite()) {
        return Vec::new();
    }
    let mut list = best.into_sorted();
    list.iter_mut().for_each(|(score, _)| *score = ((f64::from(*score) - mean) / deviation) as f32);
    list
}

/// Trains a Mult-VAE on the task's interactions.
fn train(task: &Task, options: &Value) -> Result<Model> {
    let mut options = match options {
        Value::Null => Map::new(),
        Value::Object(options) => options.clone(),
        other => {
            let hint = "Give an object of options of mult_vae, as in {\"epochs\": 20}.";
            return Err(Error::argument("option \"training\"", other, hint));
        }
    };
    options.entry("seed").or_insert(task.seed.into());
    let training = Training::new(task.interactions, task.threads, task.progress);
    let files = recommendation::train(&training, recommendation::algorithm("mult_vae")?, &Value::Object(options))?;
    Model::open("mult_vae", files.onnx.into(), files.data.into())
}

impl<'a> Scored<'a> {
    fn new(task: &Task<'a>, model: Held<'a>, scale: Scale) -> Result<Self> {
        let mut numbers = Vec::new();
        memory::reserve(&mut numbers, task.interactions.items())?;
        for (n, id) in task.interactions.item_ids.iter().enumerate() {
            if n % 1024 == 0 {
                task.progress.check()?;
            }
            numbers.push(model.item_ids().find(id).unwrap_or(NONE));
        }
        Ok(Self { interactions: task.interactions, model, scale, numbers })
    }

    /// The model's scores of its items for a user; `None` if it knows none of the user's items. Runs on a helper
    /// thread.
    fn scores(&self, user: u32) -> Result<Option<Vec<f32>>> {
        let (items, weights) = self.interactions.by_user.row(user as usize);
        let known = items.iter().zip(weights).filter_map(|(&item, &weight)| {
            Some(self.numbers[item as usize]).filter(|&number| number != NONE).map(|number| (number, weight))
        });
        // The model's numbers ascend as the ids do, which both sort alike.
        let (items, weights): (Vec<u32>, Vec<f32>) = known.unzip();
        if items.is_empty() {
            return Ok(None);
        }
        let mut scores = self.model.score_all(Who::History { items: &items, weights: &weights }, &Unwatched)?;
        if self.scale == Scale::Logits {
            let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = scores.iter().map(|&s| f64::from(s - most).exp()).sum();
            let shift = most + sum.ln() as f32;
            scores.iter_mut().for_each(|s| *s -= shift);
        }
        Ok(Some(scores))
    }

    /// Whether a pair exists or was rejected, and so must not be made.
    fn exists(&self, user: u32, item: u32) -> bool {
        let interactions = self.interactions;
        [&interactions.by_user, &interactions.rejected]
            .into_iter()
            .any(|matrix| matrix.row(user as usize).0.binary_search(&item).is_ok())
    }
}

impl Source for Scored<'_> {
    fn of_users(&self, task: &Task, asked: &[(u32, usize)]) -> Result<Candidates> {
        let mut lists = memory::filled(Vec::new(), asked.len())?;
        for_each_chunk(
            &mut lists,
            1,
            task.threads,
            task.progress,
            || (),
            |(), number, list| {
                let (user, count) = asked[number];
                let Some(scores) = self.scores(user)? else { return Ok(()) };
                let moments = scores.iter().fold(Moments::default(), |moments, &s| moments.with(s));
                let mut best = TopK::new(count);
                for (&number, item) in self.numbers.iter().zip(0u32..).filter(|&(&number, _)| number != NONE) {
                    let z = scores[number as usize];
                    if z > best.threshold() && !self.exists(user, item) {
                        best.push(z, item);
                    }
                }
                list[0] = match self.scale {
                    Scale::Logits => best.into_sorted(),
                    Scale::Standard => standardized(best, moments),
                };
                Ok(())
            },
        )?;
        Ok(lists)
    }

    fn of_items(&self, task: &Task, asked: &[(u32, usize)]) -> Result<Candidates> {
        let Task { interactions, threads, progress, .. } = *task;
        let mut columns = Vec::new();
        memory::reserve(&mut columns, asked.len())?;
        columns.extend(asked.iter().map(|&(_, count)| (TopK::new(count), Moments::default())));
        let users: Vec<u32> = (0..interactions.users() as u32)
            .filter(|&user| !interactions.by_user.row(user as usize).0.is_empty())
            .collect();
        let together = (SCORES / asked.len().max(1)).clamp(1, USERS);
        for users in users.chunks(together) {
            // [users, asked]; empty where the model has nothing to say.
            let mut rows = memory::filled(Vec::new(), users.len())?;
            for_each_chunk(
                &mut rows,
                1,
                threads,
                progress,
                || (),
                |(), number, row| {
                    if let Some(scores) = self.scores(users[number])? {
                        let of = |&(item, _): &(u32, usize)| {
                            scores.get(self.numbers[item as usize] as usize).copied().unwrap_or(f32::NAN)
                        };
                        row[0] = asked.iter().map(of).collect();
                    }
                    Ok(())
                },
            )?;
            for_each_chunk(
                &mut columns,
                64,
                threads,
                progress,
                || (),
                |(), number, columns| {
                    for (at, (heap, moments)) in (number * 64..).zip(columns) {
                        for (row, &user) in rows.iter().zip(users) {
                            let Some(&score) = row.get(at).filter(|score| score.is_finite()) else { continue };
                            *moments = moments.with(score);
                            if score > heap.threshold() && !self.exists(user, asked[at].0) {
                                heap.push(score, user);
                            }
                        }
                    }
                    Ok(())
                },
            )?;
        }
        Ok(columns.into_iter().map(|(best, moments)| standardized(best, moments)).collect())
    }
}
