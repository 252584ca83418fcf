//! WordPiece beside Hugging Face's `tokenizers` and a loop that looks the longest piece up in a hash map; one thread each.
//!
//! The vocabulary is all-MiniLM-L6-v2's where `make models` has built it, and otherwise one made from the texts, which are the paragraphs of
//! this project's documentation.
#![allow(clippy::unwrap_used, reason = "a benchmark ends at the first error, as a test does")]

#[path = "../../../benches/kernels/compare.rs"]
mod compare;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use compare::Comparison;
use criterion::{Criterion, criterion_group, criterion_main};
use embedding::TextTokenizer;
use runtime::progress::Unwatched;
use serde_json::{Value, json};
use tokenizers::Tokenizer;
use tokenizers::utils::truncation::TruncationParams;

const MAX_LENGTH: usize = 256;
/// Longest word that is looked up, in characters.
const MAX_WORD: usize = 100;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Paragraphs in ASCII: the loop knows no other letters.
fn texts() -> Vec<String> {
    let mut files: Vec<PathBuf> = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|file| root().join(file)).into();
    for folder in ["docs", "docs/reference"] {
        files.extend(fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path()));
    }
    files.retain(|file| file.extension().is_some_and(|extension| extension == "md"));
    files.sort();
    let whole: Vec<String> = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let paragraphs = whole.iter().flat_map(|text| text.split("\n\n")).map(str::trim);
    let mut texts: Vec<String> =
        paragraphs.filter(|text| text.is_ascii() && text.len() > 40).map(String::from).collect();
    texts.truncate(1000);
    texts
}

/// Lower-case words, and punctuation one by one, as BERT splits ASCII.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_ascii_whitespace().flat_map(|part| {
        let mut rest = part;
        std::iter::from_fn(move || {
            let end = match rest.chars().next()? {
                c if c.is_ascii_punctuation() => 1,
                _ => rest.find(|c: char| c.is_ascii_punctuation()).unwrap_or(rest.len()),
            };
            let (word, after) = rest.split_at(end);
            rest = after;
            Some(word)
        })
    })
}

/// All characters, all words of at least three appearances, and endings of three letters at most.
fn made(texts: &[String]) -> Value {
    let mut counts: HashMap<String, usize> = HashMap::new();
    let mut pieces: Vec<String> =
        (b'!'..=b'~').flat_map(|c| [char::from(c).into(), format!("##{}", char::from(c))]).collect();
    for text in texts {
        for word in words(&text.to_ascii_lowercase()) {
            *counts.entry(word.into()).or_default() += 1;
            let endings = (2..=3)
                .filter(|length| word.len() > *length)
                .map(|length| format!("##{}", &word[word.len() - length..]));
            pieces.extend(endings);
        }
    }
    pieces.extend(counts.into_iter().filter(|(_, count)| *count > 2).map(|(word, _)| word));
    pieces.sort();
    pieces.dedup();
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"].map(String::from);
    let vocabulary: HashMap<&str, usize> = special.iter().chain(&pieces).map(String::as_str).zip(0..).collect();
    let token = |id: usize| {
        json!({"id": id, "content": special[id], "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true})
    };
    let part = |name: &str| json!({"SpecialToken": {"id": name, "type_id": 0}});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "decoder": null,
        "added_tokens": [token(0), token(1), token(2), token(3)],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
            "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing",
            "single": [part("[CLS]"), {"Sequence": {"id": "A", "type_id": 0}}, part("[SEP]")], "pair": [],
            "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
                "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}}},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": MAX_WORD, "vocab": vocabulary},
    })
}

struct Naive {
    pieces: HashMap<String, u32>,
    unknown: u32,
    first: u32,
    last: u32,
}

