//! What a row's features lead to expect of its factors: `m_i = Aᵀ f_i`, to which they are pulled instead of to 0.
//!
//! The map `A` [features, d] minimises `Σ_i λ_i ‖y_i − Aᵀ f_i‖² + λ̄ μ ‖A‖²` over the rows with interactions, λ̄ being their mean λ:
//! the part of the whole objective in which it stands, so that fitting it never raises that. It is fitted before each half-sweep by
//! some steps of conjugate gradients on `(FᵀWF + μI) A = FᵀWY`, `W = λ / λ̄`, from the last sweep's map: O(d) a feature that is not
//! 0, whatever their number. `f_i` ends in a constant 1 for each row of which anything is known. A row without interactions is what
//! is expected of it. Agarwal and Chen, "Regression-based latent factor models" (KDD 2009), for such priors.

use std::ops::Range;

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, s};

use interactions::Features;
use kernels::Csr;
use kernels::dense::{add_columns, combine, multiply_in_place};
use kernels::dot::axpy;
use kernels::matrix::{flat, flat_mut, for_each_rows};
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::progress::Progress;

/// Steps of conjugate gradients in a sweep.
const STEPS: usize = 6;
/// Rows, or features, handled at a time by one thread.
const CHUNK: usize = 64;

pub struct FeatureMap<'a> {
    features: &'a Features,
    /// [attributes, rows]
    by_attribute: Csr,
    /// [rows]: λ / λ̄; 0 without interactions.
    weight: Vec<f32>,
    mean_lambda: f32,
    /// [features, stride]: the attributes, the dimensions of the vectors, the constant.
    map: Array2<f32>,
    /// [features]: of `FᵀWF + μI`.
    diagonal: Vec<f32>,
    /// μ
    regularization: f32,
    threads: usize,
}

/// The number of features: attributes, the dimensions of the vectors, the constant.
pub fn width(features: &Features) -> usize {
    features.attributes.columns + features.width() + 1
}

/// `out ← Aᵀ f` for a row; 0 where nothing is known of it. `map` is [features, stride].
fn expect(features: &Features, map: ArrayView2<f32>, row: usize, out: &mut [f32]) {
    let d = out.len();
    out.fill(0.0);
    if !features.knows(row) {
        return;
    }
    let (first, width, learned) = (features.attributes.columns, features.width(), flat(map));
    let (columns, values) = features.attributes.row(row);
    for (&column, &value) in columns.iter().zip(values) {
        axpy(value, &learned[column as usize * d..][..d], out);
    }
    if width > 0 {
        combine(features.vector(row), map.slice(s![first..first + width, ..]), out);
    }
    axpy(1.0, &learned[(first + width) * d..][..d], out);
}

/// The factors [rows, d] that `map` [features, d] expects of rows with these features.
pub fn factors_from_features(features: &Features, map: ArrayView2<f32>) -> Result<Array2<f32>> {
    let (learned, d) = map.dim();
    if learned != width(features) {
        let hint = "Encode the features as those the model was trained with.";
        return Err(Error::invalid(format!("{} features for {learned} learned", width(features)), hint));
    }
    let stride = d.next_multiple_of(super::problem::PAD);
    let mut padded = memory::matrix(learned, stride, 0f32)?;
    padded.slice_mut(s![.., ..d]).assign(&map);
    let mut factors = memory::matrix(features.rows(), d, 0f32)?;
    let mut row_factors = vec![0.0; stride];
    for (row, mut to) in factors.rows_mut().into_iter().enumerate() {
        expect(features, padded.view(), row, &mut row_factors);
        to.iter_mut().zip(&row_factors).for_each(|(to, &x)| *to = x);
    }
    Ok(factors)
}

