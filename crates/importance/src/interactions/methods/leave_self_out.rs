//! `leave_self_out`: the probability that a random walk from the user's other items ends at an item, without the interaction itself.
//!
//! The walk goes from a random other item `j` of the user to a random user `v` who chose it, and on to a random item of `v`; popular
//! items are discounted:
//!
//! `score(u, i) = (n_i − 1)^−β · 1/(n_u − 1) · Σ_{j ∈ N(u) \ i} 1/n_j · Σ_{v ≠ u: i, j ∈ N(v)} 1/n_v`
//!
//! This is RP³β (Paudel, Christoffel, Newell, Bernstein, "Updatable, accurate, diverse, and scalable recommendations for interactive
//! applications", ACM TiiS 2017; β = 0 is P³ of Cooper, Lee, Radinsky, Siantos, WWW 2014) without the interaction itself: it is neither
//! a start of the walk nor one of its steps, so it does not support itself. Low, at least 0: no other user connects it to the user's other
//! items. The only item of a user, and the only user of an item, have score 0.
//!
//! Computed one row of co-occurrences at a time, with an accumulator per thread: O(Σ_u n_u²) time, O(items · threads) memory besides the
//! transposed matrix. Walks use at most `history` random items of a user; the other items are still scored. This bounds the time by
//! O(history · entries).

use std::borrow::Cow;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::interactions::method::{InteractionMethod, Plan};
use crate::interactions::task::Task;
use kernels::Csr;
use runtime::draw::{mix, shuffled};
use runtime::error::Result;
use runtime::jobs::{Relay, Signal};
use runtime::memory;
use runtime::options::Options;
use runtime::parallel::for_each_chunk;
use runtime::progress::{Counted, Progress};

/// Approximate steps in a block of items: a few milliseconds of work.
const STEPS: usize = 1 << 20;
/// Users between two checks for a cancel request.
const LOOK: usize = 1 << 8;
/// Entries between two checks for a cancel request.
const ENTRIES: usize = 1 << 18;

pub struct LeaveSelfOut;

impl InteractionMethod for LeaveSelfOut {
    fn name(&self) -> &'static str {
        "leave_self_out"
    }

    fn plan(&self, options: &mut Options) -> Result<Box<dyn Plan>> {
        Ok(Box::new(Parameters::read(options)?))
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Parameters {
    /// β
    beta: f32,
    /// Most items of a user that walks use.
    history: usize,
    seed: u64,
}

impl Parameters {
    pub fn read(options: &mut Options) -> Result<Self> {
        Ok(Self {
            beta: options.float("beta", 0.35, 0.0, 1.0)?,
            history: options.integer("history", 1000, 2, 1_000_000)? as usize,
            seed: options.integer("seed", 0, 0, u64::MAX)?,
        })
    }
}

impl Plan for Parameters {
    fn score(&self, task: &Task) -> Result<Vec<f64>> {
        score(task, self)
    }
}

fn score(task: &Task, parameters: &Parameters) -> Result<Vec<f64>> {
    let progress = Relay::new(task.progress);
    let walked = cut(task.by_user, parameters.history, parameters.seed, &progress)?;
    let users_of = task.by_user.transpose(&progress)?;
    let walkers_of = match &walked {
        Cow::Borrowed(_) => Cow::Borrowed(&users_of),
        Cow::Owned(walked) => Cow::Owned(walked.transpose(&progress)?),
    };
    let walk = Walk {
        items_of: &walked,
        users_of: &walkers_of,
        beta: parameters.beta,
        is_cut: matches!(walked, Cow::Owned(_)),
    };

    let mut scores = memory::zeros(task.by_user.entries())?;
    let mut blocks = walk.blocks(&users_of, &mut scores)?;
    let done = AtomicUsize::new(0);
    let counted = Counted { whole: &progress, phase: "items walked to", done: &done, total: users_of.rows() };
    let sums = || (vec![0f32; users_of.rows()], Vec::new());
    for_each_chunk(&mut blocks, 1, task.threads, &counted, sums, |(sums, touched), _, blocks| {
        for (first, scores) in blocks.iter_mut() {
            let mut rest = &mut **scores;
            let mut item = *first;
            while !rest.is_empty() {
                let users = users_of.row(item).0;
                let (of_item, others) = rest.split_at_mut(users.len());
                walk.to(item, users, sums, touched, of_item, &progress.signal)?;
                rest = others;
                item += 1;
            }
            done.fetch_add(item - *first, Ordering::Relaxed);
        }
        Ok(())
    })?;
    in_order_of_users(task.by_user, &users_of, &scores, &progress)
}

/// Histories of at most `most` items, drawn at random.
fn cut<'a>(by_user: &'a Csr, most: usize, seed: u64, progress: &dyn Progress) -> Result<Cow<'a, Csr>> {
    if by_user.indptr.windows(2).all(|ends| (ends[1] - ends[0]) as usize <= most) {
        return Ok(Cow::Borrowed(by_user));
    }
    let mut cut = Csr { columns: by_user.columns, ..Csr::default() };
    memory::reserve(&mut cut.indptr, by_user.indptr.len())?;
    cut.indptr.push(0);
    let mut order = Vec::new();
    for user in 0..by_user.rows() {
        let items = by_user.row(user).0;
        if items.len() <= most {
            memory::extend(&mut cut.indices, items)?;
        } else {
            progress.check()?;
            order.clear();
            memory::reserve(&mut order, items.len())?;
            order.resize(items.len(), 0);
            shuffled(&mut order, mix(seed ^ mix(user as u64)));
            order.truncate(most);
            order.sort_unstable();
            memory::reserve(&mut cut.indices, most)?;
            cut.indices.extend(order.iter().map(|&place| items[place as usize]));
        }
        cut.indptr.push(cut.indices.len() as u64);
    }
    cut.values = memory::filled(1.0, cut.indices.len())?;
    Ok(Cow::Owned(cut))
}

