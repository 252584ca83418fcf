//! `reco.augment_text`: variants of texts.

use ndarray::Array2;
use pgrx::prelude::*;
use serde_json::Value;

use super::embedding::embed_texts;
use super::given;
use crate::pg::arrays::warn_of_list;
use crate::pg::errors;
use crate::pg::interrupts::Statement;
use crate::pg::json::JsonB;
use crate::pg::row::{Kind, required};
use crate::pg::settings;
use crate::pg::source::Source;
use runtime::error::{Error, Result};
use runtime::options::Options;
use runtime::progress::Progress;
use synthesis::text::{
    Augmenter, Change, Corpus, MAX_BYTES, Method, Request, Rules, Vocabulary, check_length, check_phrase,
};

/// Variants of a text, at most.
const MAX_VARIANTS: i32 = 10_000;
/// Minimum similarity of a variant, by default.
const MIN_SIMILARITY: f64 = 0.9;
/// Minimum similarity of words of the corpus that may replace each other, by default.
const MIN_NEIGHBOR_SIMILARITY: f64 = 0.8;

/// The number of the text (of the variant, for a single text), the variant and its similarity.
type Row = (i32, String, Option<f32>);

#[pg_extern(sql = false)]
fn augment_text(
    original: Option<&str>,
    n: Option<i32>,
    method: Option<&str>,
    options: Option<JsonB>,
    seed: Option<i64>,
) -> errors::Result<TableIterator<'static, (i32, String, Option<f32>)>> {
    if let Some(text) = original {
        warn_of_list("augment_text", text);
    }
    let rows = augment(&[original], n, method, options, seed)?;
    // Of one text the ordinal numbers the variants.
    Ok(TableIterator::new((1..).zip(rows).map(|(ordinal, (_, text, similarity))| (ordinal, text, similarity))))
}

#[pg_extern(sql = false)]
fn augment_texts(
    texts: Option<Array<&str>>,
    n: Option<i32>,
    method: Option<&str>,
    options: Option<JsonB>,
    seed: Option<i64>,
) -> errors::Result<TableIterator<'static, (i32, String, Option<f32>)>> {
    let texts: Vec<Option<&str>> = texts.iter().flat_map(Array::iter).collect();
    Ok(TableIterator::new(augment(&texts, n, method, options, seed)?))
}

fn augment(
    texts: &[Option<&str>],
    n: Option<i32>,
    method: Option<&str>,
    options: Option<JsonB>,
    seed: Option<i64>,
) -> Result<Vec<Row>> {
    let n = given(n, "n")?;
    if !(0..=MAX_VARIANTS).contains(&n) {
        return Err(Error::argument(
            "n",
            n,
            format!("The number of variants of each text must be from 0 to {MAX_VARIANTS}."),
        ));
    }
    let method = Method::from_name(given(method, "method")?)?;
    let seed = given(seed, "seed")? as u64;
    let options = options.map_or(Value::Null, |options| options.0);
    let asked = Asked::read(method, &options)?;
    let statement = Statement::new("augment_text", asked.model.as_deref().unwrap_or_default());
    let embed = |texts: &[&str]| match &asked.model {
        Some(model) => embed_texts(model, texts, &statement),
        None => Err(Error::Internal("no model to embed texts".into())),
    };
    // A NULL text keeps its place and has no variants.
    let (places, present): (Vec<i32>, Vec<&str>) =
        (1..).zip(texts).filter_map(|(place, text)| text.map(|text| (place, text))).unzip();
    if n == 0 || present.is_empty() {
        return Ok(Vec::new());
    }
    let augmenter = asked.augmenter(&embed, &statement)?;
    let request = Request {
        n: n as usize,
        method: asked.method,
        rate: asked.rate,
        least_similarity: (asked.least_similarity > 0.0).then_some(asked.least_similarity),
        seed,
        threads: settings::threads(),
    };
    let outcome = augmenter.augment(&present, &request, &mut |texts| embed(texts), &statement)?;
    let rows = places.into_iter().zip(outcome.variants);
    Ok(rows.flat_map(|(place, all)| all.into_iter().map(move |v| (place, v.text, v.similarity))).collect())
}

/// The options.
struct Asked<'a> {
    method: Method,
    lexicon: Option<&'a str>,
    corpus: Option<&'a str>,
    max_vocabulary: usize,
    neighbor_similarity: f32,
    model: Option<String>,
    least_similarity: f32,
    rate: f32,
    keep: Vec<&'a str>,
    first_is_free: bool,
}

impl<'a> Asked<'a> {
    fn read(method: Method, given: &'a Value) -> Result<Self> {
        let mut options = Options::new("augment_text", given)?;
        // Null is no model, other than no option.
        let without_model = given.get("model").is_some_and(Value::is_null);
        let named = text_option(&mut options, "model", "the name of a text embedding model, or null for none")?;
        let model = match named {
            Some(name) => Some(name.to_owned()),
            None => (!without_model).then(settings::embedding_model),
        };
        let lexicon = text_option(&mut options, "lexicon", "a query with columns word and synonym")?;
        let corpus = text_option(&mut options, "corpus", "a query with a column text")?;
        let is_bound_given = options.given("least_similarity").is_some();
        let default = if without_model { 0.0 } else { MIN_SIMILARITY };
        let mut asked = Self {
            method,
            lexicon,
            corpus,
            max_vocabulary: options.integer("max_vocabulary", 10_000, 1, 1_000_000)? as usize,
            neighbor_similarity: options.float("neighbor_similarity", MIN_NEIGHBOR_SIMILARITY, 0.0, 1.0)?,
            model,
            least_similarity: options.float("least_similarity", default, 0.0, 1.0)?,
            rate: options.float("rate", 0.1, 0.0, 1.0)?,
            keep: keep_option(&mut options)?,
            first_is_free: options.choice("first_word", &[("keep", false), ("free", true)])?,
        };
        options.finish()?;
        asked.check(without_model, is_bound_given)?;
        Ok(asked)
    }

