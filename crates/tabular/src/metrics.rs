//! Metrics of predictions for rows with a known label.

use ndarray::ArrayView2;

use super::labels::Labels;
use kernels::matrix::{flat, rows as rows_of};
use runtime::error::Result;
use runtime::sorting::sort_watched;

/// Returns an error to cancel.
type Check<'a> = &'a dyn Fn() -> Result<()>;

/// Predicted probabilities are at least this.
const MIN_PROBABILITY: f64 = 1e-15;

/// Metrics by name. For classes, with probabilities `predicted` [rows, classes]: `auc` (of the second of two classes; with more, the mean of
/// each class against the rest, over the classes with some but not all rows), `accuracy`, `f1` (of the second class, or the mean) and
/// `log_loss`. For numbers, with `predicted` [rows, 1]: `rmse`, `mae`, `r2`. All finite; 0 where a metric is undefined.
pub fn metrics(labels: &Labels, predicted: ArrayView2<f32>, check: Check) -> Result<Vec<(&'static str, f64)>> {
    match labels {
        Labels::Classes { codes, names } => of_classes(codes, names.len(), predicted, check),
        Labels::Numbers(values) => Ok(of_numbers(values, flat(predicted))),
    }
}

fn of_classes(
    codes: &[u32],
    classes: usize,
    predicted: ArrayView2<f32>,
    check: Check,
) -> Result<Vec<(&'static str, f64)>> {
    let rows = codes.len().max(1) as f64;
    let chosen: Vec<u32> = rows_of(predicted).map(most_likely).collect();
    let right = chosen.iter().zip(codes).filter(|(a, b)| a == b).count() as f64;
    let losses =
        codes.iter().zip(rows_of(predicted)).map(|(&code, p)| -f64::from(p[code as usize]).max(MIN_PROBABILITY).ln());
    let judged: Vec<u32> = if classes == 2 { vec![1] } else { (0..classes as u32).collect() };
    let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let mut aucs = Vec::with_capacity(judged.len());
    for &class in &judged {
        check()?;
        let scores: Vec<f32> = predicted.column(class as usize).to_vec();
        let is: Vec<bool> = codes.iter().map(|&code| code == class).collect();
        aucs.extend(auc(&scores, &is, check)?);
    }
    let f1s =
        judged.iter().filter(|class| classes == 2 || codes.contains(class)).map(|&class| f1(&chosen, codes, class));
    Ok(vec![
        ("auc", mean(aucs)),
        ("accuracy", right / rows),
        ("f1", mean(f1s.collect())),
        ("log_loss", losses.sum::<f64>() / rows),
    ])
}

/// The class with the greatest probability; the first on ties.
pub fn most_likely(probabilities: &[f32]) -> u32 {
    let mut best = 0;
    for (class, p) in probabilities.iter().enumerate() {
        if *p > probabilities[best] {
            best = class;
        }
    }
    best as u32
}

fn f1(chosen: &[u32], codes: &[u32], class: u32) -> f64 {
    let both = chosen.iter().zip(codes).filter(|&(&a, &b)| a == class && b == class).count() as f64;
    let either = chosen.iter().chain(codes).filter(|&&c| c == class).count() as f64;
    if either == 0.0 { 0.0 } else { 2.0 * both / either }
}

/// The probability that a positive row scores above a negative one, ties counting half (Mann, Whitney 1947); `None` unless there are both.
pub fn auc(scores: &[f32], is: &[bool], check: Check) -> Result<Option<f64>> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    sort_watched(&mut order, check, |&a, &b| scores[a].total_cmp(&scores[b]))?;
    let (positives, mut sum, mut first) = (is.iter().filter(|x| **x).count(), 0.0, 0);
    while first < order.len() {
        let mut last = first;
        while last < order.len() && scores[order[last]] == scores[order[first]] {
            last += 1;
        }
        // NaN equals nothing: it stands alone.
        last = last.max(first + 1);
        let rank = (first + last + 1) as f64 / 2.0;
        sum += rank * order[first..last].iter().filter(|&&row| is[row]).count() as f64;
        first = last;
    }
    let (p, n) = (positives as f64, (is.len() - positives) as f64);
    Ok((p > 0.0 && n > 0.0).then(|| (sum - p * (p + 1.0) / 2.0) / (p * n)))
}

fn of_numbers(values: &[f32], predicted: &[f32]) -> Vec<(&'static str, f64)> {
    let rows = values.len().max(1) as f64;
    let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / rows;
    let residuals = || values.iter().zip(predicted).map(|(&x, &p)| f64::from(x) - f64::from(p));
    let squares = residuals().map(|r| r * r).sum::<f64>();
    let all = values.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>();
    vec![
        ("rmse", (squares / rows).sqrt()),
        ("mae", residuals().map(f64::abs).sum::<f64>() / rows),
        ("r2", if all > 0.0 { 1.0 - squares / all } else { 0.0 }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    fn go_on() -> Result<()> {
        Ok(())
    }

    #[test]
    fn metrics_of_classes_are_those_by_hand() {
        let labels = Labels::Classes { codes: vec![0, 1, 1, 0], names: vec!["a".into(), "b".into()] };
        let predicted = array![[0.9, 0.1], [0.4, 0.6], [0.7, 0.3], [0.7, 0.3]];
        let found = metrics(&labels, predicted.view(), &go_on).unwrap();
        let value = |name| found.iter().find(|(other, _)| *other == name).unwrap().1;
        // (1 over both, 1 over one and equal to the other) of 4 pairs.
        assert_eq!(value("auc"), 3.5 / 4.0);
        assert_eq!(value("accuracy"), 0.75);
        assert!((value("f1") - 2.0 / 3.0).abs() < 1e-12);
        let loss = -(0.9f64.ln() + 0.6f64.ln() + 0.3f64.ln() + 0.7f64.ln()) / 4.0;
        assert!((value("log_loss") - loss).abs() < 1e-6);
    }

    #[test]
    fn of_more_classes_each_is_judged_against_the_rest() {
        let labels = Labels::Classes { codes: vec![0, 1, 2], names: ["a", "b", "c"].map(String::from).to_vec() };
        let predicted = array![[0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.1, 0.1, 0.8]];
        let found = metrics(&labels, predicted.view(), &go_on).unwrap();
        assert_eq!(found[..3], [("auc", 1.0), ("accuracy", 1.0), ("f1", 1.0)]);
    }

    #[test]
    fn metrics_of_numbers_are_those_by_hand() {
        let found = metrics(&Labels::Numbers(vec![1.0, 3.0]), array![[2.0], [3.0]].view(), &go_on).unwrap();
        assert_eq!(found, [("rmse", 0.5f64.sqrt()), ("mae", 0.5), ("r2", 0.5)]);
        assert_eq!(metrics(&Labels::Numbers(vec![2.0]), array![[2.0]].view(), &go_on).unwrap()[2], ("r2", 0.0));
    }

    #[test]
    fn without_both_kinds_there_is_no_auc_and_nan_counts_somewhere() {
        assert_eq!(auc(&[1.0, 2.0], &[true, true], &go_on).unwrap(), None);
        assert!(auc(&[f32::NAN, 2.0, 1.0], &[true, false, true], &go_on).unwrap().unwrap().is_finite());
    }
}