impl<'a> FeatureMap<'a> {
    /// `lambda` [rows] is 0 for rows without interactions.
    pub fn new(
        features: &'a Features,
        lambda: &[f32],
        stride: usize,
        regularization: f32,
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let rows = lambda.len();
        if features.rows() != rows || (features.width() > 0 && features.vectors.nrows() != rows) {
            return Err(Error::Internal(format!("features of {} rows for {rows}", features.rows())));
        }
        let active = lambda.iter().filter(|&&l| l > 0.0).count().max(1) as f64;
        let mean = lambda.iter().map(|&l| f64::from(l)).sum::<f64>() / active;
        let mean_lambda = if mean > 0.0 { mean as f32 } else { 1.0 };
        let known = |row: usize| if features.knows(row) { lambda[row] / mean_lambda } else { 0.0 };
        let weight: Vec<f32> = (0..rows).map(known).collect();
        let mut diagonal = memory::filled(f64::from(regularization), width(features))?;
        for (row, &weight) in weight.iter().enumerate() {
            let (columns, values) = features.attributes.row(row);
            let square = |x: f32| f64::from(weight) * f64::from(x) * f64::from(x);
            columns.iter().zip(values).for_each(|(&column, &x)| diagonal[column as usize] += square(x));
            let vectors = &mut diagonal[features.attributes.columns..];
            vectors.iter_mut().zip(features.vector(row).iter().chain(&[1.0])).for_each(|(sum, &x)| *sum += square(x));
        }
        Ok(Self {
            features,
            by_attribute: features.attributes.transpose(progress)?,
            weight,
            mean_lambda,
            map: memory::matrix(width(features), stride, 0.0)?,
            diagonal: diagonal.into_iter().map(|x| x as f32).collect(),
            regularization,
            threads,
        })
    }

    /// What is expected of some rows [rows, stride].
    pub fn expected(&self, rows: Range<usize>) -> Result<Array2<f32>> {
        let d = self.map.ncols();
        let mut out = memory::matrix(rows.len(), d, 0.0)?;
        for (row, out) in rows.zip(flat_mut(out.view_mut()).chunks_exact_mut(d)) {
            expect(self.features, self.map.view(), row, out);
        }
        Ok(out)
    }

    pub fn rotate(&mut self, rotation: ArrayView2<f32>) {
        multiply_in_place(self.map.view_mut(), rotation);
    }

    /// The map without padding [features, width].
    pub fn unpadded(&self, width: usize) -> Result<Array2<f32>> {
        let mut out = memory::matrix(self.map.nrows(), width, 0.0)?;
        out.assign(&self.map.slice(s![.., ..width]));
        Ok(out)
    }

    /// What the map adds to an objective that has `Σ λ ‖y‖²` in it: `Σ λ (‖y − m‖² − ‖y‖²) + λ̄ μ ‖A‖²`.
    pub fn loss(&self, factors: ArrayView2<f32>, progress: &dyn Progress) -> Result<f64> {
        let mut total = 0.0;
        let mut expected = vec![0.0; self.map.ncols()];
        for (row, y) in flat(factors).chunks_exact(self.map.ncols()).enumerate() {
            if row % 4096 == 0 {
                progress.check()?;
            }
            expect(self.features, self.map.view(), row, &mut expected);
            let terms = y.iter().zip(&expected).map(|(&y, &m)| f64::from(m) * (f64::from(m) - 2.0 * f64::from(y)));
            total += f64::from(self.weight[row]) * terms.sum::<f64>();
        }
        let own: f64 = self.map.iter().map(|&a| f64::from(a) * f64::from(a)).sum();
        Ok(f64::from(self.mean_lambda) * (total + f64::from(self.regularization) * own))
    }

    /// `out ← FᵀW e` for `e` [rows, stride].
    fn transposed(&self, e: ArrayView2<f32>, mut out: ArrayViewMut2<f32>, progress: &dyn Progress) -> Result<()> {
        let (d, vectors) = (self.map.ncols(), self.features.vectors.view());
        out.fill(0.0);
        let (sparse, rest) = out.split_at(Axis(0), self.features.attributes.columns);
        let (dense, constant) = rest.split_at(Axis(0), vectors.ncols());
        let (rows_of_e, constant) = (flat(e), flat_mut(constant));
        let each = |(): &mut (), number: usize, out: ArrayViewMut2<f32>| {
            for (attribute, out) in (number * CHUNK..).zip(flat_mut(out).chunks_exact_mut(d)) {
                let (rows, values) = self.by_attribute.row(attribute);
                rows.iter().zip(values).for_each(|(&row, &x)| axpy(x, &rows_of_e[row as usize * d..][..d], out));
            }
            Ok(())
        };
        for_each_rows(sparse, CHUNK, self.threads, progress, || (), each)?;
        let each = |(): &mut (), number: usize, out: ArrayViewMut2<f32>| {
            add_columns(vectors, number * 4, e, out);
            Ok(())
        };
        for_each_rows(dense, 4, self.threads, progress, || (), each)?;
        rows_of_e.chunks_exact(d).enumerate().filter(|(row, _)| self.features.knows(*row)).for_each(|(_, e)| {
            axpy(1.0, e, constant);
        });
        Ok(())
    }

