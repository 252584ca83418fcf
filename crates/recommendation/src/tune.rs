//! Searching for an algorithm's options: each combination of a grid is trained on a part of the interactions, and judged by
//! the places it gives to those held out.
//!
//! The combinations come in an order drawn by chance, so that what was tried when the time is up is a random search
//! (Bergstra, Bengio, JMLR 2012). Where the first trial shows that the time will not do for all, the others start on a part of the
//! users, and the best third of each round goes on with three times as many: successive halving (Jamieson, Talwalkar,
//! AISTATS 2016) with η = 3.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Map, Value};

use super::algorithm::Algorithm;
use super::model::Model;
use super::quality::Metric;
use super::request::Request;
use super::train::train;
use super::training::Training;
use interactions::{HeldOut, Interactions};
use runtime::draw::mix;
use runtime::error::{Error, Result};
use runtime::progress::Progress;

/// Combinations of a grid at most.
const MOST_TRIALS: usize = 10_000;
/// Users whose lists are in memory at a time.
const BATCH: usize = 4096;
/// How much fewer combinations, and more users, each round has.
const ETA: usize = 3;
const MOST_ROUNDS: usize = 4;

/// How to search.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// What the best trial has most of.
    pub metric: Metric,
    /// Length of the lists judged.
    pub k: usize,
    /// When this is used up the search ends; the first trial always does.
    pub budget: Duration,
    /// Share of each user's interactions that is held out, between 0 and 1.
    pub holdout: f64,
    pub seed: u64,
}

/// One combination of options, and how good it was.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Those of the grid.
    pub options: Value,
    pub ndcg: f64,
    pub recall: f64,
    /// What training and judging took.
    pub seconds: f64,
    /// Share of the users it was trained on and judged by: below 1 where it fell behind in an early round.
    pub share: f64,
    /// Why these options could not be trained with; their values are then 0.
    pub failure: Option<String>,
}

impl Trial {
    pub fn value(&self, metric: Metric) -> f64 {
        match metric {
            Metric::Ndcg => self.ndcg,
            Metric::Recall => self.recall,
        }
    }
}

/// Tries the combinations of `grid`, an object with an array of alternatives or a single value for each option. The best
/// first: those tried on all users before those that were not.
///
/// Each trial's values depend on its options, the share of the users, the seed and the interactions alone; how many trials there
/// are depends on the time they take.
pub fn tune(training: &Training, algorithm: &dyn Algorithm, grid: &Value, search: &Search) -> Result<Vec<Trial>> {
    let Training { interactions, progress, .. } = *training;
    let start = Instant::now();
    check(search)?;
    let axes = axes(grid)?;
    check_values(training, algorithm, &axes)?;
    let combinations = combinations(&axes, search.seed)?;
    let held = interactions.hold_out(search.holdout, search.seed, progress)?;
    if held.validation.is_empty() {
        return Err(Error::EmptySource("of a user with two items, of which one could be held out".into()));
    }
    let deadline = start + search.budget;
    let mut runner = Runner { training, algorithm, search, done: 0, total: combinations.len() };

    let Some(first) = combinations.first() else { return Ok(Vec::new()) };
    let mut trials = vec![runner.run(first, &held.training, &held.validation, 1.0, None)?];
    let (first, now) = (Duration::from_secs_f64(trials[0].seconds), Instant::now());
    let left = deadline.saturating_duration_since(now);
    let mut waiting: Vec<&Value> = combinations[1..].iter().collect();
    let rounds = rounds(waiting.len(), first, left);
    for round in 0..rounds {
        let share = (ETA as f64).powi(-((rounds - 1 - round) as i32));
        let part = (share < 1.0).then(|| sampled(&held, share, search.seed, progress)).transpose()?;
        let part = part.as_ref().unwrap_or(&held);
        // A round that takes longer than expected leaves the later ones their time.
        let until = now + left.mul_f64((round + 1) as f64 / rounds as f64);
        let mut tried = Vec::new();
        for options in waiting.drain(..) {
            if part.validation.is_empty() || Instant::now() >= until {
                break;
            }
            match runner.run(options, &part.training, &part.validation, share, Some(deadline)) {
                Ok(trial) => tried.push((options, trial)),
                // The time was up, which is no one's request.
                Err(Error::Canceled) if Instant::now() >= deadline => progress.check()?,
                Err(error) => return Err(error),
            }
        }
        let value = |trial: &Trial| trial.value(search.metric);
        tried.sort_by(|(_, a), (_, b)| value(b).total_cmp(&value(a)));
        let on = if round + 1 < rounds { tried.len().div_ceil(ETA) } else { 0 };
        waiting = tried.iter().take(on).map(|(options, _)| *options).collect();
        // Those that go on have a better trial to come, unless there is no time for it.
        trials.extend(tried.into_iter().map(|(_, trial)| trial));
    }
    Ok(sorted(trials, search.metric))
}

