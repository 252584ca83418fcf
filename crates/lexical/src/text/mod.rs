//! From a text to its words, by the same steps for texts that are indexed and for queries, so that the two agree.
//!
//! Letters are folded to one spelling, texts are cut where letters, digits and scripts change, English words are stemmed. A model name or a
//! number with its unit gives its parts and what they are joined, a run of Chinese gives its words and its characters.

pub mod analyzer;
mod classes;
mod compound;
mod fold;
pub mod language;
pub mod segmenter;
mod units;

use std::ops::Range;

/// The most characters of a term. Longer words are cut, in texts and queries alike.
pub const MAX_TERM: usize = 64;

/// The role of a token among those of its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A word, whole.
    Word,
    /// A piece of a word such as `wh-1000xm5`.
    Part,
    /// Several pieces written as one.
    Joined,
    /// Another spelling, for texts only: a query has it as another token already.
    Spelling,
    /// A character of a script without spaces.
    Character,
}

/// What is indexed and searched.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Folded and stemmed.
    pub term: String,
    /// Folded only, if it differs from the term.
    pub unstemmed: Option<String>,
    pub kind: Kind,
    /// Counts parts and characters. Joined tokens and words of characters are where their first one is.
    pub position: u32,
    /// Counts words: tokens with the same number come from one word.
    pub word: u32,
    pub is_stop_word: bool,
    /// In the text, in bytes.
    pub range: Range<usize>,
}

impl Token {
    /// The word as it is written, in lower case.
    pub fn surface(&self) -> &str {
        self.unstemmed.as_deref().unwrap_or(&self.term)
    }

    /// Whether the token is one step of a phrase: joined tokens repeat steps.
    pub fn is_step(&self) -> bool {
        match self.kind {
            Kind::Character | Kind::Part => true,
            Kind::Word => !self.is_of_characters(),
            Kind::Joined | Kind::Spelling => false,
        }
    }

    /// Whether it is a word of a script without spaces, whose characters are tokens as well.
    pub fn is_of_characters(&self) -> bool {
        self.kind == Kind::Word
            && self.term.chars().next().is_some_and(|ch| classes::class(ch) == classes::Class::Unspaced)
    }

    pub fn is_number(&self) -> bool {
        self.term.chars().all(|ch| ch == '.' || classes::class(ch) == classes::Class::Digit)
    }
}
