use super::*;
use crate::{MAX_QUERY, MAX_TEXT};

#[test]
fn phrases_in_quotes_are_required() {
    let index = index(&["red shoe for men", "shoe red", "red big shoe", "a red shoe", "blue shoe"]);
    assert_eq!(matches(&index, "\"red shoe\""), [0, 3]);
    assert_eq!(matches(&index, "\"red shoe\" men"), [0, 3]);
    assert_eq!(found(&index, "\"red shoe\" men"), [0, 3]);
    assert_eq!(matches(&index, "“red shoe” \"for men\""), [0]);
    assert_eq!(matches(&index, "\"shoe\" red"), [0, 1, 2, 3, 4]);
    assert_eq!(matches(&index, "\"red hat\""), [0u32; 0]);
}

#[test]
fn phrases_may_mix_scripts_and_contain_model_names() {
    let index = index(&["苹果手机壳 iphone 15", "手机 苹果壳 15 iphone", "Sony WH-1000XM5 black", "xm5 sony 1000 wh"]);
    assert_eq!(matches(&index, "\"手机壳 iphone\""), [0]);
    assert_eq!(matches(&index, "\"sony wh1000xm5\""), [2]);
}

#[test]
fn excluded_words_are_not_found() {
    let index = index(&["red shoe", "blue shoe", "red shoes for men", "wh-1000xm5 shoe"]);
    assert_eq!(matches(&index, "shoe -red"), [1, 3]);
    assert_eq!(matches(&index, "-red shoe -blue"), [3]);
    assert_eq!(matches(&index, "shoe -\"for men\""), [0, 1, 3]);
    assert_eq!(matches(&index, "shoe -wh1000xm5"), [0, 1, 2]);
    assert_eq!(matches(&index, "-red"), [0u32; 0]);
}

#[test]
fn a_query_without_known_words_finds_nothing() {
    let index = index(&["red shoe", "the hat"]);
    for query in ["", " ", "\"\"", "-", "xyzzy", "!!!", "\u{0}", "\u{200d}", "\"", "🚀"] {
        assert_eq!(found(&index, query), [0u32; 0], "{query}");
        assert_eq!(matches(&index, query), [0u32; 0], "{query}");
    }
    assert_eq!(search(&index, "red", 0), []);
}

#[test]
fn an_empty_index_finds_nothing() {
    for index in [Lexical::open(&[segment(&[])]).unwrap(), Lexical::open(&[segment(&[]), segment(&[])]).unwrap()] {
        assert_eq!(index.rows(), 0);
        assert_eq!(found(&index, "red \"shoe\" -hat 手机"), [0u32; 0]);
        assert_eq!(index.complete("r", 5, &Unwatched).unwrap(), []);
        assert_eq!(index.highlight("red", "a red hat", &Unwatched).unwrap().first(), Some(&(2..5)));
    }
}

#[test]
fn a_filter_of_one_row_finds_that_row() {
    let titles: Vec<String> =
        (0..20_000).map(|row| format!("red shoe number {row} {}", "red ".repeat(row % 7))).collect();
    let index = index(&titles.iter().map(String::as_str).collect::<Vec<_>>());
    for allowed in [0, 4095, 4096, 12_345, 19_999] {
        let only = |row| row == allowed;
        let found = index.search("red shoe", &Synonyms::default(), 5, Some(&only), &Unwatched).unwrap();
        assert_eq!(found.iter().map(|(_, row)| *row).collect::<Vec<_>>(), [allowed]);
        assert_eq!(index.matches("red shoe", &Synonyms::default(), Some(&only), &Unwatched).unwrap(), [allowed]);
    }
    let few = |row| row % 5000 == 1;
    assert_eq!(index.search("red shoe", &Synonyms::default(), 4, Some(&few), &Unwatched).unwrap().len(), 4);
    let none = |_| false;
    assert_eq!(index.search("red shoe", &Synonyms::default(), 4, Some(&none), &Unwatched).unwrap(), []);
}

#[test]
fn the_best_rows_are_the_first_of_all_rows() {
    let mut random = Random(3);
    let words = ["red", "blue", "shoe", "shirt", "hat", "men"];
    let titles: Vec<String> = (0..9000)
        .map(|_| (0..1 + random.below(9)).map(|_| *random.pick(&words)).collect::<Vec<_>>().join(" "))
        .collect();
    let index = index(&titles.iter().map(String::as_str).collect::<Vec<_>>());
    for query in ["red ", "hat hat ", "\"red shoe\" -men"] {
        let all = search(&index, query, 9000);
        assert_eq!(all.len(), matches(&index, query).len());
        assert!(all.is_sorted_by(|left, right| (left.0, right.1) >= (right.0, left.1)));
        let mut rows: Vec<u32> = all.iter().map(|(_, row)| *row).collect();
        rows.sort_unstable();
        assert_eq!(rows, matches(&index, query));
    }
    assert_eq!(search(&index, "red ", 10), search(&index, "red ", 9000)[..10]);
}

