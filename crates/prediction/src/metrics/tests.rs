use serde_json::Value;

use super::*;

fn golden() -> Value {
    serde_json::from_str(include_str!("../../../../tests/prediction_golden.json")).unwrap()
}

fn numbers_of(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|x| x.as_str().unwrap().to_owned()).collect()
}

fn go_on() -> Result<()> {
    Ok(())
}

fn close(found: Option<f64>, expected: &Value) {
    let (found, expected) = (found.unwrap(), expected.as_f64().unwrap());
    assert!((found - expected).abs() < 1e-9, "{found} {expected}");
}

/// The rows of three states that went through bytes, merged.
fn merged<S: State>(rows: usize, add: impl Fn(&mut S, usize)) -> S {
    let mut whole = S::default();
    for part in 0..3 {
        let mut state = S::default();
        (0..rows).filter(|row| row % 3 == part).for_each(|row| add(&mut state, row));
        whole.merge(&S::deserialize(&state.serialize(&go_on).unwrap(), &go_on).unwrap(), &go_on).unwrap();
    }
    whole
}

#[test]
fn of_binary_labels_they_are_those_of_scikit_learn() {
    let golden = &golden()["binary"];
    let (probabilities, values) = (numbers_of(&golden["probabilities"]), &golden["values"]);
    let labels: Vec<bool> = golden["labels"].as_array().unwrap().iter().map(|x| x.as_bool().unwrap()).collect();
    let worth = |row: usize| f64::from(u8::from(labels[row]));
    let ranked = merged(labels.len(), |state: &mut Ranked, row| state.add(probabilities[row], worth(row)).unwrap());
    close(ranked.auc(&go_on).unwrap(), &values["auc"]);
    close(ranked.average_precision(&go_on).unwrap(), &values["average_precision"]);
    let errors = merged(labels.len(), |state: &mut Errors, row| state.add(probabilities[row], worth(row)));
    close(errors.log_loss(), &values["log_loss"]);
    close(errors.mean_squared(), &values["brier"]);
    let name = |value: bool| if value { "true" } else { "false" };
    let confusion = merged(labels.len(), |state: &mut Confusion, row| {
        state.add(name(probabilities[row] > 0.5), name(labels[row])).unwrap();
    });
    close(confusion.accuracy(), &values["accuracy"]);
    close(confusion.precision("true"), &values["precision_score"]);
    close(confusion.recall("true"), &values["recall_score"]);
    close(confusion.f1("true"), &values["f1"]);
    let calibration = &golden["calibration"];
    let bins = ranked.calibration(calibration["bins"].as_u64().unwrap() as usize, &go_on).unwrap();
    let (rates, means) = (numbers_of(&calibration["rates"]), numbers_of(&calibration["probabilities"]));
    assert_eq!(bins.len(), rates.len());
    for (bin, (rate, mean)) in bins.iter().zip(rates.iter().zip(&means)) {
        assert!((bin.rate - rate).abs() < 1e-9 && (bin.probability - mean).abs() < 1e-9, "{bin:?} {rate} {mean}");
    }
}

#[test]
fn of_numbers_they_are_those_of_scikit_learn() {
    let golden = &golden()["numbers"];
    let (predictions, labels) = (numbers_of(&golden["predictions"]), numbers_of(&golden["labels"]));
    let errors = merged(labels.len(), |state: &mut Errors, row| state.add(predictions[row], labels[row]));
    close(errors.rmse(), &golden["values"]["rmse"]);
    close(errors.mae(), &golden["values"]["mae"]);
    close(errors.r2(), &golden["values"]["r2"]);
}

#[test]
fn of_classes_they_are_those_of_scikit_learn() {
    let golden = &golden()["classes"];
    let (predictions, labels) = (texts(&golden["predictions"]), texts(&golden["labels"]));
    let confusion =
        merged(labels.len(), |state: &mut Confusion, row| state.add(&predictions[row], &labels[row]).unwrap());
    close(confusion.accuracy(), &golden["accuracy"]);
    for (name, expected) in golden["averages"].as_object().unwrap() {
        let found = confusion.averaged(Average::from_name(name).unwrap()).unwrap();
        found.iter().zip(expected.as_array().unwrap()).for_each(|(&found, expected)| close(Some(found), expected));
    }
    let names = texts(&golden["confusion"]["names"]);
    for (label, row) in names.iter().zip(golden["confusion"]["counts"].as_array().unwrap()) {
        for (prediction, expected) in names.iter().zip(numbers_of(row)) {
            let found = confusion.counts().get(label).and_then(|of_label| of_label.get(prediction)).copied();
            assert_eq!(found.unwrap_or(0) as f64, expected);
        }
    }
}

