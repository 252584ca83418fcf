//! The units that a text is changed by, and which of them are fixed: numbers, sizes, model names, brands and listed
//! words.
//!
//! | fixed | detected by |
//! |---|---|
//! | numbers, models | a digit in the word; a capital after a small letter ("iPhone"); a single letter; "Pro", "Max" and the like after one |
//! | sizes | the word after a number with its units ("80 loads", "12 fl oz", "750 毫升", "三只装"); "size", "pack of" before one; XS to XXXL |
//! | brands | the first word; capitalized words in a text that is neither all capitals nor title case; words in capitals among others; words that a corpus mostly has at such places |
//! | function words | "with", "and", "no", "free" and the like, which connect or negate |
//! | listed words | the option `keep` |
//!
//! Chinese is segmented by the longest match against known words (lexicon and vocabulary), from the left; unknown
//! characters are fixed.

use std::borrow::Cow;

use ahash::AHashSet;

use super::lexicon::{Lexicon, Phrases, normal};
use super::words::{Kind, Piece, has_digit, is_han, pieces};

/// A unit of a text: fixed, or a word that may change.
#[derive(Clone, Debug, PartialEq)]
pub struct Unit<'a> {
    pub text: Cow<'a, str>,
    pub kind: Kind,
    /// Must not be replaced, moved or deleted.
    pub fixed: bool,
    /// Its key in lexicon and vocabulary; empty if it is no word.
    pub key: String,
}

impl Unit<'_> {
    pub fn is_word(&self) -> bool {
        matches!(self.kind, Kind::Word | Kind::Han)
    }
}

/// The rules that segment texts and fix units.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub lexicon: Lexicon,
    /// Words that are fixed.
    pub keep: Phrases<()>,
    /// Chinese words of a corpus.
    pub vocabulary: Phrases<()>,
    /// Words that a corpus has at the places of brands.
    pub brands: AHashSet<String>,
    /// Whether the first word may change too.
    pub first_is_free: bool,
}

const UNITS: [&str; 99] = [
    "ml", "cl", "dl", "l", "ltr", "liter", "liters", "litre", "litres", "g", "gr", "gram", "grams", "kg", "mg", "mcg",
    "oz", "ounce", "ounces", "fl", "floz", "lb", "lbs", "pound", "pounds", "gal", "gallon", "gallons", "qt", "quart",
    "quarts", "pt", "pint", "pints", "ct", "cnt", "count", "pk", "pack", "packs", "pc", "pcs", "piece", "pieces", "in",
    "inch", "inches", "ft", "foot", "feet", "yd", "yds", "yard", "yards", "mm", "cm", "m", "km", "meter", "meters",
    "sq", "w", "watt", "watts", "v", "volt", "volts", "a", "mah", "ah", "hz", "khz", "mhz", "ghz", "kb", "mb", "gb",
    "tb", "mp", "dpi", "k", "ply", "roll", "rolls", "sheet", "sheets", "dz", "doz", "dozen", "pr", "pair", "pairs",
    "ea", "each", "x", "by", "th", "rd", "percent",
];
const HAN_UNITS: [&str; 53] = [
    "毫升", "公升", "升", "千克", "公斤", "毫克", "克", "斤", "两", "吨", "英寸", "寸", "厘米", "毫米", "公分", "米",
    "尺", "码", "号", "瓦", "伏", "毫安", "安", "度", "代", "款", "瓶", "盒", "包", "袋", "片", "支", "只", "个", "件",
    "枚", "粒", "颗", "条", "双", "套", "罐", "桶", "箱", "提", "卷", "抽", "层", "张", "块", "根", "听", "杯",
];
const BEFORE_NUMBERS: [&str; 13] =
    ["size", "no", "nr", "of", "type", "model", "series", "version", "gen", "level", "stage", "step", "vol"];
const BEFORE_OF: [&str; 6] = ["pack", "set", "box", "case", "bag", "bundle"];
const AFTER_MODELS: [&str; 8] = ["pro", "max", "plus", "ultra", "mini", "lite", "air", "se"];
const SIZES: [&str; 6] = ["xxs", "xs", "xl", "xxl", "xxxl", "xxxxl"];
/// Function words: moving or deleting one changes the meaning.
const SMALL_WORDS: [&str; 34] = [
    "a", "all", "an", "and", "as", "at", "by", "de", "en", "for", "free", "from", "in", "into", "la", "less", "low",
    "no", "non", "not", "of", "off", "on", "or", "per", "the", "to", "un", "vs", "w", "with", "without", "your",
    "zero",
];

pub fn is_small_word(key: &str) -> bool {
    SMALL_WORDS.contains(&key)
}

