//! The factors in blocks, and one iteration over all pairs, stratum by stratum.

use std::ops::Range;

use ndarray::{Array2, ArrayViewMut2, s};

use super::parameters::Parameters;
use kernels::Csr;
use kernels::matrix::flat_mut;
use kernels::vector::{Vector, dispatch};
use runtime::draw::mix;
use runtime::error::Result;
use runtime::memory;
use runtime::parallel::for_each_chunk;
use runtime::progress::Progress;

/// Floats to which factors are padded: the widest register.
const PAD: usize = 16;
/// Blocks of users and of items at most: so many threads can work at once.
const BLOCKS: usize = 32;
/// Items in a block at least, from which negative ones are drawn.
const LEAST_ITEMS: usize = 64;
/// Draws before the user counts as having chosen the whole block.
const TRIES: u64 = 32;

/// A number below `below`.
#[inline(always)]
fn draw(random: u64, below: usize) -> usize {
    ((u128::from(random) * below as u128) >> 64) as usize
}

/// Fisher and Yates.
fn shuffle<T>(values: &mut [T], key: u64) {
    for last in (1..values.len()).rev() {
        values.swap(last, draw(mix(key ^ last as u64), last + 1));
    }
}

pub struct Strata<'a> {
    by_user: &'a Csr,
    /// [pairs]: how much each one's step counts.
    shares: Vec<f32>,
    parameters: Parameters,
    stride: usize,
    /// Consecutive users of about equally many pairs.
    users: Vec<UserBlock>,
    items: Vec<ItemBlock>,
}

struct UserBlock {
    range: Range<usize>,
    /// [users, stride]
    factors: Array2<f32>,
    /// (user, place of the item in its block, how much the step counts), by blocks of items, in this iteration's order.
    pairs: Vec<(u32, u32, f32)>,
    /// [blocks + 1]: where each block's pairs begin.
    starts: Vec<usize>,
    loss: f64,
}

/// Items in this iteration's order.
#[derive(Default)]
struct ItemBlock {
    items: Vec<u32>,
    /// [items, stride]
    factors: Array2<f32>,
    biases: Vec<f32>,
}

/// Factors in the order of ids; zeros in the columns past the factors.
pub struct Learned {
    pub factors: usize,
    pub users: Array2<f32>,
    pub items: Array2<f32>,
    pub biases: Vec<f32>,
}

impl<'a> Strata<'a> {
    pub fn new(by_user: &'a Csr, parameters: Parameters) -> Result<Self> {
        let (users, items) = (by_user.rows(), by_user.columns);
        let stride = parameters.factors.next_multiple_of(PAD);
        let blocks = (items / LEAST_ITEMS).min(users).clamp(1, BLOCKS);
        let shares = parameters.weighting.shares(&by_user.values)?;
        let mut strata = Self { by_user, shares, parameters, stride, users: Vec::new(), items: Vec::new() };
        let mut start = 0;
        for block in 0..blocks {
            let limit = by_user.entries() as u64 * (block as u64 + 1) / blocks as u64;
            let more = by_user.indptr[start + 1..].iter().take_while(|&&end| end <= limit).count();
            let end = if block + 1 == blocks { users } else { start + more };
            let mut factors = memory::matrix(end - start, stride, 0f32)?;
            strata.randomize(factors.view_mut(), start);
            let pairs = (by_user.indptr[end] - by_user.indptr[start]) as usize;
            let pairs = memory::filled((0, 0, 0.0), pairs)?;
            strata.users.push(UserBlock { range: start..end, factors, pairs, starts: Vec::new(), loss: 0.0 });
            start = end;
        }
        for block in 0..blocks {
            let range = block * items / blocks..(block + 1) * items / blocks;
            let mut factors = memory::matrix(range.len(), stride, 0f32)?;
            strata.randomize(factors.view_mut(), users + range.start);
            let biases = memory::filled(0f32, range.len())?;
            strata.items.push(ItemBlock { items: range.map(|item| item as u32).collect(), factors, biases });
        }
        Ok(strata)
    }

    /// Uniform with the standard deviation 0.1 / √d, from the seed and each one's place alone.
    fn randomize(&self, factors: ArrayViewMut2<f32>, first: usize) {
        let d = self.parameters.factors;
        let bound = 0.1 * (3.0 / d as f32).sqrt();
        for (row, x) in (first..).zip(flat_mut(factors).chunks_exact_mut(self.stride)) {
            for (k, x) in x[..d].iter_mut().enumerate() {
                let bits = mix(self.parameters.seed ^ mix((row * d + k) as u64)) >> 40;
                *x = bound * (bits as f32 / (1 << 23) as f32 - 1.0);
            }
        }
    }

