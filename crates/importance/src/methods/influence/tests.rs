use super::*;
use kernels::Csr;
use kernels::cholesky;
use ndarray::Array2;
use runtime::draw::normal;
use runtime::progress::Unwatched;
use serde_json::{Value, json};
use tabular::{Features, Labels, Samples};

/// Rows of these features, of `columns` in all; what is beyond the given ones is 0.
fn features(rows: &[Vec<f32>], columns: usize) -> Features {
    let mut matrix = Csr { indptr: vec![0], columns, ..Csr::default() };
    for row in rows {
        for (column, &x) in row.iter().enumerate().filter(|(_, x)| **x != 0.0) {
            matrix.indices.push(column as u32);
            matrix.values.push(x);
        }
        matrix.indptr.push(matrix.indices.len() as u64);
    }
    Features { matrix, categories: Vec::new() }
}

fn rows(n: usize, d: usize, seed: u64) -> Vec<Vec<f32>> {
    (0..n).map(|i| (0..d).map(|j| normal(seed, (i * d + j) as u64)).collect()).collect()
}

/// The class of the greatest of the first `k` features, noise added; every tenth row's is the next one.
fn classes(rows: &[Vec<f32>], k: usize) -> Labels {
    let code = |(i, row): (usize, &Vec<f32>)| {
        let noisy = |j: usize| row[j] + 0.5 * normal(9, (i * k + j) as u64);
        let class = (0..k).max_by(|&a, &b| noisy(a).total_cmp(&noisy(b))).unwrap();
        ((class + usize::from(i % 10 == 3)) % k) as u32
    };
    Labels::Classes {
        codes: rows.iter().enumerate().map(code).collect(),
        names: (0..k).map(|c| c.to_string()).collect(),
    }
}

fn samples(n: usize, d: usize, k: usize, seed: u64) -> Samples {
    let rows = rows(n, d, seed);
    Samples { labels: classes(&rows, k), features: features(&rows, d) }
}

fn scores(samples: &Samples, validation: Option<&Samples>, threads: usize, value: Value) -> Result<Vec<f64>> {
    let mut options = Options::new("importance", &value)?;
    let task = Task { samples, validation, seed: 7, threads, progress: &Unwatched };
    let scores = score(&task, &mut options)?;
    options.finish()?;
    assert!(scores.len() == task.rows() && scores.iter().all(|x| x.is_finite()));
    Ok(scores)
}

fn without(samples: &Samples, row: usize) -> Samples {
    let Csr { indptr, indices, values, columns } = &samples.features.matrix;
    let (from, to) = (indptr[row] as usize, indptr[row + 1] as usize);
    let mut matrix =
        Csr { columns: *columns, indices: indices.clone(), values: values.clone(), indptr: indptr.clone() };
    matrix.indices.drain(from..to);
    matrix.values.drain(from..to);
    matrix.indptr.remove(row);
    matrix.indptr[row..].iter_mut().for_each(|end| *end -= (to - from) as u64);
    let mut labels = samples.labels.clone();
    if let Labels::Classes { codes, .. } = &mut labels {
        codes.remove(row);
    }
    Samples { features: Features { matrix, categories: Vec::new() }, labels }
}