impl Naive {
    fn new(json: &Value) -> Self {
        let vocabulary = json["model"]["vocab"].as_object().unwrap();
        let pieces: HashMap<String, u32> =
            vocabulary.iter().map(|(piece, id)| (piece.clone(), id.as_u64().unwrap() as u32)).collect();
        let id = |piece: &str| pieces[piece];
        Self { unknown: id("[UNK]"), first: id("[CLS]"), last: id("[SEP]"), pieces }
    }

    /// The longest piece, then the longest of the rest.
    fn split(&self, word: &str, out: &mut Vec<u32>) {
        let before = out.len();
        let mut start = 0;
        while start < word.len() {
            let found = (start + 1..=word.len()).rev().find_map(|end| {
                let piece = &word[start..end];
                let id = if start > 0 { self.pieces.get(&format!("##{piece}")) } else { self.pieces.get(piece) };
                Some((end, *id?))
            });
            let Some((end, id)) = found.filter(|_| word.len() <= MAX_WORD) else {
                out.truncate(before);
                out.push(self.unknown);
                return;
            };
            out.push(id);
            start = end;
        }
    }

    fn tokenize(&self, text: &str) -> Vec<u32> {
        let mut out = vec![self.first];
        for word in words(&text.to_ascii_lowercase()) {
            self.split(word, &mut out);
            if out.len() >= MAX_LENGTH {
                break;
            }
        }
        out.truncate(MAX_LENGTH - 1);
        out.push(self.last);
        out
    }
}

fn tokenizing(criterion: &mut Criterion) {
    let texts = texts();
    let (name, json) = match fs::read(root().join(".build/models/all-minilm-l6-v2/tokenizer.json")) {
        Ok(published) => ("all-MiniLM-L6-v2", published),
        Err(_) => {
            println!("tokenizing: a vocabulary made from the texts, since make models has not built all-minilm-l6-v2");
            ("a made vocabulary", made(&texts).to_string().into_bytes())
        }
    };
    let folder = std::env::temp_dir().join(format!("pg_reco-tokenizing-{}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    TextTokenizer::prepare(&json, &folder).unwrap();
    let mapped = TextTokenizer::open(&folder, MAX_LENGTH).unwrap();
    let mut library = Tokenizer::from_bytes(&json).unwrap();
    let truncation = TruncationParams { max_length: MAX_LENGTH, ..TruncationParams::default() };
    library.with_padding(None).with_truncation(Some(truncation)).unwrap();
    let naive = Naive::new(&serde_json::from_slice(&json).unwrap());

    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let ours = || mapped.tokenize(&texts, "", 1, &Unwatched).unwrap();
    let crates = || texts.iter().map(|text| library.encode_fast(*text, true).unwrap().get_ids().to_vec()).collect();
    let loops = || texts.iter().map(|text| naive.tokenize(text)).collect::<Vec<_>>();
    let (ids, others): (_, Vec<Vec<u32>>) = (ours(), crates());
    for (text, ((ours, library), naive)) in texts.iter().zip(ids.iter().zip(&others).zip(loops())) {
        assert_eq!(ours, library, "tokenizers: {text}");
        assert_eq!(*ours, naive, "the loop: {text}");
    }
    let tokens: usize = ids.iter().map(Vec::len).sum();
    Comparison::new(criterion, "WordPiece", &format!("{name}, {} texts of {tokens} tokens", texts.len()))
        .side("ours", ours)
        .side("hash map", loops)
        .side("tokenizers", || -> Vec<Vec<u32>> { crates() })
        .finish();
    // Opened anew for every connection; the library parses its file.
    Comparison::new(criterion, "opening a tokenizer", name)
        .side("ours, prepared", || TextTokenizer::open(&folder, MAX_LENGTH).unwrap())
        .side("hash map", || Naive::new(&serde_json::from_slice(&json).unwrap()))
        .side("tokenizers", || Tokenizer::from_bytes(&json).unwrap())
        .finish();
    drop(mapped);
    fs::remove_dir_all(&folder).unwrap();
}

criterion_group!(benches, tokenizing);
criterion_main!(benches);
