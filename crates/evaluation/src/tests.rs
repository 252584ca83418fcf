//! Whole evaluations against the definitions, written down anew in the plainest way.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde_json::json;

use super::metrics::Values;
use super::*;
use interactions::{Id, Interactions, InteractionsBuilder};
use recommendation::{Model, Request, Training, Who, train};
use runtime::draw::mix;
use runtime::error::{Error, Result};
use runtime::progress::{Progress, Unwatched};

const K: usize = 5;

fn name(kind: char, n: u64) -> String {
    format!("{kind}{n:03}")
}

/// (user, item) from a fixed recipe: item 0 is taken most, users differ in how much they take.
fn pairs() -> Vec<(u64, u64)> {
    let draw = |r: u64| {
        let x = mix(r);
        let user = (x % 60) * (x >> 7 & 1) + x % 11;
        (user, (x >> 20) % 80 * ((x >> 40) % 80) / 80)
    };
    (0..1500).map(draw).collect::<BTreeSet<_>>().into_iter().collect()
}

fn is_test(pair: &(u64, u64)) -> bool {
    mix(pair.0 << 32 | pair.1).is_multiple_of(4)
}

fn interactions(pairs: impl Iterator<Item = (u64, u64)>) -> Interactions {
    let mut builder = InteractionsBuilder::new();
    for (user, item) in pairs {
        builder.push(Id::Text(&name('u', user)), Id::Text(&name('i', item)), 1.0, None).unwrap();
    }
    builder.finish().unwrap()
}

fn training(interactions: &Interactions) -> Training<'_> {
    Training::new(interactions, 2, &Unwatched)
}

fn model(pairs: impl Iterator<Item = (u64, u64)>, algorithm: &str) -> Model {
    let options = if algorithm == "ials" { json!({"factors": 8, "iterations": 4}) } else { json!({}) };
    let trained =
        train(&training(&interactions(pairs)), recommendation::algorithm(algorithm).unwrap(), &options).unwrap();
    Model::open("m", Bytes::from(trained.onnx), Bytes::from(trained.data)).unwrap()
}

fn trained(algorithm: &str) -> Model {
    model(pairs().into_iter().filter(|pair| !is_test(pair)), algorithm)
}

fn cases_for<const N: usize>(models: [&Model; N], terms: Terms) -> ([Cases; N], Counts) {
    let mut builder = CasesBuilder::new(models, terms, false, &Unwatched);
    for (user, item) in pairs().iter().filter(|pair| is_test(pair)) {
        builder.push(&name('u', *user), &name('i', *item)).unwrap();
    }
    builder.finish().unwrap()
}

fn protocol(metrics: MetricSet) -> Protocol<'static> {
    Protocol { k: K, exclude_seen: true, metrics, candidates: Candidates::Catalogue, threads: 2 }
}

const SEEN: Terms = Terms { exclude_seen: true, newcomers: false };

fn measured(model: &Model, cases: &Cases, by: By, protocol: &Protocol) -> Measured {
    let catalogue = Catalogue::of(model, protocol.wants_audiences(), &Unwatched).unwrap();
    let segments = Segments::of(model, cases, &catalogue, by).unwrap();
    evaluate(model, cases, &segments, &catalogue, protocol, &Unwatched).unwrap()
}

fn lines(model: &Model, cases: &Cases, by: By, protocol: &Protocol) -> Vec<Line> {
    let measured = measured(model, cases, by, protocol);
    let bootstrap = Bootstrap::new(50, 0.9, 1).unwrap();
    summarise(&measured, protocol.measured(), &bootstrap, 2, &Unwatched).unwrap()
}

fn value(lines: &[Line], segment: &str, metric: Metric) -> f64 {
    lines.iter().find(|l| l.segment == segment && l.metric == metric).unwrap().value.unwrap()
}

fn close(a: f64, b: f64, what: &str) {
    assert!((a - b).abs() < 1e-9, "{what}: {a} {b}");
}

/// (user, items held out), (item → users), both of what the model knows.
type Questions = (BTreeMap<u32, BTreeSet<u32>>, Vec<BTreeSet<u32>>);

