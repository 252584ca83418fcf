//! WordPiece: the longest piece that a word begins with, then the longest that the rest begins with, and so on.
//!
//! Wu et al., "Google's Neural Machine Translation System" (2016), section 4.1; greedy as in BERT.

use tokenizers::Token;
use tokenizers::models::wordpiece;

use super::token::token;
use super::trie::{Node, Trie};

#[derive(Debug)]
pub struct WordPiece {
    pieces: Trie,
    /// Where pieces that continue a word hang: after their mark, such as `##`.
    continuation: Option<Node>,
    unknown: Option<u32>,
    max_chars: usize,
}

impl WordPiece {
    /// `continuation` marks pieces that do not begin a word; a word of more than `max_chars` characters is unknown.
    pub fn new(pieces: Trie, continuation: &str, unknown: Option<u32>, max_chars: usize) -> Self {
        let continuation = pieces.root().and_then(|root| pieces.follow(root, continuation.as_bytes()));
        Self { pieces, continuation, unknown, max_chars }
    }

    pub fn pieces(&self) -> &Trie {
        &self.pieces
    }

    /// The pieces of `word`, or the one unknown token where a part of it is no piece.
    pub fn tokenize(&self, word: &str) -> tokenizers::Result<Vec<Token>> {
        // A word has at least as many bytes as characters: most need not be counted.
        let is_long = word.len() > self.max_chars && word.chars().count() > self.max_chars;
        match if is_long { None } else { self.split(word) } {
            Some(tokens) => Ok(tokens),
            None => Ok(vec![token(self.unknown.ok_or(wordpiece::Error::MissingUnkToken)?, 0..word.len())]),
        }
    }

    fn split(&self, word: &str) -> Option<Vec<Token>> {
        let mut tokens = Vec::new();
        let mut start = 0;
        while start < word.len() {
            let from = if start == 0 { self.pieces.root()? } else { self.continuation? };
            let (length, id) = self.pieces.prefixes(from, &word.as_bytes()[start..]).last()?;
            tokens.push(token(id, start..start + length));
            start += length;
        }
        Some(tokens)
    }
}
