use serde_json::{Value, json};
use tokenizers::Tokenizer;

use super::fixtures::*;
use super::*;
use runtime::progress::Unwatched;

/// The crate's own ids, uncut.
fn expected(crate_tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    crate_tokenizer.encode_fast(text, true).unwrap().get_ids().to_vec()
}

#[test]
fn ids_are_the_crates_for_hand_picked_texts() {
    let long = "ab".repeat(200);
    let texts = [
        "",
        " ",
        "a",
        "abba",
        "ababa",
        "abax",
        "xab",
        "cabbacab",
        "aaaaaaaaa",
        "aaaaaaaaaa",
        "ééééééééé",
        "é",
        "e\u{301}",
        "\u{301}\u{301}a",
        "葡萄酒",
        "酒a酒",
        "🍷ab🍷",
        "👩‍🍳",
        "[CLS] a [UNK] b[SEP]",
        "a[NEW]b",
        "xx[NEW]xx",
        "Cab! cab!",
        "<unk>",
        "<unk>x",
        "x<unk>yz",
        "\0",
        "a\0b",
        "##a",
        "##",
        "#",
        "ﬁ™A",
        "\u{1}a",
        "a\u{1}",
        "\u{1}",
        "ccc",
        "[UNK]",
        "<s>a",
        &long,
    ];
    for (name, json) in tokenizers() {
        let crates = Tokenizer::from_bytes(json.to_string()).unwrap();
        let ours = open(&json, 1000);
        for text in texts {
            assert_eq!(ids(&ours, text), expected(&crates, text), "{name}: {text:?}");
        }
    }
}

#[test]
fn ids_are_the_crates_for_thousands_of_random_texts() {
    for (name, json) in tokenizers() {
        let crates = Tokenizer::from_bytes(json.to_string()).unwrap();
        let ours = open(&json, 1000);
        let mut random = Random(0x9E37_79B9_7F4A_7C15);
        let texts: Vec<String> = (0..3000).map(|_| random.text()).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let found = ours.tokenize(&texts, "", 2, &Unwatched).unwrap();
        for (text, ids) in texts.iter().zip(found) {
            assert_eq!(ids, expected(&crates, text), "{name}: {text:?}");
        }
    }
}

#[test]
fn word_piece_and_unigram_are_mapped_and_other_kinds_are_not() {
    for (name, json) in tokenizers() {
        let is_mapped = matches!(open(&json, 9).tokenizer, Kind::Mapped(_));
        assert_eq!(is_mapped, name != "left to the crate", "{name}");
    }
    // What a trie cannot hold, and what has no type, as in old files.
    let mut untyped = tokenizer(word_piece_model("##", &PIECES), json!({}));
    untyped["model"].as_object_mut().unwrap().remove("type");
    let nul = tokenizer(word_piece_model("##", &["[UNK]", "a", "a\0b"]), json!({}));
    let long = tokenizer(word_piece_model("##", &["[UNK]", &"a".repeat(600)]), json!({}));
    for json in [untyped, nul, long] {
        let ours = open(&json, 9);
        assert!(matches!(ours.tokenizer, Kind::Whole(_)));
        let crates = Tokenizer::from_bytes(json.to_string()).unwrap();
        assert!(["a\0b", "ab", "a"].iter().all(|text| ids(&ours, text) == expected(&crates, text)));
    }
}

#[test]
fn a_text_fails_where_the_vocabulary_has_no_unknown_token_as_with_the_crate() {
    let no_unknown = [
        tokenizer(word_piece_model("##", &["a", "##b"]), json!({})),
        tokenizer(unigram_model(&[("a", -1.0), ("b", -1.0)], None, false), json!({})),
        tokenizer(unigram_model(&[], None, false), json!({})),
    ];
    for json in no_unknown {
        let crates = Tokenizer::from_bytes(json.to_string()).unwrap();
        let ours = open(&json, 9);
        for text in ["", "ab", "x", "ax"] {
            match crates.encode_fast(text, true) {
                Ok(encoding) => assert_eq!(ids(&ours, text), encoding.get_ids()),
                Err(_) => assert!(ours.tokenize(&[text], "", 1, &Unwatched).is_err(), "{text}"),
            }
        }
    }
}

#[test]
fn what_the_crate_refuses_is_refused() {
    let unigram = |vocab: Value, unknown: Value| {
        tokenizer(json!({"type": "Unigram", "unk_id": unknown, "vocab": vocab}), json!({})).to_string()
    };
    let mut no_prefix = word_piece_model("##", &PIECES);
    no_prefix.as_object_mut().unwrap().remove("continuing_subword_prefix");
    let good = || word_piece_model("##", &PIECES);
    let refused = [
        "{}".into(),
        "[1]".into(),
        "not JSON".into(),
        tokenizer(Value::Null, json!({})).to_string(),
        tokenizer(json!({"type": "Other"}), json!({})).to_string(),
        tokenizer(no_prefix, json!({})).to_string(),
        tokenizer(good(), json!({"version": "2.0"})).to_string(),
        tokenizer(good(), json!({"padding": 7})).to_string(),
        tokenizer(good(), json!({"decoder": {"type": "Other"}})).to_string(),
        tokenizer(good(), json!({"added_tokens": [{"id": 1}]})).to_string(),
        tokenizer(good(), json!({"pre_tokenizer": {"type": "Other"}})).to_string(),
        unigram(json!([["a", 0.0]]), json!(1)),
        unigram(json!([]), json!(0)),
        unigram(json!([["a"]]), json!(0)),
    ];
    for json in refused {
        assert!(Tokenizer::from_bytes(&json).is_err(), "{json}");
        let folder = Folder::new();
        assert!(matches!(TextTokenizer::prepare(json.as_bytes(), &folder.0), Err(Error::NotTokenizer(_))), "{json}");
    }
    // At these the crate panics.
    for map in [json!({"type": "Precompiled"}), json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"})] {
        let json = tokenizer(good(), json!({"normalizer": {"type": "Sequence", "normalizers": [map]}})).to_string();
        let folder = Folder::new();
        assert!(matches!(TextTokenizer::prepare(json.as_bytes(), &folder.0), Err(Error::NotTokenizer(_))), "{json}");
    }
}

