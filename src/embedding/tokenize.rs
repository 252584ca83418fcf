//! Texts to token ids, exactly as the model's published tokenizer gives them.

use tokenizers::Tokenizer;
use tokenizers::utils::truncation::{TruncationDirection, TruncationParams, TruncationStrategy};

use crate::error::{Error, Result};
use crate::parallel;
use crate::progress::Progress;

/// Texts given to one thread at a time: a few hundred microseconds of work.
const CHUNK: usize = 32;

/// Bytes of text that surely hold more than one token of the model's length, in all but odd texts; see [`prefix`].
const BYTES_PER_TOKEN: usize = 32;

pub struct TextTokenizer {
    tokenizer: Tokenizer,
    max_length: usize,
}

impl TextTokenizer {
    /// Reads a `tokenizer.json`. Its own padding and truncation are switched off: they are those of whoever published
    /// it, often shorter than the model's length.
    pub fn new(json: &[u8], max_length: usize) -> Result<Self> {
        let mut tokenizer = Tokenizer::from_bytes(json).map_err(|e| Error::NotTokenizer(e.to_string()))?;
        tokenizer.with_padding(None);
        let truncation = TruncationParams {
            max_length,
            strategy: TruncationStrategy::LongestFirst,
            stride: 0,
            direction: TruncationDirection::Right,
        };
        tokenizer.with_truncation(Some(truncation)).map_err(|e| Error::NotTokenizer(e.to_string()))?;
        Ok(Self { tokenizer, max_length })
    }

    /// Token ids of each of `texts` with `prefix` before it, special tokens included, at most `max_length` each.
    pub fn tokenize(
        &self,
        texts: &[&str],
        prefix: &str,
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<Vec<Vec<u32>>> {
        let mut tokens = vec![Vec::new(); texts.len()];
        parallel::for_each_chunk(
            &mut tokens,
            CHUNK,
            threads,
            progress,
            || (),
            |_, number, out| {
                for (tokens, text) in out.iter_mut().zip(&texts[number * CHUNK..]) {
                    *tokens = self.one(text, prefix)?;
                }
                Ok(())
            },
        )?;
        Ok(tokens)
    }

    /// A long text is read only as far as it fills the model: a text of a megabyte costs what a page costs.
    fn one(&self, text: &str, prefix: &str) -> Result<Vec<u32>> {
        let mut bytes = (self.max_length + 1) * BYTES_PER_TOKEN;
        loop {
            let part = head(text, bytes);
            let input = if prefix.is_empty() { part.into() } else { format!("{prefix}{part}") };
            let encoding = self
                .tokenizer
                .encode_fast(input.as_str(), true)
                .map_err(|e| Error::Internal(format!("the tokenizer failed: {e}")))?;
            if encoding.len() >= self.max_length || part.len() == text.len() {
                return Ok(encoding.get_ids().to_vec());
            }
            bytes = bytes.saturating_mul(4);
        }
    }
}

/// At most `bytes` bytes of `text`, cut at a blank where there is one in the last half, so that no word is split.
fn head(text: &str, bytes: usize) -> &str {
    if text.len() <= bytes {
        return text;
    }
    let end = (0..=bytes).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
    match text[..end].rfind(char::is_whitespace) {
        Some(blank) if blank > bytes / 2 => &text[..blank],
        _ => &text[..end],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Unwatched;

    /// A tokenizer of whole words: blank-separated, unknown ones to [UNK].
    const WORDS: &[u8] = br#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,
        "pre_tokenizer":{"type":"Whitespace"},"post_processor":null,"decoder":null,
        "model":{"type":"WordLevel","vocab":{"[UNK]":0,"red":1,"wine":2},"unk_token":"[UNK]"}}"#;

    #[test]
    fn words_become_ids_in_order_on_any_number_of_threads() {
        let tokenizer = TextTokenizer::new(WORDS, 8).unwrap();
        let texts: Vec<&str> = (0..100).map(|i| if i % 2 == 0 { "red wine" } else { "wine" }).collect();
        for threads in [1, 3] {
            let tokens = tokenizer.tokenize(&texts, "", threads, &Unwatched).unwrap();
            assert!(tokens.iter().enumerate().all(|(i, t)| *t == if i % 2 == 0 { vec![1, 2] } else { vec![2] }));
        }
    }

    #[test]
    fn a_long_text_is_cut_to_the_models_length_and_equals_its_beginning() {
        let tokenizer = TextTokenizer::new(WORDS, 8).unwrap();
        let long = "red ".repeat(300_000);
        assert_eq!(tokenizer.tokenize(&[&long], "", 1, &Unwatched).unwrap(), [vec![1; 8]]);
        // One word of a megabyte, then a known one: the cut must not invent tokens.
        let odd = format!("{} wine", "x".repeat(1_000_000));
        assert_eq!(tokenizer.tokenize(&[&odd], "", 1, &Unwatched).unwrap(), [vec![0, 2]]);
    }

    #[test]
    fn a_prefix_is_put_before_each_text() {
        let tokenizer = TextTokenizer::new(WORDS, 8).unwrap();
        assert_eq!(tokenizer.tokenize(&["wine"], "red ", 1, &Unwatched).unwrap(), [vec![1, 2]]);
    }

    #[test]
    fn what_is_no_tokenizer_is_refused() {
        assert!(matches!(TextTokenizer::new(b"{}", 8), Err(Error::NotTokenizer(_))));
    }
}
