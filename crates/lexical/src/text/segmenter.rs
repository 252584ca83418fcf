//! Cuts runs of Chinese characters into words, while texts are indexed.

use std::ops::Range;

use jieba_rs::{Jieba, TokenizeMode};

use super::classes::is_han;

/// Cuts a run of a script without spaces.
pub trait Segmenter {
    /// The words of two characters and more, in characters of the run. They may overlap.
    fn words(&mut self, run: &[char]) -> Vec<Range<usize>>;
}

/// No words: characters only.
pub struct Characters;

impl Segmenter for Characters {
    fn words(&mut self, _run: &[char]) -> Vec<Range<usize>> {
        Vec::new()
    }
}

/// The longest run of Japanese or Thai that is taken for a word.
const MAX_OTHER_WORD: usize = 8;

/// Words of jieba's dictionary and those that its hidden Markov model finds, long ones also in parts. The dictionary takes tens of
/// megabytes: it is loaded at the first Chinese character, and goes with this value.
#[derive(Default)]
pub struct Dictionary {
    jieba: Option<Jieba>,
}

impl Segmenter for Dictionary {
    fn words(&mut self, run: &[char]) -> Vec<Range<usize>> {
        let mut words = Vec::new();
        let mut start = 0;
        for part in run.chunk_by(|&a, &b| is_han(a) == is_han(b)) {
            if is_han(part[0]) {
                let text: String = part.iter().collect();
                let jieba = self.jieba.get_or_insert_with(Jieba::new);
                let found = jieba.tokenize(&text, TokenizeMode::Search, true);
                words.extend(found.iter().map(|token| start + token.start..start + token.end));
            } else if part.len() <= MAX_OTHER_WORD {
                words.push(start..start + part.len());
            }
            start += part.len();
        }
        words.retain(|word| word.len() > 1);
        words.sort_by_key(|word| (word.start, word.end));
        words.dedup();
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_words_are_cut_into_shorter_ones_as_well() {
        let run: Vec<char> = "中华人民共和国".chars().collect();
        let words: Vec<String> =
            Dictionary::default().words(&run).into_iter().map(|w| run[w].iter().collect()).collect();
        assert!(words.contains(&"中华人民共和国".to_string()) && words.contains(&"人民".to_string()), "{words:?}");
    }

    #[test]
    fn runs_of_kana_are_words() {
        let run: Vec<char> = "青いイヤホン".chars().collect();
        assert!(
            Dictionary::default()
                .words(&run)
                .iter()
                .any(|w| run[w.clone()].iter().collect::<String>().ends_with("イヤホン"))
        );
    }
}
