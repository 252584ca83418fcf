//! One spelling for each letter: lower case, full width, without the accents of Latin letters.

use std::ops::Range;

use runtime::error::Result;
use runtime::progress::Progress;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::{compose, decompose_canonical, is_combining_mark};

/// Characters folded between two checks for cancel requests: some milliseconds.
const CHECKED: usize = 1 << 16;

/// A folded character and the bytes of the text that it stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Folded {
    pub ch: char,
    pub start: u32,
    pub end: u32,
}

/// The bytes that folded characters stand for.
pub fn bytes(folded: &[Folded]) -> Range<usize> {
    match (folded.first(), folded.last()) {
        (Some(first), Some(last)) => first.start as usize..last.end as usize,
        _ => 0..0,
    }
}

/// Folds character by character, so that each one keeps its place in the text. Marks are joined with the letter before them.
pub fn fold(text: &str, progress: &dyn Progress) -> Result<Vec<Folded>> {
    let mut folded = Vec::new();
    runtime::memory::reserve(&mut folded, text.len())?;
    for (number, (start, ch)) in text.char_indices().enumerate() {
        if number % CHECKED == 0 {
            progress.check()?;
        }
        let (start, end) = (start as u32, (start + ch.len_utf8()) as u32);
        if ch.is_ascii() {
            folded.push(Folded { ch: ch.to_ascii_lowercase(), start, end });
        } else if let Some(spelling) = special(ch) {
            folded.extend(spelling.chars().map(|ch| Folded { ch, start, end }));
        } else {
            for ch in std::iter::once(ch).nfkc() {
                push(&mut folded, ch, start, end);
            }
        }
    }
    Ok(folded)
}

fn push(folded: &mut Vec<Folded>, ch: char, start: u32, end: u32) {
    if is_combining_mark(ch) {
        if let Some(last) = folded.last_mut() {
            if last.ch.is_ascii_alphabetic() {
                last.end = end;
                return;
            }
            if let Some(joined) = compose(last.ch, ch) {
                (last.ch, last.end) = (joined, end);
                return;
            }
        }
        folded.push(Folded { ch, start, end });
        return;
    }
    // Syllables of Hangul in parts.
    if ('\u{1160}'..='\u{11ff}').contains(&ch)
        && let Some(last) = folded.last_mut()
        && let Some(joined) = compose(last.ch, ch)
    {
        (last.ch, last.end) = (joined, end);
        return;
    }
    let mut base = None;
    decompose_canonical(ch, |part| {
        base.get_or_insert(part);
    });
    match base {
        Some(base) if base.is_ascii() => folded.push(Folded { ch: base.to_ascii_lowercase(), start, end }),
        _ => folded.extend(ch.to_lowercase().map(|ch| Folded { ch, start, end })),
    }
}

/// What normalization leaves as it is, or takes apart into words of its own.
fn special(ch: char) -> Option<&'static str> {
    Some(match ch {
        // Soft hyphens, joiners, marks of direction and of emoji: not there.
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{feff}' => "",
        '\u{fe00}'..='\u{fe0f}' | '\u{1f3fb}'..='\u{1f3ff}' => "",
        '™' | '®' | '©' | '℠' | '\u{a0}' | '\u{a8}' | '\u{b4}' | '\u{b8}' | '\u{af}' => " ",
        '’' | '‘' | 'ʼ' | '′' | '‛' => "'",
        '“' | '”' | '„' | '‟' | '″' | '〃' => "\"",
        '‐' | '‑' | '‒' | '–' | '—' | '−' => "-",
        '×' => "x",
        'ß' | 'ẞ' => "ss",
        'æ' | 'Æ' => "ae",
        'œ' | 'Œ' => "oe",
        'ø' | 'Ø' => "o",
        'ł' | 'Ł' => "l",
        'đ' | 'Đ' | 'ð' | 'Ð' => "d",
        'þ' | 'Þ' => "th",
        'ı' => "i",
        'µ' => "u",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::progress::Unwatched;

    fn folded(text: &str) -> String {
        fold(text, &Unwatched).unwrap().iter().map(|f| f.ch).collect()
    }

    #[test]
    fn letters_have_one_spelling() {
        for (text, expected) in [
            ("Crème BRÛLÉE", "creme brulee"),
            ("cre\u{300}me", "creme"),
            ("ＷＨ－１０００", "wh-1000"),
            ("ｶﾞﾗｽ", "ガラス"),
            ("か\u{3099}", "が"),
            ("Straße", "strasse"),
            ("İstanbul", "istanbul"),
            ("ЙОД и\u{306}од", "йод йод"),
            ("한글 \u{1112}\u{1161}\u{11ab}", "한글 한"),
            ("Sony™", "sony "),
            ("m² ﬁn ½", "m2 fin 1\u{2044}2"),
            ("10×20", "10x20"),
        ] {
            assert_eq!(folded(text), expected, "{text}");
        }
    }

    #[test]
    fn every_character_knows_its_bytes() {
        let text = "aé e\u{301}ß™";
        let folded = fold(text, &Unwatched).unwrap();
        let pieces: Vec<_> = folded.iter().map(|f| &text[f.start as usize..f.end as usize]).collect();
        assert_eq!(pieces, ["a", "é", " ", "e\u{301}", "ß", "ß", "™"]);
    }
}
