//! What a folded character is to the analysis.

use unicode_normalization::char::is_combining_mark;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Class {
    Letter,
    Digit,
    /// Of a script without spaces between words: Chinese, Japanese, Thai and others.
    Unspaced,
    /// A token of its own: emoji, currencies, percent.
    Symbol,
    /// Spaces and punctuation.
    Other,
}

pub fn class(ch: char) -> Class {
    if ch.is_ascii() {
        return match ch {
            'a'..='z' | 'A'..='Z' => Class::Letter,
            '0'..='9' => Class::Digit,
            '%' | '$' | '+' | '#' => Class::Symbol,
            _ => Class::Other,
        };
    }
    if is_unspaced(ch) {
        Class::Unspaced
    } else if ch.is_numeric() {
        Class::Digit
    } else if ch.is_alphabetic() || is_combining_mark(ch) {
        Class::Letter
    } else if is_symbol(ch) {
        Class::Symbol
    } else {
        Class::Other
    }
}

fn is_unspaced(ch: char) -> bool {
    matches!(ch,
        '\u{4e00}'..='\u{9fff}' | '\u{3400}'..='\u{4dbf}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}'
        | '々' | '〇' | '\u{3041}'..='\u{30fa}' | 'ー' | '\u{3105}'..='\u{312f}' | '\u{31f0}'..='\u{31ff}'
        | '\u{e01}'..='\u{e3a}' | '\u{e40}'..='\u{e4e}' | '\u{e80}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17d3}')
}

/// Chinese characters: those that a dictionary cuts into words.
pub fn is_han(ch: char) -> bool {
    matches!(ch, '\u{4e00}'..='\u{9fff}' | '\u{3400}'..='\u{4dbf}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}' | '々' | '〇')
}

fn is_symbol(ch: char) -> bool {
    matches!(ch,
        '\u{a2}'..='\u{a5}' | '°' | '±' | '÷' | '\u{20a0}'..='\u{20cf}' | '\u{2100}'..='\u{214f}' | '\u{2190}'..='\u{27bf}'
        | '\u{2900}'..='\u{2bff}' | '\u{1f000}'..='\u{1faff}')
}