    /// Takes every pair once; returns the mean loss `−ln σ` before each one's step.
    pub fn iterate(&mut self, iteration: usize, threads: usize, progress: &dyn Progress) -> Result<f64> {
        let key = mix(self.parameters.seed ^ mix(iteration as u64));
        let places = self.mingle(key, progress)?;
        let (by_user, parameters, blocks) = (self.by_user, self.parameters, self.items.len());
        let shares = &self.shares;
        for_each_chunk(&mut self.users, 1, threads, progress, Vec::new, |next, _, users| {
            users.iter_mut().for_each(|block| block.deal((by_user, shares), &places, blocks, key, next));
            Ok(())
        })?;
        for stratum in 0..blocks {
            self.items.rotate_left(1);
            let mut tasks: Vec<_> = self.users.iter_mut().zip(&mut self.items).enumerate().collect();
            for_each_chunk(
                &mut tasks,
                1,
                threads,
                progress,
                || (),
                |(), _, tasks| {
                    for (number, (users, items)) in tasks {
                        let of = (*number + stratum + 1) % blocks;
                        let pairs = users.starts[of]..users.starts[of + 1];
                        let pairs = Pairs { pairs: &users.pairs[pairs], first: users.range.start, by_user, key };
                        users.loss += take_pairs(&pairs, &parameters, flat_mut(users.factors.view_mut()), items);
                    }
                    Ok(())
                },
            )?;
        }
        let loss: f64 = self.users.iter_mut().map(|block| std::mem::take(&mut block.loss)).sum();
        Ok(loss / self.by_user.entries().max(1) as f64)
    }

    /// Deals the items to blocks anew. Returns where each item is: its block, and its place in it.
    fn mingle(&mut self, key: u64, progress: &dyn Progress) -> Result<Vec<(u32, u32)>> {
        progress.check()?;
        let mut order: Vec<(u32, u32)> = Vec::new();
        memory::reserve(&mut order, self.by_user.columns)?;
        for (number, block) in (0..).zip(&self.items) {
            order.extend((0..block.items.len() as u32).map(|place| (number, place)));
        }
        shuffle(&mut order, mix(!key));
        let mut places = memory::filled((0, 0), order.len())?;
        let mut from = order.into_iter();
        let mut mingled = Vec::with_capacity(self.items.len());
        for number in 0..self.items.len() {
            progress.check()?;
            let len = self.items[number].items.len();
            let factors = memory::matrix(len, self.stride, 0f32)?;
            let mut block = ItemBlock { factors, ..ItemBlock::default() };
            for (at, (old, place)) in from.by_ref().take(len).enumerate() {
                let (old, place) = (&self.items[old as usize], place as usize);
                let item = old.items[place];
                places[item as usize] = (number as u32, at as u32);
                block.items.push(item);
                block.biases.push(old.biases[place]);
                block.factors.row_mut(at).assign(&old.factors.row(place));
            }
            mingled.push(block);
        }
        self.items = mingled;
        Ok(places)
    }

    pub fn finish(self) -> Result<Learned> {
        let (stride, items) = (self.stride, self.by_user.columns);
        let mut learned = Learned {
            factors: self.parameters.factors,
            users: memory::matrix(self.by_user.rows(), stride, 0.0)?,
            items: memory::matrix(items, stride, 0.0)?,
            biases: memory::filled(0.0, items)?,
        };
        for block in &self.users {
            learned.users.slice_mut(s![block.range.clone(), ..]).assign(&block.factors);
        }
        for block in &self.items {
            for (place, &item) in block.items.iter().enumerate() {
                learned.items.row_mut(item as usize).assign(&block.factors.row(place));
                learned.biases[item as usize] = block.biases[place];
            }
        }
        Ok(learned)
    }
}

impl UserBlock {
    /// Sorts this block's pairs by the items' blocks, and shuffles each block's.
    fn deal(
        &mut self,
        (by_user, shares): (&Csr, &[f32]),
        places: &[(u32, u32)],
        blocks: usize,
        key: u64,
        next: &mut Vec<usize>,
    ) {
        self.starts.clear();
        self.starts.resize(blocks + 1, 0);
        let row = |user| by_user.row(user).0.iter().map(|&item| places[item as usize]);
        self.range.clone().flat_map(row).for_each(|(block, _)| self.starts[block as usize + 1] += 1);
        (0..blocks).for_each(|block| self.starts[block + 1] += self.starts[block]);
        next.clone_from(&self.starts);
        for user in self.range.clone() {
            for ((block, place), share) in row(user).zip(&shares[by_user.indptr[user] as usize..]) {
                let to = &mut next[block as usize];
                self.pairs[*to] = (user as u32, place, *share);
                *to += 1;
            }
        }
        for block in 0..blocks {
            let part = &mut self.pairs[self.starts[block]..self.starts[block + 1]];
            shuffle(part, mix(key ^ mix((self.range.start * blocks + block) as u64)));
        }
    }
}

/// A block of users' pairs with a block of items.
struct Pairs<'a> {
    pairs: &'a [(u32, u32, f32)],
    /// The block's first user.
    first: usize,
    by_user: &'a Csr,
    key: u64,
}

impl Pairs<'_> {
    /// The place of an item that the user has not chosen.
    #[inline(always)]
    fn other(&self, user: u32, chosen: u32, items: &[u32]) -> Option<usize> {
        let (row, _) = self.by_user.row(user as usize);
        let key = mix(self.key ^ (u64::from(user) << 32 | u64::from(chosen)));
        let mut tries = (0..TRIES).map(|n| draw(mix(key.wrapping_add(n)), items.len()));
        tries.find(|&place| row.binary_search(&items[place]).is_err())
    }
}