fn questions(model: &Model) -> Questions {
    let mut relevant: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    for (user, item) in pairs().iter().filter(|pair| is_test(pair)) {
        let found = (model.user_ids().find(&name('u', *user)), model.item_ids().find(&name('i', *item)));
        if let (Some(user), Some(item)) = found {
            relevant.entry(user).or_default().insert(item);
        }
    }
    let mut audience = vec![BTreeSet::new(); model.item_ids().len()];
    for user in 0..model.user_ids().len() as u32 {
        for &item in model.history(user).unwrap().0 {
            audience[item as usize].insert(user);
        }
    }
    (relevant, audience)
}

fn list(model: &Model, user: u32, k: usize) -> Vec<u32> {
    let request = Request { exclude_seen: true, ..Request::new(k) };
    model.recommend(Who::User(user), &request, &Unwatched).unwrap().into_iter().map(|r| r.item).collect()
}

#[test]
fn every_metric_is_its_definition() {
    for algorithm in ["popularity", "item_knn", "ials"] {
        let model = trained(algorithm);
        let (relevant, audience) = questions(&model);
        let ([cases], counts) = cases_for([&model], SEEN);
        assert_eq!(cases.len(), relevant.len());
        assert_eq!(
            counts.seen + counts.unknown_items + counts.unknown_users,
            counts.rows - cases.relevant.items().len()
        );
        let lines = lines(&model, &cases, By::default(), &protocol(MetricSet::all()));
        let (n, users, items) = (relevant.len() as f64, model.user_ids().len() as f64, audience.len());
        let (mut hits, mut accuracy, mut auc, mut novelty, mut diversity) = (0.0, 0.0, 0.0, 0.0, 0.0);
        let (mut listed, mut taken, mut mrr) = (0.0, 0.0, 0.0);
        let mut exposure = vec![0u32; items];
        for (&user, wanted) in &relevant {
            let top = list(&model, user, K);
            let history = model.history(user).unwrap().0;
            let hit = |item: &&u32| wanted.contains(item);
            hits += f64::from(top.iter().any(|item| wanted.contains(item)));
            mrr += top.iter().position(|item| wanted.contains(item)).map_or(0.0, |p| 1.0 / (p + 1) as f64);
            let right = top.iter().filter(hit).count();
            let candidates = items - history.len();
            let true_negatives = candidates - top.len() - (wanted.len() - right);
            accuracy += (right + true_negatives) as f64 / candidates as f64;
            let popularity = |items: &[u32]| {
                items.iter().map(|&i| audience[i as usize].len() as f64).sum::<f64>() / items.len() as f64
            };
            listed += popularity(&top);
            taken += popularity(history);
            novelty += top.iter().map(|&i| -(audience[i as usize].len() as f64 / users).log2()).sum::<f64>() / K as f64;
            let mut similarity = 0.0;
            for (a, b) in top.iter().enumerate().flat_map(|(n, &a)| top[n + 1..].iter().map(move |&b| (a, b))) {
                let (a, b) = (&audience[a as usize], &audience[b as usize]);
                similarity += a.intersection(b).count() as f64 / ((a.len() * b.len()) as f64).sqrt();
            }
            diversity += 1.0 - similarity / (K * (K - 1) / 2) as f64;
            top.iter().for_each(|&item| exposure[item as usize] += 1);
            // Pairs in the order of the list of everything, ties by score.
            let scores = model.score_all(Who::User(user), &Unwatched).unwrap();
            let all = list(&model, user, items);
            let key = |item: u32| match scores[item as usize] {
                0.0 => (false, audience[item as usize].len() as f32),
                score => (true, score),
            };
            let (mut pairs, mut right) = (0.0, 0.0);
            for (p, &positive) in all.iter().enumerate().filter(|(_, item)| wanted.contains(item)) {
                for (q, &negative) in all.iter().enumerate().filter(|(_, item)| !wanted.contains(item)) {
                    pairs += 1.0;
                    right += if key(positive) == key(negative) { 0.5 } else { f64::from(p < q) };
                }
            }
            auc += right / pairs;
        }
        let expected = [
            (Metric::HitRate, hits / n),
            (Metric::Mrr, mrr / n),
            (Metric::Accuracy, accuracy / n),
            (Metric::Auc, auc / n),
            (Metric::Novelty, novelty / n),
            (Metric::Diversity, diversity / n),
            (Metric::PopularityBias, listed / taken - 1.0),
            (Metric::Coverage, exposure.iter().filter(|&&x| x > 0).count() as f64 / items as f64),
            (Metric::Gini, metrics::gini(&exposure).unwrap()),
        ];
        for (metric, expected) in expected {
            close(value(&lines, "all", metric), expected, &format!("{algorithm:?} {}", metric.name()));
        }
        // There is nothing to be learned but what is popular.
        assert!(algorithm == "ials" || value(&lines, "all", Metric::Auc) > 0.6, "{algorithm:?}");
        for line in &lines {
            let inside = line.interval.is_some_and(|(low, high)| low <= high);
            assert_eq!(inside, !matches!(line.metric, Metric::Coverage | Metric::Gini), "{line:?}");
        }
    }
}

