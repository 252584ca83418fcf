//! Products of tall, narrow matrices beside textbook loops and ndarray's product, which is matrixmultiply's; one thread each.
#![allow(clippy::unwrap_used, reason = "a benchmark ends at the first error, as a test does")]

#[path = "../../../benches/kernels/compare.rs"]
mod compare;

use compare::{Comparison, assert_close};
use criterion::{Criterion, criterion_group, criterion_main};
use kernels::dense::{add_gram, multiply_in_place};
use kernels::dot::score_rows;
use ndarray::{ArrayView1, ArrayView2, ArrayViewMut2};
use runtime::draw::normal;

/// Rows: what a training of 4,096 users or items reads again and again.
const ROWS: usize = 4096;

fn matrix(seed: u64, values: usize) -> Vec<f32> {
    (0..values as u64).map(|place| normal(seed, place)).collect()
}

fn view(values: &[f32], d: usize) -> ArrayView2<'_, f32> {
    ArrayView2::from_shape((values.len() / d, d), values).unwrap()
}

fn view_mut(values: &mut [f32], d: usize) -> ArrayViewMut2<'_, f32> {
    ArrayViewMut2::from_shape((values.len() / d, d), values).unwrap()
}

/// What is above the diagonal is the upper triangle's mirror, or nothing.
fn upper(gram: &[f32], d: usize) -> Vec<f32> {
    (0..d).flat_map(|i| gram[i * d + i..(i + 1) * d].iter().copied()).collect()
}

/// The Gram matrix of item factors, of which only the upper triangle is needed.
fn grams(criterion: &mut Criterion) {
    fn naive(rows: &[f32], d: usize) -> Vec<f32> {
        let mut gram = vec![0.0; d * d];
        for i in 0..d {
            for j in i..d {
                let mut sum = 0.0;
                for row in rows.chunks_exact(d) {
                    sum += row[i] * row[j];
                }
                gram[i * d + j] = sum;
            }
        }
        gram
    }
    fn ours(rows: &[f32], d: usize) -> Vec<f32> {
        let mut gram = vec![0.0; d * d];
        add_gram(view(rows, d), view_mut(&mut gram, d));
        gram
    }
    for d in [64, 128] {
        let rows = matrix(1, ROWS * d);
        let x = view(&rows, d);
        let gram = upper(&ours(&rows, d), d);
        assert_close("a triple loop", &gram, &upper(&naive(&rows, d), d), 1e-4);
        assert_close("ndarray", &gram, &upper(x.t().dot(&x).as_slice().unwrap(), d), 1e-4);
        Comparison::new(criterion, "add_gram", &format!("[{ROWS}, {d}]"))
            .side("ours", || ours(&rows, d))
            .side("triple loop", || naive(&rows, d))
            .side("ndarray", || x.t().dot(&x))
            .finish();
    }
}

/// Rows of factors times a small square matrix.
fn small_products(criterion: &mut Criterion) {
    fn naive(rows: &[f32], small: &[f32], d: usize) -> Vec<f32> {
        let mut out = vec![0.0; rows.len()];
        for (row, out) in rows.chunks_exact(d).zip(out.chunks_exact_mut(d)) {
            for j in 0..d {
                let mut sum = 0.0;
                for k in 0..d {
                    sum += row[k] * small[k * d + j];
                }
                out[j] = sum;
            }
        }
        out
    }
    // The product is in place: a fresh copy stands for the result that the others make.
    fn ours(rows: &[f32], small: &[f32], d: usize) -> Vec<f32> {
        let mut out = rows.to_vec();
        multiply_in_place(view_mut(&mut out, d), view(small, d));
        out
    }
    for d in [64, 128] {
        let (rows, small) = (matrix(1, ROWS * d), matrix(2, d * d));
        let (x, q) = (view(&rows, d), view(&small, d));
        let product = ours(&rows, &small, d);
        assert_close("a triple loop", &product, &naive(&rows, &small, d), 1e-5);
        assert_close("ndarray", &product, x.dot(&q).as_slice().unwrap(), 1e-5);
        Comparison::new(criterion, "multiply_in_place", &format!("[{ROWS}, {d}] by [{d}, {d}]"))
            .side("ours, with a copy", || ours(&rows, &small, d))
            .side("triple loop", || naive(&rows, &small, d))
            .side("ndarray", || x.dot(&q))
            .finish();
    }
}

/// Each row's inner product with one vector.
fn scores(criterion: &mut Criterion) {
    fn naive(rows: &[f32], query: &[f32]) -> Vec<f32> {
        rows.chunks_exact(query.len()).map(|row| row.iter().zip(query).map(|(x, y)| x * y).sum()).collect()
    }
    fn ours(rows: &[f32], query: &[f32]) -> Vec<f32> {
        let mut scores = vec![0.0; rows.len() / query.len()];
        score_rows(view(rows, query.len()), query, &mut scores);
        scores
    }
    for (n, d) in [(ROWS, 64), (100_000, 64)] {
        let (rows, query) = (matrix(1, n * d), matrix(2, d));
        let (x, q) = (view(&rows, d), ArrayView1::from(&query));
        let all = ours(&rows, &query);
        assert_close("a loop", &all, &naive(&rows, &query), 1e-5);
        assert_close("ndarray", &all, x.dot(&q).as_slice().unwrap(), 1e-5);
        Comparison::new(criterion, "score_rows", &format!("[{n}, {d}] by [{d}]"))
            .side("ours", || ours(&rows, &query))
            .side("loop", || naive(&rows, &query))
            .side("ndarray", || x.dot(&q))
            .finish();
    }
}

criterion_group!(benches, grams, small_products, scores);
criterion_main!(benches);