#[test]
fn of_a_long_query_the_rarest_words_are_used() {
    let common: Vec<String> = (0..100)
        .map(|word| format!("common{}", char::from(b'a' + word % 26).to_string().repeat(1 + word as usize / 26)))
        .collect();
    let mut titles: Vec<String> = vec![common.join(" "); 5];
    titles.push("needle".into());
    let index = index(&titles.iter().map(String::as_str).collect::<Vec<_>>());
    let query = format!("{} needle", common.join(" "));
    assert!(matches(&index, &query).contains(&5));
}

#[test]
fn texts_and_queries_that_are_too_long_are_errors_that_name_the_limit() {
    let index = index(&["red"]);
    let long = "a".repeat(MAX_QUERY + 1);
    let none = Synonyms::default();
    let query = "the query needs 8193 bytes, but the limit is 8192 bytes";
    assert_eq!(index.search(&long, &none, 1, None, &Unwatched).unwrap_err().to_string(), query);
    assert_eq!(index.complete(&long, 1, &Unwatched).unwrap_err().to_string(), query);
    let mut builder = LexicalBuilder::new(fields(), Language::English).unwrap();
    let text = "a ".repeat(MAX_TEXT / 2 + 1);
    let error = builder.add(4, &[None, Some(&text)], &Unwatched).unwrap_err().to_string();
    assert_eq!(error, "the text of field \"description\" in row 4 needs 1048578 bytes, but the limit is 1048576 bytes");
    builder.add(4, &[None, Some(&text[2..])], &Unwatched).unwrap();
    assert_eq!(builder.rows(), 1);
}

#[test]
fn invalid_fields_are_errors() {
    let new = |fields| LexicalBuilder::new(fields, Language::English).map(|_| ()).unwrap_err().to_string();
    assert_eq!(new(vec![]), "invalid value for fields: 0");
    assert_eq!(new(vec![TextField::new("a", 0.0)]), "invalid value for weight of field \"a\": 0");
    assert_eq!(new(vec![TextField::new("a", f32::NAN)]), "invalid value for weight of field \"a\": NaN");
    assert_eq!(new(vec![TextField::new("a", 1.0), TextField::new("a", 2.0)]), "duplicate field \"a\"");
}

#[test]
fn a_cancel_request_stops_building_and_searching() {
    let cancels = |checks| CancelAfter(Cell::new(checks));
    let mut builder = LexicalBuilder::new(fields(), Language::English).unwrap();
    let text = "red shoe 手机 ".repeat(20_000);
    assert!(matches!(builder.add(0, &[Some(&text), None], &cancels(0)), Err(Error::Canceled)));
    assert!(matches!(builder.add(0, &[Some(&text), None], &cancels(3)), Err(Error::Canceled)));
    builder.add(0, &[Some("red"), None], &Unwatched).unwrap();
    assert!(matches!(builder.finish(&cancels(1)), Err(Error::Canceled)));
    let titles = vec!["red shoe"; 10_000];
    let index = index(&titles);
    let none = Synonyms::default();
    for checks in [0, 2, 4] {
        assert!(matches!(index.search("red shoe", &none, 5, None, &cancels(checks)), Err(Error::Canceled)), "{checks}");
        assert!(matches!(index.matches("red shoe", &none, None, &cancels(checks)), Err(Error::Canceled)));
        assert!(matches!(index.scores_of("red shoe", &none, &[1, 2, 3], &cancels(checks)), Err(Error::Canceled)));
    }
    assert!(matches!(index.highlight("red", &text, &cancels(2)), Err(Error::Canceled)));
}

#[test]
fn random_texts_and_queries_never_panic() {
    let mut random = Random(42);
    let none = Synonyms::default();
    for _ in 0..8 {
        let texts: Vec<[String; 2]> = (0..30).map(|_| [random.text(8), random.text(40)]).collect();
        let rows: Vec<_> =
            texts.iter().enumerate().map(|(row, [a, b])| (row as u32, [Some(a.as_str()), Some(b.as_str())])).collect();
        let index = Lexical::open(&[segment(&rows[..20]), segment(&rows[20..])]).unwrap();
        for text in &texts {
            let query = random.text(12);
            let found = index.search(&query, &none, 5, None, &Unwatched).unwrap();
            assert!(found.iter().all(|(score, _)| score.is_finite()));
            let rows: Vec<u32> = found.iter().map(|(_, row)| *row).collect();
            let scores = index.scores_of(&query, &none, &rows, &Unwatched).unwrap();
            assert!(scores.iter().zip(&found).all(|(scores, found)| scores.score == found.0 && scores.share <= 1.0));
            index.complete(&query, 3, &Unwatched).unwrap();
            for range in index.highlight(&query, &text[1], &Unwatched).unwrap() {
                assert!(text[1].get(range).is_some_and(|found| !found.is_empty()));
            }
        }
    }
}