#[test]
fn long_lists_are_as_diverse_as_their_pairs() {
    let model = trained("item_knn");
    let catalogue = Catalogue::of(&model, true, &Unwatched).unwrap();
    let all: Vec<u32> = (0..catalogue.items() as u32).collect();
    assert!(all.len() > 70);
    let (_, audience) = questions(&model);
    let mut similarity = 0.0;
    for (a, b) in all.iter().flat_map(|&a| all[..a as usize].iter().map(move |&b| (a, b))) {
        let (a, b) = (&audience[a as usize], &audience[b as usize]);
        similarity += a.intersection(b).count() as f64 / ((a.len() * b.len()) as f64).sqrt();
    }
    close(catalogue.diversity(&all), 1.0 - similarity / (all.len() * (all.len() - 1) / 2) as f64, "pairs");
    assert!(catalogue.diversity(&all[..1]).is_nan());
}

#[test]
fn threads_change_nothing() {
    let model = trained("ials");
    let ([cases], _) = cases_for([&model], SEEN);
    let by = By { users: true, items: true };
    let one = lines(&model, &cases, by, &Protocol { threads: 1, ..protocol(MetricSet::all()) });
    let many = lines(&model, &cases, by, &Protocol { threads: 7, ..protocol(MetricSet::all()) });
    assert_eq!(one, many);
}

#[test]
fn segments_part_users_and_relevant_items_by_what_training_had() {
    let model = trained("item_knn");
    let (relevant, audience) = questions(&model);
    let terms = Terms { newcomers: true, ..SEEN };
    let mut builder = CasesBuilder::new([&model], terms, false, &Unwatched);
    for (user, item) in pairs().iter().filter(|pair| is_test(pair)) {
        builder.push(&name('u', *user), &name('i', *item)).unwrap();
    }
    let popular = (0..audience.len() as u32).max_by_key(|&i| audience[i as usize].len()).unwrap();
    let popular = model.item_ids().get(popular).unwrap();
    builder.push("stranger", popular).unwrap();
    let ([cases], _) = builder.finish().unwrap();
    let by = By { users: true, items: true };
    let lines = lines(&model, &cases, by, &protocol(MetricSet::all()));
    // The stranger, and whoever is only in the test, gets what is popular, and is no part of all.
    assert!(value(&lines, "users 0", Metric::HitRate) > 0.0);
    let alone = {
        let ([cases], _) = cases_for([&model], SEEN);
        self::lines(&model, &cases, By::default(), &protocol(MetricSet::all()))
    };
    for metric in Metric::ALL {
        close(value(&lines, "all", metric), value(&alone, "all", metric), metric.name());
    }
    let (mut few, mut recalled) = (0.0, 0.0);
    let (mut askers, mut rare) = (0.0, 0.0);
    for (&user, wanted) in &relevant {
        let top: BTreeSet<u32> = list(&model, user, K).into_iter().collect();
        let recall = |wanted: &BTreeSet<u32>| wanted.intersection(&top).count() as f64 / wanted.len() as f64;
        if (4..=10).contains(&model.history(user).unwrap().0.len()) {
            few += 1.0;
            recalled += recall(wanted);
        }
        let wanted: BTreeSet<u32> =
            wanted.iter().copied().filter(|&i| (4..=10).contains(&audience[i as usize].len())).collect();
        if !wanted.is_empty() {
            askers += 1.0;
            rare += recall(&wanted);
        }
    }
    assert!(few > 3.0 && askers > 3.0);
    close(value(&lines, "users 4-10", Metric::Recall), recalled / few, "users");
    close(value(&lines, "items 4-10", Metric::Recall), rare / askers, "items");
    assert!(lines.iter().all(|l| !(l.segment.starts_with("items") && l.metric.is_of_lists())));
    assert!(By::from_names(["user"]).unwrap_err().hint().unwrap().contains("users, items"));
}

