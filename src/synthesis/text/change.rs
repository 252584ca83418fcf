//! One way of changing a text at a place: a word for another, two that change places, one less, one more (Wei and Zou, "EDA: easy data
//! augmentation techniques", EMNLP 2019, section 2, with swaps between neighbours only).

use std::borrow::Cow;

use super::lexicon::in_case_of;
use super::units::{Unit, is_plain, is_small_word};
use super::words::Kind;
use crate::draw;

/// Marks that a word may stand behind, and before, without being tied to what is on their other side.
const OPENING: &str = "([{\"'“‘（【《";
const CLOSING: &str = ",;.!?)]}\"'”’，。；！？、）】》";

/// What is done to a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Synonym,
    Neighbor,
    Swap,
    Delete,
    Insert,
}

/// Numbers drawn one after the other.
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

/// What words can be replaced by.
pub trait Alternatives {
    fn synonyms(&self, key: &str) -> &[Box<str>];
    fn neighbors(&self, key: &str) -> &[Box<str>];
}

/// Units that were changed are fixed, and changed no more.
fn is_free(unit: &Unit) -> bool {
    unit.is_word() && !unit.fixed
}

/// Does `change` at a drawn place; `false` where there is none.
pub fn apply(units: &mut Vec<Unit<'_>>, change: Change, words: &impl Alternatives, draws: &mut Draws) -> bool {
    match change {
        Change::Synonym => replace(units, |key| words.synonyms(key), draws),
        Change::Neighbor => replace(units, |key| words.neighbors(key), draws),
        Change::Swap => swap(units, draws),
        Change::Delete => delete(units, draws),
        Change::Insert => insert(units, words, draws),
    }
    .is_some()
}

fn places(units: &[Unit], fits: impl Fn(usize) -> bool) -> Vec<usize> {
    (0..units.len()).filter(|&i| is_free(&units[i]) && fits(i)).collect()
}

/// The alternatives of a unit that the text does not have already.
fn alternatives_of<'w>(units: &[Unit], all: &[&'w [Box<str>]]) -> Vec<&'w str> {
    let all = all.iter().flat_map(|some| some.iter().map(|word| &**word));
    all.filter(|word| !units.iter().any(|unit| unit.is_word() && unit.key == word.to_lowercase())).collect()
}

fn replace<'w>(units: &mut [Unit], alternatives: impl Fn(&str) -> &'w [Box<str>], draws: &mut Draws) -> Option<()> {
    let all = |i: usize| alternatives_of(units, &[alternatives(&units[i].key)]);
    let place = draws.pick(&places(units, |i| !all(i).is_empty()))?;
    let word = draws.pick(&all(place))?;
    let unit = &mut units[place];
    unit.text = Cow::Owned(in_case_of(&unit.text, word));
    unit.fixed = true;
    Some(())
}

/// The free word of the same script after the free one at `i`, where nothing but whitespace is between them.
fn neighbor(units: &[Unit], i: usize) -> Option<usize> {
    let after = |j: usize| units.get(j).filter(|unit| is_free(unit) && unit.kind == units[i].kind).map(|_| j);
    match units.get(i + 1)?.kind {
        Kind::Space => after(i + 2),
        // Chinese words stand side by side.
        Kind::Han => after(i + 1),
        _ => None,
    }
}

/// Whether nothing is tied to the beginning of the unit at `i`, as "/" or "&" is.
fn is_loose_before(units: &[Unit], i: usize) -> bool {
    match i.checked_sub(1).map(|before| &units[before]) {
        None => true,
        Some(unit) => unit.kind != Kind::Mark || OPENING.contains(&*unit.text),
    }
}

/// Whether nothing is tied to the end of the unit at `i`.
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

fn insert(units: &mut Vec<Unit>, words: &impl Alternatives, draws: &mut Draws) -> Option<()> {
    let all = |i: usize| alternatives_of(units, &[words.synonyms(&units[i].key), words.neighbors(&units[i].key)]);
    let model = draws.pick(&places(units, |i| !all(i).is_empty()))?;
    let text = in_case_of(&units[model].text, draws.pick(&all(model))?);
    let kind = units[model].kind;
    // Behind a free word of the same script: never before a brand, never between a number and its unit.
    let place = draws.pick(&places(units, |i| units[i].kind == kind && is_loose_after(units, i)))? + 1;
    units.insert(place, Unit { text: Cow::Owned(text), kind, fixed: true, key: String::new() });
    if kind != Kind::Han {
        units.insert(place, Unit { text: " ".into(), kind: Kind::Space, fixed: false, key: String::new() });
    }
    Some(())
}

/// The words that may change and can be told: what a share of words is counted from.
pub fn free_words(units: &[Unit]) -> usize {
    units.iter().filter(|unit| is_free(unit) && is_plain(&unit.key)).count()
}
