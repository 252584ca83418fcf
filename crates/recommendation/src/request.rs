//! What a list is asked for with: its length, and which items may stand in it.

use std::borrow::Cow;
use std::collections::HashMap;

use inner_products::ItemSet;
use runtime::error::{Error, Result};

/// What to recommend. [`Request::new`] asks for the `k` best of everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    /// The length of a list; it is shorter only when no more items may stand in it.
    pub k: usize,
    /// Leave out everything in the history used.
    pub exclude_seen: bool,
    /// Items to leave out, in any order.
    pub denied: &'a [u32],
    /// The only items that may stand in a list; all where there is none.
    pub allowed: Option<&'a ItemSet>,
    /// From 0, by score alone, to 1, by being unlike the items before alone. See [`super::rerank`].
    pub diversity: f32,
    /// A limit on how many items of a kind stand in a list.
    pub groups: Option<Groups<'a>>,
}

/// At most so many items of each group.
#[derive(Clone, Copy, Debug)]
pub struct Groups<'a> {
    /// The group of each item; [`Groups::NONE`] for an item of no group, of which there may be any number.
    pub group_of: &'a [u32],
    pub max_per_group: usize,
}

impl Groups<'_> {
    pub const NONE: u32 = u32::MAX;
}

impl<'a> Request<'a> {
    pub fn new(k: usize) -> Self {
        Self { k, ..Self::default() }
    }

    /// Refuses what cannot be meant. `items` are the model's.
    pub fn check(&self, items: usize) -> Result<()> {
        if !(0.0..=1.0).contains(&self.diversity) {
            return Err(Error::argument("diversity", self.diversity, "It must be a number from 0 to 1."));
        }
        match self.groups {
            Some(groups) if groups.group_of.len() != items => {
                let hint = "Give one group for each item.";
                Err(Error::invalid(format!("{} groups for {items} items", groups.group_of.len()), hint))
            }
            _ => Ok(()),
        }
    }

    /// The items that may be ranked, for all histories alike; `None` for all.
    pub fn candidates(&self, items: usize) -> Option<Cow<'a, ItemSet>> {
        if self.denied.is_empty() {
            return self.allowed.map(Cow::Borrowed);
        }
        let mut set = self.allowed.cloned().unwrap_or_else(|| ItemSet::all(items));
        self.denied.iter().for_each(|&item| set.remove(item));
        Some(Cow::Owned(set))
    }

    /// A list's group counts.
    pub fn places(&self) -> Places<'a> {
        Places { groups: self.groups, taken: HashMap::new() }
    }
}

/// How many places of one list its groups have taken.
pub struct Places<'a> {
    groups: Option<Groups<'a>>,
    taken: HashMap<u32, usize>,
}

impl Places<'_> {
    /// Whether the group of `item` has a place left.
    pub fn is_open(&self, item: u32) -> bool {
        self.group(item).is_none_or(|(group, most)| self.taken.get(&group).is_none_or(|&n| n < most) && most > 0)
    }

    /// Takes a place for `item` if its group has one left.
    pub fn take(&mut self, item: u32) -> bool {
        let open = self.is_open(item);
        if let Some((group, _)) = self.group(item).filter(|_| open) {
            *self.taken.entry(group).or_default() += 1;
        }
        open
    }

    fn group(&self, item: u32) -> Option<(u32, usize)> {
        let groups = self.groups?;
        let group = groups.group_of.get(item as usize).copied().unwrap_or(Groups::NONE);
        (group != Groups::NONE).then_some((group, groups.max_per_group))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_gives_no_more_places_than_it_has() {
        let group_of = [0, 0, 7, 0, Groups::NONE, Groups::NONE];
        let request = Request { groups: Some(Groups { group_of: &group_of, max_per_group: 2 }), ..Request::new(9) };
        let mut places = request.places();
        assert_eq!([0, 1, 2, 3, 4, 5].map(|item| places.take(item)), [true, true, true, false, true, true]);
        assert!(!places.is_open(3));
        let closed = Groups { group_of: &group_of, max_per_group: 0 };
        let mut places = Request { groups: Some(closed), ..request }.places();
        assert_eq!([0, 4].map(|item| places.take(item)), [false, true]);
        assert!((0..9).all(|item| Request::new(3).places().take(item)));
    }

    #[test]
    fn what_is_denied_is_taken_from_what_is_allowed() {
        let mut allowed = ItemSet::new(70);
        [3, 64, 69].iter().for_each(|&item| allowed.insert(item));
        let of = |request: Request| request.candidates(70).map(|set| (set.iter().collect::<Vec<_>>(), set.len()));
        assert_eq!(of(Request::new(1)), None);
        let filtered = Request { allowed: Some(&allowed), ..Request::new(1) };
        assert_eq!(of(filtered), Some((vec![3, 64, 69], 3)));
        assert_eq!(of(Request { denied: &[64, 1, 64, 1000], ..filtered }), Some((vec![3, 69], 2)));
        let (rest, n) = of(Request { denied: &[69, 0], ..Request::new(1) }).unwrap();
        assert!(n == 68 && rest == (1..69).collect::<Vec<_>>());
    }

    #[test]
    fn requests_that_cannot_be_meant_are_refused() {
        for diversity in [-0.1, 1.5, f32::NAN, f32::INFINITY] {
            assert!(Request { diversity, ..Request::new(1) }.check(3).is_err());
        }
        let groups = Some(Groups { group_of: &[0, 1], max_per_group: 1 });
        assert!(Request { groups, ..Request::new(1) }.check(3).is_err());
        assert!(Request { groups, diversity: 1.0, ..Request::new(1) }.check(2).is_ok());
    }
}
