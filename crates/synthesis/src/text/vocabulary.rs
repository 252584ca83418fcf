//! The words of a corpus, and which of them are near each other by their vectors.
//!
//! Words are counted as the rules see them: fixed words are no vocabulary, and words that mostly stand at the places of
//! brands are brands everywhere. Chinese words are those of the lexicon, and runs of two to four characters alone
//! between marks or blanks. Time: a dot product for each pair of a requested word and a word of the vocabulary. Memory:
//! the vectors.

use ahash::{AHashMap, AHashSet};
use ndarray::{Array2, Axis, s};

use super::units::{Rules, is_han_word, is_plain};
use super::words::{Kind, pieces};
use kernels::dot::{dot, score_rows};
use kernels::matrix::{flat, rows_mut};
use runtime::error::{Error, Result};
use runtime::jobs::{Relay, Signal};
use runtime::parallel::for_each_chunk;
use runtime::progress::Progress;
use runtime::sorting::sort_watched;

/// Number of neighbours that may replace a word.
const NEIGHBORS: usize = 8;
/// Words between two checks for a cancel request, and vectors.
const WORDS: usize = 16_384;
/// Lengths of Chinese words that stand alone.
const HAN_WORD: std::ops::RangeInclusive<usize> = 2..=4;

/// Word counts of a corpus.
#[derive(Default)]
pub struct Corpus {
    /// How often a word may change, and how often it is fixed.
    counts: AHashMap<String, (usize, usize)>,
}

impl Corpus {
    pub fn add(&mut self, text: &str, rules: &Rules) {
        for run in pieces(text).chunk_by(|a, b| a.kind == Kind::Han && b.kind == Kind::Han) {
            if run[0].kind == Kind::Han && HAN_WORD.contains(&run.len()) {
                let word: String = run.iter().map(|piece| piece.text).collect();
                self.counts.entry(word).or_default().0 += 1;
            }
        }
        for unit in rules.units(text).iter().filter(|unit| unit.is_word() && is_plain(&unit.key)) {
            // Of Chinese that stays nothing is known.
            if unit.kind == Kind::Han {
                continue;
            }
            let (free, fixed) = self.counts.entry(unit.key.clone()).or_default();
            *(if unit.fixed { fixed } else { free }) += 1;
        }
    }

    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// The `most` most frequent words that may change, by frequency. Detected brands and Chinese words are added to the
    /// rules.
    pub fn words(self, most: usize, rules: &mut Rules, progress: &dyn Progress) -> Result<Vec<String>> {
        let mut words: Vec<(usize, &str)> = Vec::new();
        for (number, (word, &(free, fixed))) in self.counts.iter().enumerate() {
            if number.is_multiple_of(WORDS) {
                progress.check()?;
            }
            if fixed > free {
                rules.brands.insert(word.clone());
            } else if free > 0 && rules.keep.get(word).is_none() {
                words.push((free, word));
            }
        }
        sort_watched(&mut words, &|| progress.check(), |a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(b.1)))?;
        let words: Vec<String> = words.into_iter().take(most).map(|(_, word)| word.to_owned()).collect();
        for word in words.iter().filter(|word| is_han_word(word)) {
            rules.vocabulary.entry(word);
        }
        Ok(words)
    }
}

/// Words with unit vectors.
#[derive(Default)]
pub struct Vocabulary {
    words: Vec<String>,
    places: AHashMap<String, usize>,
    /// [words, dimensions]
    vectors: Array2<f32>,
    least: f32,
}

impl Vocabulary {
    /// `vectors` [words, dimensions] of any length. Neighbours have a cosine of at least `least`.
    pub fn new(words: Vec<String>, mut vectors: Array2<f32>, least: f32) -> Result<Self> {
        if vectors.nrows() != words.len() {
            return Err(Error::Internal("words and their vectors do not go together".into()));
        }
        for vector in rows_mut(vectors.view_mut()) {
            let length = dot(vector, vector).sqrt();
            let scale = if length > 0.0 && length.is_finite() { 1.0 / length } else { 0.0 };
            vector.iter_mut().for_each(|x| *x *= scale);
        }
        let places = words.iter().cloned().zip(0..).collect();
        Ok(Self { words, places, vectors, least })
    }

    /// For each of `keys` in the vocabulary, the nearest words of the same script, nearest first.
    pub fn neighbors<'k>(
        &self,
        keys: impl Iterator<Item = &'k str>,
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<AHashMap<String, Vec<Box<str>>>> {
        let places: AHashSet<usize> = keys.filter_map(|key| self.places.get(key).copied()).collect();
        let mut found: Vec<(usize, Vec<Box<str>>)> = places.into_iter().map(|place| (place, Vec::new())).collect();
        // A chunk of some 10 ms.
        let chunk = (10_000_000 / self.vectors.len().max(1)).clamp(1, 256);
        let scores = || vec![0.0f32; self.words.len()];
        let relay = Relay::new(progress);
        for_each_chunk(&mut found, chunk, threads, &relay, scores, |scores, _, found| {
            for (place, neighbors) in found {
                *neighbors = self.neighbors_of(*place, scores, &relay.signal)?;
            }
            Ok(())
        })?;
        let found = found.into_iter().filter(|(_, neighbors)| !neighbors.is_empty());
        Ok(found.map(|(place, neighbors)| (self.words[place].clone(), neighbors)).collect())
    }

    fn neighbors_of(&self, place: usize, scores: &mut [f32], signal: &Signal) -> Result<Vec<Box<str>>> {
        let query = flat(self.vectors.slice(s![place..=place, ..]));
        for (vectors, scores) in self.vectors.axis_chunks_iter(Axis(0), WORDS).zip(scores.chunks_mut(WORDS)) {
            signal.check()?;
            score_rows(vectors, query, scores);
        }
        let script = is_han_word(&self.words[place]);
        let mut near: Vec<usize> = (0..scores.len())
            .filter(|&i| i != place && scores[i] >= self.least && is_han_word(&self.words[i]) == script)
            .collect();
        near.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
        near.truncate(NEIGHBORS);
        Ok(near.into_iter().map(|i| self.words[i].as_str().into()).collect())
    }
}
