//! Cholesky's decomposition and solving with it, beside the textbook's loops and nalgebra's; and an inverse. One thread each, and each side
//! begins with a copy of the matrix, since all of them work in place.
#![allow(clippy::unwrap_used, reason = "a benchmark ends at the first error, as a test does")]

#[path = "../../../benches/kernels/compare.rs"]
mod compare;

use std::ops::{Div, Mul, Sub};

use compare::{Comparison, assert_close};
use criterion::{Criterion, criterion_group, criterion_main};
use kernels::cholesky;
use kernels::cholesky_f32::{cholesky_apply, cholesky_factor};
use kernels::inverse::LowerTriangle;
use nalgebra::{DMatrix, DVector};
use ndarray::{Array2, ArrayViewMut2};
use runtime::draw::normal;
use runtime::progress::Unwatched;

/// The Gram matrix of twice as many rows, divided by their number, with 0.1 on the diagonal: as a ridge's.
fn definite(d: usize) -> Vec<f64> {
    let rows = DMatrix::from_fn(2 * d, d, |i, j| f64::from(normal(1, (i * d + j) as u64)));
    let gram = (rows.transpose() * rows) / (2 * d) as f64 + DMatrix::identity(d, d) * 0.1;
    gram.as_slice().to_vec()
}

/// A number with a square root.
trait Number: Copy + Default + Mul<Output = Self> + Sub<Output = Self> + Div<Output = Self> {
    fn root(self) -> Self;
}

impl Number for f32 {
    fn root(self) -> Self {
        self.sqrt()
    }
}

impl Number for f64 {
    fn root(self) -> Self {
        self.sqrt()
    }
}

/// Row by row, element by element (Cholesky and Banachiewicz), then forward and backward substitution.
fn naive<T: Number>(a: &[T], b: &[T]) -> Vec<T> {
    let d = b.len();
    let mut l = vec![T::default(); d * d];
    for i in 0..d {
        for j in 0..=i {
            let mut left = a[i * d + j];
            for k in 0..j {
                left = left - l[i * d + k] * l[j * d + k];
            }
            l[i * d + j] = if i == j { left.root() } else { left / l[j * d + j] };
        }
    }
    let mut x = b.to_vec();
    for i in 0..d {
        for k in 0..i {
            x[i] = x[i] - l[i * d + k] * x[k];
        }
        x[i] = x[i] / l[i * d + i];
    }
    for i in (0..d).rev() {
        for k in i + 1..d {
            x[i] = x[i] - l[k * d + i] * x[k];
        }
        x[i] = x[i] / l[i * d + i];
    }
    x
}

fn square<T: Copy>(values: &[T]) -> Array2<T> {
    let d = values.len().isqrt();
    Array2::from_shape_vec((d, d), values.to_vec()).unwrap()
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&x| x as f32).collect()
}

fn single(criterion: &mut Criterion) {
    fn ours(a: &[f32], b: &[f32]) -> Vec<f32> {
        let (mut a, mut x) = (square(a), b.to_vec());
        assert!(cholesky_factor(a.view_mut()));
        cholesky_apply(a.view(), &mut x);
        x
    }
    fn library(a: &DMatrix<f32>, b: &DVector<f32>) -> DVector<f32> {
        a.clone().cholesky().unwrap().solve(b)
    }
    for d in [32, 64, 128] {
        let (a, b) = (narrow(&definite(d)), (0..d as u64).map(|place| normal(2, place)).collect::<Vec<f32>>());
        let (matrix, vector) = (DMatrix::from_row_slice(d, d, &a), DVector::from_row_slice(&b));
        let x = ours(&a, &b);
        assert_close("textbook", &x, &naive(&a, &b), 1e-3);
        assert_close("nalgebra", &x, library(&matrix, &vector).as_slice(), 1e-3);
        Comparison::new(criterion, "Cholesky, f32", &format!("{d} unknowns"))
            .side("ours", || ours(&a, &b))
            .side("textbook", || naive(&a, &b))
            .side("nalgebra", || library(&matrix, &vector))
            .finish();
    }
}

fn double(criterion: &mut Criterion) {
    fn ours(a: &[f64], b: &[f64]) -> Vec<f64> {
        let (mut a, mut x) = (square(a), b.to_vec());
        cholesky::solve(a.view_mut(), &mut x).unwrap();
        x
    }
    fn library(a: &DMatrix<f64>, b: &DVector<f64>) -> DVector<f64> {
        a.clone().cholesky().unwrap().solve(b)
    }
    for d in [32, 64, 128] {
        let (a, b) = (definite(d), (0..d as u64).map(|place| normal(2, place).into()).collect::<Vec<f64>>());
        let (matrix, vector) = (DMatrix::from_row_slice(d, d, &a), DVector::from_row_slice(&b));
        let x = narrow(&ours(&a, &b));
        assert_close("textbook", &x, &narrow(&naive(&a, &b)), 1e-6);
        assert_close("nalgebra", &x, &narrow(library(&matrix, &vector).as_slice()), 1e-6);
        Comparison::new(criterion, "Cholesky, f64", &format!("{d} unknowns"))
            .side("ours", || ours(&a, &b))
            .side("textbook", || naive(&a, &b))
            .side("nalgebra", || library(&matrix, &vector))
            .finish();
    }
}

/// The inverse of a larger matrix, as EASE needs it.
fn inverses(criterion: &mut Criterion) {
    const N: usize = 512;
    fn ours(a: &[f32]) -> Vec<f32> {
        let fill = |_: &mut (), i: usize, row: &mut [f32]| {
            row.copy_from_slice(&a[i * N..=i * N + i]);
            Ok(())
        };
        let mut matrix = LowerTriangle::build(N, 1, &Unwatched, || (), fill).unwrap();
        assert!(matrix.negative_inverse(1, &Unwatched).unwrap());
        let mut out = vec![0.0; N * N];
        matrix.copy_rows(0, ArrayViewMut2::from_shape((N, N), &mut out).unwrap());
        out.iter_mut().for_each(|x| *x = -*x);
        out
    }
    /// Gauss and Jordan, in place; a definite matrix needs no pivoting.
    fn naive(a: &[f32]) -> Vec<f32> {
        let mut a = a.to_vec();
        for k in 0..N {
            let pivot = 1.0 / a[k * N + k];
            a[k * N + k] = 1.0;
            (0..N).for_each(|j| a[k * N + j] *= pivot);
            for i in (0..N).filter(|&i| i != k) {
                let factor = std::mem::take(&mut a[i * N + k]);
                (0..N).for_each(|j| a[i * N + j] -= factor * a[k * N + j]);
            }
        }
        a
    }
    let a = narrow(&definite(N));
    let matrix = DMatrix::from_row_slice(N, N, &a);
    let library = || matrix.clone().cholesky().unwrap().inverse();
    let inverse = ours(&a);
    assert_close("Gauss and Jordan", &inverse, &naive(&a), 1e-3);
    assert_close("nalgebra", &inverse, library().as_slice(), 1e-3);
    Comparison::new(criterion, "inverse, f32", &format!("{N} rows"))
        .side("ours", || ours(&a))
        .side("Gauss and Jordan", || naive(&a))
        .side("nalgebra", library)
        .finish();
}

criterion_group!(benches, single, double, inverses);
criterion_main!(benches);