#[test]
fn a_score_is_what_training_without_the_row_does_to_the_validation_loss() {
    for k in [2, 3] {
        let (n, d) = (200, 4);
        let (train, validation) = (samples(n, d, k, 1), samples(60, d, k, 2));
        let scores = scores(&train, Some(&validation), 2, json!({"regularization": 0.05})).unwrap();
        let loss = |samples: &Samples, regularization: f64| {
            let model =
                Model::new(&samples.features.matrix, Outcomes::new(&samples.labels), regularization, 1, &Unwatched);
            let parameters = model.fit().unwrap();
            let outcomes = Outcomes::new(&validation.labels);
            Model::new(&validation.features.matrix, outcomes, 0.0, 1, &Unwatched).gradient(parameters.view()).unwrap().0
        };
        let regularization = f64::from(0.05f32);
        let whole = loss(&train, regularization);
        // A mean over one row less, with a penalty as much larger, has the same minimum as the sum over n − 1 rows divided by n.
        let scale = n as f64 / (n as f64 - 1.0);
        let actual: Vec<f64> = (0..n).map(|row| loss(&without(&train, row), regularization * scale) - whole).collect();
        let (mut off, mut all) = (0.0, 0.0);
        for (score, actual) in scores.iter().zip(&actual) {
            off += (score - actual).powi(2);
            all += actual.powi(2);
        }
        assert!((off / all).sqrt() < 0.1, "{k}: {}", (off / all).sqrt());
        // The rank correlation.
        let ranks = |x: &[f64]| crate::ranks(x, &Unwatched).unwrap().into_iter().map(|r| r as f64).collect::<Vec<_>>();
        let squares: f64 = ranks(&scores).iter().zip(ranks(&actual)).map(|(a, b)| (a - b).powi(2)).sum();
        let correlation = 1.0 - 6.0 * squares / (n * (n * n - 1)) as f64;
        assert!(correlation > 0.99, "{k}: {correlation}");
    }
}

#[test]
fn of_a_ridge_regression_it_is_the_derivative_by_the_rows_weight() {
    let (n, d) = (40, 3);
    let (x, v) = (rows(n, d, 1), rows(20, d, 2));
    let label = |(i, row): (usize, &Vec<f32>)| 50.0 + 10.0 * (row[0] - 2.0 * row[1] + normal(3, i as u64));
    let (y, w): (Vec<f32>, Vec<f32>) =
        (x.iter().enumerate().map(label).collect(), v.iter().enumerate().map(label).collect());
    let train = Samples { features: features(&x, d), labels: Labels::Numbers(y.clone()) };
    let validation = Samples { features: features(&v, d), labels: Labels::Numbers(w.clone()) };
    let scores = scores(&train, Some(&validation), 2, Value::Null).unwrap();
    let mean = y.iter().map(|&y| f64::from(y)).sum::<f64>() / n as f64;
    let deviation = (y.iter().map(|&y| (f64::from(y) - mean).powi(2)).sum::<f64>() / n as f64).sqrt();
    let standard = |y: f32| (f64::from(y) - mean) / deviation;
    let with_one = |row: &[f32]| row.iter().map(|&x| f64::from(x)).chain([1.0]).collect::<Vec<f64>>();
    // The validation loss of the closed form, one row of other weight.
    let loss = |row: usize, weight: f64| {
        let mut a = Array2::zeros((d + 1, d + 1));
        let mut b = vec![0.0; d + 1];
        for (i, (x, &y)) in x.iter().zip(&y).enumerate() {
            let (x, share) = (with_one(x), if i == row { weight } else { 1.0 } / n as f64);
            for p in 0..=d {
                b[p] += share * x[p] * standard(y);
                (0..=d).for_each(|q| a[[p, q]] += share * x[p] * x[q]);
            }
        }
        let penalty = f64::from(0.01f32);
        (0..=d).for_each(|p| a[[p, p]] += if p < d { penalty } else { penalty * 1e-4 });
        cholesky::solve(a.view_mut(), &mut b).unwrap();
        let error = |(x, &y): (&Vec<f32>, &f32)| {
            let z: f64 = with_one(x).iter().zip(&b).map(|(x, b)| x * b).sum();
            0.5 * (z - standard(y)).powi(2)
        };
        v.iter().zip(&w).map(error).sum::<f64>() / v.len() as f64
    };
    for (row, score) in scores.iter().enumerate() {
        let slope = (loss(row, 1.0 - 1e-4) - loss(row, 1.0 + 1e-4)) / 2e-4;
        assert!((score - slope).abs() < 1e-8, "{row}: {score} {slope}");
    }
}