    /// Improves the map towards that which expects `factors` [rows, stride] best.
    pub fn fit(&mut self, factors: ArrayView2<f32>, progress: &dyn Progress) -> Result<()> {
        let (n, d) = self.map.dim();
        let mut rows = memory::matrix(factors.nrows(), d, 0f32)?;
        let (mut r, mut q) = (memory::matrix(n, d, 0f32)?, memory::matrix(n, d, 0f32)?);
        // r = FᵀW (Y − F A) − μ A
        self.weighted(self.map.view(), Some(factors), rows.view_mut(), progress)?;
        self.transposed(rows.view(), r.view_mut(), progress)?;
        r.iter_mut().zip(&self.map).for_each(|(r, &a)| *r -= self.regularization * a);
        let mut p = memory::matrix(n, d, 0f32)?;
        let mut before = vec![0f64; d];
        for _ in 0..STEPS {
            // z = M⁻¹ r; each column of the map is a system of its own.
            let mut energy = vec![0f64; d];
            for (r, &m) in flat(r.view()).chunks_exact(d).zip(&self.diagonal) {
                energy.iter_mut().zip(r).for_each(|(sum, &r)| *sum += f64::from(r * r / m));
            }
            let beta: Vec<f32> = energy.iter().zip(&before).map(|(&e, &b)| quotient(e, b)).collect();
            let rows_of_p = flat_mut(p.view_mut()).chunks_exact_mut(d);
            for ((p, r), &m) in rows_of_p.zip(flat(r.view()).chunks_exact(d)).zip(&self.diagonal) {
                p.iter_mut().zip(r).zip(&beta).for_each(|((p, &r), &beta)| *p = r / m + beta * *p);
            }
            self.weighted(p.view(), None, rows.view_mut(), progress)?;
            self.transposed(rows.view(), q.view_mut(), progress)?;
            let mut curvature = vec![0f64; d];
            for (q, p) in flat_mut(q.view_mut()).chunks_exact_mut(d).zip(flat(p.view()).chunks_exact(d)) {
                for ((q, &p), sum) in q.iter_mut().zip(p).zip(&mut curvature) {
                    *q += self.regularization * p;
                    *sum += f64::from(*q * p);
                }
            }
            let length: Vec<f32> = energy.iter().zip(&curvature).map(|(&e, &c)| quotient(e, c)).collect();
            let map = flat_mut(self.map.view_mut()).chunks_exact_mut(d);
            let steps = flat(p.view()).chunks_exact(d).zip(flat(q.view()).chunks_exact(d));
            for ((a, r), (p, q)) in map.zip(flat_mut(r.view_mut()).chunks_exact_mut(d)).zip(steps) {
                for k in 0..d {
                    a[k] += length[k] * p[k];
                    r[k] -= length[k] * q[k];
                }
            }
            before = energy;
        }
        Ok(())
    }

    /// `out ← W (Y − F A)`, or `W F A` without `factors`.
    fn weighted(
        &self,
        map: ArrayView2<f32>,
        factors: Option<ArrayView2<f32>>,
        out: ArrayViewMut2<f32>,
        progress: &dyn Progress,
    ) -> Result<()> {
        let (d, factors) = (self.map.ncols(), factors.map(flat));
        let each = |(): &mut (), number: usize, out: ArrayViewMut2<f32>| {
            for (row, out) in (number * CHUNK..).zip(flat_mut(out).chunks_exact_mut(d)) {
                let weight = self.weight[row];
                if weight == 0.0 {
                    out.fill(0.0);
                    continue;
                }
                expect(self.features, map, row, out);
                match factors {
                    Some(factors) => {
                        let y = &factors[row * d..][..d];
                        out.iter_mut().zip(y).for_each(|(out, &y)| *out = weight * (y - *out));
                    }
                    None => out.iter_mut().for_each(|out| *out *= weight),
                }
            }
            Ok(())
        };
        for_each_rows(out, CHUNK, self.threads, progress, || (), each)
    }
}

/// 0 where there is nothing left to divide, or nothing to divide by.
fn quotient(a: f64, b: f64) -> f32 {
    if a > 1e-30 && b > 1e-30 { (a / b) as f32 } else { 0.0 }
}
