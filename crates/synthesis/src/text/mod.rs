//! Variants of short texts, mainly product titles, in English, Chinese or both.
//!
//! A text is cut into units, of which numbers, sizes, model names and brands are never changed ([`units`]). Variants
//! are made by changes at random places ([`change`]): words of a lexicon, neighbours in a vocabulary, swaps, deletions,
//! insertions (Wei and Zou, "EDA", EMNLP 2019). A variant is accepted only if its embedding stays near: cosine(variant,
//! text) ≥ `least_similarity`. Variants are made in rounds, and those of all texts in a round are embedded together.
//!
//! Time: microseconds for a variant of a title, far less than its embedding, and linear in a text's length. Memory: the
//! texts and their variants. A text has at most [`MAX_BYTES`].

mod change;
pub mod free_text;
mod lexicon;
mod units;
mod vocabulary;
mod words;

#[cfg(test)]
mod tests;

use ahash::{AHashMap, AHashSet};
use ndarray::Array2;

use change::{Alternatives, Choices, Draws, apply, free_words, parts};
use kernels::cosine::cosine;
use kernels::matrix::rows;
use runtime::draw::mix;
use runtime::error::{Error, Result};
use runtime::jobs::{Relay, Signal};
use runtime::parallel::for_each_chunk;
use runtime::progress::Progress;
use units::Unit;

pub use change::Change;
pub use free_text::{FreeText, check_lengths};
pub use lexicon::{Lexicon, Phrases, check_phrase};
pub use units::Rules;
pub use vocabulary::{Corpus, Vocabulary};

/// Embeds texts: a vector for each.
pub type Embed<'a> = dyn FnMut(&[&str]) -> Result<Array2<f32>> + 'a;

/// Maximum bytes of a text. Its words are segmented without checking for a cancel request.
pub const MAX_BYTES: usize = 64 << 10;
/// Maximum bytes of all requested variants, if they were as long as their texts.
pub const MAX_TOTAL_BYTES: usize = 1 << 30;
/// Attempts without a new variant after which a text is given up: by then all but a few of forty equally likely
/// variants are found.
const MAX_MISSES: u64 = 200;
/// Maximum number of rounds if too few variants stay near.
const MAX_ROUNDS: usize = 8;
/// Variants drawn together, in about 10 ms.
const CHUNK: usize = 2048;
/// Parts of a long text in which a kind of change is tried before it is given up.
const PARTS_TRIED: usize = 8;
/// Texts between two checks for a cancel request.
const TEXTS: usize = 1024;

/// How texts are changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// Each change is drawn from those that are possible.
    Mixed,
    Only(Change),
}

impl Method {
    pub const NAMES: [(&'static str, Self); 6] = [
        ("mixed", Self::Mixed),
        ("synonym", Self::Only(Change::Synonym)),
        ("neighbor", Self::Only(Change::Neighbor)),
        ("swap", Self::Only(Change::Swap)),
        ("delete", Self::Only(Change::Delete)),
        ("insert", Self::Only(Change::Insert)),
    ];

    pub fn from_name(name: &str) -> Result<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|&(_, method)| method).ok_or_else(|| {
            let known: Vec<&str> = Self::NAMES.iter().map(|(known, _)| *known).collect();
            Error::UnknownName { what: "method", name: name.into(), known: known.join(", ") }
        })
    }

    fn changes(self) -> Vec<Change> {
        match self {
            Self::Only(change) => vec![change],
            Self::Mixed => Self::NAMES
                .iter()
                .filter_map(|&(_, method)| if let Self::Only(change) = method { Some(change) } else { None })
                .collect(),
        }
    }
}

/// A request for variants.
#[derive(Clone, Copy)]
pub struct Request {
    /// Number of variants of each text.
    pub n: usize,
    pub method: Method,
    /// Share of the changeable words that are changed, at least one.
    pub rate: f32,
    /// Minimum cosine between the vectors of a variant and its text; without it, nothing is embedded.
    pub least_similarity: Option<f32>,
    pub seed: u64,
    pub threads: usize,
}

/// A variant of a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    pub text: String,
    /// Cosine of its vector and its text's, if they were embedded.
    pub similarity: Option<f32>,
}

/// The resources that variants are made with.
#[derive(Default)]
pub struct Augmenter {
    pub rules: Rules,
    pub vocabulary: Option<Vocabulary>,
}

