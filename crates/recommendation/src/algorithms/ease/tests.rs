use nalgebra::DMatrix;
use serde_json::json;

use super::*;
use interactions::{Id, Interactions, InteractionsBuilder};
use runtime::progress::Unwatched;

/// Uneven weights, and more items than a block of the inverse has.
fn interactions(users: u64, items: u64, rows: u64) -> Interactions {
    let mut builder = InteractionsBuilder::new();
    for r in 0..rows {
        let x = runtime::draw::mix(r);
        let (user, item) = (x % users, (x >> 20) % items * ((x >> 40) % items) / items);
        builder.push(Id::Int(user as i64), Id::Int(item as i64), 1.0 + (x >> 60) as f32, None).unwrap();
    }
    builder.finish().unwrap()
}

fn training(interactions: &Interactions) -> Training<'_> {
    Training::new(interactions, 2, &Unwatched)
}

/// Eq. 8 by nalgebra, in `f64`.
fn exact(x: &Csr, regularization: f64) -> DMatrix<f64> {
    let items = x.columns;
    let mut dense = DMatrix::<f64>::zeros(x.rows(), items);
    for user in 0..x.rows() {
        let (columns, values) = x.row(user);
        columns.iter().zip(values).for_each(|(&i, &c)| dense[(user, i as usize)] = f64::from(c));
    }
    let gram = dense.transpose() * &dense + DMatrix::identity(items, items) * regularization;
    let p = gram.try_inverse().unwrap();
    DMatrix::from_fn(items, items, |i, j| if i == j { 0.0 } else { -p[(i, j)] / p[(j, j)] })
}

#[test]
fn weights_are_those_of_the_direct_solution() {
    for (users, items, rows, regularization) in [(1, 1, 1, 1.0), (50, 7, 120, 2.0), (400, 300, 9000, 20.0)] {
        let x = interactions(users, items, rows).by_user;
        let data = interactions(users, items, rows);
        let training = training(&data);
        let mut gram = regularized_gram(&x, regularization, &training).unwrap();
        assert!(gram.negative_inverse(2, &Unwatched).unwrap());
        let found = strongest(&gram, x.columns, &training).unwrap();
        let exact = exact(&x, f64::from(regularization));
        let mut dense = vec![0f32; x.columns * x.columns];
        for ((i, column), &j) in found.items.indexed_iter() {
            dense[i * x.columns + j as usize] += found.weights[[i, column]];
        }
        for (at, &weight) in dense.iter().enumerate() {
            let (i, j) = (at / x.columns, at % x.columns);
            assert!((f64::from(weight) - exact[(i, j)]).abs() < 2e-5, "{i} {j}: {weight} {}", exact[(i, j)]);
        }
    }
}

#[test]
fn the_greatest_by_magnitude_are_kept_in_descending_order() {
    assert_eq!(greatest(&[0.1, -3.0, 0.0, 2.0, -0.2, 2.0], 4), [(2.0, 3), (2.0, 5), (-0.2, 4), (-3.0, 1)]);
    assert_eq!(greatest(&[0.0, 1.0], 4), [(1.0, 1)]);
}

#[test]
fn a_catalogue_past_the_limit_is_refused_at_once_with_the_alternatives() {
    let mut builder = InteractionsBuilder::new();
    (0..=MOST_ITEMS as i64).for_each(|item| builder.know_item(Id::Int(item)).unwrap());
    builder.push(Id::Int(1), Id::Int(1), 1.0, None).unwrap();
    let data = builder.finish().unwrap();
    let error = train(&training(&data), Options::new("ease", &Value::Null).unwrap()).err().unwrap();
    assert!(matches!(error, Error::TooLarge { .. }) && error.to_string().contains("30000"), "{error}");
    let hint = error.hint().unwrap();
    assert!(["gf_cf", "item_knn", "ials"].iter().all(|name| hint.contains(name)), "{hint}");
}

#[test]
fn a_graph_that_no_file_can_hold_is_refused_before_it_is_made() {
    let mut builder = InteractionsBuilder::new();
    (0..20_000).for_each(|item| builder.know_item(Id::Int(item)).unwrap());
    builder.push(Id::Int(1), Id::Int(1), 1.0, None).unwrap();
    let data = builder.finish().unwrap();
    let options = json!({"neighbours": 0});
    let error = train(&training(&data), Options::new("ease", &options).unwrap()).err().unwrap();
    assert!(matches!(error, Error::TooLarge { .. }) && error.hint().unwrap().contains("neighbours"), "{error}");
}
