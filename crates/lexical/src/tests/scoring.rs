use super::*;
use crate::FieldScores;
use tantivy::fieldnorm::FieldNormReader;

#[test]
fn the_score_of_one_term_in_one_field_is_bm25() {
    let texts = ["red", "red red blue green", "blue", "green blue red yellow black white", "white"];
    let mut builder = LexicalBuilder::new(vec![TextField::new("title", 1.0)], Language::None).unwrap();
    for (row, text) in texts.iter().enumerate() {
        builder.add(row as u32, &[Some(text)], &Unwatched).unwrap();
    }
    let index = Lexical::open(&[mapped(builder.finish(&Unwatched).unwrap())]).unwrap();
    let lengths = [1.0f32, 4.0, 1.0, 6.0, 1.0];
    let average = lengths.iter().sum::<f32>() / 5.0;
    let idf = (1.0f32 + (5.0 - 3.0 + 0.5) / (3.0 + 0.5)).ln();
    let bm25 = |count: f32, length: f32| idf * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * length / average));
    let expected = [(bm25(1.0, 1.0), 0), (bm25(2.0, 4.0), 1), (bm25(1.0, 6.0), 3)];
    let found = search(&index, "red ", 10);
    assert_eq!(found.len(), 3);
    for (expected, row) in expected {
        let score = found.iter().find(|(_, found)| *found == row).unwrap().0;
        assert!((score - expected).abs() < 1e-5, "{score} {expected}");
    }
}

#[test]
fn lengths_are_rounded_down_to_those_that_a_byte_tells_apart() {
    let text = "red ".repeat(100) + &"blue ".repeat(23);
    let mut builder = LexicalBuilder::new(vec![TextField::new("title", 1.0)], Language::None).unwrap();
    builder.add(0, &[Some(&text)], &Unwatched).unwrap();
    let index = Lexical::open(&[mapped(builder.finish(&Unwatched).unwrap())]).unwrap();
    let length = FieldNormReader::id_to_fieldnorm(FieldNormReader::fieldnorm_to_id(123)) as f32;
    assert!(length < 123.0);
    let idf = (1.0f32 + 0.5 / 1.5).ln();
    let expected = idf * 100.0 * 2.2 / (100.0 + 1.2 * (0.25 + 0.75 * length / 123.0));
    assert!((search(&index, "red ", 1)[0].0 - expected).abs() < 1e-5);
}

#[test]
fn a_field_counts_with_its_weight() {
    let rows = [(0, [Some("red"), Some("blue")]), (1, [Some("blue"), Some("red")])];
    let index = Lexical::open(&[segment(&rows)]).unwrap();
    let found = search(&index, "red ", 10);
    assert_eq!(found.iter().map(|(_, row)| *row).collect::<Vec<_>>(), [0, 1]);
    assert!((found[0].0 - 3.0 * found[1].0).abs() < 1e-5);
}

#[test]
fn rows_with_all_words_come_before_rows_that_repeat_one() {
    let index =
        index(&["zebra zebra zebra zebra", "zebra striped rug", "striped rug", "rug", "striped shirt", "shirt rug"]);
    assert_eq!(found(&index, "zebra striped rug")[0], 1);
    assert_eq!(found(&index, "zebra rug ")[0], 1);
}

#[test]
fn neighbours_of_the_query_that_are_neighbours_in_a_row_come_first() {
    let index = index(&["coffee grinder with table", "table with coffee grinder", "coffee table with grinder"]);
    assert_eq!(found(&index, "coffee table ")[0], 2);
}

#[test]
fn equal_scores_are_in_order_of_rows() {
    let titles = vec!["red shoe"; 200];
    let rows: Vec<u32> = found(&index(&titles), "red shoe");
    assert_eq!(rows, (0..100).collect::<Vec<_>>());
}

