//! Where the words of a query are in a text.

use std::collections::HashSet;
use std::ops::Range;

use runtime::error::{Error, Result};
use runtime::progress::Progress;

use crate::builder::MAX_TEXT;
use crate::guard::reading;
use crate::index::Lexical;
use crate::query::parse::{Parsed, parse};
use crate::query::segment::IndexWords;
use crate::text::segmenter::Characters;
use crate::text::{Kind, Token};

impl Lexical {
    /// The bytes of `text` with words of the query, in ascending order, without overlaps. Words match by their stems, the last word of the
    /// query also as the beginning of a word.
    pub fn highlight(&self, query: &str, text: &str, progress: &dyn Progress) -> Result<Vec<Range<usize>>> {
        if text.len() > MAX_TEXT {
            return Err(Error::TooLarge {
                what: "the text".into(),
                needed: format!("{} bytes", text.len()),
                limit: format!("{MAX_TEXT} bytes"),
                hint: "Pass a shorter text, such as its beginning: left(…, 100000).".into(),
            });
        }
        reading(|| {
            let parsed = parse(query)?;
            let mut segmenter = IndexWords::new(self);
            let tokens = self.analyzer.tokens(&parsed.text, &mut segmenter, progress)?;
            segmenter.error?;
            let wanted = Wanted::new(&parsed, &tokens);
            let tokens = self.analyzer.tokens(text, &mut Characters, progress)?;
            let mut ranges: Vec<Range<usize>> =
                tokens.iter().filter(|token| wanted.has(token)).map(|token| token.range.clone()).collect();
            ranges.extend(wanted.words_of_characters(&tokens, progress)?);
            Ok(merged(ranges))
        })
    }
}

/// What a query looks for in a text.
struct Wanted<'a> {
    terms: HashSet<&'a str>,
    /// The last word of the query, if it may be unfinished.
    beginning: Option<&'a str>,
    /// Words of scripts without spaces, in characters.
    words: Vec<Vec<char>>,
}

impl<'a> Wanted<'a> {
    fn new(parsed: &Parsed, tokens: &'a [Token]) -> Self {
        let only_stop_words = tokens.iter().all(|token| token.is_stop_word);
        let is_covered = |token: &Token| {
            let covers = |word: &&Token| {
                word.is_of_characters() && word.range.start <= token.range.start && token.range.end <= word.range.end
            };
            token.kind == Kind::Character && tokens.iter().any(|word| covers(&word))
        };
        // A digit or a letter of a model name says nothing without the others.
        let is_short = |token: &Token| token.kind == Kind::Part && token.term.len() == 1;
        let is_wanted = |token: &&Token| {
            token.kind != Kind::Spelling
                && !token.is_of_characters()
                && !is_covered(token)
                && !is_short(token)
                && (only_stop_words || !token.is_stop_word)
        };
        let terms: HashSet<&str> = tokens.iter().filter(is_wanted).map(|token| token.term.as_str()).collect();
        let last = tokens
            .iter()
            .filter(|token| !token.is_of_characters())
            .max_by_key(|token| (token.range.end, token.range.len()));
        let is_beginning = |token: &&Token| {
            token.kind != Kind::Character && !token.is_number() && token.surface().chars().count() >= 2
        };
        let beginning = last.filter(|token| parsed.may_continue && is_beginning(token)).map(Token::surface);
        let words =
            tokens.iter().filter(|token| token.is_of_characters()).map(|token| token.term.chars().collect()).collect();
        Self { terms, beginning, words }
    }

    fn has(&self, token: &Token) -> bool {
        let begins = |beginning: &str| token.kind != Kind::Character && token.surface().starts_with(beginning);
        self.terms.contains(token.term.as_str()) || self.beginning.is_some_and(begins)
    }

    fn words_of_characters(&self, tokens: &[Token], progress: &dyn Progress) -> Result<Vec<Range<usize>>> {
        let mut ranges = Vec::new();
        if self.words.is_empty() {
            return Ok(ranges);
        }
        let characters: Vec<&Token> = tokens.iter().filter(|token| token.kind == Kind::Character).collect();
        for start in 0..characters.len() {
            if start % 1024 == 0 {
                progress.check()?;
            }
            for word in &self.words {
                let Some(found) = characters.get(start..start + word.len()) else { continue };
                let is_next = |(number, token): (usize, &&Token)| token.position == found[0].position + number as u32;
                let is_same = |(ch, token): (&char, &&Token)| token.term.starts_with(*ch);
                if word.iter().zip(found).all(is_same) && found.iter().enumerate().all(is_next) {
                    ranges.push(found[0].range.start..found[found.len() - 1].range.end);
                }
            }
        }
        Ok(ranges)
    }
}

/// Ranges in ascending order, those that touch as one.
fn merged(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.sort_unstable_by_key(|range| (range.start, range.end));
    let mut merged: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}