/// The last trial of each combination; of all users before of some, then the best first.
fn sorted(trials: Vec<Trial>, metric: Metric) -> Vec<Trial> {
    let mut last: Vec<Trial> = Vec::with_capacity(trials.len());
    for trial in trials {
        match last.iter_mut().find(|earlier| earlier.options == trial.options) {
            Some(earlier) => *earlier = Trial { seconds: earlier.seconds + trial.seconds, ..trial },
            None => last.push(trial),
        }
    }
    last.sort_by(|a, b| b.share.total_cmp(&a.share).then(b.value(metric).total_cmp(&a.value(metric))));
    last
}

/// How many rounds make `trials` of which one takes `each` fit into `left`.
fn rounds(trials: usize, each: Duration, left: Duration) -> usize {
    let cost = |rounds: usize| trials as f64 * each.as_secs_f64() * rounds as f64 / (ETA.pow(rounds as u32 - 1)) as f64;
    (1..MOST_ROUNDS).find(|&rounds| cost(rounds) <= left.as_secs_f64()).unwrap_or(MOST_ROUNDS)
}

fn check(search: &Search) -> Result<()> {
    if search.k == 0 {
        return Err(Error::argument("k", search.k, "It is the length of the lists judged: 20, say."));
    }
    if search.budget.is_zero() {
        return Err(Error::invalid("budget must be longer than 0", "Give an interval such as '10 minutes'."));
    }
    if !(search.holdout > 0.0 && search.holdout < 1.0) {
        let hint = "It is the share of each user's interactions that is held out, between 0 and 1: 0.1, say.";
        return Err(Error::argument("holdout", search.holdout, hint));
    }
    Ok(())
}

/// Each option's name and alternatives.
fn axes(grid: &Value) -> Result<Vec<(&str, Vec<&Value>)>> {
    let wrong = || {
        let hint = "Give each option an array of alternatives, as in {\"factors\": [32, 64]}.";
        Error::argument("grid", grid, hint)
    };
    let map = grid.as_object().filter(|map| !map.is_empty()).ok_or_else(wrong)?;
    let axes = map.iter().map(|(name, value)| match value {
        Value::Array(values) if values.is_empty() => Err(wrong()),
        Value::Array(values) => {
            let fresh = |&place: &usize| !values[..place].contains(&values[place]);
            Ok((name.as_str(), (0..values.len()).filter(fresh).map(|place| &values[place]).collect()))
        }
        value => Ok((name.as_str(), vec![value])),
    });
    axes.collect()
}

/// Every alternative once, beside the first ones of the other options: a mistake should not wait for hours of training.
fn check_values(training: &Training, algorithm: &dyn Algorithm, axes: &[(&str, Vec<&Value>)]) -> Result<()> {
    for (axis, (_, values)) in axes.iter().enumerate() {
        // The first of all are checked once.
        for place in usize::from(axis > 0)..values.len() {
            let chosen = axes.iter().enumerate().map(|(other, (name, values))| {
                let value = values[if other == axis { place } else { 0 }];
                ((*name).to_owned(), value.clone())
            });
            training.progress.check()?;
            algorithm.check_options(training, &Value::Object(chosen.collect()))?;
        }
    }
    Ok(())
}