#[test]
fn several_segments_score_as_one() {
    let mut random = Random(7);
    let words = ["red", "blue", "shoe", "shirt", "手机", "手机壳", "iphone 15", "500ml", "wh-1000xm5", "headphones"];
    let texts: Vec<(String, String)> = (0..300)
        .map(|_| {
            let mut text =
                |most| (0..1 + random.below(most)).map(|_| *random.pick(&words)).collect::<Vec<_>>().join(" ");
            (text(4), text(20))
        })
        .collect();
    let rows: Vec<_> =
        texts.iter().enumerate().map(|(row, (a, b))| (row as u32, [Some(a.as_str()), Some(b.as_str())])).collect();
    let one = Lexical::open(&[segment(&rows)]).unwrap();
    let parts = [segment(&rows[..100]), segment(&rows[100..101]), segment(&[]), segment(&rows[101..])];
    let several = Lexical::open(&parts).unwrap();
    assert_eq!(one.rows(), several.rows());
    let all: Vec<u32> = (0..300).rev().collect();
    let none = Synonyms::default();
    for query in ["red shoe", "手机壳", "iphone 15 headphnes", "500 ml -blue", "\"red shoe\"", "wh1000xm5 sho"] {
        assert_eq!(search(&one, query, 20), search(&several, query, 20), "{query}");
        assert_eq!(matches(&one, query), matches(&several, query), "{query}");
        let scores = |index: &Lexical| index.scores_of(query, &none, &all, &Unwatched).unwrap();
        assert_eq!(scores(&one), scores(&several), "{query}");
    }
    assert_eq!(one.complete("he", 5, &Unwatched).unwrap(), several.complete("he", 5, &Unwatched).unwrap());
}

#[test]
fn the_scores_of_rows_are_those_of_the_search() {
    let rows = [
        (7, [Some("red shoe"), Some("a shoe that is red")]),
        (3, [Some("blue shoe"), None]),
        (9, [None, Some("shoes in red, red and red")]),
        (1, [Some("hat"), None]),
    ];
    let index = Lexical::open(&[segment(&rows)]).unwrap();
    let scores = index.scores_of("red shoe xyzzy ", &Synonyms::default(), &[1, 9, 3, 7, 9, 4000], &Unwatched).unwrap();
    assert_eq!(scores.iter().map(|scores| scores.row).collect::<Vec<_>>(), [1, 9, 3, 7, 9, 4000]);
    for (score, row) in search(&index, "red shoe xyzzy ", 10) {
        assert!(scores.iter().filter(|scores| scores.row == row).all(|scores| scores.score == score), "{row}");
    }
    let share: Vec<f32> = scores.iter().map(|scores| (scores.share * 3.0).round()).collect();
    assert_eq!(share, [0.0, 2.0, 1.0, 2.0, 2.0, 0.0]);
    assert_eq!(scores[0].fields, [FieldScores::default(); 2]);
    let of_field = |row: usize, field: usize| scores[row].fields[field].score;
    assert!(of_field(1, 0) == 0.0 && of_field(1, 1) > 0.0 && of_field(3, 0) > of_field(3, 1));
    assert_eq!(scores[1], scores[4]);
}

#[test]
fn fields_say_what_they_have_of_the_query() {
    let rows = [
        (0, [Some("red running shoe"), Some("a shoe")]),
        (1, [Some("shoe, running and red"), None]),
        (2, [Some("red shoe"), Some("running")]),
        (3, [Some("shoe"), None]),
    ];
    let index = Lexical::open(&[segment(&rows)]).unwrap();
    let scores = index.scores_of("red running shoe", &Synonyms::default(), &[0, 1, 2, 3], &Unwatched).unwrap();
    let title = |row: usize| scores[row].fields[0];
    assert_eq!((title(0).share, title(0).idf_share, title(0).neighbours, title(0).ordered), (1.0, 1.0, 1.0, 1.0));
    assert_eq!((title(1).share, title(1).neighbours, title(1).ordered), (1.0, 0.0, 0.0));
    assert_eq!((title(2).neighbours, title(2).ordered), (0.0, 0.0));
    // The word that all titles have says less than its share.
    assert!(title(3).idf_share < title(3).share && scores[0].fields[1].idf_share > 0.0);
    assert!(title(2).idf_share < title(1).idf_share && title(2).score > 0.0);
}

#[test]
fn the_same_rows_give_the_same_bytes() {
    let rows = [(0, [Some("red shoe 手机"), Some("500 ml")]), (5, [None, None]), (2, [Some(""), Some("iphone")])];
    let first = files(&rows, Language::English);
    assert_eq!(first, files(&rows, Language::English));
    assert!(first.iter().all(|(name, _)| name.starts_with("lexical.")));
    assert_ne!(first, files(&rows[..2], Language::English));
}
