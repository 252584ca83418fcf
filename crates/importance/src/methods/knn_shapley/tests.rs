use std::cell::Cell;

use super::*;
use runtime::draw::{below, normal};
use runtime::progress::Unwatched;
use tabular::Features;

/// Rows of `columns` features, some of them 0 and left out, with a label each.
fn samples(rows: &[Vec<f32>], labels: Labels) -> Samples {
    let mut matrix = Csr { indptr: vec![0], columns: rows[0].len(), ..Csr::default() };
    for row in rows {
        for (column, &value) in row.iter().enumerate().filter(|(_, value)| **value != 0.0) {
            matrix.indices.push(column as u32);
            matrix.values.push(value);
        }
        matrix.indptr.push(matrix.indices.len() as u64);
    }
    Samples { features: Features { matrix, categories: Vec::new() }, labels }
}

fn classes(codes: Vec<u32>) -> Labels {
    Labels::Classes { codes, names: (0..3).map(|i| i.to_string()).collect() }
}

/// Small whole numbers, so that there are many equal distances.
fn drawn(n: usize, columns: usize, seed: u64) -> Vec<Vec<f32>> {
    let cell = |row, column| below(seed, (row * columns + column) as u64, 5) as f32 - 2.0;
    (0..n).map(|row| (0..columns).map(|column| cell(row, column)).collect()).collect()
}

fn codes(n: usize, seed: u64) -> Vec<u32> {
    (0..n).map(|row| below(seed, row as u64, 3) as u32).collect()
}

fn numbers(n: usize, seed: u64) -> Vec<f32> {
    (0..n).map(|row| 50.0 + 3.0 * normal(seed, row as u64)).collect()
}

fn order(rows: &[Vec<f32>], test: &[f32]) -> Vec<usize> {
    let distance = |row: usize| -> f64 { rows[row].iter().zip(test).map(|(a, b)| f64::from(a - b).powi(2)).sum() };
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|&a, &b| distance(a).total_cmp(&distance(b)));
    order
}

/// What each row adds to `worth` (of a list of rows, nearest first), mean over all orders in which the rows may come.
fn by_definition(order: &[usize], worth: impl Fn(&[usize]) -> f64) -> Vec<f64> {
    let n = order.len();
    let factorial = |m: usize| (1..=m).map(|x| x as f64).product::<f64>();
    let members = |set: usize| order.iter().copied().filter(|row| set >> row & 1 == 1).collect::<Vec<_>>();
    let mut values = vec![0.0; n];
    for set in 0..1usize << n {
        let size = set.count_ones() as usize;
        for row in (0..n).filter(|row| set >> row & 1 == 0) {
            let chance = factorial(size) * factorial(n - size - 1) / factorial(n);
            values[row] += chance * (worth(&members(set | 1 << row)) - worth(&members(set)));
        }
    }
    values
}

fn assert_close(got: &[f64], expected: &[f64], within: f64) {
    assert_eq!(got.len(), expected.len());
    for (row, (a, b)) in got.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= within, "row {row}: {a} {b}");
    }
}

#[test]
fn values_of_classes_are_shapleys_by_definition() {
    for (n, k) in [(1, 1), (1, 5), (2, 5), (4, 2), (7, 1), (7, 3), (8, 7), (8, 5)] {
        let (rows, tests) = (drawn(n, 3, 1), drawn(11, 3, 2));
        let (labels, targets) = (codes(n, 3), codes(11, 4));
        let mut expected = vec![0.0; n];
        for (test, target) in tests.iter().zip(&targets) {
            let worth =
                |rows: &[usize]| rows.iter().take(k).filter(|&&r| labels[r] == *target).count() as f64 / k as f64;
            let one = by_definition(&order(&rows, test), worth);
            expected.iter_mut().zip(one).for_each(|(sum, x)| *sum += x / 11.0);
        }
        let (rows, tests) = (samples(&rows, classes(labels)), samples(&tests, classes(targets)));
        assert_close(&values(&rows, &tests, k, 2, &Unwatched).unwrap(), &expected, 1e-14);
    }
}

#[test]
fn values_of_numbers_are_shapleys_by_definition() {
    for (n, k) in [(1, 1), (1, 5), (2, 5), (4, 2), (7, 1), (7, 3), (8, 7), (8, 5), (5, 5)] {
        let (rows, tests) = (drawn(n, 3, 5), drawn(11, 3, 6));
        let (labels, targets) = (numbers(n, 7), numbers(11, 8));
        let mean = labels.iter().map(|&y| f64::from(y)).sum::<f64>() / n as f64;
        let mut expected = vec![0.0; n];
        for (test, &target) in tests.iter().zip(&targets) {
            let worth = |rows: &[usize]| {
                let sum: f64 = rows.iter().take(k).map(|&r| f64::from(labels[r]) - mean).sum();
                if rows.is_empty() { 0.0 } else { -(sum / k as f64 - (f64::from(target) - mean)).powi(2) }
            };
            let one = by_definition(&order(&rows, test), worth);
            expected.iter_mut().zip(one).for_each(|(sum, x)| *sum += x / 11.0);
        }
        let (rows, tests) = (samples(&rows, Labels::Numbers(labels)), samples(&tests, Labels::Numbers(targets)));
        assert_close(&values(&rows, &tests, k, 2, &Unwatched).unwrap(), &expected, 1e-11);
    }
}

