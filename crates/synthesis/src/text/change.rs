//! A single change of a text: replacing a word, swapping two, deleting one, inserting one (Wei and Zou, "EDA: easy data
//! augmentation techniques", EMNLP 2019, section 2, with swaps of neighbours only).

use std::borrow::Cow;
use std::ops::Range;

use ahash::{AHashMap, AHashSet};

use super::lexicon::in_case_of;
use super::units::{Unit, is_plain, is_small_word};
use super::words::Kind;
use runtime::draw;

/// Marks that separate a word after them, and before them, from what is on their other side.
const OPENING: &str = "([{\"'“‘（【《";
const CLOSING: &str = ",;.!?)]}\"'”’，。；！？、）】》";

/// Units of a long text searched for one change, in microseconds.
const PART: usize = 512;

/// A kind of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Synonym,
    Neighbor,
    Swap,
    Delete,
    Insert,
}

/// A sequence of random numbers.
pub struct Draws {
    seed: u64,
    place: u64,
}

impl Draws {
    pub fn new(seed: u64) -> Self {
        Self { seed, place: 0 }
    }

    pub fn below(&mut self, n: usize) -> usize {
        self.place += 1;
        draw::below(self.seed, self.place, n)
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        if all.is_empty() { None } else { Some(all[self.below(all.len())]) }
    }
}

/// Replacements of words.
pub trait Alternatives {
    fn synonyms(&self, key: &str) -> &[Box<str>];
    fn neighbors(&self, key: &str) -> &[Box<str>];
}

/// Replacements of the words of one text that the text does not contain itself. Collected once for all of its variants.
pub struct Choices<'w> {
    /// Synonyms and neighbours by key.
    by_key: AHashMap<&'w str, [Vec<&'w str>; 2]>,
}

impl<'w> Choices<'w> {
    pub fn new(units: &'w [Unit], words: &'w impl Alternatives) -> Self {
        let own: AHashSet<&str> = units.iter().filter(|unit| unit.is_word()).map(|unit| unit.key.as_str()).collect();
        let foreign = |all: &'w [Box<str>]| -> Vec<&'w str> {
            all.iter().map(|word| &**word).filter(|word| !own.contains(word.to_lowercase().as_str())).collect()
        };
        let mut by_key = AHashMap::new();
        for unit in units.iter().filter(|unit| is_free(unit)) {
            by_key
                .entry(unit.key.as_str())
                .or_insert_with_key(|key| [foreign(words.synonyms(key)), foreign(words.neighbors(key))]);
        }
        by_key.retain(|_, [synonyms, neighbors]| !(synonyms.is_empty() && neighbors.is_empty()));
        Self { by_key }
    }

    fn synonyms(&self, key: &str) -> &[&'w str] {
        self.by_key.get(key).map_or(&[], |[synonyms, _]| synonyms)
    }

    fn neighbors(&self, key: &str) -> &[&'w str] {
        self.by_key.get(key).map_or(&[], |[_, neighbors]| neighbors)
    }
}

/// Whether a unit may be changed. A changed unit is fixed.
fn is_free(unit: &Unit) -> bool {
    unit.is_word() && !unit.fixed
}

/// Makes `change` at a random place; `false` if there is no possible place.
pub fn apply(units: &mut Vec<Unit<'_>>, change: Change, choices: &Choices, draws: &mut Draws) -> bool {
    match change {
        Change::Synonym => replace(units, |key| choices.synonyms(key), draws),
        Change::Neighbor => replace(units, |key| choices.neighbors(key), draws),
        Change::Swap => swap(units, draws),
        Change::Delete => delete(units, draws),
        Change::Insert => insert(units, choices, draws),
    }
    .is_some()
}

fn places(units: &[Unit], fits: impl Fn(usize) -> bool) -> Vec<usize> {
    (0..units.len()).filter(|&i| is_free(&units[i]) && fits(i)).collect()
}

fn replace<'c>(units: &mut [Unit], alternatives: impl Fn(&str) -> &'c [&'c str], draws: &mut Draws) -> Option<()> {
    let place = draws.pick(&places(units, |i| !alternatives(&units[i].key).is_empty()))?;
    let word = draws.pick(alternatives(&units[place].key))?;
    let unit = &mut units[place];
    unit.text = Cow::Owned(in_case_of(&unit.text, word));
    unit.fixed = true;
    Some(())
}

