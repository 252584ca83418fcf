//! Segments a text into pieces: words, Chinese characters, marks and whitespace, which together are the text.
//!
//! A word is a run of letters and digits with joiners inside ("WH-1000XM4", "1/2", "M&M"). A Chinese character is its
//! own piece until [`units`](super::units) finds words. Cost: one pass over the text.

/// Kind of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Space,
    /// A single punctuation mark or symbol.
    Mark,
    /// Letters, digits or both, in any script except Chinese.
    Word,
    /// A Chinese character, or a word of them.
    Han,
}

/// A piece of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    pub text: &'a str,
    pub kind: Kind,
}

pub fn is_han(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}')
}

pub fn has_digit(word: &str) -> bool {
    word.chars().any(char::is_numeric)
}

/// The pieces of a text in order; together they are the text.
pub fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (kind, length) = if first.is_whitespace() {
            (Kind::Space, rest.find(|c: char| !c.is_whitespace()).unwrap_or(rest.len()))
        } else if is_han(first) {
            (Kind::Han, first.len_utf8())
        } else if first.is_alphanumeric() {
            (Kind::Word, word_length(rest))
        } else {
            (Kind::Mark, first.len_utf8())
        };
        let (piece, after) = rest.split_at(length);
        found.push(Piece { text: piece, kind });
        rest = after;
    }
    found
}

/// Length in bytes of the word that `text` begins with.
fn word_length(text: &str) -> usize {
    let mut chars = text.char_indices().peekable();
    let (mut digits, mut before) = (false, ' ');
    while let Some((place, c)) = chars.next() {
        if is_letter(c) {
            digits |= c.is_numeric();
            before = c;
            continue;
        }
        let after = chars.peek().map(|&(_, c)| c).filter(|&c| is_letter(c));
        let joins = after.is_some_and(|after| match c {
            '-' | '\'' | '’' | '&' | '_' | '+' | '\u{2010}' | '\u{2011}' => true,
            // "U.S.", "1.5": a full stop without a space behind.
            '.' => true,
            '/' | ',' | ':' | '*' | '×' => before.is_numeric() && after.is_numeric(),
            // What has digits before it is a size or a model: "24x/7d".
            _ => false,
        } || (digits && matches!(c, '/' | '#')));
        if !joins {
            return place;
        }
        before = c;
    }
    text.len()
}

fn is_letter(c: char) -> bool {
    c.is_alphanumeric() && !is_han(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<&str> {
        let all = pieces(text);
        assert_eq!(all.iter().map(|piece| piece.text).collect::<String>(), text);
        all.iter().filter(|piece| matches!(piece.kind, Kind::Word | Kind::Han)).map(|piece| piece.text).collect()
    }

    #[test]
    fn pieces_make_up_the_text_again_and_keep_models_whole() {
        assert_eq!(words("Sony WH-1000XM4 (black), 1/2 GAL"), ["Sony", "WH-1000XM4", "black", "1/2", "GAL"]);
        assert_eq!(words("FRUIT/NUTS M&M's 1,000ml 6x1.5L"), ["FRUIT", "NUTS", "M&M's", "1,000ml", "6x1.5L"]);
        assert_eq!(words("红酒 750毫升T恤"), ["红", "酒", "750", "毫", "升", "T", "恤"]);
        assert_eq!(words(" .7 OZ--x… "), ["7", "OZ", "x"]);
        assert!(words("").is_empty() && words(" \t\n").is_empty());
    }
}
