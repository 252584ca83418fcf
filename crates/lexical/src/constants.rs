//! The constants of scoring.
//!
//! [`FLOOR`] and [`NEIGHBOURS`] were chosen by NDCG@10 of judged products for one half of the queries and confirmed on the other half, the two
//! of characters by the rank of relevant Chinese titles. The others only have to keep guesses below what the query says; quality hardly
//! depends on them.

/// BM25's saturation of repeated terms and its correction for long texts: Robertson and Zaragoza (2009), equation 3.15.
pub const K1: f32 = 1.2;
pub const B: f32 = 0.75;

/// The part of a score that does not depend on the share of the query's words that a row has.
pub const FLOOR: f32 = 0.3;

/// Two neighbours of the query that are neighbours in a field: this part of the rarer one's weight is added.
pub const NEIGHBOURS: f32 = 0.5;

/// The weight of characters of a word that the index knows, beside the word.
pub const CHARACTER: f32 = 0.5;

/// All characters of a word without the word: this part of it counts as found.
pub const OF_CHARACTERS: f32 = 0.8;

/// Words that begin with the last word of the query, if that is no word itself, and if it is.
pub const COMPLETION: f32 = 0.8;
pub const COMPLETION_OF_KNOWN: f32 = 0.2;

/// Words with one or two typing errors less.
pub const ONE_ERROR: f32 = 0.6;
pub const TWO_ERRORS: f32 = 0.4;

/// Words that the owner of the index gave as synonyms.
pub const SYNONYM: f32 = 0.7;

/// `head phones` for `headphones` in a row, for each of the two, and the reverse.
pub const WRITTEN_TOGETHER: f32 = 0.5;
pub const WRITTEN_APART: f32 = 0.8;
