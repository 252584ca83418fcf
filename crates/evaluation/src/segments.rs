//! Segments of users or items, by their number of interactions in the training data.

use super::cases::{Cases, Subject};
use super::catalogue::Catalogue;
use recommendation::Model;
use runtime::error::{Error, Result};
use runtime::memory;

/// Levels of activity, by number of interactions.
const LEVELS: usize = 4;
const OF_USERS: [&str; LEVELS] = ["users 0", "users 1-3", "users 4-10", "users 11+"];
const OF_ITEMS: [&str; LEVELS] = ["items 0", "items 1-3", "items 4-10", "items 11+"];
pub const ALL: &str = "all";

fn level(interactions: usize) -> u8 {
    match interactions {
        0 => 0,
        1..=3 => 1,
        4..=10 => 2,
        _ => 3,
    }
}

/// What to segment by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct By {
    pub users: bool,
    pub items: bool,
}

impl By {
    pub fn from_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut by = Self::default();
        for name in names {
            match name {
                "users" => by.users = true,
                "items" => by.items = true,
                _ => {
                    let known = "users, items".into();
                    return Err(Error::UnknownName { what: "kind of segment", name: name.into(), known });
                }
            }
        }
        Ok(by)
    }
}

/// The segment of each case and each relevant item.
#[derive(Clone, Debug, Default)]
pub struct Segments {
    /// The level of each case.
    users: Option<Vec<u8>>,
    /// The level of each relevant item of the cases.
    items: Option<Vec<u8>>,
}

impl Segments {
    /// Users by the histories of the cases, items by the training data of `model`.
    pub fn of(model: &Model, cases: &Cases, catalogue: &Catalogue, by: By) -> Result<Self> {
        let mut segments = Self::default();
        if by.users {
            let mut levels = Vec::new();
            memory::reserve(&mut levels, cases.len())?;
            for case in 0..cases.len() {
                let (_, weights) = cases.history(model, case)?;
                levels.push(level(weights.iter().filter(|&&w| w > 0.0).count()));
            }
            segments.users = Some(levels);
        }
        if by.items {
            let mut levels = Vec::new();
            memory::reserve(&mut levels, cases.relevant.items().len())?;
            levels.extend(cases.relevant.items().iter().map(|&item| level(catalogue.count(item) as usize)));
            segments.items = Some(levels);
        }
        Ok(segments)
    }

    /// The group of all cases, then the segments. `exposed` is the number of items to count exposures of.
    pub(super) fn groups(&self, exposed: Option<usize>) -> Result<Vec<Group>> {
        let group = |segment, exposed: Option<usize>| -> Result<Group> {
            let exposure = exposed.map(|items| memory::filled(0u32, items)).transpose()?;
            Ok(Group { segment, rows: Vec::new(), of_items: false, exposure })
        };
        let mut groups = vec![group(ALL, exposed)?];
        if self.users.is_some() {
            for segment in OF_USERS {
                groups.push(group(segment, exposed)?);
            }
        }
        if self.items.is_some() {
            for segment in OF_ITEMS {
                groups.push(Group { of_items: true, ..group(segment, None)? });
            }
        }
        Ok(groups)
    }

    /// The groups of a whole case. Users without a history are not part of the group of all.
    pub(super) fn of_case(&self, case: usize, subject: Subject) -> impl Iterator<Item = usize> {
        let all = (subject != Subject::Nobody).then_some(0);
        let own = self.users.as_ref().map(|levels| 1 + levels[case] as usize);
        all.into_iter().chain(own)
    }

    /// The group of the items of a level.
    pub(super) fn of_items(&self, level: u8) -> usize {
        1 + if self.users.is_some() { LEVELS } else { 0 } + level as usize
    }

    /// The levels of a case's relevant items.
    pub(super) fn levels_of(&self, cases: &Cases, case: usize) -> Vec<u8> {
        let Some(items) = &self.items else { return Vec::new() };
        let mut levels = items[cases.relevant.range(case)].to_vec();
        levels.sort_unstable();
        levels.dedup();
        levels
    }

    /// The relevant items of a case that have a level.
    pub(super) fn of_level(&self, cases: &Cases, case: usize, level: u8) -> impl Iterator<Item = usize> + Clone {
        let items = self.items.as_ref().map_or(&[][..], |items| &items[cases.relevant.range(case)]);
        (0..items.len()).filter(move |&n| items[n] == level)
    }
}

/// A segment of the cases.
pub struct Group {
    pub segment: &'static str,
    /// Whether it covers only some of the relevant items; metrics of whole lists do not apply.
    pub of_items: bool,
    /// Rows of the values.
    pub rows: Vec<u32>,
    /// [items]: number of lists with the item.
    pub exposure: Option<Vec<u32>>,
}

impl Group {
    pub(super) fn take(&mut self, row: u32, list: &[u32]) -> Result<()> {
        memory::push(&mut self.rows, row)?;
        if let Some(exposure) = &mut self.exposure {
            list.iter().for_each(|&item| exposure[item as usize] += 1);
        }
        Ok(())
    }
}