impl Rules {
    /// The units of a text in order; together they are the text.
    pub fn units<'a>(&self, text: &'a str) -> Vec<Unit<'a>> {
        let all = pieces(text);
        let mut fixed = vec![false; all.len()];
        self.fix_kept(&all, &mut fixed);
        fix_sizes(&all, &mut fixed);
        self.fix_brands(&all, &mut fixed);
        self.join(text, &all, &fixed)
    }

    fn fix_kept(&self, all: &[Piece], fixed: &mut [bool]) {
        if self.keep.is_empty() {
            return;
        }
        for i in 0..all.len() {
            if let Some((length, ..)) = self.keep.match_start(&all[i..], |_| true) {
                fixed[i..i + length].fill(true);
            }
        }
    }

    fn fix_brands(&self, all: &[Piece], fixed: &mut [bool]) {
        let words: Vec<usize> = (0..all.len()).filter(|&i| matches!(all[i].kind, Kind::Word | Kind::Han)).collect();
        if !self.first_is_free
            && let Some(&first) = words.first()
        {
            fixed[first] |= all[first].kind == Kind::Word;
        }
        let tell = Capitals::of(words.iter().map(|&i| &all[i]).filter(|piece| piece.kind == Kind::Word));
        for &i in words.iter().filter(|&&i| all[i].kind == Kind::Word) {
            let word = all[i].text;
            fixed[i] |= tell.is_name(word) && !(self.first_is_free && Some(&i) == words.first());
            fixed[i] |= !self.brands.is_empty() && self.brands.contains(&word.to_lowercase());
        }
    }

    /// Joins the pieces of known words and fixed phrases.
    fn join<'a>(&self, text: &'a str, all: &[Piece<'a>], fixed: &[bool]) -> Vec<Unit<'a>> {
        let mut units: Vec<Unit> = Vec::new();
        let (mut i, mut place) = (0, 0);
        while i < all.len() {
            let free = |length: usize| {
                let alone = |i: Option<usize>| i.and_then(|i| all.get(i)).is_none_or(|piece| piece.kind != Kind::Han);
                // A single Chinese character is a word only where nothing Chinese is beside it.
                !fixed[i..i + length].contains(&true)
                    && (length > 1 || all[i].kind != Kind::Han || (alone(i.checked_sub(1)) && alone(Some(i + 1))))
            };
            let known = if fixed[i] || !matches!(all[i].kind, Kind::Word | Kind::Han) {
                None
            } else {
                let from_lexicon = self.lexicon.match_start(&all[i..], free).map(|(length, key, _)| (length, key));
                let from_corpus = self.vocabulary.match_start(&all[i..], free).map(|(length, key, _)| (length, key));
                [from_corpus, from_lexicon].into_iter().flatten().max_by_key(|&(length, _)| length)
            };
            let length = known.map_or(1, |(length, _)| length);
            let bytes: usize = all[i..i + length].iter().map(|piece| piece.text.len()).sum();
            let kind = all[i].kind;
            let is_word = matches!(kind, Kind::Word | Kind::Han);
            let stays = fixed[i] || (kind == Kind::Han && known.is_none());
            let whole = &text[place..place + bytes];
            match units.last_mut() {
                // Characters that belong to no known word stay together.
                Some(last) if kind == Kind::Han && stays && last.kind == Kind::Han && last.fixed => {
                    let start = place - last.text.len();
                    last.text = text[start..place + bytes].into();
                }
                _ => {
                    let key = match known {
                        Some((_, key)) => key.to_owned(),
                        None if is_word => normal(&all[i..=i]),
                        None => String::new(),
                    };
                    units.push(Unit { text: whole.into(), kind, fixed: is_word && stays, key });
                }
            }
            i += length;
            place += bytes;
        }
        units
    }
}

