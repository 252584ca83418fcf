//! Words within a few typing errors of another: insertions, deletions, substitutions and transpositions of neighbours.

use tantivy_fst::Automaton;

/// The longest word that is corrected, in characters, and the most errors that are looked for.
pub const MAX_WORD: usize = 24;
pub const MAX_ERRORS: u8 = 2;

/// Distances on the diagonals of the matrix of edit distances that at most [`MAX_ERRORS`] errors reach.
type Band = [u8; 2 * MAX_ERRORS as usize + 1];

/// Accepts the words within `most` errors of one word, over their bytes in UTF-8. Its states are rows of the matrix of edit distances.
pub struct Within {
    word: Vec<char>,
    most: u8,
    /// Words in other scripts are no misspellings of it, and an index has many of them.
    is_ascii: bool,
}

/// The row of the matrix after the characters read so far, and the bytes of an unfinished character.
#[derive(Clone)]
pub struct State {
    read: u8,
    /// Distances to the word's first `read - MAX_ERRORS` to `read + MAX_ERRORS` characters.
    band: Band,
    /// The row before, and the character that led from it to this one.
    before: Band,
    last: char,
    bits: u32,
    missing: u8,
    is_dead: bool,
}

impl Within {
    /// `None` if the word is too long or the errors are too many.
    pub fn new(word: &str, most: u8) -> Option<Self> {
        let is_ascii = word.is_ascii();
        let word: Vec<char> = word.chars().collect();
        (word.len() <= MAX_WORD && most <= MAX_ERRORS).then_some(Self { word, most, is_ascii })
    }

    /// The place in a band of the first `length` characters of the word, after `read` characters.
    fn place(read: u8, length: usize) -> Option<usize> {
        (length + usize::from(MAX_ERRORS)).checked_sub(usize::from(read)).filter(|&at| at < size_of::<Band>())
    }

    fn next(&self, state: &State, ch: char) -> State {
        let mut band = [u8::MAX; size_of::<Band>()];
        let read = state.read.saturating_add(1);
        for at in 0..band.len() {
            // The number of the word's characters that this distance is for.
            let Some(length) = (usize::from(read) + at).checked_sub(usize::from(MAX_ERRORS)) else { continue };
            if length > self.word.len() {
                break;
            }
            let inserted = state.band.get(at + 1).map_or(u8::MAX, |distance| distance.saturating_add(1));
            let Some(letter) = length.checked_sub(1).map(|place| self.word[place]) else {
                band[at] = inserted;
                continue;
            };
            let replaced = state.band[at].saturating_add(u8::from(letter != ch));
            let deleted = at.checked_sub(1).map_or(u8::MAX, |left| band[left].saturating_add(1));
            band[at] = replaced.min(inserted).min(deleted);
            if length > 1 && self.word[length - 2] == ch && state.last == letter {
                band[at] = band[at].min(state.before[at].saturating_add(1));
            }
        }
        let is_dead = band.iter().all(|&distance| distance > self.most) || read > MAX_WORD as u8 + MAX_ERRORS;
        State { read, band, before: state.band, last: ch, bits: 0, missing: 0, is_dead }
    }

    /// The errors of what was read, if there are at most as many as allowed.
    fn errors(&self, state: &State) -> Option<u8> {
        let place = Self::place(state.read, self.word.len())?;
        Some(state.band[place]).filter(|&errors| errors <= self.most && !state.is_dead && state.missing == 0)
    }
}

impl Automaton for Within {
    type State = State;

    fn start(&self) -> State {
        let band = std::array::from_fn(|at| (at as u8).checked_sub(MAX_ERRORS).unwrap_or(u8::MAX));
        State { read: 0, band, before: [u8::MAX; size_of::<Band>()], last: '\0', bits: 0, missing: 0, is_dead: false }
    }

    fn is_match(&self, state: &State) -> bool {
        self.errors(state).is_some()
    }

    fn can_match(&self, state: &State) -> bool {
        !state.is_dead
    }

    fn accept(&self, state: &State, byte: u8) -> State {
        let dead = || State { is_dead: true, ..state.clone() };
        if state.missing == 0 && byte < 0x80 {
            return self.next(state, char::from(byte));
        }
        let (bits, missing) = match (state.missing, byte) {
            _ if self.is_ascii => return dead(),
            (0, 0xc0..=0xdf) => (u32::from(byte & 0x1f), 1),
            (0, 0xe0..=0xef) => (u32::from(byte & 0x0f), 2),
            (0, 0xf0..=0xf7) => (u32::from(byte & 0x07), 3),
            (1.., 0x80..=0xbf) => (state.bits << 6 | u32::from(byte & 0x3f), state.missing - 1),
            _ => return dead(),
        };
        match (missing, char::from_u32(bits)) {
            (0, Some(ch)) => self.next(state, ch),
            (0, None) => dead(),
            _ => State { bits, missing, ..state.clone() },
        }
    }
}

/// The errors between two words, if there are at most `most`.
pub fn distance(word: &str, other: &str, most: u8) -> Option<u8> {
    let automaton = Within::new(word, most)?;
    let mut state = automaton.start();
    for byte in other.bytes() {
        state = automaton.accept(&state, byte);
    }
    automaton.errors(&state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_in_characters() {
        for (word, other, expected) in [
            ("phone", "phone", Some(0)),
            ("phone", "phoen", Some(1)),
            ("phone", "fone", Some(2)),
            ("phone", "phones", Some(1)),
            ("phone", "hpnoe", Some(2)),
            ("phone", "table", None),
            ("йод", "йот", Some(1)),
            ("手机", "手几", Some(1)),
            ("", "ab", Some(2)),
            ("ab", "", Some(2)),
        ] {
            assert_eq!(distance(word, other, 2), expected, "{word} {other}");
            assert_eq!(distance(other, word, 2), expected, "{other} {word}");
        }
        assert_eq!(distance("phone", "fone", 1), None);
        assert_eq!(distance("phone", "phonё", 2), None);
        assert!(Within::new(&"a".repeat(MAX_WORD + 1), 1).is_none());
    }
}