#[test]
fn ndcg_gives_tied_rows_their_mean_gain_as_scikit_learn_does() {
    let golden = &golden()["gains"];
    let (scores, gains) = (numbers_of(&golden["scores"]), numbers_of(&golden["gains"]));
    let ranked = merged(scores.len(), |state: &mut Ranked, row| state.add(scores[row], gains[row]).unwrap());
    for (k, expected) in golden["ndcg"].as_object().unwrap() {
        close(ranked.ndcg(k.parse().unwrap(), &go_on).unwrap(), expected);
    }
}

#[test]
fn intervals_of_rates_are_those_of_scipy() {
    for case in golden()["rates"].as_array().unwrap() {
        let case = numbers_of(case);
        let found = wilson(case[0], case[1], case[2]).unwrap();
        assert!((found.low - case[3]).abs() < 1e-9 && (found.high - case[4]).abs() < 1e-9, "{found:?} {case:?}");
    }
    assert_eq!(wilson(0.0, 0.0, 0.95), None);
}

#[test]
fn lift_counts_tied_rows_in_part() {
    // Two of four rows are true; the best quarter is one of two tied rows, of which one is true.
    let mut ranked = Ranked::default();
    for (score, label) in [(0.9, 1.0), (0.9, 0.0), (0.2, 1.0), (0.1, 0.0)] {
        ranked.add(score, label).unwrap();
    }
    assert_eq!(ranked.lift(0.25, &go_on).unwrap(), Some(1.0));
    ranked.add(0.95, 1.0).unwrap();
    // 1 of 1 over 3 of 5.
    assert!((ranked.lift(0.2, &go_on).unwrap().unwrap() - 5.0 / 3.0).abs() < 1e-12);
    assert!((ranked.lift(1.0, &go_on).unwrap().unwrap() - 1.0).abs() < 1e-12);
}

#[test]
fn what_is_undefined_is_none() {
    let mut ranked = Ranked::default();
    assert_eq!(ranked.auc(&go_on).unwrap(), None);
    ranked.add(0.5, 0.0).unwrap();
    assert_eq!(ranked.auc(&go_on).unwrap(), None);
    assert_eq!(ranked.average_precision(&go_on).unwrap(), None);
    assert_eq!(ranked.ndcg(3, &go_on).unwrap(), None);
    assert_eq!(ranked.lift(0.5, &go_on).unwrap(), None);
    let mut errors = Errors::default();
    assert_eq!((errors.rmse(), errors.log_loss()), (None, None));
    errors.add(1.0, 2.0);
    assert_eq!((errors.r2(), errors.mae()), (None, Some(1.0)));
    let confusion = Confusion::default();
    assert_eq!((confusion.accuracy(), confusion.f1("a"), confusion.averaged(Average::Macro)), (None, None, None));
}

#[test]
fn certain_and_wrong_costs_much_but_is_finite() {
    let mut errors = Errors::default();
    errors.add(0.0, 1.0);
    assert!((36.0..37.0).contains(&errors.log_loss().unwrap()));
}

#[test]
fn cut_bytes_are_no_state() {
    let mut ranked = Ranked::default();
    ranked.add(1.0, 1.0).unwrap();
    let bytes = ranked.serialize(&go_on).unwrap();
    assert!(Ranked::deserialize(&bytes[1..], &go_on).is_err());
    let mut errors = Errors::default();
    errors.add(1.0, 1.0);
    assert!(Errors::deserialize(&errors.serialize(&go_on).unwrap()[8..], &go_on).is_err());
    let mut confusion = Confusion::default();
    confusion.add("a", "b").unwrap();
    let bytes = confusion.serialize(&go_on).unwrap();
    assert!((1..bytes.len()).all(|end| Confusion::deserialize(&bytes[..end], &go_on).is_err()));
}

#[test]
fn a_canceled_metric_ends() {
    let mut ranked = Ranked::default();
    (0..10).for_each(|row| ranked.add(f64::from(row), f64::from(row % 2)).unwrap());
    let canceled = || Err(Error::Canceled);
    assert!(matches!(ranked.auc(&canceled), Err(Error::Canceled)));
    assert!(matches!(ranked.serialize(&canceled), Err(Error::Canceled)));
    assert!(matches!(Ranked::default().merge(&ranked, &canceled), Err(Error::Canceled)));
}
