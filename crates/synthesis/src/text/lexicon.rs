//! Words and phrases with data: their alternatives in a lexicon, or only that they are fixed.

use ahash::AHashMap;

use super::words::{Kind, Piece, pieces};
use runtime::error::{Error, Result};

/// Maximum bytes of a phrase: at each word of a text as many pieces are compared as the longest phrase has.
const MAX_PHRASE_BYTES: usize = 128;

/// Refuses a phrase that is too long. `of` names its source in the message.
pub fn check_phrase(phrase: &str, of: &str) -> Result<()> {
    if phrase.len() <= MAX_PHRASE_BYTES {
        return Ok(());
    }
    Err(Error::TooLarge {
        what: format!("the phrase \"{}…\" of {of}", &phrase[..phrase.floor_char_boundary(40)]),
        needed: format!("{} bytes", phrase.len()),
        limit: format!("{MAX_PHRASE_BYTES} bytes"),
        hint: "Give words and short phrases.".into(),
    })
}

/// Words and phrases, found in texts regardless of case.
#[derive(Clone, Debug)]
pub struct Phrases<T> {
    known: AHashMap<Box<str>, T>,
    /// Number of pieces of the longest phrase, including whitespace.
    longest: usize,
}

impl<T> Default for Phrases<T> {
    fn default() -> Self {
        Self { known: AHashMap::new(), longest: 0 }
    }
}

impl<T: Default> Phrases<T> {
    /// The entry of a phrase, inserted if missing; `None` for a phrase without a word.
    pub fn entry(&mut self, phrase: &str) -> Option<&mut T> {
        let all = pieces(phrase.trim());
        if !all.iter().any(|piece| matches!(piece.kind, Kind::Word | Kind::Han)) {
            return None;
        }
        self.longest = self.longest.max(all.len());
        Some(self.known.entry(normal(&all).into()).or_default())
    }
}

impl<T> Phrases<T> {
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    pub fn get(&self, key: &str) -> Option<&T> {
        self.known.get(key)
    }

    /// The longest phrase that `pieces` begin with: its number of pieces, key and entry.
    pub fn match_start(&self, pieces: &[Piece], fits: impl Fn(usize) -> bool) -> Option<(usize, &str, &T)> {
        let mut found = None;
        let mut key = String::new();
        for (i, piece) in pieces.iter().take(self.longest).enumerate() {
            push_normal(&mut key, piece);
            if piece.kind != Kind::Space
                && let Some((known, entry)) = self.known.get_key_value(key.as_str())
                && fits(i + 1)
            {
                found = Some((i + 1, &**known, entry));
            }
        }
        found
    }
}

fn push_normal(key: &mut String, piece: &Piece) {
    match piece.kind {
        Kind::Space => key.push(' '),
        _ => key.extend(piece.text.chars().flat_map(char::to_lowercase)),
    }
}

/// The key of pieces: lower case, with one blank for any whitespace.
pub fn normal(pieces: &[Piece]) -> String {
    let mut key = String::new();
    pieces.iter().for_each(|piece| push_normal(&mut key, piece));
    key
}

/// Words and phrases with their alternatives.
pub type Lexicon = Phrases<Vec<Box<str>>>;

impl Lexicon {
    /// Adds `alternative` as a replacement of `word`, but not the reverse.
    pub fn add(&mut self, word: &str, alternative: &str) {
        let alternative = alternative.trim();
        if alternative.is_empty() || alternative == word.trim() {
            return;
        }
        if let Some(all) = self.entry(word)
            && !all.iter().any(|known| **known == *alternative)
        {
            all.push(alternative.into());
        }
    }
}

/// `alternative` in the case of `original`: all capitals, capitalized, or unchanged.
pub fn in_case_of(original: &str, alternative: &str) -> String {
    let letters = |text: &str| text.chars().filter(|c| c.is_lowercase() || c.is_uppercase()).count();
    let capitals = original.chars().filter(|c| c.is_uppercase()).count();
    if capitals > 1 && capitals == letters(original) {
        return alternative.to_uppercase();
    }
    let is_first_capital = |word: &str| word.chars().next().is_some_and(char::is_uppercase);
    let mut words = original.split_whitespace();
    if !words.next().is_some_and(is_first_capital) {
        return alternative.to_owned();
    }
    // "Ice Cream" has capitals throughout, "Ice cream" one.
    let all = words.all(is_first_capital);
    let mut text = String::with_capacity(alternative.len());
    let mut begins = true;
    for c in alternative.chars() {
        if begins && c.is_alphanumeric() {
            text.extend(c.to_uppercase());
            begins = false;
        } else {
            text.push(c);
        }
        begins |= all && c.is_whitespace();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_phrase_is_found_whatever_its_case_and_blanks() {
        let mut lexicon = Lexicon::default();
        lexicon.add("ice cream", "gelato");
        lexicon.add("Ice", "frozen water");
        lexicon.add("ice", "ice");
        lexicon.add("—", "nothing");
        let text = pieces("ICE  Cream bar");
        let (length, key, all) = lexicon.match_start(&text, |_| true).unwrap();
        assert_eq!((length, key, all.len()), (3, "ice cream", 1));
        assert_eq!(lexicon.match_start(&text, |length| length == 1).unwrap().1, "ice");
        assert_eq!(lexicon.get("ice").unwrap().len(), 1);
        assert!(lexicon.match_start(&text[1..], |_| true).is_none());
    }

    #[test]
    fn an_alternative_takes_the_case_of_what_it_stands_for() {
        assert_eq!(in_case_of("SODA", "soft drink"), "SOFT DRINK");
        assert_eq!(in_case_of("Soda", "soft drink"), "Soft Drink");
        assert_eq!(in_case_of("Ice cream", "frozen dessert"), "Frozen dessert");
        assert_eq!(in_case_of("soda", "TV dinner"), "TV dinner");
        assert_eq!(in_case_of("汽水", "碳酸饮料"), "碳酸饮料");
    }
}