#[test]
fn candidates_are_ranked_among_themselves() {
    for algorithm in ["popularity", "item_knn", "ials"] {
        let model = trained(algorithm);
        let (relevant, audience) = questions(&model);
        let items = audience.len() as u32;
        let mut builder = CasesBuilder::new([&model], SEEN, true, &Unwatched);
        for (user, item) in pairs().iter().filter(|pair| is_test(pair)) {
            builder.push(&name('u', *user), &name('i', *item)).unwrap();
        }
        let mut negatives: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        for &user in relevant.keys() {
            for n in 0..12 {
                let item = (mix(u64::from(user) << 8 | n) % u64::from(items)) as u32;
                let (user_id, item_id) = (model.user_ids().get(user).unwrap(), model.item_ids().get(item).unwrap());
                builder.push_negative(user_id, item_id).unwrap();
                if !relevant[&user].contains(&item) && !model.history(user).unwrap().0.contains(&item) {
                    negatives.entry(user).or_default().insert(item);
                }
            }
            builder.push_negative(model.user_ids().get(user).unwrap(), "unheard of").unwrap();
        }
        let ([cases], counts) = builder.finish().unwrap();
        assert_eq!(counts.unknown_negatives, relevant.len());
        assert!(counts.seen_negatives > 0);
        let protocol = Protocol { candidates: Candidates::Given, ..protocol(MetricSet::all()) };
        let lines = lines(&model, &cases, By::default(), &protocol);
        let (mut reciprocal, mut right, mut users) = (0.0, 0.0, 0.0);
        for (user, others) in &negatives {
            let wanted = &relevant[user];
            let all = list(&model, *user, items as usize);
            let ranked: Vec<u32> = all.into_iter().filter(|i| wanted.contains(i) || others.contains(i)).collect();
            reciprocal += ranked.iter().take(K).position(|i| wanted.contains(i)).map_or(0.0, |p| 1.0 / (p + 1) as f64);
            let hits = ranked.iter().take(K).filter(|i| wanted.contains(i)).count();
            let wrong = ranked.len().min(K) - hits + wanted.len() - hits;
            right += (ranked.len() - wrong) as f64 / ranked.len() as f64;
            users += 1.0;
        }
        close(value(&lines, "all", Metric::Mrr), reciprocal / users, "mrr");
        close(value(&lines, "all", Metric::Accuracy), right / users, "accuracy");
        assert!(lines.iter().all(|l| !l.metric.is_of_lists()));
    }
}