#[test]
fn the_same_tokenizer_is_prepared_to_the_same_bytes() {
    for (name, json) in tokenizers() {
        let files = || {
            let folder = Folder::new();
            TextTokenizer::prepare(json.to_string().as_bytes(), &folder.0).unwrap();
            [JSON_FILE, MAPPED_FILE].map(|file| fs::read(folder.0.join(file)).ok())
        };
        assert_eq!(files(), files(), "{name}");
    }
}

#[test]
fn damaged_files_give_an_error_or_wrong_ids_but_never_a_panic() {
    let mut random = Random(42);
    let (mut opened, mut ran) = (0, 0);
    let mapped = tokenizers().into_iter().filter(|(name, _)| *name != "left to the crate");
    for ((_, json), file) in mapped.flat_map(|one| [(one.clone(), MAPPED_FILE), (one, JSON_FILE)]) {
        let folder = Folder::new();
        TextTokenizer::prepare(json.to_string().as_bytes(), &folder.0).unwrap();
        let path = folder.0.join(file);
        let whole = fs::read(&path).unwrap();
        for number in 0..100 {
            let mut bytes = whole.clone();
            match number % 4 {
                0 => bytes.truncate(random.below(whole.len())),
                1 => bytes[8 + random.below(100)] = random.below(256) as u8,
                2 => (0..1 + random.below(400)).for_each(|_| {
                    // Behind the header of the mapped file.
                    let place = whole.len() / 4 + random.below(whole.len() * 3 / 4);
                    bytes[place] = random.below(256) as u8;
                }),
                _ => bytes[whole.len() / 3..].iter_mut().for_each(|byte| *byte = random.below(256) as u8),
            }
            // Not the mapped file itself: others may still have it open.
            fs::remove_file(&path).unwrap();
            fs::write(&path, bytes).unwrap();
            let Ok(tokenizer) = TextTokenizer::open(&folder.0, 50) else { continue };
            opened += 1;
            for _ in 0..20 {
                // Not on a thread of its own, where a panic becomes an error.
                match tokenizer.one(&random.text(), "") {
                    Err(Error::Internal(_)) => {}
                    Err(other) => panic!("{other}"),
                    Ok(_) => ran += 1,
                }
            }
        }
    }
    // Most damage is behind the header, and is met with texts.
    assert!(opened > 300 && ran > 3000, "{opened} {ran}");
}

#[test]
fn words_become_ids_in_order_on_any_number_of_threads() {
    let tokenizer = open(&words(), 8);
    let texts: Vec<&str> = (0..100).map(|i| if i % 2 == 0 { "red wine" } else { "wine" }).collect();
    for threads in [1, 3] {
        let tokens = tokenizer.tokenize(&texts, "", threads, &Unwatched).unwrap();
        assert!(tokens.iter().enumerate().all(|(i, t)| *t == if i % 2 == 0 { vec![1, 2] } else { vec![2] }));
    }
}

#[test]
fn a_long_text_is_cut_to_the_models_length_and_equals_its_beginning() {
    let tokenizer = open(&words(), 8);
    let long = "red ".repeat(300_000);
    assert_eq!(ids(&tokenizer, &long), [1; 8]);
    // One word of 100 kB, then a known one: the cut must not invent tokens.
    let odd = format!("{} wine", "x".repeat(100_000));
    assert_eq!(ids(&tokenizer, &odd), [0, 2]);
    // Of one of a megabyte nothing could be said without reading all of it.
    let endless = format!("{} wine", "x".repeat(1_000_000));
    let error = tokenizer.tokenize(&[&endless], "", 1, &Unwatched).unwrap_err();
    assert!(matches!(&error, Error::TooLarge { .. }) && error.to_string().contains("131072 bytes"), "{error}");
    // Special tokens count, and stay.
    let bert = open(&bert(word_piece_model("##", &PIECES)), 4);
    assert_eq!(ids(&bert, "a a a a a a"), [4, 10, 10, 7]);
}

#[test]
fn a_prefix_is_put_before_each_text() {
    let tokenizer = open(&words(), 8);
    assert_eq!(tokenizer.tokenize(&["wine"], "red ", 1, &Unwatched).unwrap(), [vec![1, 2]]);
    let unigram = open(&tokenizers()[4].1, 8);
    assert_eq!(unigram.tokenize(&["ba"], "a", 1, &Unwatched).unwrap(), [ids(&unigram, "aba")]);
}

#[test]
fn a_length_that_its_special_tokens_exceed_is_refused() {
    let folder = Folder::new();
    let json = bert(word_piece_model("##", &PIECES)).to_string();
    TextTokenizer::prepare(json.as_bytes(), &folder.0).unwrap();
    assert!(TextTokenizer::open(&folder.0, 2).is_ok());
    assert!(matches!(TextTokenizer::open(&folder.0, 1), Err(Error::Invalid { .. })));
}

#[test]
fn a_folder_without_a_tokenizer_is_an_error_that_names_it() {
    let folder = Folder::new();
    assert!(matches!(TextTokenizer::open(&folder.0, 8), Err(Error::File { path, .. }) if path.ends_with(JSON_FILE)));
}
