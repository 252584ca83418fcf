//! The users of each item in the training data: how many, and which.
//!
//! `novelty` of a list is the mean of `−log₂(users of the item / users)` over its items, an item without users counting as
//! having one (Vargas, Castells, "Rank and relevance in novelty and diversity metrics for recommender systems", RecSys 2011,
//! §4.1: popularity complement as self-information). `diversity` is 1 minus the mean similarity of its pairs of items
//! (Ziegler and others, WWW 2005), where similarity is the cosine of the items' users, `|U_i ∩ U_j| / √(|U_i| |U_j|)`. It does
//! not depend on a model, so models can be compared.

use recommendation::Model;
use runtime::error::Result;
use runtime::memory;
use runtime::progress::Progress;

/// Interactions read between two checks for a cancel request.
const CHECK_EVERY: usize = 1 << 18;
/// Longest list whose pairs are compared one by one.
const IN_PAIRS: usize = 64;

pub struct Catalogue {
    /// Users with at least one item.
    users: usize,
    /// [items]: number of users.
    counts: Vec<u32>,
    audiences: Option<Audiences>,
}

impl Catalogue {
    /// Reads the histories a model was trained on. `audiences` also keeps the users of each item.
    pub fn of(model: &Model, audiences: bool, progress: &dyn Progress) -> Result<Self> {
        let mut counts = memory::filled(0u32, model.item_ids().len())?;
        let mut users = 0;
        each_interaction(model, progress, |_, items| {
            users += usize::from(!items.is_empty());
            items.iter().for_each(|&item| counts[item as usize] += 1);
        })?;
        let audiences = if audiences { Some(Audiences::of(model, &counts, progress)?) } else { None };
        Ok(Self { users, counts, audiences })
    }

    pub fn items(&self) -> usize {
        self.counts.len()
    }

    /// Number of users of an item.
    pub fn count(&self, item: u32) -> u32 {
        self.counts.get(item as usize).copied().unwrap_or(0)
    }

    /// The mean number of users of the items; NaN without items.
    pub fn popularity(&self, items: &[u32]) -> f64 {
        items.iter().map(|&item| f64::from(self.count(item))).sum::<f64>() / items.len() as f64
    }

    /// NaN without items.
    pub fn novelty(&self, list: &[u32]) -> f64 {
        let users = self.users.max(1) as f64;
        let information = |&item: &u32| (users / f64::from(self.count(item).max(1))).log2();
        list.iter().map(information).sum::<f64>() / list.len() as f64
    }

    /// NaN for fewer than two items, and without audiences.
    pub fn diversity(&self, list: &[u32]) -> f64 {
        let Some(audiences) = &self.audiences else { return f64::NAN };
        let pairs = (list.len() * list.len().saturating_sub(1) / 2) as f64;
        if pairs == 0.0 {
            return f64::NAN;
        }
        let similarity =
            if list.len() <= IN_PAIRS { self.of_pairs(list, audiences) } else { self.of_sum(list, audiences) };
        1.0 - similarity / pairs
    }

    /// The sum of the cosines of all pairs, one at a time.
    fn of_pairs(&self, list: &[u32], audiences: &Audiences) -> f64 {
        let mut similarity = 0.0;
        for (n, &one) in list.iter().enumerate() {
            for &other in &list[n + 1..] {
                let (a, b) = (f64::from(self.count(one)), f64::from(self.count(other)));
                if a > 0.0 && b > 0.0 {
                    similarity += audiences.shared(one, other) as f64 / (a * b).sqrt();
                }
            }
        }
        similarity
    }

    /// The same in time linear in the list: for unit vectors `v`, `‖Σ v_i‖² = n + 2 Σ_{i < j} v_i·v_j`.
    fn of_sum(&self, list: &[u32], audiences: &Audiences) -> f64 {
        let mut sum = vec![0f64; audiences.words * 64];
        let mut vectors = 0.0;
        for &item in list.iter().filter(|&&item| self.count(item) > 0) {
            let share = 1.0 / f64::from(self.count(item)).sqrt();
            audiences.list(item).iter().for_each(|&user| sum[user as usize] += share);
            vectors += 1.0;
        }
        (sum.iter().map(|x| x * x).sum::<f64>() - vectors) / 2.0
    }
}

