//! The last layer: a softmax over all items for a batch of users, its gradients in closed form, and its steps.
//!
//! Items are cut into blocks, each of which holds its part of the weights, their moments and the scores of a batch. One pass scores
//! and takes exponentials against the block's own greatest score; once every user's sum is known, a second one turns them into
//! slopes, gives the users' gradients and moves the weights.

use kernels::matrix::{flat, flat_mut};
use ndarray::{Array2, ArrayView2};
use neural::adam::Step;
use neural::products::matmul;
use runtime::error::Result;
use runtime::memory;
use runtime::team::Team;

/// Multiplications of a block and a batch: about a millisecond.
const WORK: usize = 1 << 25;
/// Items of a block at most and at least.
const MOST: usize = 1024;
const LEAST: usize = 16;
/// Blocks whose parts of the users' gradients are in memory at a time.
const TOGETHER: usize = 16;

struct Block {
    /// Its first item.
    first: usize,
    /// [items, width]
    weight: Array2<f32>,
    moments: [Array2<f32>; 2],
    /// [users, items]: scores, exponentials, slopes.
    scores: Array2<f32>,
    /// [users]: the greatest score, the sum of the exponentials against it, and `Σ_i x_i s_i`.
    greatest: Vec<f32>,
    sums: Vec<f32>,
    own: Vec<f64>,
    /// [users, width]
    users: Array2<f32>,
}

pub struct Output {
    width: usize,
    blocks: Vec<Block>,
}

/// The items and shares of a user of the batch.
pub type Targets<'a> = dyn Fn(usize) -> (&'a [u32], &'a [f32]) + Sync + 'a;

/// Of a batch.
pub struct Learned {
    /// [users, width]: gradient of the mean loss.
    pub users: Array2<f32>,
    /// `−Σ_u Σ_i x_ui ln π_ui`
    pub loss: f64,
}

impl Output {
    /// Weights [items, width] as `at` gives them, in steps of `batch` users.
    pub fn new(items: usize, width: usize, batch: usize, at: impl Fn(usize) -> f32) -> Result<Self> {
        let size = (WORK / (batch * width).max(1)).clamp(LEAST, MOST);
        let mut blocks = Vec::new();
        for first in (0..items).step_by(size) {
            let n = (items - first).min(size);
            let mut weight = memory::matrix(n, width, 0f32)?;
            weight.iter_mut().enumerate().for_each(|(i, w)| *w = at(first * width + i));
            let moments = [memory::matrix(n, width, 0f32)?, memory::matrix(n, width, 0f32)?];
            let (greatest, sums, own) = (Vec::new(), Vec::new(), Vec::new());
            memory::push(
                &mut blocks,
                Block {
                    first,
                    weight,
                    moments,
                    scores: Array2::default((0, 0)),
                    greatest,
                    sums,
                    own,
                    users: Array2::default((0, 0)),
                },
            )?;
        }
        Ok(Self { width, blocks })
    }

    /// A step against the mean loss of some users [users, width].
    pub fn step(&mut self, users: ArrayView2<f32>, targets: &Targets, step: Step, team: &Team) -> Result<Learned> {
        let n = users.nrows();
        team.fill(&mut self.blocks, 1, |_, block| {
            let block = &mut block[0];
            let items = block.weight.nrows();
            block.scores = matmul(users, block.weight.t())?;
            block.greatest.clear();
            block.sums.clear();
            block.own.clear();
            for (u, mut row) in block.scores.rows_mut().into_iter().enumerate() {
                let own = within(targets(u), block.first, items).map(|(i, x)| f64::from(x) * f64::from(row[i]));
                block.own.push(own.sum());
                let greatest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                row.iter_mut().for_each(|s| *s = (*s - greatest).exp());
                block.greatest.push(greatest);
                block.sums.push(row.iter().sum());
            }
            Ok(())
        })?;

        // Of each user: the greatest score of all, what an exponential against it is multiplied by.
        let mut loss = 0.0;
        let mut scales = Vec::with_capacity(n);
        for u in 0..n {
            let greatest = self.blocks.iter().map(|block| block.greatest[u]).fold(f32::NEG_INFINITY, f32::max);
            let parts = self
                .blocks
                .iter()
                .map(|block| f64::from(block.sums[u]) * f64::from(block.greatest[u] - greatest).exp());
            let sum: f64 = parts.sum();
            let total: f64 = targets(u).1.iter().map(|&x| f64::from(x)).sum();
            let own: f64 = self.blocks.iter().map(|block| block.own[u]).sum();
            loss += total * (f64::from(greatest) + sum.ln()) - own;
            scales.push((greatest, (total / (sum * n as f64)) as f32));
        }

        let share = 1.0 / n.max(1) as f32;
        let mut gradient = memory::matrix(n, self.width, 0f32)?;
        for blocks in self.blocks.chunks_mut(TOGETHER) {
            team.fill(blocks, 1, |_, block| {
                let block = &mut block[0];
                let items = block.weight.nrows();
                let mut slopes = std::mem::take(&mut block.scores);
                for (u, mut row) in slopes.rows_mut().into_iter().enumerate() {
                    let (greatest, scale) = scales[u];
                    let scale = scale * (block.greatest[u] - greatest).exp();
                    row.iter_mut().for_each(|e| *e *= scale);
                    within(targets(u), block.first, items).for_each(|(i, x)| row[i] -= x * share);
                }
                block.users = matmul(slopes.view(), block.weight.view())?;
                let of_weight = matmul(slopes.t(), users)?;
                let [first, second] = block.moments.each_mut().map(|moment| flat_mut(moment.view_mut()));
                step.update(flat_mut(block.weight.view_mut()), flat(of_weight.view()), first, second);
                Ok(())
            })?;
            for block in blocks {
                gradient += &block.users;
                block.users = Array2::default((0, 0));
            }
        }
        Ok(Learned { users: gradient, loss })
    }

