//! Free texts for a synthetic column: a Markov chain over the words of the column's own texts.
//!
//! The next word is drawn as often as it follows the two words before it in the texts (a Markov chain of order 2,
//! Shannon, "A mathematical theory of communication", 1948, section 3); in Chinese, a word is a character. A text
//! begins like its donor and is at most as long as the longest. Cost: a sort of all positions of all texts; twelve
//! bytes for each position, and every distinct word once.

use ahash::{AHashMap, AHashSet};

use super::change::Draws;
use super::words::{Kind, pieces};
use runtime::draw::mix;
use runtime::error::{Error, Result};
use runtime::progress::Progress;
use runtime::sorting::sort_watched;

/// Marks the positions before the first word and after the last.
const EDGE: u32 = u32::MAX;
/// Approximate number of words of all attempts at one text: some milliseconds.
const STEPS: u64 = 50_000;
/// Maximum bytes of a text.
const MAX_BYTES: usize = 256 << 10;
/// Bytes between two checks for a cancel request: some milliseconds.
const BYTES: usize = 64 << 10;
/// Attempts to find a text that the column does not have.
const ATTEMPTS: u64 = 16;

/// The model of a column's texts.
pub struct FreeText {
    /// Words with the whitespace and marks before them.
    words: Vec<Box<str>>,
    /// Each position of each text: the two words before it and its own, sorted.
    places: Vec<[u32; 3]>,
    /// The first words of each donor.
    starts: Vec<[u32; 2]>,
    /// Hashes of the column's texts.
    known: AHashSet<u64>,
    longest: usize,
}

/// Refuses texts of the column `name` that are too long to learn from.
pub fn check_lengths(name: &str, texts: &[String]) -> Result<()> {
    match texts.iter().map(String::len).max() {
        Some(longest) if longest > MAX_BYTES => Err(Error::TooLarge {
            what: format!("a free text in column \"{name}\""),
            needed: format!("{longest} bytes"),
            limit: format!("{MAX_BYTES} bytes"),
            hint: format!("Cut it in the source, as in left({name}, 20000) AS {name}, or leave the column out."),
        }),
        _ => Ok(()),
    }
}

impl FreeText {
    pub fn fit(texts: &[&str], progress: &dyn Progress) -> Result<Self> {
        let mut fitted =
            Self { words: Vec::new(), places: Vec::new(), starts: Vec::new(), known: AHashSet::new(), longest: 0 };
        let mut codes: AHashMap<&str, u32> = AHashMap::new();
        let mut unlooked = BYTES;
        for text in texts {
            unlooked += text.len() + 64;
            if unlooked > BYTES {
                unlooked = 0;
                progress.check()?;
            }
            fitted.add(text, &mut codes);
        }
        sort_watched(&mut fitted.places, &|| progress.check(), Ord::cmp)?;
        Ok(fitted)
    }

    fn add<'a>(&mut self, text: &'a str, codes: &mut AHashMap<&'a str, u32>) {
        let mut state = [EDGE; 2];
        let mut starts = [EDGE; 2];
        let mut length = 0;
        for (word, is_han) in split(text) {
            let code = *codes.entry(word).or_insert_with(|| {
                self.words.push(word.into());
                self.words.len() as u32 - 1
            });
            self.places.push([state[0], state[1], code]);
            state = [state[1], code];
            // A single character says less than a word.
            if length == 0 || (length == 1 && is_han) {
                starts[length] = code;
            }
            length += 1;
        }
        self.places.push([state[0], state[1], EDGE]);
        self.starts.push(starts);
        self.known.insert(hash_of(text));
        self.longest = self.longest.max(length);
    }

    /// A text that begins like the donor's. It is one of the column's only if no other was found.
    pub fn generate(&self, donor: usize, seed: u64) -> String {
        let mut text = String::new();
        for attempt in 0..(STEPS / self.longest.max(1) as u64).clamp(1, ATTEMPTS) {
            text = self.walk(donor, mix(seed ^ mix(donor as u64)) ^ attempt);
            if !self.known.contains(&hash_of(&text)) {
                break;
            }
        }
        text
    }

    fn walk(&self, donor: usize, seed: u64) -> String {
        let mut draws = Draws::new(seed);
        let mut text = String::new();
        let mut state = [EDGE; 2];
        let Some(starts) = self.starts.get(donor) else { return text };
        for length in 0..self.longest {
            let next = match starts.get(length) {
                Some(&start) if start != EDGE => start,
                _ => {
                    let followers = self.followers(state);
                    if followers.is_empty() { EDGE } else { followers[draws.below(followers.len())][2] }
                }
            };
            let Some(word) = self.words.get(next as usize) else { break };
            text.push_str(word);
            state = [state[1], next];
        }
        text
    }

    fn followers(&self, [a, b]: [u32; 2]) -> &[[u32; 3]] {
        let first = self.places.partition_point(|place| (place[0], place[1]) < (a, b));
        let last = self.places.partition_point(|place| (place[0], place[1]) <= (a, b));
        &self.places[first..last]
    }
}

/// The words of a text with the marks before them, the last also with those after it, and whether each is a Chinese
/// character.
fn split(text: &str) -> Vec<(&str, bool)> {
    let mut found: Vec<(&str, bool)> = Vec::new();
    let (mut start, mut place) = (0, 0);
    for piece in pieces(text) {
        place += piece.text.len();
        if matches!(piece.kind, Kind::Word | Kind::Han) {
            found.push((&text[start..place], piece.kind == Kind::Han));
            start = place;
        }
    }
    if start < text.len() {
        let before = found.pop().map_or((0, false), |(word, is_han)| (start - word.len(), is_han));
        found.push((&text[before.0..], before.1));
    }
    found
}

fn hash_of(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| mix(hash ^ u64::from(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::progress::Unwatched;

    fn fit(texts: &[&str]) -> FreeText {
        FreeText::fit(texts, &Unwatched).unwrap()
    }

    #[test]
    fn one_text_or_no_branching_gives_the_donors_text() {
        for text in ["", " ", "red", "dry red wine, 750 ml.", "红葡萄酒 750毫升", "…"] {
            assert_eq!(fit(&[text]).generate(0, 1), text);
        }
        let apart = ["one two three", "four five six"];
        let column = fit(&apart);
        (0..20).for_each(|seed| assert_eq!(column.generate((seed % 2) as usize, seed), apart[(seed % 2) as usize]));
    }

    #[test]
    fn texts_begin_as_the_donor_and_follow_pairs_of_words_that_the_column_has() {
        let texts = ["dry red wine from Chile", "sweet red wine from Italy, cold", "dry white wine from Italy"];
        let column = fit(&texts);
        let made: AHashSet<String> = (0..50).map(|seed| column.generate(0, seed)).collect();
        assert!(made.contains("dry red wine from Italy, cold") && !made.contains(texts[0]));
        assert!(made.iter().all(|text| text.starts_with("dry ")), "{made:?}");
        assert_eq!(column.generate(1, 7), column.generate(1, 7));
    }

    #[test]
    fn chinese_is_chained_by_characters_and_lengths_are_bounded() {
        let column = fit(&["红葡萄酒干型", "红葡萄汁甜味", "白葡萄酒甜型"]);
        let made: AHashSet<String> = (0..50).map(|seed| column.generate(0, seed)).collect();
        assert_eq!(made.into_iter().collect::<Vec<_>>(), ["红葡萄酒甜型"]);
        let round = fit(&["a b a b a b c", "a b a b"]);
        assert!((0..50).all(|seed| split(&round.generate(0, seed)).len() <= 7));
    }
}