/// The next free word after the free one at `i`, if it has the same script and only whitespace is between them.
fn neighbor(units: &[Unit], i: usize) -> Option<usize> {
    let after = |j: usize| units.get(j).filter(|unit| is_free(unit) && unit.kind == units[i].kind).map(|_| j);
    match units.get(i + 1)?.kind {
        Kind::Space => after(i + 2),
        // Chinese words stand side by side.
        Kind::Han => after(i + 1),
        _ => None,
    }
}

/// Whether nothing is attached to the beginning of the unit at `i`, as "/" or "&" would be.
fn is_loose_before(units: &[Unit], i: usize) -> bool {
    match i.checked_sub(1).map(|before| &units[before]) {
        None => true,
        Some(unit) => unit.kind != Kind::Mark || OPENING.contains(&*unit.text),
    }
}

/// Whether nothing is attached to the end of the unit at `i`.
fn is_loose_after(units: &[Unit], i: usize) -> bool {
    units.get(i + 1).is_none_or(|unit| unit.kind != Kind::Mark || CLOSING.contains(&*unit.text))
}

fn swap(units: &mut [Unit], draws: &mut Draws) -> Option<()> {
    let other = |i: usize| {
        neighbor(units, i)
            .filter(|&j| units[i].key != units[j].key && is_loose_before(units, i) && is_loose_after(units, j))
    };
    let place = draws.pick(&places(units, |i| other(i).is_some()))?;
    let other = other(place)?;
    units.swap(place, other);
    units[place].fixed = true;
    units[other].fixed = true;
    Some(())
}

fn delete(units: &mut Vec<Unit>, draws: &mut Draws) -> Option<()> {
    // Of words side by side the last is what the thing is, in English and in Chinese: it stays. So does what "and" or "&" stand before.
    let goes = |i: usize| {
        let before = units[..i].iter().rev().find(|unit| unit.kind != Kind::Space);
        let is_tied = before.is_some_and(|unit| match unit.kind {
            Kind::Mark => !CLOSING.contains(&*unit.text) && !OPENING.contains(&*unit.text),
            _ => is_small_word(&unit.key),
        });
        neighbor(units, i).is_some() && !is_tied
    };
    let place = draws.pick(&places(units, goes))?;
    // A word goes with the whitespace behind it.
    let end = if units[place + 1].kind == Kind::Space { place + 2 } else { place + 1 };
    units.drain(place..end);
    Some(())
}

fn insert(units: &mut Vec<Unit>, choices: &Choices, draws: &mut Draws) -> Option<()> {
    let all = |i: usize| (choices.synonyms(&units[i].key), choices.neighbors(&units[i].key));
    let has_some = |i: usize| {
        let (synonyms, neighbors) = all(i);
        !(synonyms.is_empty() && neighbors.is_empty())
    };
    let model = draws.pick(&places(units, has_some))?;
    let (synonyms, neighbors) = all(model);
    let text = in_case_of(&units[model].text, draws.pick(&[synonyms, neighbors].concat())?);
    let kind = units[model].kind;
    // Behind a free word of the same script: never before a brand, never between a number and its unit.
    let place = draws.pick(&places(units, |i| units[i].kind == kind && is_loose_after(units, i)))? + 1;
    units.insert(place, Unit { text: Cow::Owned(text), kind, fixed: true, key: String::new() });
    if kind != Kind::Han {
        units.insert(place, Unit { text: " ".into(), kind: Kind::Space, fixed: false, key: String::new() });
    }
    Some(())
}

/// Cuts a long text into parts of about [`PART`] units that are changed separately, at whitespace with nothing
/// attached. A short text is one part.
pub fn parts(units: &[Unit]) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let mut start = 0;
    while units.len() - start > 2 * PART {
        let is_loose = |&end: &usize| {
            units[end - 1].kind == Kind::Space && units[end - 2].is_word() && !is_small_word(&units[end - 2].key)
        };
        let end = (start + PART..start + 2 * PART).find(is_loose).unwrap_or(start + PART);
        parts.push(start..end);
        start = end;
    }
    parts.push(start..units.len());
    parts
}

/// Number of words that may change, the basis of the share to change.
pub fn free_words(units: &[Unit]) -> usize {
    units.iter().filter(|unit| is_free(unit) && is_plain(&unit.key)).count()
}
