//! Makes the plan of a query: its tokens, and what else of the index may be meant by them.

use std::collections::BTreeSet;

use runtime::error::Result;
use runtime::progress::Progress;

use super::expand;
use super::parse::parse;
use super::plan::{Alternative, Group, Located, MAX_GROUPS, Mask, Plan, QueryWord, What};
use super::segment::IndexWords;
use super::steps::{Step, steps};
use super::synonyms::Synonyms;
use crate::constants::{
    CHARACTER, COMPLETION, COMPLETION_OF_KNOWN, OF_CHARACTERS, ONE_ERROR, SYNONYM, TWO_ERRORS, WRITTEN_APART,
    WRITTEN_TOGETHER,
};
use crate::index::Lexical;
use crate::text::segmenter::Characters;
use crate::text::{Kind, Token};

/// The most words that one word of a query is completed or corrected to.
const MAX_COMPLETIONS: usize = 16;
const MAX_CORRECTIONS: usize = 8;

/// Neighbours with more dropped words between them are not expected to stand together.
const MAX_DISTANCE: u32 = 3;

/// Indexes of fewer rows have no words that are rare for an index.
const MANY_ROWS: u64 = 1000;

/// Reads a query and looks its words up.
pub fn plan(index: &Lexical, query: &str, synonyms: &Synonyms, progress: &dyn Progress) -> Result<Plan> {
    let parsed = parse(query)?;
    let mut segmenter = IndexWords::new(index);
    let mut tokens = index.analyzer.tokens(&parsed.text, &mut segmenter, progress)?;
    segmenter.error?;
    tokens.retain(|token| token.kind != Kind::Spelling);
    let phrase = |text: &String| Ok(steps(&index.analyzer.tokens(text, &mut Characters, progress)?));
    let required = parsed.phrases.iter().map(phrase).collect::<Result<Vec<_>>>()?;
    let excluded = parsed.excluded.iter().map(phrase).collect::<Result<Vec<_>>>()?;
    let some = |phrases: Vec<Vec<Step>>| phrases.into_iter().filter(|steps| !steps.is_empty()).collect();
    let mut planner = Planner { index, progress, tokens: &tokens, seeds: Vec::new() };
    planner.seed()?;
    planner.complete(parsed.may_continue)?;
    planner.correct()?;
    planner.join_neighbours()?;
    planner.replace(synonyms)?;
    let mut plan = planner.finish();
    (plan.required, plan.excluded) = (some(required), some(excluded));
    Ok(plan)
}

/// A group in the making, and the tokens that it stands for.
struct Seed {
    own: Located,
    factor: f32,
    more: Vec<Alternative>,
    tokens: Vec<usize>,
}

struct Planner<'a> {
    index: &'a Lexical,
    progress: &'a dyn Progress,
    tokens: &'a [Token],
    seeds: Vec<Seed>,
}

