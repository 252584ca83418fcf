//! Words of the index like a word of the query: those that begin with it, and those that it may be a misspelling of.

use std::collections::BTreeMap;

use runtime::error::Result;
use runtime::progress::Progress;

use super::edits::{Within, distance};
use crate::guard::damaged;
use crate::index::Lexical;

/// Words looked at between two checks for cancel requests.
const CHECKED: usize = 1 << 10;

/// The most words of a segment that are looked at for one word of a query.
const MAX_SEEN: usize = 1 << 14;

/// A word as it is written, and the rows that have it.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    pub word: String,
    pub frequency: u64,
}

/// Words that begin with `prefix`, the most frequent first.
pub fn beginning_with(index: &Lexical, prefix: &str, most: usize, progress: &dyn Progress) -> Result<Vec<Found>> {
    beginning(index, prefix, most, MAX_SEEN, progress)
}

/// As [`beginning_with`], among all words of the index.
pub fn all_beginning_with(index: &Lexical, prefix: &str, most: usize, progress: &dyn Progress) -> Result<Vec<Found>> {
    beginning(index, prefix, most, usize::MAX, progress)
}

fn beginning(index: &Lexical, prefix: &str, most: usize, seen: usize, progress: &dyn Progress) -> Result<Vec<Found>> {
    let mut words: BTreeMap<String, u64> = BTreeMap::new();
    for segment in &index.segments {
        let mut stream = segment.words.terms().range().ge(prefix.as_bytes()).into_stream().map_err(damaged)?;
        let mut count = 0;
        while let Some((word, info)) = stream.next().filter(|(word, _)| word.starts_with(prefix.as_bytes())) {
            count += 1;
            if count % CHECKED == 0 {
                progress.check()?;
            }
            if count > seen {
                break;
            }
            add(&mut words, word, info.doc_freq)?;
        }
    }
    Ok(most_frequent(words, most))
}

/// Words within `errors` typing errors of `word`, other than itself: the fewest errors first, then the most frequent.
pub fn similar(
    index: &Lexical,
    word: &str,
    errors: u8,
    most: usize,
    progress: &dyn Progress,
) -> Result<Vec<(Found, u8)>> {
    let mut words: BTreeMap<String, u64> = BTreeMap::new();
    for segment in &index.segments {
        let Some(automaton) = Within::new(word, errors) else { return Ok(Vec::new()) };
        progress.check()?;
        let mut stream = segment.words.terms().search(automaton).into_stream().map_err(damaged)?;
        let mut count = 0;
        while let Some((found, info)) = stream.next() {
            count += 1;
            if count > MAX_SEEN {
                break;
            }
            if found != word.as_bytes() {
                add(&mut words, found, info.doc_freq)?;
            }
        }
    }
    let found = most_frequent(words, usize::MAX);
    let mut found: Vec<(Found, u8)> = found
        .into_iter()
        .filter_map(|found| distance(word, &found.word, errors).map(|errors| (found, errors)))
        .collect();
    // Stable: among equals the most frequent stay first.
    found.sort_by_key(|&(_, errors)| errors);
    found.truncate(most);
    Ok(found)
}

fn add(words: &mut BTreeMap<String, u64>, word: &[u8], frequency: u32) -> Result<()> {
    let word = std::str::from_utf8(word).map_err(damaged)?;
    match words.get_mut(word) {
        Some(sum) => *sum += u64::from(frequency),
        None => {
            words.insert(word.to_string(), u64::from(frequency));
        }
    }
    Ok(())
}

/// The most frequent words, equally frequent ones in order of the alphabet.
fn most_frequent(words: BTreeMap<String, u64>, most: usize) -> Vec<Found> {
    let mut found: Vec<Found> = words.into_iter().map(|(word, frequency)| Found { word, frequency }).collect();
    found.sort_by_key(|found| std::cmp::Reverse(found.frequency));
    found.truncate(most);
    found
}