/// The variants, and the number rejected by the similarity bound.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The variants of each text.
    pub variants: Vec<Vec<Variant>>,
    pub embedded: usize,
    pub rejected: usize,
}

/// A text in progress.
#[derive(Default)]
struct Work<'a> {
    units: Vec<Unit<'a>>,
    changes: usize,
    seen: AHashSet<String>,
    attempts: u64,
    exhausted: bool,
    vector: Vec<f32>,
    /// Variants of the current round.
    fresh: Vec<String>,
    found: Vec<Variant>,
}

struct Words<'a> {
    rules: &'a Rules,
    neighbors: AHashMap<String, Vec<Box<str>>>,
}

impl Alternatives for Words<'_> {
    fn synonyms(&self, key: &str) -> &[Box<str>] {
        self.rules.lexicon.get(key).map_or(&[], Vec::as_slice)
    }

    fn neighbors(&self, key: &str) -> &[Box<str>] {
        self.neighbors.get(key).map_or(&[], Vec::as_slice)
    }
}

impl Augmenter {
    /// Makes up to `n` variants of each text, all distinct and different from it. Those of a text depend only on the
    /// text, its index and the seed.
    pub fn augment(
        &self,
        texts: &[&str],
        request: &Request,
        embed: &mut Embed,
        progress: &dyn Progress,
    ) -> Result<Outcome> {
        let Request { n, threads, .. } = *request;
        check_sizes(texts, n)?;
        let relay = Relay::new(progress);
        let chunk = (CHUNK / n.max(1)).clamp(1, 64);
        let mut works: Vec<Work> = Vec::new();
        runtime::memory::reserve(&mut works, texts.len())?;
        works.resize_with(texts.len(), Work::default);
        for_each_chunk(
            &mut works,
            chunk,
            threads,
            &relay,
            || (),
            |(), number, works| {
                for (work, text) in works.iter_mut().zip(&texts[number * chunk..]) {
                    relay.signal.check()?;
                    work.units = self.rules.units(text);
                    work.changes = ((free_words(&work.units) as f32 * request.rate).round() as usize).max(1);
                    work.seen.insert((*text).to_owned());
                }
                Ok(())
            },
        )?;
        let neighbors = match &self.vocabulary {
            None => AHashMap::new(),
            Some(vocabulary) => {
                let keys = works.iter().flat_map(|work| &work.units);
                let keys = keys.filter(|unit| unit.is_word() && !unit.fixed).map(|unit| unit.key.as_str());
                vocabulary.neighbors(keys, threads, progress)?
            }
        };
        let words = Words { rules: &self.rules, neighbors };
        let mut outcome = Outcome::default();
        for round in 0..MAX_ROUNDS {
            for_each_chunk(
                &mut works,
                chunk,
                threads,
                &relay,
                || (),
                |(), number, works| {
                    for (place, work) in (number * chunk..).zip(works) {
                        let missing = n - work.found.len();
                        // Some more than are missing, as some will be too far.
                        let wanted = match (request.least_similarity, round) {
                            (None, _) => missing,
                            (_, 0) => missing + missing.min(2),
                            _ => 2 * missing + missing.min(2),
                        };
                        work.draw(wanted, request, place as u64, &words, &relay.signal)?;
                    }
                    Ok(())
                },
            )?;
            if works.iter().all(|work| work.fresh.is_empty()) {
                break;
            }
            match request.least_similarity {
                None => works.iter_mut().for_each(|work| {
                    let fresh = work.fresh.drain(..).map(|text| Variant { text, similarity: None });
                    work.found.extend(fresh);
                }),
                Some(least) => keep_near(&mut works, texts, n, least, embed, &mut outcome, progress)?,
            }
            let found = works.iter().map(|work| work.found.len()).sum();
            progress.report("variants found", found, n.saturating_mul(texts.len()));
            progress.check()?;
        }
        outcome.variants = works.into_iter().map(|work| work.found).collect();
        Ok(outcome)
    }
}