#[test]
fn drawn_negatives_are_new_to_the_user_distinct_and_fixed_by_the_seed() {
    let model = trained("item_knn");
    let other = model_of_fewer_items();
    let (cases, _) = cases_for([&model, &other], SEEN);
    let items = other.item_ids().len();
    for wanted in [3, 40, 1000] {
        let sampler = Sampler::new([&model, &other], &cases, wanted, 5, &Unwatched).unwrap();
        let again = Sampler::new([&model, &other], &cases, wanted, 6, &Unwatched).unwrap();
        let mut differ = 0;
        for case in 0..cases[0].len() {
            let (mine, theirs) = (sampler.draw(case, 0).unwrap(), sampler.draw(case, 1).unwrap());
            let id = |model: &Model, item: u32| model.item_ids().get(item).unwrap().to_owned();
            let names: Vec<String> = mine.iter().map(|&i| id(&model, i)).collect();
            assert_eq!(names, theirs.iter().map(|&i| id(&other, i)).collect::<Vec<_>>());
            assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
            let mut taken = cases[0].history(&model, case).unwrap().0.to_vec();
            taken.extend(cases[0].relevant.row(case));
            assert!(mine.iter().all(|item| !taken.contains(item)));
            let taken: BTreeSet<u32> = taken.iter().filter_map(|&i| other.item_ids().find(&id(&model, i))).collect();
            assert_eq!(mine.len(), wanted.min(items - taken.len()));
            differ += usize::from(mine != again.draw(case, 0).unwrap());
        }
        assert!(differ > cases[0].len() / 2);
    }
}

fn model_of_fewer_items() -> Model {
    model(pairs().into_iter().filter(|pair| !is_test(pair) && pair.1 % 5 != 3), "popularity")
}

#[test]
fn drawing_few_or_nearly_all_is_uniform() {
    let model = trained("popularity");
    let cases = Cases::stored(&model, [(0, vec![1])]).unwrap();
    let (history, _) = model.history(0).unwrap();
    let free = model.item_ids().len() - history.iter().chain(&[1]).collect::<BTreeSet<_>>().len();
    for wanted in [free / 5, free * 3 / 4] {
        let mut drawn = vec![0f64; model.item_ids().len()];
        for seed in 0..2000 {
            let cases = [cases.clone()];
            let sampler = Sampler::new([&model], &cases, wanted, seed, &Unwatched).unwrap();
            sampler.draw(0, 0).unwrap().into_iter().for_each(|item| drawn[item as usize] += 1.0);
        }
        let share = wanted as f64 / free as f64;
        let deviation = (2000.0 * share * (1.0 - share)).sqrt();
        let free = drawn.iter().filter(|&&n| n > 0.0);
        assert!(free.clone().all(|n| (n - 2000.0 * share).abs() < 4.5 * deviation), "{drawn:?}");
    }
}

#[test]
fn a_given_history_is_folded_in() {
    let model = trained("item_knn");
    let stored = trained("item_knn");
    let user = 7u32;
    let own = model.user_ids().get(user).unwrap();
    let (history, _) = model.history(user).unwrap();
    let mut builder = CasesBuilder::new([&model], SEEN, false, &Unwatched);
    for item in history {
        let item = model.item_ids().get(*item).unwrap();
        builder.push_history("newcomer", item, 1.0).unwrap();
        builder.push_history(own, item, 0.5).unwrap();
        builder.push_history(own, item, 0.5).unwrap();
    }
    builder.push_history("newcomer", "unheard of", 1.0).unwrap();
    assert!(builder.push_history("newcomer", own, f64::NAN).is_err());
    let (relevant, _) = questions(&model);
    for item in &relevant[&user] {
        for who in ["newcomer", own, "someone else"] {
            builder.push(who, model.item_ids().get(*item).unwrap()).unwrap();
        }
    }
    builder.push("newcomer", model.item_ids().get(history[0]).unwrap()).unwrap();
    let ([cases], counts) = builder.finish().unwrap();
    assert_eq!((counts.unknown_users, counts.seen, cases.len()), (relevant[&user].len(), 1, 2));
    let trained = Cases::stored(&stored, [(user, relevant[&user].iter().copied().collect())]).unwrap();
    let expected = lines(&stored, &trained, By::default(), &protocol(MetricSet::all()));
    let got = lines(&model, &cases, By::default(), &protocol(MetricSet::all()));
    for metric in Metric::ALL {
        close(value(&got, "all", metric), value(&expected, "all", metric), metric.name());
    }
}

