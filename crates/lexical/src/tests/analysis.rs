use super::*;

#[test]
fn spellings_of_the_same_find_each_other() {
    for (query, text) in [
        ("running shoes", "Run in a shoe"),
        ("CRÈME brulee", "crème brûlée set"),
        ("creme brûlée", "Cre\u{300}me Bru\u{302}le\u{301}e"),
        ("ＷＨ１０００", "wh1000"),
        ("500ml", "Shampoo 500 ml"),
        ("500 ml", "Shampoo 500ml"),
        ("ml", "Shampoo 500ml"),
        ("500", "Shampoo 500ml"),
        ("2m", "Kabel 2 m"),
        ("2 meter", "cable 2m"),
        ("1,8 Liter", "Kettle 1.8l"),
        ("1.8 l", "Kettle 1,8 Liter"),
        ("1.8l", "Kettle 1.8 litres"),
        ("55 inch", "TV 55\""),
        ("55\" tv", "55-inch television"),
        ("1000", "1,000 pieces"),
        ("iphone 15", "Apple iPhone15 Pro"),
        ("iphone15", "Apple iPhone 15 Pro"),
        ("WH-1000XM5", "sony wh1000xm5"),
        ("wh1000xm5", "Sony WH-1000XM5"),
        ("wh 1000 xm5", "Sony WH-1000XM5"),
        ("WH-1000XM5", "wh 1000 xm5"),
        ("wh-1000xm5", "WH_1000XM5"),
        ("1000xm5", "WH-1000XM5"),
        ("t-shirts", "Tshirt"),
        ("tshirt", "T-Shirt red"),
        ("men's", "mens"),
        ("l'oreal", "LOréal"),
        ("loreal", "L’Oréal"),
        ("playstation", "PlayStation5"),
        ("手机壳", "苹果手机壳"),
        ("iphone手机壳", "iPhone 15 手机壳"),
        ("😀", "smile 😀!"),
        ("👍🏽", "👍"),
        ("c#", "C# in a nutshell"),
        ("50%", "50 % off"),
        ("€", "5€"),
        ("sony", "Sony™ radio"),
        ("ガラス", "ｶﾞﾗｽ"),
        ("한글", "한글 책"),
        ("to be or not to be", "To be, or not to be"),
    ] {
        assert_eq!(matches(&index(&[text, "zzz qqq"]), query), [0], "{query} | {text}");
    }
}

#[test]
fn different_things_do_not_find_each_other() {
    for (query, text) in [
        ("2m", "size m and 20 more"),
        ("inch", "3 in 1 charger"),
        ("cat", "cap"),
        ("1.8", "18"),
        ("wh1000xm5", "1000 nails"),
        ("手机", "飞机场"),
        ("red", "blue 😀"),
        ("😀", "😁"),
    ] {
        assert_eq!(matches(&index(&[text]), query), [0u32; 0], "{query} | {text}");
    }
}

#[test]
fn without_a_language_words_are_neither_stemmed_nor_dropped() {
    let rows = [(0, [Some("running shoes"), None]), (1, [Some("the"), None])];
    let index = Lexical::open(&[mapped(files(&rows, Language::None))]).unwrap();
    assert_eq!(matches(&index, "run "), [0u32; 0]);
    assert_eq!(matches(&index, "the shoes"), [0, 1]);
}

#[test]
fn stop_words_are_searched_only_if_there_is_nothing_else() {
    let index = index(&["the red shoe", "the who", "a blue hat"]);
    assert_eq!(matches(&index, "the red"), [0]);
    assert_eq!(matches(&index, "the"), [0, 1]);
}

#[test]
fn long_words_are_cut_alike_in_texts_and_queries() {
    let long = "x".repeat(5000);
    assert_eq!(matches(&index(&[&long, "y"]), &long), [0]);
}
