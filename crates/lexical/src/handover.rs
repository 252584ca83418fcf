//! Hands analyzed terms to tantivy, which takes texts and asks a tokenizer for their tokens.
//!
//! Terms and the steps between their positions are written into one text. tantivy's own way for analyzed texts writes them as JSON.

use tantivy::tokenizer::{Token, TokenStream, Tokenizer};

/// The name of the tokenizer in the schema.
pub const TOKENIZER: &str = "terms";

/// After the step and after the term. Terms consist of letters, digits and symbols.
const STEP: char = '\u{1}';
const TERM: char = '\u{2}';

/// Terms in order of their positions, as [`Terms`] reads them.
pub fn written<'a>(terms: impl Iterator<Item = (&'a str, u32)>) -> String {
    let (mut text, mut last) = (String::new(), 0);
    for (term, position) in terms {
        text.push_str(&(position - last).to_string());
        text.push(STEP);
        text.push_str(term);
        text.push(TERM);
        last = position;
    }
    text
}

/// Reads what [`written`] wrote.
#[derive(Clone, Default)]
pub struct Terms;

/// The rest of the text.
pub struct Rest<'a> {
    text: &'a str,
    token: Token,
}

impl Tokenizer for Terms {
    type TokenStream<'a> = Rest<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> Rest<'a> {
        Rest { text, token: Token { position: 0, ..Token::default() } }
    }
}

impl TokenStream for Rest<'_> {
    fn advance(&mut self) -> bool {
        let Some((step, rest)) = self.text.split_once(STEP) else { return false };
        let Some((term, rest)) = rest.split_once(TERM) else { return false };
        self.token.position += step.parse::<usize>().unwrap_or(0);
        self.token.text.clear();
        self.token.text.push_str(term);
        self.text = rest;
        true
    }

    fn token(&self) -> &Token {
        &self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        &mut self.token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_read_as_they_were_written() {
        let terms = [("wh1000", 0), ("wh", 0), ("1000", 1), ("手机", 7)];
        let text = written(terms.into_iter());
        let mut tokenizer = Terms;
        let mut stream = tokenizer.token_stream(&text);
        let mut read = Vec::new();
        while stream.advance() {
            read.push((stream.token().text.clone(), stream.token().position as u32));
        }
        assert_eq!(read, terms.map(|(term, position)| (term.to_string(), position)));
    }
}