    /// [items, width]
    pub fn into_weights(self) -> Result<Array2<f32>> {
        let mut all = Vec::new();
        let items = self.blocks.iter().map(|block| block.weight.nrows()).sum();
        memory::reserve(&mut all, items * self.width)?;
        self.blocks.into_iter().for_each(|block| all.extend_from_slice(flat(block.weight.view())));
        memory::shaped(items, self.width, all)
    }
}

/// Those of a user's items that are among `items` from `first` on, counted from there.
fn within<'a>(
    (indices, shares): (&'a [u32], &'a [f32]),
    first: usize,
    items: usize,
) -> impl Iterator<Item = (usize, f32)> + 'a {
    let at = |item: usize| indices.partition_point(|&i| (i as usize) < item);
    let range = at(first)..at(first + items);
    indices[range.clone()].iter().zip(&shares[range]).map(move |(&i, &x)| (i as usize - first, x))
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::draw::uniform;
    use runtime::progress::Unwatched;
    use runtime::team;

    #[test]
    fn the_loss_and_its_gradients_are_those_of_the_softmax_over_all_items() {
        // Blocks of 16 items: the last of them has fewer.
        let (n, items, width) = (4096, 41, 600);
        let weight = |i: usize| 0.3 * uniform(1, i as u64);
        let users = Array2::from_shape_fn((n, width), |(u, k)| 0.3 * uniform(2, (u * width + k) as u64));
        let rows: Vec<(Vec<u32>, Vec<f32>)> = (0..n as u32)
            .map(|u| ((0..items as u32).filter(|i| (i * 7 + u) % 5 == 0).collect::<Vec<_>>(), u))
            .map(|(row, u)| (row.clone(), row.iter().map(|&i| 0.5 + ((i + u) % 3) as f32).collect()))
            .collect();
        let targets = |u: usize| (&rows[u].0[..], &rows[u].1[..]);
        let mut output = Output::new(items, width, n, weight).unwrap();
        assert_eq!(output.blocks.len(), 3);
        let learned =
            team::run(2, &Unwatched, "test", 1, |team| output.step(users.view(), &targets, Step::new(0.01, 1), team))
                .unwrap();
        let mut loss = 0.0;
        let mut of_weight = vec![0f64; items * width];
        for (u, row) in rows.iter().enumerate() {
            let x = users.row(u);
            let scores: Vec<f64> = (0..items)
                .map(|i| (0..width).map(|k| f64::from(weight(i * width + k)) * f64::from(x[k])).sum())
                .collect();
            let sum: f64 = scores.iter().map(|s| s.exp()).sum();
            let total: f64 = row.1.iter().map(|&x| f64::from(x)).sum();
            let mut slopes: Vec<f64> = scores.iter().map(|s| total * s.exp() / sum / n as f64).collect();
            for (&i, &x) in row.0.iter().zip(&row.1) {
                loss -= f64::from(x) * (scores[i as usize] - sum.ln());
                slopes[i as usize] -= f64::from(x) / n as f64;
            }
            for k in (0..width).filter(|_| u % 512 == 0) {
                let expected: f64 = (0..items).map(|i| slopes[i] * f64::from(weight(i * width + k))).sum();
                assert!((f64::from(learned.users[[u, k]]) - expected).abs() < 1e-6);
            }
            for (i, slope) in slopes.iter().enumerate() {
                (0..width).for_each(|k| of_weight[i * width + k] += slope * f64::from(x[k]));
            }
        }
        assert!((learned.loss / loss - 1.0).abs() < 1e-5, "{} {loss}", learned.loss);
        // The first step of Adam moves by the rate, against the sign.
        let moved = output.into_weights().unwrap();
        for (i, (&w, g)) in moved.iter().zip(of_weight).enumerate().filter(|(_, (_, g))| g.abs() > 1e-4) {
            assert!((w - weight(i) + 0.01 * g.signum() as f32).abs() < 1e-4, "{i}: {w} {} {g}", weight(i));
        }
    }
}
