use super::*;

#[test]
fn misspelled_words_find_what_was_meant() {
    let index = index(&["wireless headphones", "phone charger", "table lamp", "Küche regal"]);
    for (query, expected) in [
        ("headphnes ", 0),
        ("haedphones ", 0),
        ("wireles", 0),
        ("hedphonse ", 0),
        ("chager", 1),
        ("tabel ", 2),
        ("kuche", 3),
        ("kuchee ", 3),
    ] {
        assert_eq!(found(&index, query), [expected], "{query}");
    }
    for query in ["l3mp ", "tbl ", "hdphns "] {
        assert_eq!(found(&index, query), [0u32; 0], "{query}");
    }
}

#[test]
fn known_words_are_not_taken_for_misspelled_ones() {
    let index = index(&["table", "cable", "cable"]);
    assert_eq!(found(&index, "table "), [0]);
}

#[test]
fn misspellings_score_less_than_the_word() {
    let index = index(&["headphones", "headphnes"]);
    let right = search(&index, "headphones ", 2)[0].0;
    assert!(search(&index, "headphonse ", 2).iter().all(|(score, _)| *score < right));
}

#[test]
fn the_last_word_may_be_unfinished() {
    let index = index(&["wireless headphones", "header file", "red hat", "WH-1000XM5"]);
    assert_eq!(matches(&index, "wireless headp"), [0]);
    assert_eq!(matches(&index, "hea"), [0, 1]);
    assert_eq!(matches(&index, "hea "), [0u32; 0]);
    assert_eq!(matches(&index, "hea red"), [2]);
    assert_eq!(matches(&index, "wh-1000x"), [3]);
}

#[test]
fn words_are_found_written_together_and_apart() {
    let index = index(&["wireless headphones", "head phones for kids", "hat"]);
    assert_eq!(matches(&index, "head phones "), [0, 1]);
    let index = self::index(&["head phones for kids", "hat", "phones and a head"]);
    assert_eq!(matches(&index, "headphones "), [0]);
}

#[test]
fn synonyms_find_words_and_phrases() {
    let index = index(&["notebook", "laptop", "flat screen", "screen flat", "television", "手提电脑", "couch"]);
    let entries = [
        ("laptop", vec!["notebook", "手提电脑"]),
        ("tv", vec!["television", "flat screen"]),
        ("sofa bed", vec!["couch"]),
        ("笔记本", vec!["laptop"]),
    ];
    let entries: Vec<_> = entries
        .into_iter()
        .map(|(word, list)| (word.to_string(), list.into_iter().map(str::to_string).collect()))
        .collect();
    let synonyms = index.synonyms(&entries, &Unwatched).unwrap();
    let matches = |query: &str| index.matches(query, &synonyms, None, &Unwatched).unwrap();
    assert_eq!(matches("laptops "), [0, 1, 5]);
    assert_eq!(matches("tv "), [2, 4]);
    assert_eq!(matches("sofa bed "), [6]);
    assert_eq!(matches("sofa "), [0u32; 0]);
    assert_eq!(matches("笔记本"), [1]);
    let found = index.search("laptop ", &synonyms, 10, None, &Unwatched).unwrap();
    assert!(found[0].1 == 1 && found[0].0 > found[1].0);
    let many = vec![("a".to_string(), vec!["b".to_string()]); 10_001];
    assert!(matches!(index.synonyms(&many, &Unwatched), Err(Error::TooLarge { .. })));
    let long = [("a".to_string(), vec!["b".repeat(1000)])];
    assert!(matches!(index.synonyms(&long, &Unwatched), Err(Error::TooLarge { .. })));
}

#[test]
fn chinese_queries_are_cut_with_the_words_of_the_index() {
    let index = index(&["苹果手机", "小米手机壳", "苹果汁", "飞机模型", "果手"]);
    assert_eq!(found(&index, "苹果手机")[0], 0);
    assert_eq!(found(&index, "手机壳")[0], 1);
    assert!(!matches(&index, "手机").contains(&3));
    // A character that is no word is searched as it is.
    assert_eq!(matches(&index, "汁"), [2]);
    assert_eq!(matches(&index, "iphone 壳"), [1]);
}

#[test]
fn completions_are_whole_words_the_most_frequent_first() {
    let index = index(&[
        "Running shoes",
        "running shorts",
        "Shoes",
        "shoes",
        "WH-1000XM5",
        "手机壳 手机",
        "手机",
        "shoe 12345",
    ]);
    let complete = |text: &str, k| {
        let words = index.complete(text, k, &Unwatched).unwrap();
        words.into_iter().map(|(word, rows)| format!("{word} {rows}")).collect::<Vec<_>>()
    };
    assert_eq!(complete("sho", 10), ["shoes 3", "shoe 1", "shorts 1"]);
    assert_eq!(complete("red SHO", 1), ["shoes 3"]);
    assert_eq!(complete("runn", 10), ["running 2"]);
    assert_eq!(complete("wh-10", 10), ["wh1000xm5 1"]);
    assert_eq!(complete("手", 10), ["手机 2"]);
    assert_eq!(complete("iphone手机", 1), ["手机 2"]);
    for text in ["", "shoes ", "zzz", "1234", "\""] {
        assert_eq!(complete(text, 10), [""; 0], "{text}");
    }
}
