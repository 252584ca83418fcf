//! What a row's features lead to expect of its factors: `m_i = Aᵀ f_i`, to which they are pulled instead of to 0.
//!
//! The map `A` [features, d] minimises `Σ_i λ_i ‖y_i − Aᵀ f_i‖² + λ̄ μ ‖A‖²` over the rows with interactions, λ̄ being their mean λ:
//! the part of the whole objective in which it stands, so that fitting it never raises that. It is fitted before each half-sweep by
//! some steps of conjugate gradients on `(FᵀWF + μI) A = FᵀWY`, `W = λ / λ̄`, from the last sweep's map: O(d) a feature that is not
//! 0, whatever their number. `f_i` ends in a constant 1 for each row of which anything is known. A row without interactions is what
//! is expected of it. Agarwal and Chen, "Regression-based latent factor models" (KDD 2009), for such priors.

use std::ops::Range;

use interactions::Features;
use kernels::Csr;
use kernels::dense::{add_columns, combine, multiply_in_place};
use kernels::dot::axpy;
use kernels::matrix::flat;
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::parallel::for_each_chunk;
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
    map: Vec<f32>,
    /// [features]: of `FᵀWF + μI`.
    diagonal: Vec<f32>,
    stride: usize,
    /// μ
    regularization: f32,
    threads: usize,
}

/// The number of features: attributes, the dimensions of the vectors, the constant.
pub fn width(features: &Features) -> usize {
    features.attributes.columns + features.width() + 1
}

/// `out ← Aᵀ f` for a row; 0 where nothing is known of it. `map` is [features, stride].
fn expect(features: &Features, map: &[f32], row: usize, out: &mut [f32]) {
    let d = out.len();
    out.fill(0.0);
    if !features.knows(row) {
        return;
    }
    let (columns, values) = features.attributes.row(row);
    for (&column, &value) in columns.iter().zip(values) {
        axpy(value, &map[column as usize * d..][..d], out);
    }
    let (vectors, constant) = map[features.attributes.columns * d..].split_at(features.width() * d);
    combine(features.vector(row), vectors, out);
    axpy(1.0, &constant[..d], out);
}