/// The recursion of Theorem 1 as it stands, on a plain sort.
fn by_recursion(rows: &[Vec<f32>], labels: &[u32], tests: &[Vec<f32>], targets: &[u32], k: usize) -> Vec<f64> {
    let n = rows.len();
    let mut values = vec![0.0; n];
    for (test, &target) in tests.iter().zip(targets) {
        let order = order(rows, test);
        let alike = |place: usize| f64::from(u8::from(labels[order[place]] == target));
        let mut value = alike(n - 1) * k.min(n) as f64 / (k * n) as f64;
        values[order[n - 1]] += value / tests.len() as f64;
        for i in (1..n).rev() {
            value += (alike(i - 1) - alike(i)) / k as f64 * k.min(i) as f64 / i as f64;
            values[order[i - 1]] += value / tests.len() as f64;
        }
    }
    values
}

#[test]
fn many_rows_at_few_distances_keep_the_order_of_the_rows() {
    for (n, columns) in [(40, 1), (3000, 2), (3000, 4)] {
        let (rows, tests) = (drawn(n, columns, 1), drawn(9, columns, 2));
        let (labels, targets) = (codes(n, 3), codes(9, 4));
        let expected = by_recursion(&rows, &labels, &tests, &targets, 5);
        let (rows, tests) = (samples(&rows, classes(labels)), samples(&tests, classes(targets)));
        assert_close(&values(&rows, &tests, 5, 3, &Unwatched).unwrap(), &expected, 1e-14);
    }
}

#[test]
fn rows_that_are_very_far_do_not_hide_the_order_of_the_others() {
    let mut rows: Vec<Vec<f32>> = (0..2000).map(|i| vec![normal(1, i), normal(2, i), normal(3, i)]).collect();
    rows.iter_mut().step_by(500).for_each(|row| row[0] = 1e15);
    let tests: Vec<Vec<f32>> = (0..5).map(|i| vec![normal(4, i), normal(5, i), normal(6, i)]).collect();
    let (labels, targets) = (codes(2000, 3), codes(5, 4));
    let expected = by_recursion(&rows, &labels, &tests, &targets, 5);
    let (rows, tests) = (samples(&rows, classes(labels)), samples(&tests, classes(targets)));
    assert_close(&values(&rows, &tests, 5, 1, &Unwatched).unwrap(), &expected, 1e-14);
}

#[test]
fn threads_change_no_bit() {
    let rows: Vec<Vec<f32>> = (0..500).map(|i| vec![normal(1, i), normal(2, i)]).collect();
    let tests: Vec<Vec<f32>> = (0..70).map(|i| vec![normal(3, i), normal(4, i)]).collect();
    for (labels, targets) in [
        (classes(codes(500, 5)), classes(codes(70, 6))),
        (Labels::Numbers(numbers(500, 5)), Labels::Numbers(numbers(70, 6))),
    ] {
        let (rows, tests) = (samples(&rows, labels), samples(&tests, targets));
        let [one, two, many] = [1, 2, 50].map(|threads| values(&rows, &tests, 5, threads, &Unwatched).unwrap());
        assert!(
            one.iter().zip(&two).zip(&many).all(|((a, b), c)| a.to_bits() == b.to_bits() && a.to_bits() == c.to_bits())
        );
    }
}

#[test]
fn values_sum_to_what_all_rows_are_worth() {
    let (rows, tests) = (drawn(200, 4, 1), drawn(30, 4, 2));
    let (labels, targets) = (codes(200, 3), codes(30, 4));
    let worth: f64 = tests
        .iter()
        .zip(&targets)
        .map(|(test, target)| order(&rows, test)[..5].iter().filter(|&&r| labels[r] == *target).count() as f64 / 150.0)
        .sum();
    let (rows, tests) = (samples(&rows, classes(labels)), samples(&tests, classes(targets)));
    let sum: f64 = values(&rows, &tests, 5, 2, &Unwatched).unwrap().iter().sum();
    assert!((sum - worth).abs() < 1e-12, "{sum} {worth}");
}

#[test]
fn labels_that_are_all_the_same_number_are_worth_nothing() {
    let (rows, tests) = (drawn(20, 2, 1), drawn(3, 2, 2));
    let same = |n| Labels::Numbers(vec![7.5; n]);
    assert_eq!(values(&samples(&rows, same(20)), &samples(&tests, same(3)), 5, 1, &Unwatched).unwrap(), [0.0; 20]);
}

#[test]
fn validation_rows_and_a_k_in_range_are_needed() {
    let rows = samples(&drawn(20, 2, 1), classes(codes(20, 2)));
    let score = |validation, json: &serde_json::Value| {
        let task = Task { samples: &rows, validation, seed: 0, threads: 1, progress: &Unwatched };
        score(&task, &mut Options::new("knn_shapley", json).unwrap()).map_err(|e| e.to_string())
    };
    assert_eq!(score(None, &serde_json::json!({})).unwrap_err(), "method \"knn_shapley\" needs validation rows");
    assert_eq!(score(Some(&rows), &serde_json::json!({"k": 0})).unwrap_err(), "invalid value for option \"k\": 0");
    assert_eq!(score(Some(&rows), &serde_json::json!({"k": 3})).unwrap().len(), 20);
}

#[test]
fn a_cancel_request_ends_it_at_once() {
    struct After(Cell<u32>);
    impl Progress for After {
        fn check(&self) -> Result<()> {
            self.0.set(self.0.get() + 1);
            if self.0.get() > 3 { Err(Error::Canceled) } else { Ok(()) }
        }
    }
    let rows: Vec<Vec<f32>> = (0..100_000).map(|i| vec![normal(1, i)]).collect();
    let rows = samples(&rows, classes(codes(100_000, 2)));
    let began = std::time::Instant::now();
    assert!(matches!(values(&rows, &rows, 5, 2, &After(Cell::new(0))), Err(Error::Canceled)));
    assert!(began.elapsed().as_secs() < 10);
}