impl Planner<'_> {
    /// A group for each distinct term; stop words only if there is nothing else.
    fn seed(&mut self) -> Result<()> {
        let only_stop_words = self.tokens.iter().all(|token| token.is_stop_word || token.kind == Kind::Joined);
        let covered = self.covered();
        for (at, token) in self.tokens.iter().enumerate() {
            if token.is_stop_word && !only_stop_words {
                continue;
            }
            let factor = match token.kind {
                Kind::Character if covered[at] => CHARACTER,
                _ => 1.0,
            };
            if let Some(seed) = self.seeds.iter_mut().find(|seed| seed.own.term == token.term) {
                seed.tokens.push(at);
                seed.factor = seed.factor.max(factor);
                continue;
            }
            self.progress.check()?;
            let own = Located::new(self.index, &token.term)?;
            self.seeds.push(Seed { own, factor, more: Vec::new(), tokens: vec![at] });
        }
        Ok(())
    }

    /// Whether a token is a character within a word of the query.
    fn covered(&self) -> Vec<bool> {
        let mut covered = vec![false; self.tokens.len()];
        for word in self.tokens.iter().filter(|token| token.is_of_characters()) {
            for (token, covered) in self.tokens.iter().zip(&mut covered) {
                *covered |= token.kind == Kind::Character && within(token, word);
            }
        }
        covered
    }

    /// Completes the last word, which may be unfinished.
    fn complete(&mut self, may_continue: bool) -> Result<()> {
        let end = self.tokens.iter().map(|token| token.range.end).max().unwrap_or(0);
        let of_last =
            |token: &&Token| token.range.end == end && token.kind != Kind::Character && !token.is_of_characters();
        let last = self.tokens.iter().filter(of_last).max_by_key(|token| token.range.len());
        let Some(last) =
            last.filter(|token| may_continue && !token.is_number() && token.surface().chars().count() >= 2)
        else {
            return Ok(());
        };
        let found = expand::beginning_with(self.index, last.surface(), MAX_COMPLETIONS, self.progress)?;
        let words: Vec<_> = found.into_iter().map(|found| found.word).collect();
        let Some(at) = self.seeds.iter().position(|seed| seed.own.term == last.term) else { return Ok(()) };
        let factor = if self.seeds[at].own.is_known() { COMPLETION_OF_KNOWN } else { COMPLETION };
        self.add_words(at, words.into_iter().map(|word| (word, factor)).collect())
    }

    /// Words that no row has, or hardly any: others within a few typing errors, or two words that it was made of.
    fn correct(&mut self) -> Result<()> {
        let is_large = self.index.documents >= MANY_ROWS;
        for at in 0..self.seeds.len() {
            let Some(&first) = self.seeds[at].tokens.first() else { continue };
            let token = &self.tokens[first];
            let letters = token.surface().chars().count();
            let is_name = token.surface().chars().all(char::is_alphabetic);
            let rows = self.seeds[at].own.rows();
            if !is_name || letters < 4 || token.is_of_characters() || rows > if is_large { 2 } else { 0 } {
                continue;
            }
            if rows == 0
                && let Some(parts) = self.split(token.surface())?
            {
                let steps = vec![Step { term: parts.0, offset: 0 }, Step { term: parts.1, offset: 1 }];
                self.add_phrase(at, steps, WRITTEN_APART)?;
            }
            let errors = if letters >= 9 { 2 } else { 1 };
            let mut found = expand::similar(self.index, token.surface(), errors, MAX_CORRECTIONS, self.progress)?;
            // A word that is rare may be right: only words that are far more frequent are taken for what was meant.
            found.retain(|(found, _)| rows == 0 || found.frequency >= 20 * rows);
            let factor = |errors| if errors <= 1 { ONE_ERROR } else { TWO_ERRORS };
            self.add_words(at, found.into_iter().map(|(found, errors)| (found.word, factor(errors))).collect())?;
        }
        Ok(())
    }

    /// The two words that `word` is written together from: of all pairs the one whose rarer word is the most frequent.
    fn split(&self, word: &str) -> Result<Option<(String, String)>> {
        let mut best: (u64, Option<(String, String)>) = (0, None);
        for (at, _) in word.char_indices().skip(3) {
            let (left, right) = word.split_at(at);
            if right.chars().count() < 3 {
                break;
            }
            let rarer = self.index.word_frequency(left)?.min(self.index.word_frequency(right)?);
            if rarer > best.0 {
                best = (rarer, Some((self.index.analyzer.term(left), self.index.analyzer.term(right))));
            }
        }
        Ok(best.1)
    }

    /// Two words of the query that rows write together.
    fn join_neighbours(&mut self) -> Result<()> {
        let words: Vec<usize> = (0..self.tokens.len())
            .filter(|&at| self.tokens[at].is_step() && self.tokens[at].kind == Kind::Word)
            .collect();
        for pair in words.windows(2) {
            let (left, right) = (&self.tokens[pair[0]], &self.tokens[pair[1]]);
            if right.position != left.position + 1 || left.is_number() || left.is_stop_word || right.is_stop_word {
                continue;
            }
            let joined = format!("{}{}", left.surface(), right.surface());
            if self.index.word_frequency(&joined)? == 0 {
                continue;
            }
            for at in self.seeds_of(pair) {
                self.add_words(at, vec![(joined.clone(), WRITTEN_TOGETHER)])?;
            }
        }
        Ok(())
    }

    fn replace(&mut self, synonyms: &Synonyms) -> Result<()> {
        let steps: Vec<usize> = (0..self.tokens.len()).filter(|&at| self.tokens[at].is_step()).collect();
        for (range, replacements) in synonyms.found(self.tokens, &steps) {
            let replaced = &steps[range];
            let (Some(&first), Some(&last)) = (replaced.first(), replaced.last()) else { continue };
            let bytes = self.tokens[first].range.start..self.tokens[last].range.end;
            // Words of characters stand for their characters.
            let words = (0..self.tokens.len()).filter(|&at| {
                let token = &self.tokens[at];
                token.is_of_characters() && bytes.start <= token.range.start && token.range.end <= bytes.end
            });
            let mut seeds = self.seeds_of(&words.collect::<Vec<_>>());
            if seeds.is_empty() {
                seeds = self.seeds_of(replaced);
            }
            let factor = SYNONYM / seeds.len().max(1) as f32;
            for &at in &seeds {
                for steps in replacements {
                    self.add_phrase(at, steps.clone(), factor)?;
                }
            }
        }
        Ok(())
    }

    fn seeds_of(&self, tokens: &[usize]) -> Vec<usize> {
        (0..self.seeds.len()).filter(|&at| self.seeds[at].tokens.iter().any(|token| tokens.contains(token))).collect()
    }

    /// Adds words of the index as alternatives, which share one document frequency: rare misspellings say no more than common ones.
    fn add_words(&mut self, at: usize, words: Vec<(String, f32)>) -> Result<()> {
        let mut located: Vec<(Located, f32)> = Vec::new();
        for (word, factor) in words {
            let term = self.index.analyzer.term(&word);
            let is_new = term != self.seeds[at].own.term && located.iter().all(|(other, _)| other.term != term);
            if is_new {
                located.push((Located::new(self.index, &term)?, factor));
            }
        }
        let sum = |field: usize| located.iter().map(|(located, _)| located.frequencies[field]).sum();
        let idf: Vec<f32> = (0..self.index.fields.len()).map(|field| self.index.idf(sum(field))).collect();
        let alternative = |(located, factor)| Alternative { what: What::Term(located), factor, idf: idf.clone() };
        self.seeds[at].more.extend(located.into_iter().map(alternative));
        Ok(())
    }

    fn add_phrase(&mut self, at: usize, mut steps: Vec<Step>, factor: f32) -> Result<()> {
        let mut idf = vec![0.0f32; self.index.fields.len()];
        for step in &steps {
            for (idf, frequency) in idf.iter_mut().zip(Located::new(self.index, &step.term)?.frequencies) {
                *idf = idf.max(self.index.idf(frequency));
            }
        }
        let what = match steps.len() {
            1 => What::Term(Located::new(self.index, &steps.remove(0).term)?),
            _ => What::Phrase(steps),
        };
        self.seeds[at].more.push(Alternative { what, factor, idf });
        Ok(())
    }

    /// Groups of the seeds that some row has, the rarest first to be kept.
    fn finish(mut self) -> Plan {
        let is_known = |seed: &Seed| seed.own.is_known() || !seed.more.is_empty();
        let mut order: Vec<usize> = (0..self.seeds.len()).filter(|&at| is_known(&self.seeds[at])).collect();
        order.sort_by_key(|&at| self.seeds[at].own.rows());
        order.truncate(MAX_GROUPS);
        order.sort_unstable();
        let mut masks: Vec<Mask> = vec![0; self.tokens.len()];
        for (bit, &at) in order.iter().enumerate() {
            self.seeds[at].tokens.iter().for_each(|&token| masks[token] = 1 << bit);
        }
        let is_seeded = |token: usize| self.seeds.iter().any(|seed| seed.tokens.contains(&token));
        let mut plan = Plan::default();
        for number in (0..self.tokens.len()).filter(|&token| is_seeded(token)) {
            let Some(word) = self.word(number, &masks) else { continue };
            if !plan.words.contains(&word) || !word.is_known() {
                plan.words.push(word);
            }
        }
        let step = |&at: &usize| self.tokens[at].is_step() && masks[at] != 0;
        let steps: Vec<usize> = (0..self.tokens.len()).filter(step).collect();
        for pair in steps.windows(2) {
            let (left, right) = (masks[pair[0]].trailing_zeros() as usize, masks[pair[1]].trailing_zeros() as usize);
            let distance = self.tokens[pair[1]].position - self.tokens[pair[0]].position;
            if left != right && distance <= MAX_DISTANCE && !plan.pairs.contains(&(left, right, distance)) {
                plan.pairs.push((left, right, distance));
            }
        }
        let index = self.index;
        let own = |seed: &mut Seed| {
            let own = std::mem::replace(
                &mut seed.own,
                Located { term: String::new(), infos: Vec::new(), frequencies: Vec::new() },
            );
            let idf = own.frequencies.iter().map(|&frequency| index.idf(frequency)).collect();
            let own = Alternative { what: What::Term(own), factor: seed.factor, idf };
            Group { alternatives: std::iter::once(own).chain(seed.more.drain(..)).collect() }
        };
        plan.groups = order.iter().map(|&at| own(&mut self.seeds[at])).collect();
        plan
    }

    /// The word of the query that begins with token `number`, if one does: a word of characters, a compound or a word of its own.
    fn word(&self, number: usize, masks: &[Mask]) -> Option<QueryWord> {
        let token = &self.tokens[number];
        let union = |found: &dyn Fn(&Token) -> bool| {
            self.tokens.iter().zip(masks).filter(|(token, _)| found(token)).fold(0, |sum, (_, mask)| sum | mask)
        };
        let count = |found: &dyn Fn(&Token) -> bool| {
            let terms: BTreeSet<&str> =
                self.tokens.iter().filter(|token| found(token)).map(|token| token.term.as_str()).collect();
            terms.len() as u32
        };
        match token.kind {
            Kind::Word if token.is_of_characters() => {
                let is_part = |other: &Token| other.kind == Kind::Character && within(other, token);
                Some(QueryWord {
                    whole: masks[number],
                    parts: union(&is_part),
                    part_count: count(&is_part),
                    of_parts: OF_CHARACTERS,
                })
            }
            Kind::Character => self.characters(number, masks),
            Kind::Spelling => None,
            Kind::Word | Kind::Part | Kind::Joined => {
                let of_word = |other: &Token| other.word == token.word;
                if self.tokens.iter().position(of_word) != Some(number) {
                    return None;
                }
                let longest = self.tokens.iter().filter(|other| of_word(other)).map(|other| other.range.len()).max();
                let whole =
                    union(&|other| of_word(other) && other.kind != Kind::Part && Some(other.range.len()) == longest);
                let is_part = |other: &Token| of_word(other) && other.is_step();
                Some(QueryWord { whole, parts: union(&is_part), part_count: count(&is_part), of_parts: 1.0 })
            }
        }
    }

    /// The characters from token `number` on that are in no word, as one word, if it is the first of them.
    fn characters(&self, number: usize, masks: &[Mask]) -> Option<QueryWord> {
        let covered = self.covered();
        let is_free = |at: usize| self.tokens[at].kind == Kind::Character && !covered[at];
        let follows =
            |at: usize| at > 0 && is_free(at - 1) && self.tokens[at - 1].position + 1 == self.tokens[at].position;
        if !is_free(number) || follows(number) {
            return None;
        }
        let end = (number + 1..self.tokens.len()).find(|&at| !is_free(at) || !follows(at)).unwrap_or(self.tokens.len());
        let parts = masks[number..end].iter().fold(0, |sum, mask| sum | mask);
        Some(match end - number {
            1 => QueryWord { whole: parts, parts: 0, part_count: 0, of_parts: 1.0 },
            count => QueryWord { whole: 0, parts, part_count: count as u32, of_parts: OF_CHARACTERS },
        })
    }
}

fn within(token: &Token, word: &Token) -> bool {
    word.range.start <= token.range.start && token.range.end <= word.range.end
}
