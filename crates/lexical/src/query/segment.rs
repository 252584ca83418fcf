//! Cuts Chinese queries with the words of the index, so that no dictionary has to be loaded.

use std::ops::Range;

use crate::guard::damaged;
use crate::index::Lexical;
use crate::text::segmenter::Segmenter;
use runtime::error::Result;

/// The longest word that is looked for, in characters.
const MAX_WORD: usize = 8;

/// Cuts a run into the most probable words: each word's probability is its share of the rows, a character that is no word counts as
/// one that half a row has.
pub struct IndexWords<'a> {
    index: &'a Lexical,
    /// The first error of the index, since a segmenter has none.
    pub error: Result<()>,
}

impl<'a> IndexWords<'a> {
    pub fn new(index: &'a Lexical) -> Self {
        Self { index, error: Ok(()) }
    }

    /// The rows with words that begin at the first character of `run`, by length in characters from 2.
    fn frequencies(&self, run: &[char]) -> Result<[u64; MAX_WORD + 1]> {
        let mut sums = [0; MAX_WORD + 1];
        let mut word = String::new();
        for (length, ch) in (1..=MAX_WORD).zip(run) {
            word.push(*ch);
            if length > 1 {
                for segment in &self.index.segments {
                    let info = segment.words.terms().get(word.as_bytes()).map_err(damaged)?;
                    sums[length] += info.map_or(0, |info| u64::from(info.doc_freq));
                }
            }
        }
        Ok(sums)
    }

    fn cut(&self, run: &[char]) -> Result<Vec<Range<usize>>> {
        // Viterbi from the end: the best logarithm of a probability from each place, and the length of its first word.
        let all = (self.index.documents as f32).max(1.0).ln();
        let character = 0.5f32.ln() - all;
        let mut best = vec![(0.0f32, 1usize); run.len() + 1];
        for start in (0..run.len()).rev() {
            best[start] = (character + best[start + 1].0, 1);
            for (length, &frequency) in self.frequencies(&run[start..])?.iter().enumerate() {
                if frequency == 0 || start + length > run.len() {
                    continue;
                }
                let score = (frequency as f32).ln() - all + best[start + length].0;
                if score > best[start].0 {
                    best[start] = (score, length);
                }
            }
        }
        let mut words = Vec::new();
        let mut start = 0;
        while start < run.len() {
            let length = best[start].1;
            words.extend((length > 1).then_some(start..start + length));
            start += length;
        }
        Ok(words)
    }
}

impl Segmenter for IndexWords<'_> {
    fn words(&mut self, run: &[char]) -> Vec<Range<usize>> {
        self.cut(run).unwrap_or_else(|error| {
            self.error = Err(error);
            Vec::new()
        })
    }
}
