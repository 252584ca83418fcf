use super::*;

#[test]
fn words_of_the_query_are_marked_in_the_text() {
    let index = index(&["running shoes", "手机壳", "苹果手机", "sony wh-1000xm5 radio"]);
    for (query, text, expected) in [
        ("run shoe", "Running shoes for runners", vec!["Running", "shoes"]),
        ("shoe ", "Shoes, Überschuh", vec!["Shoes"]),
        ("überschuh", "SHOES U\u{308}berschuh", vec!["U\u{308}berschuh"]),
        ("wh1000xm5", "Sony WH-1000XM5: 5 stars", vec!["WH-1000XM5"]),
        ("500ml", "a 500 ml cup", vec!["500 ml"]),
        ("the shoe", "the shoe", vec!["shoe"]),
        ("手机壳", "苹果手机壳 手", vec!["手机壳"]),
        ("苹果", "红苹果手机", vec!["苹果"]),
        ("runn", "he was running", vec!["running"]),
        ("runn ", "he was running", vec![]),
        ("shoe -red", "red shoe", vec!["shoe"]),
        ("\"run shoe\"", "shoe", vec!["shoe"]),
        ("", "shoe", vec![]),
        ("shoe", "", vec![]),
    ] {
        let ranges = index.highlight(query, text, &Unwatched).unwrap();
        assert_eq!(ranges.into_iter().map(|range| &text[range]).collect::<Vec<_>>(), expected, "{query} | {text}");
    }
}
