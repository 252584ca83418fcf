//! One way of changing a text at a place: a word for another, two that change places, one less, one more (Wei and Zou, "EDA: easy data
//! augmentation techniques", EMNLP 2019, section 2, with swaps between neighbours only).

use std::borrow::Cow;

use super::lexicon::in_case_of;
use super::units::{Unit, is_plain};
use super::words::Kind;
use crate::draw;

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

/// Units that were changed are changed no more.
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

fn replace<'w>(units: &mut [Unit], alternatives: impl Fn(&str) -> &'w [Box<str>], draws: &mut Draws) -> Option<()> {
    let place = draws.pick(&places(units, |i| !alternatives(&units[i].key).is_empty()))?;
    let all = alternatives(&units[place].key);
    let unit = &mut units[place];
    unit.text = Cow::Owned(in_case_of(&unit.text, &all[draws.below(all.len())]));
    unit.fixed = true;
    Some(())
}

/// The free word after the free one at `i`, where nothing but whitespace is between them.
fn neighbor(units: &[Unit], i: usize) -> Option<usize> {
    let after = |j: usize| units.get(j).filter(|unit| is_free(unit)).map(|_| j);
    match units.get(i + 1)?.kind {
        Kind::Space => after(i + 2),
        // Chinese words stand side by side.
        Kind::Han => after(i + 1),
        _ => None,
    }
}

fn swap(units: &mut [Unit], draws: &mut Draws) -> Option<()> {
    let place = draws.pick(&places(units, |i| neighbor(units, i).is_some_and(|j| units[i].key != units[j].key)))?;
    let other = neighbor(units, place)?;
    units.swap(place, other);
    units[place].fixed = true;
    units[other].fixed = true;
    Some(())
}

fn delete(units: &mut Vec<Unit>, draws: &mut Draws) -> Option<()> {
    if units.iter().filter(|unit| unit.is_word()).count() < 2 {
        return None;
    }
    let space = |i: Option<usize>| i.and_then(|i| units.get(i)).is_some_and(|unit| unit.kind == Kind::Space);
    let end = |i: Option<usize>| i.and_then(|i| units.get(i)).is_none();
    // A word of letters goes with the whitespace before it: what stands between marks, as in "BEER/ALE", stays.
    let goes = |i: usize| {
        let before = i.checked_sub(1);
        units[i].kind == Kind::Han || space(before) || (end(before) && space(Some(i + 1)))
    };
    let place = draws.pick(&places(units, goes))?;
    let before = place.checked_sub(1);
    let (before_is_space, after_is_space) = (space(before), space(Some(place + 1)));
    let range = match units[place].kind {
        // Between characters whitespace may mean something; of two blanks one goes.
        _ if before_is_space && (after_is_space || end(Some(place + 1)) || units[place].kind != Kind::Han) => {
            place - 1..place + 1
        }
        _ if end(before) && after_is_space => place..place + 2,
        _ => place..place + 1,
    };
    units.drain(range);
    Some(())
}

fn insert(units: &mut Vec<Unit>, words: &impl Alternatives, draws: &mut Draws) -> Option<()> {
    let all = |key: &str| [words.synonyms(key), words.neighbors(key)];
    let has_any = |i: usize| all(&units[i].key).iter().any(|some| !some.is_empty());
    let model = draws.pick(&places(units, has_any))?;
    let [synonyms, neighbors] = all(&units[model].key);
    let number = draws.below(synonyms.len() + neighbors.len());
    let word = synonyms.get(number).or_else(|| neighbors.get(number - synonyms.len()))?;
    let text = in_case_of(&units[model].text, word);
    let kind = units[model].kind;
    // Behind a free word of the same script: never before a brand, never between a number and its unit.
    let place = draws.pick(&places(units, |i| units[i].kind == kind))? + 1;
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