struct Walk<'a> {
    /// The items that walks use: [users, items] and [items, users].
    items_of: &'a Csr,
    users_of: &'a Csr,
    beta: f32,
    /// Whether any history was cut.
    is_cut: bool,
}

impl Walk<'_> {
    /// Splits the scores [items, users] into blocks of whole items with about equally many steps; each comes with its first item.
    fn blocks<'b>(&self, scored: &Csr, mut scores: &'b mut [f32]) -> Result<Vec<(usize, &'b mut [f32])>> {
        let mut blocks = Vec::new();
        let (mut first, mut steps) = (0, 0);
        for item in 0..scored.rows() {
            steps += scored.row(item).0.iter().map(|&user| self.items_of.row(user as usize).0.len() + 1).sum::<usize>();
            if steps >= STEPS || item + 1 == scored.rows() {
                let (block, rest) = scores.split_at_mut((scored.indptr[item + 1] - scored.indptr[first]) as usize);
                memory::push(&mut blocks, (first, block))?;
                (scores, first, steps) = (rest, item + 1, 0);
            }
        }
        Ok(blocks)
    }

    /// Scores `item` for each of `users`. `sums` [items] are zero before and after.
    fn to(
        &self,
        item: usize,
        users: &[u32],
        sums: &mut [f32],
        touched: &mut Vec<u32>,
        scores: &mut [f32],
        signal: &Signal,
    ) -> Result<()> {
        touched.clear();
        let ends = self.users_of.row(item).0;
        for (n, &user) in ends.iter().enumerate() {
            if n % LOOK == 0 {
                signal.check()?;
            }
            let items = self.items_of.row(user as usize).0;
            let share = 1.0 / items.len() as f32;
            for &other in items {
                let sum = &mut sums[other as usize];
                if *sum == 0.0 {
                    touched.push(other);
                }
                *sum += share;
            }
        }
        for (n, (&user, score)) in users.iter().zip(scores).enumerate() {
            if n % LOOK == 0 {
                signal.check()?;
            }
            let items = self.items_of.row(user as usize).0;
            let own = !self.is_cut || items.binary_search(&(item as u32)).is_ok();
            // What the user adds to each of these sums, only if the walk may pass from the user to the item.
            let share = if own { 1.0 / items.len() as f32 } else { 0.0 };
            let mut support = 0.0;
            for &other in items.iter().filter(|&&other| other as usize != item) {
                let ways = (self.users_of.indptr[other as usize + 1] - self.users_of.indptr[other as usize]) as f32;
                support += (sums[other as usize] - share).max(0.0) / ways;
            }
            let starts = (items.len() - usize::from(own)).max(1) as f32;
            let popularity = (ends.len() - usize::from(own)).max(1) as f32;
            *score = support / starts / popularity.powf(self.beta);
        }
        touched.iter().for_each(|&other| sums[other as usize] = 0.0);
        Ok(())
    }
}

/// From [items, users] to [users, items].
fn in_order_of_users(by_user: &Csr, by_item: &Csr, scores: &[f32], progress: &dyn Progress) -> Result<Vec<f64>> {
    let mut next = Vec::new();
    memory::extend(&mut next, &by_item.indptr)?;
    let mut sorted = Vec::new();
    memory::reserve(&mut sorted, scores.len())?;
    for items in by_user.indices.chunks(ENTRIES) {
        progress.check()?;
        sorted.extend(items.iter().map(|&item| {
            let place = &mut next[item as usize];
            *place += 1;
            f64::from(scores[*place as usize - 1])
        }));
    }
    Ok(sorted)
}
