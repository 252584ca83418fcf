//! Unigram: of all ways to cut a text into pieces, the one whose scores add up to most.
//!
//! Kudo, "Subword Regularization" (2018), section 3.2. The scores are log probabilities; the best cut is found from left
//! to right (Viterbi), and of equal ones that stays which was found first.

use bytes::Bytes;
use tokenizers::Token;
use tokenizers::models::unigram::UnigramError;

use super::token::token;
use super::trie::Trie;

#[derive(Debug)]
pub struct Unigram {
    pieces: Trie,
    /// One little-endian `f64` a piece, by its id.
    scores: Bytes,
    unknown: Option<u32>,
    /// The score of a character that is not a piece.
    unknown_score: f64,
    /// Whether unknown characters become bytes, for which there are pieces such as `<0x0A>`.
    byte_fallback: bool,
}

/// The best cut of the text up to one place.
#[derive(Clone, Copy)]
struct Best {
    score: f64,
    /// Where its last piece begins; [`UNREACHED`] where no cut ends here.
    start: usize,
    id: u32,
}

const UNREACHED: usize = usize::MAX;

impl Unigram {
    pub fn new(pieces: Trie, scores: Bytes, unknown: Option<u32>, unknown_score: f64, byte_fallback: bool) -> Self {
        Self { pieces, scores, unknown, unknown_score, byte_fallback }
    }

    pub fn pieces(&self) -> &Trie {
        &self.pieces
    }

    pub fn tokenize(&self, text: &str) -> tokenizers::Result<Vec<Token>> {
        let best = self.best_cuts(text)?;
        // From the end backwards. Unknown characters that follow each other are one token.
        let mut tokens = Vec::new();
        let mut unknown_end = None;
        let mut end = text.len();
        while end > 0 {
            let Best { start, id, .. } = best[end];
            if start >= end {
                return Err("vocabulary is corrupted".into());
            }
            if Some(id) == self.unknown {
                unknown_end.get_or_insert(end);
            } else {
                if let Some(unknown_end) = unknown_end.take() {
                    self.push_unknown(text, end..unknown_end, &mut tokens)?;
                }
                tokens.push(token(id, start..end));
            }
            end = start;
        }
        if let Some(unknown_end) = unknown_end {
            self.push_unknown(text, 0..unknown_end, &mut tokens)?;
        }
        tokens.reverse();
        Ok(tokens)
    }

    /// For each byte of `text`, and its end: the best cut up to there.
    fn best_cuts(&self, text: &str) -> tokenizers::Result<Vec<Best>> {
        let mut best = vec![Best { score: 0.0, start: UNREACHED, id: 0 }; text.len() + 1];
        let root = self.pieces.root();
        for (start, character) in text.char_indices() {
            let before = best[start].score;
            let single = character.len_utf8();
            let mut is_piece = false;
            let rest = &text.as_bytes()[start..];
            for (length, id) in root.into_iter().flat_map(|root| self.pieces.prefixes(root, rest)) {
                let Some(score) = self.score(id) else { continue };
                improve(&mut best[start + length], before + score, start, || Ok(id))?;
                is_piece |= length == single;
            }
            if !is_piece {
                let unknown = || self.unknown.ok_or(UnigramError::MissingUnkId);
                improve(&mut best[start + single], before + self.unknown_score, start, unknown)?;
            }
        }
        Ok(best)
    }

    fn score(&self, id: u32) -> Option<f64> {
        Some(f64::from_le_bytes(*self.scores.get(id as usize * 8..)?.first_chunk()?))
    }

    /// The tokens of an unknown stretch, last one first.
    fn push_unknown(
        &self,
        text: &str,
        stretch: std::ops::Range<usize>,
        tokens: &mut Vec<Token>,
    ) -> tokenizers::Result<()> {
        let bytes = &text.as_bytes()[stretch.clone()];
        // Characters apart may be worth more than the piece they are together: it is that piece all the same.
        if let Some(id) = self.pieces.get(bytes) {
            tokens.push(token(id, stretch));
            return Ok(());
        }
        if self.byte_fallback {
            let piece = |byte: &u8| self.pieces.get(format!("<0x{byte:02X}>").as_bytes());
            if let Some(ids) = bytes.iter().rev().map(piece).collect::<Option<Vec<u32>>>() {
                tokens.extend(ids.into_iter().map(|id| token(id, stretch.clone())));
                return Ok(());
            }
        }
        tokens.push(token(self.unknown.ok_or(UnigramError::MissingUnkId)?, stretch));
        Ok(())
    }
}

#[inline]
fn improve(
    best: &mut Best,
    score: f64,
    start: usize,
    id: impl FnOnce() -> Result<u32, UnigramError>,
) -> Result<(), UnigramError> {
    if best.start == UNREACHED || score > best.score {
        *best = Best { score, start, id: id()? };
    }
    Ok(())
}