#[test]
fn a_model_compared_with_itself_differs_in_nothing_and_with_a_worse_one_in_much() {
    let (good, poor) = (trained("item_knn"), model_of_fewer_items());
    let compared = |a: &Model, b: &Model| {
        let (cases, counts) = cases_for([a, b], SEEN);
        assert!(counts.unknown_items > 0 || a.item_ids().len() == b.item_ids().len());
        let measured: Vec<Measured> = [a, b]
            .iter()
            .zip(&cases)
            .map(|(model, cases)| self::measured(model, cases, By::default(), &protocol(MetricSet::all())))
            .collect();
        let bootstrap = Bootstrap::new(200, 0.95, 3).unwrap();
        compare([&measured[0], &measured[1]], MetricSet::all(), &bootstrap, 2, &Unwatched).unwrap()
    };
    for line in compared(&good, &good) {
        assert_eq!(line.difference(), Some(0.0));
        let of_users = !line.metric.is_of_lists() || matches!(line.metric, Metric::Diversity | Metric::Novelty);
        assert_eq!(line.p_value, of_users.then_some(1.0), "{line:?}");
        assert!(line.interval.is_none_or(|interval| interval == (0.0, 0.0)));
    }
    let lines = compared(&good, &poor);
    let auc = lines.iter().find(|l| l.metric == Metric::Auc).unwrap();
    let (low, high) = auc.interval.unwrap();
    assert!(low < auc.difference().unwrap() && auc.difference().unwrap() < high);
    assert!(auc.p_value.unwrap() < 1.0);
}

#[test]
fn folds_are_those_of_training_and_evaluating_one_by_one() {
    let data = interactions(pairs().into_iter());
    let protocol = protocol([Metric::Recall, Metric::Coverage].into_iter().collect());
    let run = |folds| {
        cross_validate(
            &training(&data),
            recommendation::algorithm("item_knn").unwrap(),
            &json!({}),
            folds,
            &protocol,
            4,
        )
    };
    let results = run(3).unwrap();
    assert_eq!(results.len(), 3);
    for lines in &results {
        assert_eq!(lines.iter().map(|l| l.metric).collect::<Vec<_>>(), [Metric::Recall, Metric::Coverage]);
        assert!(value(lines, "all", Metric::Recall) > 0.0);
    }
    assert_eq!(results, run(3).unwrap());
    assert_ne!(results[0], results[1]);
    for folds in [0, 1, 1001] {
        assert!(matches!(run(folds), Err(Error::Invalid { .. })));
    }
    let thin = interactions([(1, 1), (2, 2), (3, 3)].into_iter());
    let error =
        cross_validate(&training(&thin), recommendation::algorithm("item_knn").unwrap(), &json!({}), 2, &protocol, 0)
            .unwrap_err();
    assert!(error.to_string().contains("no pair to find"), "{error}");
}

#[test]
fn tests_without_an_answer_are_errors() {
    let model = trained("popularity");
    let empty = CasesBuilder::new([&model], SEEN, false, &Unwatched).finish();
    assert!(matches!(empty, Err(Error::EmptySource(_))));
    let mut builder = CasesBuilder::new([&model], SEEN, false, &Unwatched);
    builder.push("stranger", "i000").unwrap();
    assert!(matches!(builder.finish(), Err(Error::Invalid { .. })));
}

#[test]
fn it_stops_when_it_is_told_to() {
    struct Stop;
    impl Progress for Stop {
        fn check(&self) -> Result<()> {
            Err(Error::Canceled)
        }
    }
    let model = trained("item_knn");
    let ([cases], _) = cases_for([&model], SEEN);
    let catalogue = Catalogue::of(&model, true, &Unwatched).unwrap();
    let protocol = protocol(MetricSet::all());
    let stopped = evaluate(&model, &cases, &Segments::default(), &catalogue, &protocol, &Stop);
    assert!(matches!(stopped, Err(Error::Canceled)));
    let measured = evaluate(&model, &cases, &Segments::default(), &catalogue, &protocol, &Unwatched).unwrap();
    let bootstrap = Bootstrap::new(10, 0.95, 0).unwrap();
    assert!(matches!(summarise(&measured, MetricSet::all(), &bootstrap, 1, &Stop), Err(Error::Canceled)));
    assert_eq!(Values::default().get(Metric::Auc), None);
}
