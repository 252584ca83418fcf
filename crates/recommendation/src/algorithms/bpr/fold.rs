//! From the mean of a history's item factors to a user's: ridge regression in closed form.
//!
//! `W, w = argmin Σ_u ‖x_u − W m_u − w‖² + λ ‖W‖²`, `m_u` the mean of the factors of what user `u` chose, weighted by confidence. The rows
//! `[m_u, 1, x_u]` have all that takes in their Gram matrix.

use ndarray::{Array2, s};

use super::strata::Learned;
use crate::training::diverged;
use crate::weighting::Weighting;
use kernels::Csr;
use kernels::cholesky::{factor, substitute};
use kernels::dense::add_gram;
use kernels::matrix::{flat, flat_mut};
use runtime::error::Result;
use runtime::memory;
use runtime::parallel::for_each_chunk;
use runtime::progress::Progress;

/// λ as a share of the mean diagonal entry of `MᵀM`.
const RIDGE: f64 = 1e-3;
/// Users whose rows are added to a Gram matrix at once.
const ROWS: usize = 64;
/// Parts that have a Gram matrix of their own, and the memory that they may take.
const PARTS: usize = 64;
const GRAM_BYTES: usize = 64 << 20;

/// `h = W y + w`
pub struct Map {
    /// [d, d + 1]: row `k` is that of the user's factor `k`, its constant last.
    weights: Array2<f64>,
}

impl Map {
    /// The map of `factors` [d].
    pub fn apply(&self, factors: &[f32], to: &mut [f32]) {
        for (to, row) in to.iter_mut().zip(flat(self.weights.view()).chunks_exact(factors.len() + 1)) {
            let (constant, row) = (row[factors.len()], &row[..factors.len()]);
            *to = (constant + row.iter().zip(factors).map(|(w, &y)| w * f64::from(y)).sum::<f64>()) as f32;
        }
    }
}

pub fn fit(
    by_user: &Csr,
    weighting: Weighting,
    learned: &Learned,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Map> {
    let stride = learned.users.ncols();
    let (user_factors, item_factors) = (flat(learned.users.view()), flat(learned.items.view()));
    // Factors and their padding, a constant, factors and their padding.
    let width = (2 * stride + 1).next_multiple_of(16);
    let constant = 2 * stride;
    let users = by_user.rows();
    let parts = (GRAM_BYTES / (4 * width * width)).clamp(1, PARTS).min(users.max(1));
    let mut grams: Vec<Array2<f32>> = (0..parts).map(|_| memory::matrix(width, width, 0f32)).collect::<Result<_>>()?;
    let rows = || Array2::<f32>::zeros((ROWS, width));
    for_each_chunk(&mut grams, 1, threads, progress, rows, |rows, part, grams| {
        let known = |user: &usize| !by_user.row(*user).0.is_empty();
        let part: Vec<usize> = (part * users / parts..(part + 1) * users / parts).filter(known).collect();
        for part in part.chunks(ROWS) {
            for (&user, row) in part.iter().zip(flat_mut(rows.view_mut()).chunks_exact_mut(width)) {
                let (chosen, weights) = by_user.row(user);
                row.fill(0.0);
                let mut total = 0f32;
                for (&item, &weight) in chosen.iter().zip(weights) {
                    let y = &item_factors[item as usize * stride..][..stride];
                    let c = weighting.confidence(weight);
                    row.iter_mut().zip(y).for_each(|(sum, y)| *sum += c * y);
                    total += c;
                }
                row[..stride].iter_mut().for_each(|sum| *sum /= total.max(f32::MIN_POSITIVE));
                row[stride..constant].copy_from_slice(&user_factors[user * stride..][..stride]);
                row[constant] = 1.0;
            }
            grams.iter_mut().for_each(|gram| add_gram(rows.slice(s![..part.len(), ..]), gram.view_mut()));
        }
        Ok(())
    })?;

    // In the order of the parts and in f64: the same on any number of threads.
    let gram = |i: usize, j: usize| -> f64 { grams.iter().map(|part| f64::from(part[[i.min(j), i.max(j)]])).sum() };
    let d = learned.factors;
    let place = |k: usize| if k == d { constant } else { k };
    let mut a = memory::matrix(d + 1, d + 1, 0f64)?;
    for i in 0..=d {
        progress.check()?;
        for j in 0..=i {
            a[[i, j]] = gram(place(i), place(j));
        }
    }
    let ridge = RIDGE * (0..d).map(|k| a[[k, k]]).sum::<f64>() / d as f64 + f64::MIN_POSITIVE.sqrt();
    a.diag_mut().iter_mut().for_each(|x| *x += ridge);
    factor(a.view_mut()).ok_or_else(|| diverged("Lower learning_rate."))?;
    let mut weights = memory::matrix(d, d + 1, 0f64)?;
    for (k, row) in flat_mut(weights.view_mut()).chunks_exact_mut(d + 1).enumerate() {
        progress.check()?;
        row.iter_mut().enumerate().for_each(|(i, b)| *b = gram(place(i), stride + k));
        substitute(a.view(), row);
    }
    Ok(Map { weights })
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::draw::mix;
    use runtime::progress::Unwatched;

    #[test]
    fn users_who_are_a_linear_map_of_their_items_are_found() {
        let (d, stride, users, items) = (3, 16, 200usize, 40usize);
        let random = |x: usize| (mix(x as u64) >> 40) as f32 / (1 << 23) as f32 - 1.0;
        let at = |i: usize, k: usize| if k < d { random(i * stride + k) } else { 0.0 };
        let mut learned = Learned {
            factors: d,
            users: Array2::zeros((users, stride)),
            items: Array2::from_shape_fn((items, stride), |(i, k)| at(i, k)),
            biases: vec![0.0; items],
        };
        let mut by_user = Csr { indptr: vec![0], columns: items, ..Csr::default() };
        let map = [[1.0, 2.0, 0.0, 0.5], [0.0, -1.0, 0.5, 0.0], [3.0, 0.0, 1.0, -1.0]];
        for u in 0..users {
            let chosen: Vec<u32> =
                (0..items as u32).filter(|&i| mix((u * items) as u64 ^ u64::from(i) << 30).is_multiple_of(5)).collect();
            let mean = |k: usize| {
                chosen.iter().map(|&i| learned.items[[i as usize, k]]).sum::<f32>() / chosen.len().max(1) as f32
            };
            let row = map.map(|row| row[0] * mean(0) + row[1] * mean(1) + row[2] * mean(2) + row[3]);
            learned.users.row_mut(u).iter_mut().zip(row).for_each(|(to, x)| *to = x);
            by_user.indices.extend(&chosen);
            by_user.indptr.push(by_user.indices.len() as u64);
        }
        by_user.values = vec![1.0; by_user.indices.len()];
        let fitted = fit(&by_user, Weighting::EQUAL, &learned, 2, &Unwatched).unwrap();
        let mut h = [0.0; 3];
        fitted.apply(&[0.3, -0.2, 0.7], &mut h);
        for (h, row) in h.iter().zip(map) {
            let exact = 0.3 * row[0] - 0.2 * row[1] + 0.7 * row[2] + row[3];
            assert!((h - exact).abs() < 0.02, "{h} {exact}");
        }
    }
}