/// Calls `visit` with each user and its items, ascending.
fn each_interaction(model: &Model, progress: &dyn Progress, mut visit: impl FnMut(u32, &[u32])) -> Result<()> {
    let mut since_check = 0;
    let mut taken = Vec::new();
    for user in 0..model.user_ids().len() as u32 {
        let (items, weights) = model.history(user)?;
        since_check += items.len() + 1;
        if since_check > CHECK_EVERY {
            progress.check()?;
            since_check = 0;
        }
        taken.clear();
        taken.extend(items.iter().zip(weights).filter(|&(_, &w)| w > 0.0).map(|(&item, _)| item));
        visit(user, &taken);
    }
    Ok(())
}

/// The users of each item. Items with at least one in 64 users also have a bitmap of them: at most 8 bytes per interaction, and
/// no pair takes more than `users / 64` steps.
struct Audiences {
    /// [items + 1]
    starts: Vec<usize>,
    /// Ascending for each item.
    users: Vec<u32>,
    /// [items]: row of `bits`; `NONE` for items with few users.
    rows: Vec<u32>,
    /// [rows, words]
    bits: Vec<u64>,
    words: usize,
}

const NONE: u32 = u32::MAX;

impl Audiences {
    fn of(model: &Model, counts: &[u32], progress: &dyn Progress) -> Result<Self> {
        let mut starts = memory::filled(0usize, counts.len() + 1)?;
        for (item, &count) in counts.iter().enumerate() {
            starts[item + 1] = starts[item] + count as usize;
        }
        let words = model.user_ids().len().div_ceil(64);
        let mut rows = memory::filled(NONE, counts.len())?;
        let mut dense = 0;
        for (row, &count) in rows.iter_mut().zip(counts) {
            if count > 0 && count as usize >= words {
                *row = dense;
                dense += 1;
            }
        }
        let mut bits = memory::filled(0u64, dense as usize * words)?;
        let mut users = memory::filled(0u32, starts[counts.len()])?;
        let mut next = starts.clone();
        each_interaction(model, progress, |user, items| {
            for &item in items {
                let to = &mut next[item as usize];
                users[*to] = user;
                *to += 1;
                let row = rows[item as usize];
                if row != NONE {
                    bits[row as usize * words + user as usize / 64] |= 1 << (user % 64);
                }
            }
        })?;
        Ok(Self { starts, users, rows, bits, words })
    }

    fn list(&self, item: u32) -> &[u32] {
        &self.users[self.starts[item as usize]..self.starts[item as usize + 1]]
    }

    fn bits(&self, item: u32) -> Option<&[u64]> {
        let row = self.rows[item as usize];
        (row != NONE).then(|| &self.bits[row as usize * self.words..][..self.words])
    }

    /// Number of users of both items.
    fn shared(&self, one: u32, other: u32) -> usize {
        let among = |list: &[u32], bits: &[u64]| {
            list.iter().map(|&user| (bits[user as usize / 64] >> (user % 64) & 1) as usize).sum()
        };
        match (self.bits(one), self.bits(other)) {
            (Some(a), Some(b)) => a.iter().zip(b).map(|(a, b)| (a & b).count_ones() as usize).sum(),
            (Some(bits), None) => among(self.list(other), bits),
            (None, Some(bits)) => among(self.list(one), bits),
            (None, None) => {
                let (mut a, mut b) = (self.list(one), self.list(other));
                let mut shared = 0;
                while let ([x, rest_a @ ..], [y, rest_b @ ..]) = (a, b) {
                    shared += usize::from(x == y);
                    (a, b) = (if x <= y { rest_a } else { a }, if y <= x { rest_b } else { b });
                }
                shared
            }
        }
    }
}
