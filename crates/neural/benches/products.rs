//! Matrix products of training beside a triple loop and the product of ndarray, which is matrixmultiply's; one thread each.
#![allow(clippy::unwrap_used, reason = "a benchmark ends at the first error, as a test does")]

#[path = "../../../benches/kernels/compare.rs"]
mod compare;

use compare::{Comparison, assert_close};
use criterion::{Criterion, criterion_group, criterion_main};
use ndarray::Array2;
use neural::products::matmul;
use runtime::draw::normal;

fn matrix(seed: u64, rows: usize, columns: usize) -> Array2<f32> {
    Array2::from_shape_fn((rows, columns), |(i, j)| normal(seed, (i * columns + j) as u64))
}

/// Row by column, as in the definition.
fn naive(a: &Array2<f32>, b: &Array2<f32>) -> Vec<f32> {
    let ((m, k), n) = (a.dim(), b.ncols());
    let (a, b) = (a.as_slice().unwrap(), b.as_slice().unwrap());
    let mut out = vec![0.0; m * n];
    for i in 0..m {
        for j in 0..n {
            let mut sum = 0.0;
            for l in 0..k {
                sum += a[i * k + l] * b[l * n + j];
            }
            out[i * n + j] = sum;
        }
    }
    out
}

fn products(criterion: &mut Criterion) {
    // A batch through a layer, a batch of wide inputs, scores of few rows, and a shape that is no multiple of a register.
    for (m, k, n) in [(256, 256, 256), (256, 1024, 128), (32, 64, 1024), (200, 100, 50)] {
        let (a, b) = (matrix(1, m, k), matrix(2, k, n));
        let ours = matmul(a.view(), b.view()).unwrap();
        let ours = ours.as_slice().unwrap();
        assert_close("a triple loop", ours, &naive(&a, &b), 1e-5);
        assert_close("ndarray", ours, a.dot(&b).as_slice().unwrap(), 1e-5);
        Comparison::new(criterion, "matmul", &format!("[{m}, {k}] by [{k}, {n}]"))
            .side("ours", || matmul(a.view(), b.view()).unwrap())
            .side("triple loop", || naive(&a, &b))
            .side("ndarray", || a.dot(&b))
            .finish();
    }
}

/// The gradient of a layer's weights: the left factor lies transposed.
fn gradients(criterion: &mut Criterion) {
    let (rows, inputs, outputs) = (256, 256, 128);
    let (x, by) = (matrix(1, rows, inputs), matrix(2, rows, outputs));
    fn naive(x: &Array2<f32>, by: &Array2<f32>) -> Vec<f32> {
        let ((rows, inputs), outputs) = (x.dim(), by.ncols());
        let (x, by) = (x.as_slice().unwrap(), by.as_slice().unwrap());
        let mut out = vec![0.0; inputs * outputs];
        for i in 0..inputs {
            for j in 0..outputs {
                let mut sum = 0.0;
                for row in 0..rows {
                    sum += x[row * inputs + i] * by[row * outputs + j];
                }
                out[i * outputs + j] = sum;
            }
        }
        out
    }
    let ours = matmul(x.t(), by.view()).unwrap();
    let ours = ours.as_slice().unwrap();
    assert_close("a triple loop", ours, &naive(&x, &by), 1e-5);
    assert_close("ndarray", ours, x.t().dot(&by).as_slice().unwrap(), 1e-5);
    Comparison::new(criterion, "matmul", &format!("[{rows}, {inputs}]ᵀ by [{rows}, {outputs}]"))
        .side("ours", || matmul(x.t(), by.view()).unwrap())
        .side("triple loop", || naive(&x, &by))
        .side("ndarray", || x.t().dot(&by))
        .finish();
}

criterion_group!(benches, products, gradients);
criterion_main!(benches);
