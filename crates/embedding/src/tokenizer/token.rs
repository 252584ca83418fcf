//! What a model of the `tokenizers` crate gives for a piece.

use std::ops::Range;

use tokenizers::Token;

/// A token as `Model::tokenize` gives it. Its text is left out: `encode_fast`, all that is called here, drops it.
pub fn token(id: u32, place: Range<usize>) -> Token {
    Token::new(id, String::new(), (place.start, place.end))
}
