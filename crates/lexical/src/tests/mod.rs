//! Tests of whole indexes: texts in, rows out.

mod analysis;
mod damage;
mod expansion;
mod highlights;
mod queries;
mod scoring;

use std::cell::Cell;

use bytes::Bytes;
use runtime::error::{Error, Result};
use runtime::progress::{Progress, Unwatched};

use crate::{Language, Lexical, LexicalBuilder, SegmentFiles, Synonyms, TextField};

/// Rows of two fields.
type Rows<'a> = [(u32, [Option<&'a str>; 2])];

fn fields() -> Vec<TextField> {
    vec![TextField::new("title", 3.0), TextField::new("description", 1.0)]
}

fn files(rows: &Rows, language: Language) -> Vec<(String, Vec<u8>)> {
    let mut builder = LexicalBuilder::new(fields(), language).unwrap();
    for (row, texts) in rows {
        builder.add(*row, texts, &Unwatched).unwrap();
    }
    builder.finish(&Unwatched).unwrap()
}

fn segment(rows: &Rows) -> SegmentFiles {
    mapped(files(rows, Language::English))
}

fn mapped(files: Vec<(String, Vec<u8>)>) -> SegmentFiles {
    SegmentFiles { first_row: 0, files: files.into_iter().map(|(name, bytes)| (name, Bytes::from(bytes))).collect() }
}

/// Titles only, in rows 0, 1, …
fn index(titles: &[&str]) -> Lexical {
    let rows: Vec<_> = titles.iter().enumerate().map(|(row, title)| (row as u32, [Some(*title), None])).collect();
    Lexical::open(&[segment(&rows)]).unwrap()
}

/// The rows that a search finds, the best first.
fn found(index: &Lexical, query: &str) -> Vec<u32> {
    index.search(query, &Synonyms::default(), 100, None, &Unwatched).unwrap().into_iter().map(|(_, row)| row).collect()
}

fn search(index: &Lexical, query: &str, k: usize) -> Vec<(f32, u32)> {
    index.search(query, &Synonyms::default(), k, None, &Unwatched).unwrap()
}

fn matches(index: &Lexical, query: &str) -> Vec<u32> {
    index.matches(query, &Synonyms::default(), None, &Unwatched).unwrap()
}

/// Cancels after a number of checks.
struct CancelAfter(Cell<usize>);

impl Progress for CancelAfter {
    fn check(&self) -> Result<()> {
        let left = self.0.get();
        self.0.set(left.saturating_sub(1));
        if left == 0 { Err(Error::Canceled) } else { Ok(()) }
    }
}

/// Numbers that look random, the same in every run: Marsaglia (2003), "Xorshift RNGs".
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// Words, numbers, signs and characters of several scripts.
    fn text(&mut self, most: usize) -> String {
        const PIECES: &[&str] = &[
            "red",
            "shoe",
            "iphone",
            "15",
            "500",
            "ml",
            "\"",
            "-",
            "'",
            ",",
            ".",
            "wh",
            "1000",
            "xm5",
            "手机",
            "苹果",
            "电",
            "池",
            "é",
            "e\u{301}",
            "😀",
            "\u{200d}",
            "ﬁ",
            "½",
            "\u{0}",
            "한",
            "ไทย",
            "ガ",
            "İ",
            "ß",
            "(",
            "%",
            "\n",
            "\u{feff}",
            "+",
            "𠀀",
            "\u{303}",
        ];
        (0..self.below(most)).map(|_| format!("{}{}", self.pick(PIECES), self.pick(&["", " ", "", "-"]))).collect()
    }
}
