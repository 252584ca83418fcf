//! Batches of (user, chosen item, item not chosen), from the seed and each one's place alone.

use std::ops::Range;

use crate::weighting::Weighting;
use kernels::Csr;
use runtime::draw::mix;
use runtime::error::Result;
use runtime::memory;
use runtime::progress::Progress;

/// Draws before a user counts as having chosen everything.
const TRIES: u64 = 100;
/// Pairs shuffled between two looks at progress.
const CHECK_EVERY: usize = 1 << 17;

/// A number below `below`.
fn draw(random: u64, below: usize) -> usize {
    ((u128::from(random) * below as u128) >> 64) as usize
}

/// Every chosen pair once an epoch, in random order.
pub struct Sampler<'a> {
    by_user: &'a Csr,
    /// [pairs]: (user, item, how much its step counts).
    order: Vec<(u32, u32, f32)>,
    seed: u64,
}

/// The nodes that a batch's loss depends on, and its triples. A node's place among them is its slot.
pub struct Batch {
    /// First the users, then the chosen items, then those that are only not chosen; each once.
    pub nodes: Vec<u32>,
    pub users: usize,
    /// Those of users and chosen items together.
    pub chosen: usize,
    /// Slots of (user, chosen, not chosen).
    pub triples: Vec<[u32; 3]>,
    /// [triples]: how much each counts, 1 in the mean of all pairs.
    pub shares: Vec<f32>,
    /// [nodes of the graph]: slots; `NONE` for those that the batch does not have.
    slot_of: Vec<u32>,
}

const NONE: u32 = u32::MAX;

impl Batch {
    pub fn new(nodes: usize) -> Result<Self> {
        let slot_of = memory::filled(NONE, nodes)?;
        Ok(Self { nodes: Vec::new(), users: 0, chosen: 0, triples: Vec::new(), shares: Vec::new(), slot_of })
    }

    pub fn slot(&self, node: usize) -> Option<usize> {
        Some(self.slot_of[node]).filter(|&slot| slot != NONE).map(|slot| slot as usize)
    }

    /// Takes nodes in place of slots.
    fn fill(&mut self, triples: Vec<[u32; 3]>) {
        self.nodes.iter().for_each(|&node| self.slot_of[node as usize] = NONE);
        self.nodes.clear();
        let mut ends = [0; 3];
        for role in 0..3 {
            for triple in &triples {
                let slot = &mut self.slot_of[triple[role] as usize];
                if *slot == NONE {
                    *slot = self.nodes.len() as u32;
                    self.nodes.push(triple[role]);
                }
            }
            ends[role] = self.nodes.len();
        }
        (self.users, self.chosen) = (ends[0], ends[1]);
        self.triples = triples;
        self.triples.iter_mut().flatten().for_each(|node| *node = self.slot_of[*node as usize]);
    }
}

impl<'a> Sampler<'a> {
    pub fn new(by_user: &'a Csr, weighting: Weighting, seed: u64) -> Result<Self> {
        let shares = weighting.shares(&by_user.values)?;
        let mut order = Vec::new();
        memory::reserve(&mut order, by_user.entries())?;
        for user in 0..by_user.rows() {
            let shares = &shares[by_user.indptr[user] as usize..];
            let items = by_user.row(user).0.iter();
            order.extend(items.zip(shares).map(|(&item, &share)| (user as u32, item, share)));
        }
        Ok(Self { by_user, order, seed })
    }

    pub fn pairs(&self) -> usize {
        self.order.len()
    }

    /// Fisher and Yates' shuffle of the last epoch's order.
    pub fn shuffle(&mut self, epoch: usize, progress: &dyn Progress) -> Result<()> {
        let key = mix(self.seed ^ mix(epoch as u64));
        for last in (1..self.order.len()).rev() {
            if last % CHECK_EVERY == 0 {
                progress.check()?;
            }
            self.order.swap(last, draw(mix(key ^ last as u64), last + 1));
        }
        Ok(())
    }

    /// The epoch's pairs at `places`, each with an item that its user has not chosen. Users who chose all have none.
    pub fn draw(&self, epoch: usize, places: Range<usize>, batch: &mut Batch) -> Result<()> {
        let (users, items) = (self.by_user.rows(), self.by_user.columns);
        let places = places.start..places.end.min(self.order.len());
        let key = mix(self.seed ^ mix(!(epoch as u64)));
        let mut triples = Vec::new();
        memory::reserve(&mut triples, places.len())?;
        batch.shares.clear();
        for place in places {
            let (user, chosen, share) = self.order[place];
            let (row, _) = self.by_user.row(user as usize);
            if row.len() == items {
                continue;
            }
            let key = mix(key ^ place as u64);
            let mut tries = (0..TRIES).map(|n| draw(mix(key.wrapping_add(n)), items) as u32);
            if let Some(other) = tries.find(|item| row.binary_search(item).is_err()) {
                triples.push([user, users as u32 + chosen, users as u32 + other]);
                batch.shares.push(share);
            }
        }
        batch.fill(triples);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::progress::Unwatched;

    #[test]
    fn an_epoch_has_every_pair_once_with_an_item_not_chosen() {
        let by_user =
            Csr { indptr: vec![0, 2, 2, 6, 7], indices: vec![0, 3, 0, 1, 2, 3, 1], values: vec![1.0; 7], columns: 4 };
        let mut sampler = Sampler::new(&by_user, Weighting::EQUAL, 5).unwrap();
        let mut batch = Batch::new(8).unwrap();
        for epoch in 0..3 {
            sampler.shuffle(epoch, &Unwatched).unwrap();
            let mut pairs = Vec::new();
            for first in [0, 3, 6] {
                sampler.draw(epoch, first..first + 3, &mut batch).unwrap();
                assert!(batch.nodes[..batch.users].iter().all(|&n| n < 4));
                assert!(batch.nodes[batch.users..].iter().all(|&n| n >= 4));
                let slots = (0..8).filter_map(|n| batch.slot(n).map(|slot| (slot, n as u32)));
                assert!(slots.clone().all(|(slot, n)| batch.nodes[slot] == n) && slots.count() == batch.nodes.len());
                for triple in &batch.triples {
                    let [user, chosen, other] = triple.map(|slot| batch.nodes[slot as usize]);
                    assert!((triple[0] as usize) < batch.users && (triple[1] as usize) < batch.chosen);
                    assert!(!by_user.row(user as usize).0.contains(&(other - 4)));
                    pairs.push((user, chosen - 4));
                }
            }
            pairs.sort_unstable();
            // User 2 has chosen everything.
            assert_eq!(pairs, [(0, 0), (0, 3), (3, 1)]);
        }
    }
}