#[test]
fn neither_threads_nor_empty_columns_nor_the_way_to_solve_change_the_scores() {
    for k in [2, 3] {
        let (train, validation) = (samples(200, 6, k, 1), samples(30, 6, k, 2));
        let narrow = scores(&train, Some(&validation), 1, Value::Null).unwrap();
        for threads in [2, 7] {
            assert_eq!(narrow, scores(&train, Some(&validation), threads, Value::Null).unwrap());
        }
        let widened = |samples: &Samples| {
            let mut samples = samples.clone();
            samples.features.matrix.columns = 2000;
            samples
        };
        let wide = scores(&widened(&train), Some(&widened(&validation)), 2, Value::Null).unwrap();
        let most = narrow.iter().fold(0f64, |most, x| most.max(x.abs()));
        assert!(narrow.iter().zip(&wide).all(|(a, b)| (a - b).abs() < 1e-6 * most));
    }
}

#[test]
fn wrong_labels_come_last_and_mean_less_than_nothing() {
    let x = rows(200, 4, 1);
    let flipped = |i: usize| i % 10 == 3;
    let code = |(i, row): (usize, &Vec<f32>)| u32::from(row[0] > 0.0) ^ u32::from(flipped(i));
    let names = vec!["a".into(), "b".into()];
    let labels = |codes| Labels::Classes { codes, names: names.clone() };
    let train = Samples { features: features(&x, 4), labels: labels(x.iter().enumerate().map(code).collect()) };
    let v = rows(50, 4, 2);
    let clean = v.iter().map(|row| u32::from(row[0] > 0.0)).collect();
    let validation = Samples { features: features(&v, 4), labels: labels(clean) };
    let scores = scores(&train, Some(&validation), 2, Value::Null).unwrap();
    let mean = |wanted: bool| {
        let of: Vec<f64> = (0..200).filter(|&i| flipped(i) == wanted).map(|i| scores[i]).collect();
        of.iter().sum::<f64>() / of.len() as f64
    };
    assert!(mean(true) < 0.0 && mean(false) > 0.0, "{} {}", mean(true), mean(false));
    let ranks = crate::ranks(&scores, &Unwatched).unwrap();
    assert!((0..200).filter(|&i| ranks[i] > 180 && flipped(i)).count() >= 14);
}

#[test]
fn one_row_one_class_many_classes_and_any_penalty_have_scores() {
    let one = samples(1, 3, 2, 1);
    scores(&one, Some(&one), 2, Value::Null).unwrap();
    let alone = Samples {
        features: features(&[vec![1.0], vec![0.0]], 1),
        labels: Labels::Classes { codes: vec![0, 0], names: vec!["a".into()] },
    };
    scores(&alone, Some(&alone), 2, Value::Null).unwrap();
    let mut many = samples(50, 3, 2, 1);
    many.labels =
        Labels::Classes { codes: (0..50).map(|i| i * 20).collect(), names: (0..1000).map(|c| c.to_string()).collect() };
    scores(&many, Some(&many), 2, Value::Null).unwrap();
    let (train, validation) = (samples(60, 3, 3, 1), samples(5, 3, 3, 2));
    for regularization in [1e-6, 1e6] {
        scores(&train, Some(&validation), 2, json!({"regularization": regularization})).unwrap();
    }
    let outlier = Labels::Numbers((0..60).map(|i| if i == 7 { 1e38 } else { 0.0 }).collect());
    let numbers = Samples { features: train.features.clone(), labels: outlier };
    scores(&numbers, Some(&numbers), 2, Value::Null).unwrap();
}

#[test]
fn validation_rows_are_needed_and_of_the_same_columns() {
    let train = samples(20, 3, 2, 1);
    assert!(matches!(scores(&train, None, 1, Value::Null), Err(Error::Invalid { .. })));
    let other = samples(20, 4, 2, 1);
    assert!(matches!(scores(&train, Some(&other), 1, Value::Null), Err(Error::Dimensions { .. })));
}
