//! Negatives drawn uniformly without replacement from the items that are neither in the user's history, in any model, nor held out:
//! the protocol of He and others, "Neural collaborative filtering" (WWW 2017), §4.1.
//!
//! Draws are hashes of the seed, the user's id and the number of the draw: they do not depend on threads or other users, and models
//! with the same items get the same candidates.

use std::collections::HashSet;

use super::cases::Cases;
use recommendation::Model;
use runtime::draw::mix;
use runtime::error::Result;
use runtime::memory;
use runtime::progress::Progress;

/// Ids compared between two checks for a cancel request.
const CHECK_EVERY: usize = 1 << 14;

/// Draws for `N` models from the items known to all of them.
pub struct Sampler<'a, const N: usize> {
    models: [&'a Model; N],
    cases: &'a [Cases; N],
    /// The numbers of those items in each model, ascending in each; `None` for a single model.
    common: Option<Vec<[u32; N]>>,
    wanted: usize,
    seed: u64,
}

impl<'a, const N: usize> Sampler<'a, N> {
    /// Draws `wanted` negatives for each case.
    pub fn new(
        models: [&'a Model; N],
        cases: &'a [Cases; N],
        wanted: usize,
        seed: u64,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let common = if N == 1 { None } else { Some(common_items(models, progress)?) };
        Ok(Self { models, cases, common, wanted, seed })
    }

    /// The negatives of a case as item numbers of model `of`, in draw order. Fewer than wanted if there are no more items.
    pub fn draw(&self, case: usize, of: usize) -> Result<Vec<u32>> {
        let items = self.common.as_ref().map_or(self.models[0].item_ids().len(), Vec::len);
        let mut taken = Vec::new();
        for (n, model) in self.models.iter().enumerate() {
            let (history, _) = self.cases[n].history(model, case)?;
            let relevant = self.cases[n].relevant.row(case);
            taken.extend(history.iter().chain(relevant).filter_map(|&item| self.number(item, n)));
        }
        taken.sort_unstable();
        taken.dedup();
        let left = items.saturating_sub(taken.len());
        let start = mix(mix(self.seed) ^ self.cases[0].hashes[case]);
        let draw = |n: u64, below: usize| ((u128::from(mix(start.wrapping_add(n))) * below as u128) >> 64) as usize;
        let mut drawn = Vec::new();
        if self.wanted >= left / 2 {
            // Many of those that are left: a shuffle of all of them, cut.
            drawn.extend((0..items as u32).filter(|item| taken.binary_search(item).is_err()));
            for n in 0..self.wanted.min(left) {
                drawn.swap(n, n + draw(n as u64, left - n));
            }
            drawn.truncate(self.wanted);
        } else {
            let mut seen = HashSet::with_capacity(self.wanted);
            for n in 0.. {
                if drawn.len() == self.wanted {
                    break;
                }
                let item = draw(n, items) as u32;
                if taken.binary_search(&item).is_err() && seen.insert(item) {
                    drawn.push(item);
                }
            }
        }
        if let Some(common) = &self.common {
            drawn.iter_mut().for_each(|item| *item = common[*item as usize][of]);
        }
        Ok(drawn)
    }

    /// A model's item as a number among the common items.
    fn number(&self, item: u32, of: usize) -> Option<u32> {
        match &self.common {
            None => Some(item),
            Some(common) => common.binary_search_by(|numbers| numbers[of].cmp(&item)).ok().map(|n| n as u32),
        }
    }
}

fn common_items<const N: usize>(models: [&Model; N], progress: &dyn Progress) -> Result<Vec<[u32; N]>> {
    let mut common = Vec::new();
    for (first, id) in (0..).zip(models[0].item_ids().iter()) {
        if (first as usize).is_multiple_of(CHECK_EVERY) {
            progress.check()?;
        }
        let mut numbers = [first; N];
        let others = models[1..].iter().zip(&mut numbers[1..]);
        if others.into_iter().all(|(model, number)| model.item_ids().find(id).map(|n| *number = n).is_some()) {
            memory::push(&mut common, numbers)?;
        }
    }
    Ok(common)
}
