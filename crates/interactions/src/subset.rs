//! Subsets of interactions, and holding out interactions for evaluation.
//!
//! Users and items keep their indices and ids, so that models trained on a subset and on all interactions can be compared.

use super::Interactions;
use kernels::Csr;
use runtime::draw::mix;
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::progress::Progress;

/// Users processed between two checks of `progress`.
const USERS_PER_CHECK: usize = 1 << 14;

/// Interactions split into a training and a held-out part.
pub struct HeldOut {
    pub training: Interactions,
    /// Users with held-out interactions, ascending, with these items, ascending.
    pub validation: Vec<(u32, Vec<u32>)>,
}

impl Interactions {
    /// The entries of `by_user` for which `keep`, called with the user and the index of the entry, returns true. Negative feedback is kept.
    pub fn keep(&self, keep: impl Fn(usize, usize) -> bool, progress: &dyn Progress) -> Result<Interactions> {
        let mut part = Csr { columns: self.items(), ..Csr::default() };
        // No more than the whole: what is not filled is never touched.
        memory::reserve(&mut part.indptr, self.users() + 1)?;
        memory::reserve(&mut part.indices, self.by_user.entries())?;
        memory::reserve(&mut part.values, self.by_user.entries())?;
        let mut times = Vec::new();
        memory::reserve(&mut times, self.last_times.as_ref().map_or(0, Vec::len))?;
        part.indptr.push(0);
        for (user, ends) in self.by_user.indptr.windows(2).enumerate() {
            if user % USERS_PER_CHECK == 0 {
                progress.check()?;
            }
            for entry in (ends[0] as usize..ends[1] as usize).filter(|&entry| keep(user, entry)) {
                part.indices.push(self.by_user.indices[entry]);
                part.values.push(self.by_user.values[entry]);
                times.extend(self.last_times.as_ref().map(|times| times[entry]));
            }
            part.indptr.push(part.indices.len() as u64);
        }
        if part.entries() == 0 {
            return Err(Error::EmptySource("left to train on".into()));
        }
        Ok(Interactions {
            user_ids: self.user_ids.clone(),
            item_ids: self.item_ids.clone(),
            by_user: part,
            rejected: self.rejected.clone(),
            last_times: self.last_times.is_some().then_some(times),
        })
    }

    /// Holds out a share `share` (between 0 and 1) of each user's interactions: the latest ones if there are times, otherwise random ones, drawn from
    /// `seed`, user and item.
    ///
    /// The number is rounded up or down at random, so that the share is right on average for short histories. Every user keeps at least one
    /// interaction, so nothing is held out for users with a single one. The held-out part may be empty.
    pub fn hold_out(&self, share: f64, seed: u64, progress: &dyn Progress) -> Result<HeldOut> {
        let chance = |user: usize, item: u64| mix(mix(mix(seed) ^ user as u64) ^ item);
        let mut held = memory::filled(false, self.by_user.entries())?;
        let mut validation = Vec::new();
        let mut order: Vec<usize> = Vec::new();
        for (user, ends) in self.by_user.indptr.windows(2).enumerate() {
            if user % USERS_PER_CHECK == 0 {
                progress.check()?;
            }
            let range = ends[0] as usize..ends[1] as usize;
            // No item has the number that rounds.
            let rounding = (chance(user, u64::MAX) >> 11) as f64 / (1u64 << 53) as f64;
            let count = (share * range.len() as f64 + rounding) as usize;
            let count = count.min(range.len().saturating_sub(1));
            if count == 0 {
                continue;
            }
            order.clear();
            order.extend(range);
            let key = |&entry: &usize| {
                let time = self.last_times.as_ref().map_or(0, |times| times[entry]);
                (time, chance(user, self.by_user.indices[entry].into()), entry)
            };
            order.sort_unstable_by_key(|entry| std::cmp::Reverse(key(entry)));
            order[..count].iter().for_each(|&entry| held[entry] = true);
            let mut items: Vec<u32> = order[..count].iter().map(|&entry| self.by_user.indices[entry]).collect();
            items.sort_unstable();
            memory::push(&mut validation, (user as u32, items))?;
        }
        Ok(HeldOut { training: self.keep(|_, entry| !held[entry], progress)?, validation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Id, InteractionsBuilder};
    use runtime::progress::Unwatched;

    fn interactions(times: bool) -> Interactions {
        let mut builder = InteractionsBuilder::new();
        for user in 0..200i64 {
            for item in 0..=user % 12 {
                // The smallest item comes last.
                let time = times.then_some(1000 - item);
                builder.push(Id::Int(1000 + user), Id::Int(100 + item), 1.0 + item as f32, time).unwrap();
            }
        }
        builder.push(Id::Int(1003), Id::Int(110), -1.0, None).unwrap();
        builder.finish().unwrap()
    }

    #[test]
    fn both_parts_together_are_the_whole_and_everyone_keeps_something() {
        for times in [false, true] {
            let all = interactions(times);
            let HeldOut { training, validation } = all.hold_out(0.25, 7, &Unwatched).unwrap();
            assert_eq!((training.users(), training.items()), (all.users(), all.items()));
            assert_eq!(training.rejected, all.rejected);
            assert_eq!(training.last_times.as_ref().map(Vec::len), times.then_some(training.by_user.entries()));
            let mut held = 0;
            for user in 0..all.users() {
                let out = validation.iter().find(|(u, _)| *u == user as u32).map_or(&[][..], |(_, items)| items);
                let (kept, weights) = training.by_user.row(user);
                assert!(!kept.is_empty() && weights.iter().zip(kept).all(|(&w, &i)| w == 1.0 + i as f32));
                let mut union = [kept, out].concat();
                union.sort_unstable();
                assert_eq!(union, all.by_user.row(user).0);
                assert!(!times || out.iter().all(|&item| kept.iter().all(|&other| item < other)));
                held += out.len();
            }
            let share = held as f64 / all.by_user.entries() as f64;
            assert!((share - 0.25).abs() < 0.03, "{share}");
        }
    }

    #[test]
    fn chance_is_drawn_from_the_seed() {
        let all = interactions(false);
        let one = all.hold_out(0.25, 7, &Unwatched).unwrap();
        assert_eq!(one.validation, all.hold_out(0.25, 7, &Unwatched).unwrap().validation);
        assert_ne!(one.validation, all.hold_out(0.25, 8, &Unwatched).unwrap().validation);
    }

    #[test]
    fn nothing_left_is_an_error() {
        assert!(matches!(interactions(false).keep(|_, _| false, &Unwatched), Err(Error::EmptySource(_))));
    }
}