/// All of them, in an order drawn from `seed`.
fn combinations(axes: &[(&str, Vec<&Value>)], seed: u64) -> Result<Vec<Value>> {
    let count = axes.iter().try_fold(1usize, |count, (_, values)| count.checked_mul(values.len()));
    let count = count.filter(|&count| count <= MOST_TRIALS).ok_or_else(|| Error::TooLarge {
        what: "the grid".into(),
        needed: count.map_or("more combinations than can be counted".into(), |count| format!("{count} combinations")),
        limit: MOST_TRIALS.to_string(),
        hint: "Give fewer alternatives, further apart.".into(),
    })?;
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by_key(|&number| mix(mix(seed) ^ number as u64));
    let mut all: Vec<Value> = Vec::with_capacity(count);
    for mut number in order {
        let mut options = Map::new();
        for (name, values) in axes {
            options.insert((*name).to_owned(), values[number % values.len()].clone());
            number /= values.len();
        }
        all.push(Value::Object(options));
    }
    Ok(all)
}

/// What was held, of about `share` of the users.
fn sampled(held: &HeldOut, share: f64, seed: u64, progress: &dyn Progress) -> Result<HeldOut> {
    let chosen = |user: usize| (mix(mix(!seed) ^ user as u64) >> 11) as f64 / (1u64 << 53) as f64 <= share;
    match held.training.keep(|user, _| chosen(user), progress) {
        Ok(training) => {
            let validation = held.validation.iter().filter(|(user, _)| chosen(*user as usize)).cloned().collect();
            Ok(HeldOut { training, validation })
        }
        // So few users that none was chosen: nothing to judge by.
        Err(Error::EmptySource(_)) => Ok(HeldOut { training: held.training.clone(), validation: Vec::new() }),
        Err(error) => Err(error),
    }
}

struct Runner<'a> {
    training: &'a Training<'a>,
    algorithm: &'a dyn Algorithm,
    search: &'a Search,
    done: usize,
    total: usize,
}

impl Runner<'_> {
    /// Trains `options` on `interactions` and judges by `validation`. `Error::Canceled` when the deadline passes meanwhile.
    fn run(
        &mut self,
        options: &Value,
        interactions: &Interactions,
        validation: &[(u32, Vec<u32>)],
        share: f64,
        deadline: Option<Instant>,
    ) -> Result<Trial> {
        self.training.progress.report("options tried", self.done, self.total);
        let start = Instant::now();
        let progress = Timed { whole: self.training.progress, deadline };
        let training = Training { interactions, previous: None, progress: &progress, ..*self.training };
        let judged = train(&training, self.algorithm, options).and_then(|trained| {
            let model = Model::open(self.algorithm.name(), Bytes::from(trained.onnx), Bytes::from(trained.data))?;
            self.judge(&model, validation, &progress)
        });
        let ((ndcg, recall), failure) = match judged {
            Ok(values) => (values, None),
            // Options that do not go together, or diverge: no reason to throw the other trials away.
            Err(error @ (Error::Invalid { .. } | Error::TooLarge { .. })) => ((0.0, 0.0), Some(error.to_string())),
            Err(error) => return Err(error),
        };
        self.done = (self.done + 1).min(self.total);
        self.training.progress.report("options tried", self.done, self.total);
        let seconds = start.elapsed().as_secs_f64();
        Ok(Trial { options: options.clone(), ndcg, recall, seconds, share, failure })
    }

    /// NDCG and recall, averaged over the users.
    fn judge(&self, model: &Model, validation: &[(u32, Vec<u32>)], progress: &dyn Progress) -> Result<(f64, f64)> {
        let k = self.search.k;
        let request = Request { exclude_seen: true, ..Request::new(k) };
        let (mut ndcg, mut recall) = (0.0, 0.0);
        for batch in validation.chunks(BATCH) {
            let users: Vec<u32> = batch.iter().map(|(user, _)| *user).collect();
            let lists = model.recommend_users(&users, &request, self.training.threads, progress)?;
            for ((_, relevant), list) in batch.iter().zip(lists) {
                let is_hit = |item: u32| relevant.binary_search(&item).is_ok();
                let places = || list.iter().enumerate().filter(|(_, r)| is_hit(r.item)).map(|(place, _)| place);
                ndcg += Metric::Ndcg.of(places(), relevant.len(), k);
                recall += Metric::Recall.of(places(), relevant.len(), k);
            }
        }
        let users = validation.len().max(1) as f64;
        Ok((ndcg / users, recall / users))
    }
}

