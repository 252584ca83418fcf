//! Small tokenizers of every shape, and texts for them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::TextTokenizer;
use runtime::progress::Unwatched;

/// A folder that is gone when the test ends.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("pg_reco-tokenizer-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn open(json: &Value, max_length: usize) -> TextTokenizer {
    let folder = Folder::new();
    TextTokenizer::prepare(json.to_string().as_bytes(), &folder.0).unwrap();
    TextTokenizer::open(&folder.0, max_length).unwrap()
}

pub fn ids(tokenizer: &TextTokenizer, text: &str) -> Vec<u32> {
    tokenizer.tokenize(&[text], "", 1, &Unwatched).unwrap().remove(0)
}

pub fn tokenizer(model: Value, parts: Value) -> Value {
    let mut whole = json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null, "model": model});
    whole.as_object_mut().unwrap().extend(parts.as_object().unwrap().clone());
    whole
}

pub fn added(id: u32, content: &str, normalized: bool) -> Value {
    json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": normalized, "special": !normalized})
}

/// Blank-separated known words, unknown ones to [UNK]: a kind that is left to the crate.
pub fn words() -> Value {
    let model = json!({"type": "WordLevel", "vocab": {"[UNK]": 0, "red": 1, "wine": 2}, "unk_token": "[UNK]"});
    tokenizer(model, json!({"pre_tokenizer": {"type": "Whitespace"}}))
}

pub fn word_piece_model(continuation: &str, pieces: &[&str]) -> Value {
    let vocab: BTreeMap<&str, usize> = pieces.iter().enumerate().map(|(id, piece)| (*piece, id * 3 + 1)).collect();
    json!({"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": continuation,
        "max_input_chars_per_word": 9, "vocab": vocab})
}

pub const PIECES: [&str; 26] = [
    "[UNK]", "[CLS]", "[SEP]", "a", "ab", "##b", "##a", "##ba", "abba", "e", "##e", "é", "##́", "酒", "##酒", "葡",
    "🍷", "##🍷", "##", "#", "##c", "c", "[", "]", "cab", "##cab",
];

/// As BERT's: lower case, Chinese characters alone, marks removed, [CLS] and [SEP] around.
pub fn bert(model: Value) -> Value {
    let special = |name: &str| json!({"SpecialToken": {"id": name, "type_id": 0}});
    let text = |name: &str| json!({"Sequence": {"id": name, "type_id": 0}});
    let parts = json!({
        "added_tokens": [added(1, "[UNK]", false), added(4, "[CLS]", false), added(900, "[NEW]", false), added(901, "Cab!", true)],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
            "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing",
            "single": [special("[CLS]"), text("A"), special("[SEP]")],
            "pair": [text("A"), text("B")],
            "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [4], "tokens": ["[CLS]"]},
                "[SEP]": {"id": "[SEP]", "ids": [7], "tokens": ["[SEP]"]}}},
    });
    tokenizer(model, parts)
}

pub fn unigram_model(pieces: &[(&str, f64)], unknown: Option<usize>, byte_fallback: bool) -> Value {
    json!({"type": "Unigram", "unk_id": unknown, "byte_fallback": byte_fallback, "vocab": pieces})
}

/// With ties (`ab`+`a` is worth `a`+`ba`), a piece twice, one only worth less than its characters, an empty one.
pub const SCORED: [(&str, f64); 26] = [
    ("<unk>", 0.0),
    ("<s>", 0.0),
    ("a", -1.0),
    ("b", -2.5),
    ("ab", -3.0),
    ("ba", -3.0),
    ("aba", -4.0),
    ("▁", -1.5),
    ("▁a", -2.0),
    ("▁ab", -3.25),
    ("c", -2.0),
    ("酒", -5.0),
    ("葡萄酒", -6.0),
    ("e", -1.0),
    ("é", -7.5),
    ("🍷", -2.0),
    ("ab", -2.75),
    ("", -1.0),
    ("cabba", -0.5),
    ("<0xC3>", -8.0),
    ("<0xA9>", -8.0),
    ("<0xC3", -8.0),
    ("ccc", -30.0),
    ("́", -3.0),
    ("葡", -6.0),
    ("[NEW", -4.0),
];

