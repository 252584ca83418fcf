//! Phrases: terms at distances from each other.

use crate::text::Token;

/// A term of a phrase and its distance from the first one.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub term: String,
    pub offset: u32,
}

/// The phrase that tokens are.
pub fn steps(tokens: &[Token]) -> Vec<Step> {
    let mut of_phrase = tokens.iter().filter(|token| token.is_step());
    let Some(first) = of_phrase.next() else { return Vec::new() };
    let step = |token: &Token| Step { term: token.term.clone(), offset: token.position - first.position };
    std::iter::once(step(first)).chain(of_phrase.map(step)).collect()
}