/// Fixes numbers, the words they count, and models.
fn fix_sizes(all: &[Piece], fixed: &mut [bool]) {
    let next = |i: usize| (i + 1..all.len()).find(|&j| all[j].kind != Kind::Space);
    let before = |i: usize| (0..i).rev().find(|&j| all[j].kind != Kind::Space);
    for i in 0..all.len() {
        let word = all[i].text;
        match all[i].kind {
            Kind::Han => fix_han_number(all, fixed, i),
            Kind::Word if has_digit(word) => {
                fixed[i] = true;
                let mut place = i;
                // What is counted, whatever it is: "80 loads", "3 stem". "12-pack" says so itself.
                let counts = !word.chars().any(char::is_alphabetic);
                while let Some(j) = next(place)
                    .filter(|&j| all[j].kind == Kind::Word && ((counts && place == i) || follows_number(all[j].text)))
                {
                    fixed[j] = true;
                    place = j;
                }
                if let Some(j) = next(i).filter(|&j| all[j].kind == Kind::Han) {
                    fix_han_unit(all, fixed, j);
                }
                // "No. 5", "pack of 6".
                let dot = before(i).filter(|&j| all[j].text == ".").or(Some(i));
                let named = dot.and_then(before).filter(|&j| BEFORE_NUMBERS.contains(&&*all[j].text.to_lowercase()));
                let mut counted = named;
                if let Some(j) = named.filter(|&j| all[j].text.eq_ignore_ascii_case("of")) {
                    counted = before(j).filter(|&k| BEFORE_OF.contains(&&*all[k].text.to_lowercase()));
                    fixed[j] |= counted.is_some();
                }
                if let Some(j) = counted {
                    fixed[j] = true;
                }
            }
            Kind::Word => {
                let mut letters = word.chars();
                let single = letters.next().is_some() && letters.next().is_none();
                let inner = has_inner_capital(word);
                let lower = word.to_lowercase();
                fixed[i] |= single || inner || SIZES.contains(&&*lower) || is_small_word(&lower);
                if inner && let Some(j) = next(i) {
                    fixed[j] |= AFTER_MODELS.contains(&&*all[j].text.to_lowercase());
                }
            }
            Kind::Space | Kind::Mark => {}
        }
    }
}

fn follows_number(word: &str) -> bool {
    let word = word.to_lowercase();
    // "12-pack" is one word, "12 pack-size" two.
    UNITS.contains(&&*word) || AFTER_MODELS.contains(&&*word)
}

/// Fixes a unit of measure that begins at `i`, and a 装 after it.
fn fix_han_unit(all: &[Piece], fixed: &mut [bool], i: usize) -> bool {
    let starts = |unit: &&&str| {
        let mut places = all[i..].iter();
        unit.chars().all(|c| places.next().is_some_and(|piece| piece.text.starts_with(c)))
    };
    let Some(unit) = HAN_UNITS.iter().filter(starts).max_by_key(|unit| unit.len()) else { return false };
    let mut end = i + unit.chars().count();
    end += usize::from(all.get(end).is_some_and(|piece| piece.text == "装"));
    fixed[i..end].fill(true);
    true
}

/// Maximum characters of a number: without a limit, a long run would be searched again from each of its characters.
const MAX_NUMBER_LENGTH: usize = 16;

/// Fixes a number in Chinese characters that begins at `i`, if a unit follows.
fn fix_han_number(all: &[Piece], fixed: &mut [bool], i: usize) {
    let number = all[i..]
        .iter()
        .take(MAX_NUMBER_LENGTH)
        .take_while(|piece| "一二三四五六七八九十百千万两双半".contains(piece.text))
        .count();
    // 双 and 两 are units too: "一双", "十两".
    for length in (1..=number).rev() {
        if i + length < all.len() && fix_han_unit(all, fixed, i + length) {
            fixed[i..i + length].fill(true);
            return;
        }
    }
}

/// The meaning of capitals in a text.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Capitals {
    /// All words are capitals, or all begin with one, or none do: capitals mean nothing.
    Nothing,
    /// A capital marks a name.
    Names,
    /// Most words begin with a capital: only words in all capitals are names.
    Acronyms,
}

impl Capitals {
    fn of<'a>(words: impl Iterator<Item = &'a Piece<'a>>) -> Self {
        let (mut shouted, mut capital, mut small) = (0, 0, 0);
        let tells = |piece: &&Piece| is_plain(&piece.text.to_lowercase()) && !has_inner_capital(piece.text);
        for piece in words.filter(tells) {
            if is_shouted(piece.text) {
                shouted += 1;
            } else if piece.text.starts_with(char::is_uppercase) {
                capital += 1;
            } else {
                small += 1;
            }
        }
        match (shouted, capital, small) {
            (_, _, 1..) => Self::Names,
            (_, 1.., 0) => Self::Acronyms,
            _ => Self::Nothing,
        }
    }

    fn is_name(self, word: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Names => word.starts_with(char::is_uppercase),
            Self::Acronyms => is_shouted(word),
        }
    }
}

/// "iPhone", "McDonald's".
fn has_inner_capital(word: &str) -> bool {
    word.chars().zip(word.chars().skip(1)).any(|(a, b)| a.is_lowercase() && b.is_uppercase())
}

fn is_shouted(word: &str) -> bool {
    word.chars().any(char::is_uppercase) && !word.chars().any(char::is_lowercase)
}

/// Whether a word is plain: at least two letters and no digit.
pub fn is_plain(key: &str) -> bool {
    key.chars().nth(1).is_some() && !has_digit(key) && !is_small_word(key)
}

pub fn is_han_word(key: &str) -> bool {
    key.chars().any(is_han)
}
