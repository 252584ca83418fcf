//! What a row was made of, as hashes: whether it has changed is seen without its texts, which are not stored.

use sha2::{Digest, Sha256};

/// The first eight bytes of SHA-256 hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowDigest {
    /// Of all that the index has of the row, but for its id.
    pub row: u64,
    /// Of what its vector was made from; 0 if it came with the row.
    pub passage: u64,
}

impl RowDigest {
    pub fn new(texts: &[Option<&str>], numbers: &[f32], passage: Option<&str>, vector: Option<&[f32]>) -> Self {
        let mut hash = Sha256::new();
        for text in texts {
            // The length tells a text from its neighbours, and from none.
            hash.update(text.map_or(u64::MAX, |text| text.len() as u64).to_le_bytes());
            hash.update(text.unwrap_or_default());
        }
        numbers.iter().for_each(|number| hash.update(number.to_bits().to_le_bytes()));
        vector.unwrap_or_default().iter().for_each(|value| hash.update(value.to_bits().to_le_bytes()));
        Self { row: first(hash), passage: passage.map_or(0, |text| first(Sha256::new_with_prefix(text))) }
    }
}

/// The first eight bytes of a hash.
pub fn first(hash: Sha256) -> u64 {
    hash.finalize().iter().take(8).fold(0, |all, &byte| all << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_row_counts_and_texts_do_not_run_together() {
        let of = |texts: &[Option<&str>], numbers: &[f32]| RowDigest::new(texts, numbers, None, None).row;
        let all = [
            of(&[Some("ab"), Some("c")], &[1.0]),
            of(&[Some("a"), Some("bc")], &[1.0]),
            of(&[Some("ab"), None], &[1.0]),
            of(&[Some("ab"), Some("")], &[1.0]),
            of(&[Some("ab"), Some("c")], &[2.0]),
            RowDigest::new(&[Some("ab"), Some("c")], &[1.0], None, Some(&[0.5])).row,
        ];
        for (n, one) in all.iter().enumerate() {
            assert!(!all[n + 1..].contains(one), "{n}");
        }
        assert_eq!(all[0], RowDigest::new(&[Some("ab"), Some("c")], &[1.0], Some("ab c"), None).row);
    }
}