/// The work of one trial: stopped at the deadline too, its phases not reported.
struct Timed<'a> {
    whole: &'a dyn Progress,
    deadline: Option<Instant>,
}

impl Progress for Timed<'_> {
    fn check(&self) -> Result<()> {
        self.whole.check()?;
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => Err(Error::Canceled),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    fn ials() -> &'static dyn Algorithm {
        crate::algorithm("ials").unwrap()
    }

    use super::*;
    use interactions::{Id, InteractionsBuilder};
    use runtime::progress::Unwatched;

    /// Users who like every sixth item, and some noise.
    fn interactions(users: i64) -> Interactions {
        let mut builder = InteractionsBuilder::new();
        for user in 0..users {
            for n in 0..12i64 {
                let x = mix((user * 12 + n) as u64);
                let item = if x.is_multiple_of(4) { (x >> 8) as i64 % 60 } else { (x >> 8) as i64 % 10 * 6 + user % 6 };
                builder.push(Id::Int(1000 + user), Id::Int(100 + item), 1.0, None).unwrap();
            }
        }
        builder.finish().unwrap()
    }

    fn training(interactions: &Interactions) -> Training<'_> {
        Training::new(interactions, 2, &Unwatched)
    }

    fn search(budget: Duration) -> Search {
        Search { metric: Metric::Ndcg, k: 10, budget, holdout: 0.2, seed: 3 }
    }

    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn a_trial_that_diverges_is_the_last_and_says_why() {
        let data = interactions(100);
        let grid = json!({"learning_rate": 0.05, "regularization": [0.01, 1000], "iterations": 20, "factors": 4});
        let bpr = crate::algorithm("bpr").unwrap();
        let trials = tune(&training(&data), bpr, &grid, &search(LONG)).unwrap();
        let failures: Vec<Option<&str>> = trials.iter().map(|trial| trial.failure.as_deref()).collect();
        assert_eq!(failures, [None, Some("the training diverged")]);
    }

    #[test]
    fn every_combination_is_tried_and_the_best_comes_first() {
        let data = interactions(300);
        let grid = json!({"factors": [1, 12, 12], "iterations": [4, 8], "seed": 1});
        let trials = tune(&training(&data), ials(), &grid, &search(LONG)).unwrap();
        assert_eq!(trials.len(), 4);
        assert!(trials.windows(2).all(|w| w[0].ndcg >= w[1].ndcg));
        assert!(trials.iter().all(|t| t.share == 1.0 && t.seconds > 0.0 && t.failure.is_none() && t.recall > 0.0));
        assert_eq!(trials[0].options["factors"], 12);
        let again = tune(&training(&data), ials(), &grid, &search(LONG)).unwrap();
        assert!(trials.iter().zip(&again).all(|(a, b)| a.options == b.options && a.ndcg == b.ndcg));
    }

    #[test]
    fn without_time_one_trial_is_left() {
        let data = interactions(300);
        let grid = json!({"factors": [2, 4, 8, 16], "iterations": [2, 3, 4]});
        let trials = tune(&training(&data), ials(), &grid, &search(Duration::from_nanos(1))).unwrap();
        assert_eq!((trials.len(), trials[0].share), (1, 1.0));
    }

    #[test]
    fn where_the_time_is_short_most_are_tried_on_few_users() {
        let data = interactions(3000);
        let grid = json!({"factors": [1, 2, 3, 4, 5, 6, 7, 8], "regularization": [0.001, 0.003, 0.01, 0.03, 0.1]});
        let one = tune(&training(&data), ials(), &json!({"factors": 6}), &search(LONG)).unwrap();
        let budget = Duration::from_secs_f64(one[0].seconds * 14.0);
        let trials = tune(&training(&data), ials(), &grid, &search(budget)).unwrap();
        assert!(trials.windows(2).all(|w| w[0].share >= w[1].share));
        assert!(trials.iter().any(|t| t.share == 1.0) && trials.iter().any(|t| t.share < 1.0), "{trials:?}");
        let mut options: Vec<String> = trials.iter().map(|t| t.options.to_string()).collect();
        options.sort_unstable();
        options.dedup();
        assert_eq!(options.len(), trials.len());
    }

    #[test]
    fn the_rounds_fit_the_time() {
        let rounds = |trials, left| rounds(trials, Duration::from_secs(1), Duration::from_secs(left));
        assert_eq!([rounds(10, 10), rounds(10, 7), rounds(12, 4), rounds(12, 2), rounds(12, 0)], [1, 2, 3, 4, 4]);
    }

    #[test]
    fn what_cannot_be_searched_is_refused_at_once() {
        let data = interactions(30);
        let tune = |grid: Value, search: &Search| tune(&training(&data), ials(), &grid, search).map(|t| t.len());
        let ok = json!({"factors": [2]});
        for grid in [json!({}), json!(null), json!([1]), json!({"factors": []})] {
            assert!(matches!(tune(grid, &search(LONG)), Err(Error::Invalid { .. })));
        }
        let unknown = tune(json!({"factors": [2, 4], "facters": [2]}), &search(LONG));
        assert!(matches!(unknown, Err(Error::UnknownOption { option, .. }) if option == "facters"));
        let bad = tune(json!({"factors": [2, 4], "iterations": [2, -4]}), &search(LONG)).unwrap_err();
        assert_eq!(bad.to_string(), "invalid value for option \"iterations\": -4");
        assert!(tune(ok.clone(), &search(Duration::ZERO)).is_err());
        assert!(tune(ok.clone(), &Search { k: 0, ..search(LONG) }).is_err());
        assert!(tune(ok.clone(), &Search { holdout: f64::NAN, ..search(LONG) }).is_err());
        let many: Vec<usize> = (1..102).collect();
        let many = tune(json!({"factors": many, "iterations": many}), &search(LONG));
        assert!(matches!(many, Err(Error::TooLarge { .. })));
        assert_eq!(tune(ok, &search(LONG)).unwrap(), 1);
    }

    #[test]
    fn users_with_one_item_cannot_judge() {
        let mut builder = InteractionsBuilder::new();
        (0..5i64).for_each(|user| builder.push(Id::Int(user), Id::Int(user % 2), 1.0, None).unwrap());
        let data = builder.finish().unwrap();
        let result = tune(&training(&data), ials(), &json!({"factors": [2, 3]}), &search(LONG));
        assert!(matches!(result, Err(Error::EmptySource(_))));
    }

    #[test]
    fn a_search_stops_when_it_is_told_to() {
        struct StopAfter(std::cell::Cell<usize>);
        impl Progress for StopAfter {
            fn check(&self) -> Result<()> {
                self.0.set(self.0.get().saturating_sub(1));
                if self.0.get() == 0 { Err(Error::Canceled) } else { Ok(()) }
            }
        }
        let data = interactions(300);
        for looks in [1, 10, 100] {
            let progress = StopAfter(looks.into());
            let training = Training { progress: &progress, ..training(&data) };
            let result = tune(&training, ials(), &json!({"factors": [20, 40, 60]}), &search(LONG));
            assert!(matches!(result, Err(Error::Canceled)), "{looks}");
        }
    }
}