/// The factors [rows, d] that `map` [features, d] expects of rows with these features.
pub fn factors_from_features(features: &Features, map: &[f32], d: usize) -> Result<Vec<f32>> {
    if map.len() != width(features) * d {
        let hint = "Encode the features as those the model was trained with.";
        return Err(Error::invalid(format!("{} features for {} learned", width(features), map.len() / d.max(1)), hint));
    }
    let stride = d.next_multiple_of(super::problem::PAD);
    let mut padded = memory::filled(0f32, width(features) * stride)?;
    padded.chunks_exact_mut(stride).zip(map.chunks_exact(d)).for_each(|(to, from)| to[..d].copy_from_slice(from));
    let mut factors = memory::filled(0f32, features.rows() * d)?;
    let mut row_factors = vec![0.0; stride];
    for (row, to) in factors.chunks_exact_mut(d).enumerate() {
        expect(features, &padded, row, &mut row_factors);
        to.copy_from_slice(&row_factors[..d]);
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
            map: memory::filled(0.0, width(features) * stride)?,
            diagonal: diagonal.into_iter().map(|x| x as f32).collect(),
            stride,
            regularization,
            threads,
        })
    }

    /// What is expected of some rows [rows, stride].
    pub fn expected(&self, rows: Range<usize>) -> Result<Vec<f32>> {
        let mut out = memory::filled(0.0, rows.len() * self.stride)?;
        for (row, out) in rows.zip(out.chunks_exact_mut(self.stride)) {
            expect(self.features, &self.map, row, out);
        }
        Ok(out)
    }

    pub fn rotate(&mut self, rotation: &[f32]) {
        multiply_in_place(&mut self.map, rotation, self.stride);
    }

    /// The map without padding [features, width].
    pub fn unpadded(&self, width: usize) -> Vec<f32> {
        self.map.chunks_exact(self.stride).flat_map(|row| &row[..width]).copied().collect()
    }

    /// What the map adds to an objective that has `Σ λ ‖y‖²` in it: `Σ λ (‖y − m‖² − ‖y‖²) + λ̄ μ ‖A‖²`.
    pub fn loss(&self, factors: &[f32], progress: &dyn Progress) -> Result<f64> {
        let d = self.stride;
        let mut total = 0.0;
        let mut expected = vec![0.0; d];
        for (row, y) in factors.chunks_exact(d).enumerate() {
            if row % 4096 == 0 {
                progress.check()?;
            }
            expect(self.features, &self.map, row, &mut expected);
            let terms = y.iter().zip(&expected).map(|(&y, &m)| f64::from(m) * (f64::from(m) - 2.0 * f64::from(y)));
            total += f64::from(self.weight[row]) * terms.sum::<f64>();
        }
        let own: f64 = self.map.iter().map(|&a| f64::from(a) * f64::from(a)).sum();
        Ok(f64::from(self.mean_lambda) * (total + f64::from(self.regularization) * own))
    }

    /// `out ← FᵀW e` for `e` [rows, stride].
    fn transposed(&self, e: &[f32], out: &mut [f32], progress: &dyn Progress) -> Result<()> {
        let (d, attributes, width) = (self.stride, self.features.attributes.columns, self.features.width());
        out.fill(0.0);
        let (sparse, rest) = out.split_at_mut(attributes * d);
        let (dense, constant) = rest.split_at_mut(width * d);
        let each = |(): &mut (), number: usize, out: &mut [f32]| {
            for (attribute, out) in (number * CHUNK..).zip(out.chunks_exact_mut(d)) {
                let (rows, values) = self.by_attribute.row(attribute);
                rows.iter().zip(values).for_each(|(&row, &x)| axpy(x, &e[row as usize * d..][..d], out));
            }
            Ok(())
        };
        for_each_chunk(sparse, CHUNK * d, self.threads, progress, || (), each)?;
        let each = |(): &mut (), number: usize, out: &mut [f32]| {
            add_columns(flat(self.features.vectors.view()), width, number * 4, e, d, out);
            Ok(())
        };
        for_each_chunk(dense, 4 * d, self.threads, progress, || (), each)?;
        e.chunks_exact(d).enumerate().filter(|(row, _)| self.features.knows(*row)).for_each(|(_, e)| {
            axpy(1.0, e, constant);
        });
        Ok(())
    }

    /// Improves the map towards that which expects `factors` [rows, stride] best.
    pub fn fit(&mut self, factors: &[f32], progress: &dyn Progress) -> Result<()> {
        let (d, n) = (self.stride, self.map.len());
        let mut rows = memory::filled(0f32, factors.len())?;
        let (mut r, mut q) = (memory::filled(0f32, n)?, memory::filled(0f32, n)?);
        // r = FᵀW (Y − F A) − μ A
        self.weighted(&self.map, Some(factors), &mut rows, progress)?;
        self.transposed(&rows, &mut r, progress)?;
        r.iter_mut().zip(&self.map).for_each(|(r, &a)| *r -= self.regularization * a);
        let mut p = memory::filled(0f32, n)?;
        let mut before = vec![0f64; d];
        for _ in 0..STEPS {
            // z = M⁻¹ r; each column of the map is a system of its own.
            let mut energy = vec![0f64; d];
            for (r, &m) in r.chunks_exact(d).zip(&self.diagonal) {
                energy.iter_mut().zip(r).for_each(|(sum, &r)| *sum += f64::from(r * r / m));
            }
            let beta: Vec<f32> = energy.iter().zip(&before).map(|(&e, &b)| quotient(e, b)).collect();
            for ((p, r), &m) in p.chunks_exact_mut(d).zip(r.chunks_exact(d)).zip(&self.diagonal) {
                p.iter_mut().zip(r).zip(&beta).for_each(|((p, &r), &beta)| *p = r / m + beta * *p);
            }
            self.weighted(&p, None, &mut rows, progress)?;
            self.transposed(&rows, &mut q, progress)?;
            let mut curvature = vec![0f64; d];
            for (q, p) in q.chunks_exact_mut(d).zip(p.chunks_exact(d)) {
                for ((q, &p), sum) in q.iter_mut().zip(p).zip(&mut curvature) {
                    *q += self.regularization * p;
                    *sum += f64::from(*q * p);
                }
            }
            let length: Vec<f32> = energy.iter().zip(&curvature).map(|(&e, &c)| quotient(e, c)).collect();
            let columns = self.map.chunks_exact_mut(d).zip(r.chunks_exact_mut(d));
            for ((a, r), (p, q)) in columns.zip(p.chunks_exact(d).zip(q.chunks_exact(d))) {
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
    fn weighted(&self, map: &[f32], factors: Option<&[f32]>, out: &mut [f32], progress: &dyn Progress) -> Result<()> {
        let d = self.stride;
        let each = |(): &mut (), number: usize, out: &mut [f32]| {
            for (row, out) in (number * CHUNK..).zip(out.chunks_exact_mut(d)) {
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
        for_each_chunk(out, CHUNK * d, self.threads, progress, || (), each)
    }
}

/// 0 where there is nothing left to divide, or nothing to divide by.
fn quotient(a: f64, b: f64) -> f32 {
    if a > 1e-30 && b > 1e-30 { (a / b) as f32 } else { 0.0 }
}