impl Work<'_> {
    /// Draws up to `wanted` variants that were not drawn before.
    fn draw(&mut self, wanted: usize, request: &Request, place: u64, words: &Words, signal: &Signal) -> Result<()> {
        let Self { units, changes, seen, attempts, exhausted, fresh, .. } = self;
        let choices = Choices::new(units, words);
        let parts = parts(units);
        let mut misses = 0;
        let seed = mix(request.seed ^ mix(place));
        while fresh.len() < wanted && !*exhausted {
            *attempts += 1;
            let mut draws = Draws::new(mix(seed ^ *attempts));
            let mut changed: Vec<Vec<Unit>> = parts.iter().map(|part| units[part.clone()].to_vec()).collect();
            let mut left = request.method.changes();
            let (mut done, mut tried) = (0, 0);
            while done < *changes && !left.is_empty() {
                signal.check()?;
                let choice = draws.below(left.len());
                // Of a short text there is one part, and nothing to draw.
                let part = if changed.len() > 1 { draws.below(changed.len()) } else { 0 };
                tried += 1;
                if apply(&mut changed[part], left[choice], &choices, &mut draws) {
                    (done, tried) = (done + 1, 0);
                } else if changed.len() == 1 || tried >= PARTS_TRIED {
                    left.swap_remove(choice);
                    tried = 0;
                }
            }
            let text: String = changed.iter().flatten().map(|unit| &*unit.text).collect();
            if done > 0 && !seen.contains(&text) {
                seen.insert(text.clone());
                fresh.push(text);
                misses = 0;
            } else {
                misses += 1;
                *exhausted = done == 0 || misses > MAX_MISSES;
            }
        }
        Ok(())
    }
}

/// Refuses requests that would take too much memory.
fn check_sizes(texts: &[&str], n: usize) -> Result<()> {
    for (number, text) in (1..).zip(texts) {
        check_length(text, || format!("text {number}"))?;
    }
    let made = texts.iter().map(|text| text.len()).sum::<usize>().saturating_mul(n);
    if made > MAX_TOTAL_BYTES {
        return Err(Error::TooLarge {
            what: format!("{n} variants of each text"),
            needed: format!("{} MB", made >> 20),
            limit: format!("{} MB", MAX_TOTAL_BYTES >> 20),
            hint: "Ask for fewer variants, or give fewer texts at once.".into(),
        });
    }
    Ok(())
}

/// Refuses a text that is too long. `name` is used in the message.
pub fn check_length(text: &str, name: impl FnOnce() -> String) -> Result<()> {
    if text.len() <= MAX_BYTES {
        return Ok(());
    }
    Err(Error::TooLarge {
        what: name(),
        needed: format!("{} bytes", text.len()),
        limit: format!("{MAX_BYTES} bytes"),
        hint: "Give titles and short descriptions: cut longer texts into paragraphs, or take left(text, 20000).".into(),
    })
}

/// Embeds the variants of a round, and in the first round their texts, and keeps the variants that are near.
fn keep_near(
    works: &mut [Work],
    texts: &[&str],
    n: usize,
    least: f32,
    embed: &mut Embed,
    outcome: &mut Outcome,
    progress: &dyn Progress,
) -> Result<()> {
    let mut asked: Vec<&str> = Vec::new();
    for (work, text) in works.iter().zip(texts).filter(|(work, _)| !work.fresh.is_empty()) {
        if work.vector.is_empty() {
            asked.push(text);
        }
        asked.extend(work.fresh.iter().map(String::as_str));
    }
    let vectors = embed(&asked)?;
    if vectors.nrows() != asked.len() {
        return Err(Error::Internal(format!("{} texts have {} vectors", asked.len(), vectors.nrows())));
    }
    outcome.embedded += vectors.nrows();
    let mut vectors = rows(vectors.view());
    for (number, work) in works.iter_mut().filter(|work| !work.fresh.is_empty()).enumerate() {
        if number.is_multiple_of(TEXTS) {
            progress.check()?;
        }
        if work.vector.is_empty() {
            work.vector = vectors.next().unwrap_or_default().to_vec();
        }
        for text in std::mem::take(&mut work.fresh) {
            let vector = vectors.next().unwrap_or_default();
            let similarity = if vector.len() == work.vector.len() { cosine(&work.vector, vector) } else { 0.0 };
            if similarity < least {
                outcome.rejected += 1;
            } else if work.found.len() < n {
                work.found.push(Variant { text, similarity: Some(similarity) });
            }
        }
    }
    Ok(())
}
