//! A linear map from the mean of a history's item embeddings to its user's, for users who were not trained.
//!
//! Ridge regression with an intercept: `W = (C_xx + λ I)⁻¹ C_xy` over the trained users, where `x` is the mean of `[q_i ; q'_i W_i]`
//! over a user's items, and `y` is the user's state. Costs O(users · width²), over at most [`USERS`] of them.

use ndarray::{Array2, ArrayView2};

use super::trained::Trained;
use crate::training::diverged;
use kernels::Csr;
use kernels::decompose::symmetric_eigen;
use kernels::dense::add_gram;
use kernels::matrix::{flat, flat_mut};
use neural::dense::PAD;
use runtime::error::Result;
use runtime::team::Team;

/// Users that the map is fitted to at most, taken evenly.
const USERS: usize = 32_768;
/// Users whose products are summed at once.
const CHUNK: usize = 256;
/// λ, as a share of the mean variance of `x`: this, and that much more for each dimension a user.
const RIDGE: f64 = 1e-3;
const RIDGE_OF_FEW: f64 = 1e-2;

pub struct FoldIn {
    /// [d, d]: from the mean of the items to the user's state, d = f + h.
    pub weight: Array2<f32>,
    /// [d]
    pub bias: Vec<f32>,
}

/// The mean of the items' embeddings, `[q_i ; q'_i W_i]`, into `mean`; false where there are none.
pub fn mean_of(
    item_gmf: ArrayView2<f32>,
    item_mlp: ArrayView2<f32>,
    items: impl Iterator<Item = u32>,
    mean: &mut [f32],
) -> bool {
    let (f, h) = (item_gmf.ncols(), item_mlp.ncols());
    let (item_gmf, item_mlp) = (flat(item_gmf), flat(item_mlp));
    mean.fill(0.0);
    let mut n = 0f32;
    for item in items {
        let item = item as usize;
        let (Some(q), Some(r)) = (item_gmf.get(item * f..(item + 1) * f), item_mlp.get(item * h..(item + 1) * h))
        else {
            continue;
        };
        mean.iter_mut().zip(q.iter().chain(r)).for_each(|(sum, x)| *sum += x);
        n += 1.0;
    }
    mean.iter_mut().for_each(|sum| *sum /= n.max(1.0));
    n > 0.0
}

pub fn fit(matrix: &Csr, trained: &Trained, team: &Team) -> Result<FoldIn> {
    let d = trained.users.ncols();
    let rows = matrix.rows();
    let users: Vec<usize> = (0..rows.min(USERS)).map(|n| n * rows / rows.min(USERS)).collect();
    let users: Vec<usize> = users.into_iter().filter(|&user| !matrix.row(user).0.is_empty()).collect();
    // Rows [x, y, 1, 0…], whose Gram matrix holds all sums there are.
    let width = (2 * d + 1).next_multiple_of(PAD);
    let states = flat(trained.users.view());
    let chunks: Vec<&[usize]> = users.chunks(CHUNK).collect();
    let grams = team.each(chunks.len(), |c| {
        let mut rows = Array2::<f32>::zeros((chunks[c].len(), width));
        for (row, &user) in flat_mut(rows.view_mut()).chunks_exact_mut(width).zip(chunks[c]) {
            let (items, _) = matrix.row(user);
            mean_of(trained.item_gmf.view(), trained.item_mlp.view(), items.iter().copied(), &mut row[..d]);
            row[d..2 * d].copy_from_slice(&states[user * d..][..d]);
            row[2 * d] = 1.0;
        }
        let mut gram = Array2::<f32>::zeros((width, width));
        add_gram(rows.view(), gram.view_mut());
        Ok(gram)
    })?;
    let mut sums = Array2::<f64>::zeros((width, width));
    for gram in &grams {
        sums.iter_mut().zip(gram).for_each(|(sum, &x)| *sum += f64::from(x));
    }
    let sums = flat(sums.view());
    team.check()?;
    let n = users.len().max(1) as f64;
    // Only the upper triangle is filled.
    let mean = |i: usize| sums[i * width + 2 * d] / n;
    let covariance = |i: usize, j: usize| sums[i.min(j) * width + i.max(j)] / n - mean(i) * mean(j);
    let own = Array2::from_shape_fn((d, d), |(i, j)| covariance(i, j));
    let variance = (0..d).map(|k| own[[k, k]].max(0.0)).sum::<f64>() / d as f64;
    let ridge = variance * (RIDGE + RIDGE_OF_FEW * d as f64 / n) + f64::MIN_POSITIVE;
    let eigen = symmetric_eigen(own.view()).ok_or_else(|| diverged("Lower learning_rate."))?;
    team.check()?;
    // (C + λI)⁻¹ = Q (Λ + λ)⁻¹ Qᵀ, rounding's negative eigenvalues taken for 0.
    let vectors = flat(eigen.vectors.view());
    let mut inverse = vec![0f64; d * d];
    for (k, &value) in eigen.values.iter().enumerate() {
        let scale = 1.0 / (value.max(0.0) + ridge);
        for i in 0..d {
            let left = scale * vectors[i * d + k];
            (0..d).for_each(|j| inverse[i * d + j] += left * vectors[j * d + k]);
        }
    }
    let mut weight = Array2::<f32>::zeros((d, d));
    let mut bias: Vec<f64> = (0..d).map(|j| mean(d + j)).collect();
    for i in 0..d {
        let mut row = vec![0f64; d];
        for k in 0..d {
            let scale = inverse[i * d + k];
            row.iter_mut().enumerate().for_each(|(j, sum)| *sum += scale * covariance(k, d + j));
        }
        for (j, &w) in row.iter().enumerate() {
            // No variance at all: everyone is the mean.
            let w = if w.is_finite() && variance > 0.0 { w } else { 0.0 };
            weight[[i, j]] = w as f32;
            bias[j] -= mean(i) * w;
        }
    }
    Ok(FoldIn { weight, bias: bias.into_iter().map(|b| b as f32).collect() })
}