pub fn metaspace() -> Value {
    json!({"pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": true},
        "added_tokens": [added(1, "<s>", false), added(700, "[NEW]", true)]})
}

/// A `precompiled_charsmap` that replaces as `pairs` say.
pub fn charsmap(pairs: &[(&str, &str)]) -> Value {
    let mut texts = String::new();
    let mut places = BTreeMap::new();
    for (old, new) in pairs {
        places.insert(*old, texts.len() as u32);
        texts.push_str(new);
        texts.push('\0');
    }
    let places: Vec<(&str, u32)> = places.into_iter().collect();
    let trie = yada::builder::DoubleArrayBuilder::build(&places).unwrap();
    let bytes = [&(trie.len() as u32).to_le_bytes(), &trie[..], texts.as_bytes()].concat();
    json!({"type": "Precompiled", "precompiled_charsmap": base64::encode(bytes)})
}

/// Every shape of tokenizer whose ids are held against the crate's.
pub fn tokenizers() -> Vec<(&'static str, Value)> {
    let map =
        charsmap(&[("A", "a"), ("™", "tm"), ("ﬁ", "cab"), ("\u{1}", ""), ("e\u{301}", "é"), ("Ａ", "ab"), ("\t", " ")]);
    let sequence = json!({"type": "Sequence", "normalizers": [map, {"type": "Lowercase"}, {"type": "Sequence",
        "normalizers": [{"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]}]});
    let mut mapped = metaspace();
    mapped["normalizer"] = map.clone();
    let mut in_sequence = metaspace();
    in_sequence["normalizer"] = sequence;
    let loud: Vec<(&str, f64)> = SCORED.iter().map(|(piece, score)| (*piece, score + 60.0)).collect();
    vec![
        ("word piece as bert", bert(word_piece_model("##", &PIECES))),
        ("word piece of whole texts", tokenizer(word_piece_model("##", &PIECES), json!({}))),
        ("word piece without a mark", tokenizer(word_piece_model("", &PIECES), json!({}))),
        ("word piece with a mark nothing has", tokenizer(word_piece_model("@@", &PIECES), json!({}))),
        ("unigram", tokenizer(unigram_model(&SCORED, Some(0), false), metaspace())),
        ("unigram of whole texts", tokenizer(unigram_model(&SCORED, Some(0), false), json!({}))),
        ("unigram with bytes", tokenizer(unigram_model(&SCORED, Some(0), true), metaspace())),
        ("unigram, unknown is a real piece", tokenizer(unigram_model(&SCORED, Some(2), false), metaspace())),
        ("unigram, unknown is worth more", tokenizer(unigram_model(&loud, Some(0), false), json!({}))),
        ("unigram with a character map", tokenizer(unigram_model(&SCORED, Some(0), false), mapped)),
        ("unigram with a sequence", tokenizer(unigram_model(&SCORED, Some(0), true), in_sequence)),
        ("left to the crate", words()),
    ]
}

/// xorshift64: the same texts on every machine.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n
    }

    pub fn text(&mut self) -> String {
        const PARTS: [&str; 34] = [
            "a",
            "b",
            "ab",
            "c",
            "cc",
            "abba",
            "cab",
            "##",
            "#",
            " ",
            "  ",
            "▁",
            "é",
            "e\u{301}",
            "\u{301}",
            "酒",
            "葡萄酒",
            "葡",
            "🍷",
            "👩‍🍳",
            "x",
            "xy",
            "[CLS]",
            "[NEW]",
            "Cab!",
            "<s>",
            "<unk>",
            "™",
            "ﬁ",
            "A",
            "Ａ",
            "\t",
            "\u{1}",
            "\0",
        ];
        let mut text = String::new();
        for _ in 0..self.below(14) {
            match self.below(20) {
                0 => text.extend(char::from_u32(self.below(0x11_0000) as u32)),
                _ => text.push_str(PARTS[self.below(PARTS.len())]),
            }
        }
        text
    }
}