    /// Checks that the options go together.
    fn check(&mut self, without_model: bool, is_bound_given: bool) -> Result<()> {
        let missing =
            |option: &str, hint: &str| Err(Error::invalid(format!("option \"{option}\" must not be null"), hint));
        if without_model && self.least_similarity > 0.0 {
            let hint = "A minimum similarity needs a text embedding model. Name one, or set least_similarity to 0.";
            return missing("model", hint);
        }
        if without_model && !is_bound_given {
            // Words that a lexicon vouches for need no bound; other changes do.
            match self.method {
                Method::Mixed => self.method = Method::Only(Change::Synonym),
                Method::Only(Change::Synonym) => {}
                Method::Only(_) => {
                    let hint = "Without a model the similarity of a variant cannot be measured. Name a model, or set \
                                least_similarity to 0.";
                    return missing("model", hint);
                }
            }
        }
        if without_model && self.corpus.is_some() && self.uses_neighbors() {
            return missing("model", "The words of a corpus are compared by a text embedding model. Name one.");
        }
        match self.method {
            Method::Only(Change::Synonym) if self.lexicon.is_none() => missing(
                "lexicon",
                "Set it to a query with columns word and synonym, as in {\"lexicon\": \"TABLE my_lexicon\"}.",
            ),
            Method::Only(Change::Neighbor) if self.corpus.is_none() => missing(
                "corpus",
                "Set it to a query with a column text, as in {\"corpus\": \"SELECT title AS text FROM products\"}.",
            ),
            Method::Only(Change::Insert) if self.lexicon.is_none() && self.corpus.is_none() => {
                missing("lexicon", "The words to insert come from a query: set lexicon or corpus.")
            }
            _ => Ok(()),
        }
    }

    fn uses_neighbors(&self) -> bool {
        matches!(self.method, Method::Mixed | Method::Only(Change::Neighbor | Change::Insert))
    }

    fn augmenter(&self, embed: &dyn Fn(&[&str]) -> Result<Array2<f32>>, progress: &dyn Progress) -> Result<Augmenter> {
        let mut rules = Rules { first_is_free: self.first_is_free, ..Rules::default() };
        for word in &self.keep {
            check_phrase(word, "option \"keep\"")?;
            rules.keep.entry(word);
        }
        if let Some(query) = self.lexicon {
            read_lexicon(query, &mut rules, progress)?;
        }
        let Some(query) = self.corpus else { return Ok(Augmenter { rules, vocabulary: None }) };
        let corpus = read_corpus(query, &rules, progress)?;
        let words = corpus.words(self.max_vocabulary, &mut rules, progress)?;
        if !self.uses_neighbors() {
            // The corpus has told brands.
            return Ok(Augmenter { rules, vocabulary: None });
        }
        let texts: Vec<&str> = words.iter().map(String::as_str).collect();
        let vectors = embed(&texts)?;
        let vocabulary = Vocabulary::new(words, vectors, self.neighbor_similarity)?;
        Ok(Augmenter { rules, vocabulary: Some(vocabulary) })
    }
}

fn read_lexicon(query: &str, rules: &mut Rules, progress: &dyn Progress) -> Result<()> {
    let wanted = [required("word", Kind::Text), required("synonym", Kind::Text)];
    Source::open_named("lexicon", query, &wanted)?.read(progress, |row| {
        // A pair with a NULL says nothing.
        if let (Some(word), Some(synonym)) = (row.text(0)?, row.text(1)?) {
            check_phrase(word, "lexicon")?;
            check_phrase(synonym, "lexicon")?;
            rules.lexicon.add(word, synonym);
        }
        Ok(())
    })?;
    Ok(())
}

fn read_corpus(query: &str, rules: &Rules, progress: &dyn Progress) -> Result<Corpus> {
    let mut corpus = Corpus::default();
    let (mut number, mut unchecked) = (0, 0);
    Source::open_named("corpus", query, &[required("text", Kind::Text)])?.read(progress, |row| {
        number += 1;
        if let Some(text) = row.text(0)? {
            check_length(text, || format!("the text in row {number} of corpus"))?;
            // Each text is split into words: this many bytes take some milliseconds.
            unchecked += text.len();
            if unchecked > MAX_BYTES {
                unchecked = 0;
                progress.check()?;
            }
            corpus.add(text, rules);
        }
        Ok(())
    })?;
    Ok(corpus)
}

fn text_option<'a>(options: &mut Options<'a>, name: &'static str, what: &str) -> Result<Option<&'a str>> {
    let text = match options.given(name) {
        None => None,
        Some(Value::String(text)) => Some(text.as_str()),
        Some(other) => {
            return Err(Error::argument(format!("option \"{name}\""), other, format!("The value must be {what}.")));
        }
    };
    options.record(name, text.map_or(Value::Null, Value::from));
    Ok(text)
}

fn keep_option<'a>(options: &mut Options<'a>) -> Result<Vec<&'a str>> {
    let value = options.given("keep");
    options.record("keep", value.cloned().unwrap_or(Value::Null));
    let Some(value) = value else { return Ok(Vec::new()) };
    let words = value.as_array().and_then(|all| all.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
    words.ok_or_else(|| {
        Error::argument("option \"keep\"", value, "The value must be an array of words, as in [\"Brother\", \"海天\"].")
    })
}
