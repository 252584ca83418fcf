//! What is done to the words of a language: stems and words that say nothing.

use runtime::error::{Error, Result};
use rust_stemmers::{Algorithm, Stemmer};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    /// Stems and stop words of English. Chinese needs neither, so that texts may mix the two.
    #[default]
    English,
    /// Words as they are.
    None,
}

impl Language {
    pub fn named(name: &str) -> Result<Self> {
        match name {
            "english" => Ok(Self::English),
            "none" => Ok(Self::None),
            _ => Err(Error::argument("language", format!("\"{name}\""), "Valid values: \"english\", \"none\".")),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::English => "english",
            Self::None => "none",
        }
    }
}

/// Words that most texts contain. A query drops them unless it has no others.
const STOP_WORDS: &[&str] = &[
    "a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "from", "if", "in", "into", "is", "it", "its", "no",
    "not", "of", "on", "or", "s", "so", "such", "t", "that", "the", "their", "then", "there", "these", "they", "this",
    "to", "was", "will", "with", "you", "your",
];

/// Stems words of one language.
pub struct Stems {
    language: Language,
    stemmer: Stemmer,
}

impl Stems {
    pub fn new(language: Language) -> Self {
        Self { language, stemmer: Stemmer::create(Algorithm::English) }
    }

    pub fn language(&self) -> Language {
        self.language
    }

    /// The stem of a folded word. Words with other letters than those of English are left as they are.
    pub fn stem(&self, word: &str) -> String {
        match self.language {
            Language::English if word.len() > 2 && word.bytes().all(|b| b.is_ascii_lowercase()) => {
                self.stemmer.stem(word).into_owned()
            }
            _ => word.to_string(),
        }
    }

    pub fn is_stop_word(&self, word: &str) -> bool {
        self.language == Language::English && STOP_WORDS.binary_search(&word).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_words_are_sorted_for_the_search_in_them() {
        assert!(STOP_WORDS.is_sorted());
    }

    #[test]
    fn an_unknown_language_is_an_error_with_the_valid_ones() {
        let error = Language::named("klingon").unwrap_err();
        assert_eq!(error.to_string(), "invalid value for language: \"klingon\"");
        assert_eq!(error.hint().unwrap(), "Valid values: \"english\", \"none\".");
        for name in ["english", "none"] {
            assert_eq!(Language::named(name).unwrap().name(), name);
        }
    }
}