#[inline(always)]
unsafe fn take_pairs_body<V: Vector, const TILE: usize>(
    pairs: &Pairs,
    parameters: &Parameters,
    users: &mut [f32],
    items: &mut ItemBlock,
) -> f64 {
    let ItemBlock { items, factors, biases } = items;
    let (stride, factors) = (factors.ncols(), flat_mut(factors.view_mut()));
    assert_eq!(stride % PAD, 0);
    let (rate, keep) = (parameters.learning_rate, 1.0 - parameters.learning_rate * parameters.regularization);
    let mut loss = 0.0;
    for &(user, place, share) in pairs.pairs {
        let place = place as usize;
        let Some(other) = pairs.other(user, items[place], items) else { continue };
        let row = user as usize - pairs.first;
        // Bounds are checked here, once a row.
        let x = users[row * stride..][..stride].as_mut_ptr();
        let j = factors[other * stride..][..stride].as_ptr();
        let i = factors[place * stride..][..stride].as_ptr();
        let base = factors.as_mut_ptr();
        // SAFETY: all three rows are `stride` floats, a multiple of LANES; `other` was not chosen, so it is another row
        // than `place`, and both lie in `factors`, to which `base` points.
        unsafe {
            let minus = V::splat(-1.0);
            let mut sum = V::splat(0.0);
            let mut k = 0;
            while k < stride {
                let difference = V::load(j.add(k)).mul_add(minus, V::load(i.add(k)));
                sum = V::load(x.add(k)).mul_add(difference, sum);
                k += V::LANES;
            }
            let margin = sum.sum() + biases[place] - biases[other];
            // ln(1 + e^−m) without overflow.
            loss += f64::from(share * ((-margin.abs()).exp().ln_1p() + (-margin).max(0.0)));
            let pull = share * rate / (1.0 + margin.exp());
            let (kept, pulled, pushed) = (V::splat(keep), V::splat(pull), V::splat(-pull));
            let (to_i, to_j) = (base.add(place * stride), base.add(other * stride));
            let zero = V::splat(0.0);
            let mut k = 0;
            while k < stride {
                let (a, b, c) = (V::load(x.add(k)), V::load(to_i.add(k)), V::load(to_j.add(k)));
                pulled.mul_add(c.mul_add(minus, b), kept.mul_add(a, zero)).store(x.add(k));
                pulled.mul_add(a, kept.mul_add(b, zero)).store(to_i.add(k));
                pushed.mul_add(a, kept.mul_add(c, zero)).store(to_j.add(k));
                k += V::LANES;
            }
            biases[place] = keep * biases[place] + pull;
            biases[other] = keep * biases[other] - pull;
        }
    }
    loss
}
dispatch! {
    /// One step of stochastic gradients for each of the pairs, in their order; returns the sum of their losses.
    fn take_pairs(
        pairs: &Pairs,
        parameters: &Parameters,
        users: &mut [f32],
        items: &mut ItemBlock,
    ) -> f64 = take_pairs_body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weighting::Weighting;
    use runtime::progress::Unwatched;

    #[test]
    fn every_pair_is_dealt_once_to_the_block_of_its_item() {
        let (users, items) = (70usize, 300usize);
        let mut by_user = Csr { indptr: vec![0], columns: items, ..Csr::default() };
        for u in 0..users {
            by_user
                .indices
                .extend((0..items as u32).filter(|&i| mix((u * items) as u64 + u64::from(i)).is_multiple_of(4)));
            by_user.indptr.push(by_user.indices.len() as u64);
        }
        by_user.values = vec![1.0; by_user.indices.len()];
        let weighting = Weighting::EQUAL;
        let parameters =
            Parameters { factors: 5, learning_rate: 0.1, regularization: 0.0, iterations: 1, weighting, seed: 1 };
        let mut strata = Strata::new(&by_user, parameters).unwrap();
        assert_eq!(strata.items.len(), 4);
        let before = strata.items.iter().map(|block| block.factors.iter().sum::<f32>()).sum::<f32>();
        let places = strata.mingle(9, &Unwatched).unwrap();
        let after = strata.items.iter().map(|block| block.factors.iter().sum::<f32>()).sum::<f32>();
        assert!((before - after).abs() < 1e-3);
        let mut found = Vec::new();
        for block in &mut strata.users {
            block.deal((&by_user, &strata.shares), &places, 4, 9, &mut Vec::new());
            for of in 0..4 {
                for &(user, place, _) in &block.pairs[block.starts[of]..block.starts[of + 1]] {
                    assert!(block.range.contains(&(user as usize)));
                    found.push((user, strata.items[of].items[place as usize]));
                }
            }
        }
        found.sort_unstable();
        let expected = (0..users).flat_map(|u| by_user.row(u).0.iter().map(move |&i| (u as u32, i)));
        assert!(found.into_iter().eq(expected));
    }
}
