//! Values of key columns: new and unique.

use serde::{Deserialize, Serialize};

use runtime::draw::mix;
use runtime::error::{Error, Result};

const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
/// Base-36 digits of a 64-bit number.
const MAX_DIGITS: usize = 13;

/// How the keys of a column are generated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Key {
    /// Counts up from `next`.
    Counter { next: i64 },
    /// Random, version 4.
    Uuid,
    /// The common prefix of the source's keys, and `digits` base-36 digits, unique for one seed.
    Text { prefix: String, digits: usize },
}

impl Key {
    /// Keys like those in `names`: their common prefix, and as many characters as the longest has.
    pub fn like(names: &[impl AsRef<str>]) -> Self {
        let first = names.first().map_or("", |name| name.as_ref());
        let mut shared = first.len();
        for name in names {
            let same = first.bytes().zip(name.as_ref().bytes()).take_while(|(a, b)| a == b).count();
            shared = shared.min(same);
        }
        while !first.is_char_boundary(shared) {
            shared -= 1;
        }
        // Digits that happen to be shared belong to the number, not to the beginning.
        let prefix = first[..shared].trim_end_matches(|c: char| c.is_ascii_digit());
        let longest = names.iter().map(|name| name.as_ref().chars().count()).max().unwrap_or(0);
        let digits = longest.saturating_sub(prefix.chars().count());
        Self::Text { prefix: prefix.to_owned(), digits: digits.clamp(1, MAX_DIGITS) }
    }

    /// The key of row `number`, counted from 0, as text.
    pub fn text(&self, seed: u64, number: u64, column: &str) -> Result<String> {
        match self {
            Self::Counter { .. } => self.number(number, None, column).map(|n| n.to_string()),
            Self::Uuid => {
                let (high, low) = (mix(seed ^ mix(2 * number)), mix(seed ^ mix(2 * number + 1)));
                let bits = u128::from(high) << 64 | u128::from(low);
                let bits = bits & !(0xf << 76) & !(3 << 62) | 4 << 76 | 2 << 62;
                let hex = format!("{bits:032x}");
                Ok([&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"))
            }
            Self::Text { prefix, digits } => {
                // Neither the mixing nor the shift by a number of the seed's ever gives two numbers the same.
                let room = 36u64.checked_pow(*digits as u32);
                let mut rest = match room {
                    None => mix(seed ^ number),
                    Some(room) if number >= room => return Err(exhausted(column)),
                    Some(room) => ((u128::from(number) + u128::from(mix(seed))) % u128::from(room)) as u64,
                };
                let mut text = vec![b'0'; *digits];
                for place in text.iter_mut().rev() {
                    *place = DIGITS[(rest % 36) as usize];
                    rest /= 36;
                }
                Ok(format!("{prefix}{}", String::from_utf8_lossy(&text)))
            }
        }
    }

    /// The key of row `number` of a counter, from `start` or from the first key after the source's.
    pub fn number(&self, number: u64, start: Option<i64>, column: &str) -> Result<i64> {
        let Self::Counter { next } = self else {
            return Err(Error::Internal(format!("the keys of {column} are not counted")));
        };
        start.unwrap_or(*next).checked_add_unsigned(number).ok_or_else(|| exhausted(column))
    }
}

fn exhausted(column: &str) -> Error {
    Error::TooLarge {
        what: format!("column \"{column}\""),
        needed: "more different keys".into(),
        limit: "what its type or its length holds".into(),
        hint: "Make fewer rows at once, or leave the column out with {\"drop\": […]}.".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_look_like_those_of_the_source_and_never_repeat() {
        let key = Key::like(&["C0017", "C0018", "C0190"]);
        assert_eq!(key, Key::Text { prefix: "C".into(), digits: 4 });
        let mut all: Vec<String> = (0..20_000).map(|i| key.text(7, i, "id").unwrap()).collect();
        assert!(all.iter().all(|text| text.len() == 5 && text.starts_with('C')));
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 20_000);
        assert_ne!(key.text(7, 0, "id").unwrap(), key.text(8, 0, "id").unwrap());
        let short = Key::Text { prefix: "x".into(), digits: 1 };
        assert!((0..36).all(|i| short.text(1, i, "id").is_ok()));
        let error = short.text(1, 36, "id").unwrap_err();
        assert_eq!((error.sqlstate(), error.to_string().contains("\"id\"")), ("54000", true));
    }

    #[test]
    fn counters_count_on_and_uuids_are_of_version_4() {
        let counter = Key::Counter { next: 41 };
        assert_eq!(counter.number(1, None, "id").unwrap(), 42);
        assert_eq!(counter.number(1, Some(100), "id").unwrap(), 101);
        assert!(Key::Counter { next: i64::MAX }.number(1, None, "id").is_err());
        let uuid = Key::Uuid.text(3, 5, "id").unwrap();
        assert_eq!((uuid.len(), &uuid[14..15]), (36, "4"));
        assert!("89ab".contains(&uuid[19..20]));
        assert_ne!(uuid, Key::Uuid.text(3, 6, "id").unwrap());
    }

    #[test]
    fn keys_of_many_bytes_a_character_are_cut_between_characters() {
        assert_eq!(Key::like(&["顾客甲", "顾客乙"]), Key::Text { prefix: "顾客".into(), digits: 1 });
        assert_eq!(Key::like(&["a"]), Key::Text { prefix: "a".into(), digits: 1 });
    }
}
