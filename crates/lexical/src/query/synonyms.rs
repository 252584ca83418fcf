//! Words that mean the same, as the owner of an index gives them.

use std::collections::HashMap;

use runtime::error::{Error, Result};
use runtime::progress::Progress;

use super::steps::{Step, steps};
use crate::text::Token;
use crate::text::analyzer::Analyzer;
use crate::text::segmenter::Characters;

/// The most words and phrases with synonyms, and the longest list of one.
pub const MAX_SYNONYMS: usize = 10_000;
const MAX_LIST: usize = 32;

/// The longest word or phrase, in bytes.
const MAX_PHRASE: usize = 256;

/// Words and phrases, each with those that it may be replaced with.
#[derive(Clone, Debug, Default)]
pub struct Synonyms {
    /// By the first step.
    by_first: HashMap<String, Vec<Entry>>,
}

#[derive(Clone, Debug)]
struct Entry {
    steps: Vec<Step>,
    replacements: Vec<Vec<Step>>,
}

impl Synonyms {
    pub(crate) fn new(analyzer: &Analyzer, entries: &[(String, Vec<String>)], progress: &dyn Progress) -> Result<Self> {
        if entries.len() > MAX_SYNONYMS || entries.iter().any(|(_, list)| list.len() > MAX_LIST) {
            return Err(Error::TooLarge {
                what: "the map of synonyms".into(),
                needed: format!("{} entries", entries.len()),
                limit: format!("{MAX_SYNONYMS} entries of {MAX_LIST} synonyms each"),
                hint: "Pass fewer synonyms.".into(),
            });
        }
        let mut by_first: HashMap<String, Vec<Entry>> = HashMap::new();
        for (phrase, list) in entries {
            progress.check()?;
            let phrase = steps_of(analyzer, phrase, progress)?;
            let list = list.iter().map(|phrase| steps_of(analyzer, phrase, progress)).collect::<Result<Vec<_>>>()?;
            let replacements: Vec<_> = list.into_iter().filter(|steps| !steps.is_empty()).collect();
            if let Some(first) = phrase.first().filter(|_| !replacements.is_empty()) {
                by_first.entry(first.term.clone()).or_default().push(Entry { steps: phrase, replacements });
            }
        }
        Ok(Self { by_first })
    }

    /// The phrases in `tokens` that have synonyms: the range of places in `steps` (indexes of tokens), and the replacements.
    pub(crate) fn found<'a>(
        &'a self,
        tokens: &[Token],
        steps: &[usize],
    ) -> Vec<(std::ops::Range<usize>, &'a [Vec<Step>])> {
        let mut found = Vec::new();
        for start in 0..steps.len() {
            for entry in self.by_first.get(&tokens[steps[start]].term).into_iter().flatten() {
                let end = start + entry.steps.len();
                if end <= steps.len()
                    && entry.steps.iter().zip(&steps[start..]).all(|(step, &at)| step.term == tokens[at].term)
                {
                    found.push((start..end, entry.replacements.as_slice()));
                }
            }
        }
        found
    }
}

fn steps_of(analyzer: &Analyzer, phrase: &str, progress: &dyn Progress) -> Result<Vec<Step>> {
    if phrase.len() > MAX_PHRASE {
        return Err(Error::TooLarge {
            what: "a synonym".into(),
            needed: format!("{} bytes", phrase.len()),
            limit: format!("{MAX_PHRASE} bytes"),
            hint: "Pass words and short phrases.".into(),
        });
    }
    Ok(steps(&analyzer.tokens(phrase, &mut Characters, progress)?))
}
