//! Words that consist of several pieces: model names, codes, numbers with a unit, words with a hyphen.

use super::classes::{Class, class};
use super::fold::Folded;

/// A run of letters or one number.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    pub text: String,
    /// In folded characters of the whole text.
    pub start: usize,
    pub end: usize,
    pub is_number: bool,
    /// The character between this piece and the one before it; `None` where letters touch digits.
    pub connector: Option<char>,
}

/// More pieces are no name of a model, but an address or a path.
const MAX_PIECES: usize = 16;

/// The pieces that begin at `start`, where a letter or a digit is. Never empty.
pub fn pieces(text: &[Folded], start: usize) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let (mut at, mut connector) = (start, None);
    loop {
        let (piece, end) = piece(text, at, connector);
        pieces.push(piece);
        at = end;
        if pieces.len() == MAX_PIECES {
            return pieces;
        }
        connector = match (kind(text, at), kind(text, at + 1)) {
            (Some(Class::Letter | Class::Digit), _) => None,
            (Some(Class::Other), Some(Class::Letter | Class::Digit)) if is_connector(text[at].ch) => Some(text[at].ch),
            _ => return pieces,
        };
        at += usize::from(connector.is_some());
    }
}

fn kind(text: &[Folded], at: usize) -> Option<Class> {
    text.get(at).map(|folded| class(folded.ch))
}

fn is_connector(ch: char) -> bool {
    matches!(ch, '-' | '_' | '.' | '\'' | '/' | '&' | '\u{2044}')
}

/// One piece and where it ends. `text[start]` is a letter or a digit.
fn piece(text: &[Folded], start: usize, connector: Option<char>) -> (Piece, usize) {
    let is_number = kind(text, start) == Some(Class::Digit);
    let (written, end) = if is_number { number(text, start) } else { letters(text, start) };
    (Piece { text: written, start, end, is_number, connector }, end)
}

fn letters(text: &[Folded], start: usize) -> (String, usize) {
    let mut end = start + 1;
    while kind(text, end) == Some(Class::Letter) {
        end += 1;
    }
    (text[start..end].iter().map(|folded| folded.ch).collect(), end)
}

/// A number: `1,8` and `1.8` are 1.8, `1,000` is 1000.
fn number(text: &[Folded], start: usize) -> (String, usize) {
    let digits = |from: usize| text[from.min(text.len())..].iter().take_while(|f| class(f.ch) == Class::Digit).count();
    let mut end = start + digits(start);
    let mut written: String = text[start..end].iter().map(|folded| folded.ch).collect();
    while let Some(separator @ ('.' | ',')) = text.get(end).map(|folded| folded.ch) {
        let more = digits(end + 1);
        if more == 0 {
            break;
        }
        let groups_thousands = separator == ',' && more == 3 && written.len() <= 3 && written != "0";
        let continues = separator == ',' && more == 3 && end - start > 3;
        if !groups_thousands && !continues {
            written.push('.');
        }
        written.extend(text[end + 1..end + 1 + more].iter().map(|folded| folded.ch));
        end += 1 + more;
    }
    (written, end)
}

/// Ranges of pieces that are also indexed as one word: those between connectors, and all of them. Numbers alone are not joined.
pub fn joins(pieces: &[Piece]) -> Vec<std::ops::Range<usize>> {
    let mut joins = Vec::new();
    let mut start = 0;
    for end in 1..=pieces.len() {
        if end == pieces.len() || pieces[end].connector.is_some() {
            joins.push(start..end);
            start = end;
        }
    }
    if pieces.len() <= MAX_PIECES / 2 && !pieces.iter().any(|piece| piece.connector == Some('/')) {
        joins.push(0..pieces.len());
    }
    joins.retain(|range| range.len() > 1 && !pieces[range.clone()].iter().all(|piece| piece.is_number));
    joins.dedup();
    joins
}

/// Whether the pieces `at` and `at + 1` are a number and a word that may be its unit: `500ml`, `10x20cm`, not a part of `a5m2`.
pub fn may_be_measure(pieces: &[Piece], at: usize) -> bool {
    let (Some(number), Some(word)) = (pieces.get(at), pieces.get(at + 1)) else { return false };
    let begins = at == 0 || number.connector.is_some() || pieces[at - 1].text == "x";
    let ends = pieces.get(at + 2).is_none_or(|next| next.connector.is_some() || next.text == "x");
    number.is_number && !word.is_number && matches!(word.connector, None | Some('-')) && begins && ends
}
