use super::*;
use ndarray::Array2;
use runtime::progress::Unwatched;

const LEXICON: [(&str, &str); 10] = [
    ("wine", "vino"),
    ("brother", "buddy"),
    ("tank", "worse"),
    ("soda", "soft drink"),
    ("soda", "pop"),
    ("ice cream", "gelato"),
    ("cream", "lotion"),
    ("酱油", "豉油"),
    ("洗发水", "洗发露"),
    ("茶", "茗"),
];

fn augmenter(keep: &[&str]) -> Augmenter {
    let mut augmenter = Augmenter::default();
    LEXICON.iter().for_each(|(word, other)| augmenter.rules.lexicon.add(word, other));
    keep.iter().for_each(|word| assert!(augmenter.rules.keep.entry(word).is_some()));
    augmenter
}

fn request(n: usize, method: &str) -> Request {
    let method = Method::from_name(method).unwrap();
    Request { n, method, rate: 0.2, least_similarity: None, seed: 7, threads: 2 }
}

fn none(_: &[&str]) -> Result<Array2<f32>> {
    panic!("nothing is to be embedded")
}

fn variants(augmenter: &Augmenter, text: &str, n: usize, method: &str) -> Vec<String> {
    let outcome = augmenter.augment(&[text], &request(n, method), &mut none, &Unwatched).unwrap();
    outcome.variants[0].iter().map(|variant| variant.text.clone()).collect()
}

/// What stays of a text, joined.
fn fixed(augmenter: &Augmenter, text: &str) -> String {
    let units = augmenter.rules.units(text);
    assert_eq!(units.iter().map(|unit| &*unit.text).collect::<String>(), text);
    units.iter().filter(|unit| unit.fixed).map(|unit| &*unit.text).collect::<Vec<_>>().join("|")
}

#[test]
fn numbers_sizes_models_and_brands_stay() {
    let of = augmenter(&["Dr Pepper", "海天"]);
    assert_eq!(fixed(&of, "Brother laser printer HL-L2350DW, 12 fl oz"), "Brother|HL-L2350DW|12|fl|oz");
    assert_eq!(
        fixed(&of, "cold soda 6 x 1.5 L pack of 6 size 3 .7 OZ 80 loads soda"),
        "cold|6|x|1.5|L|pack|of|6|size|3|7|OZ|80|loads"
    );
    assert_eq!(fixed(&of, "case for the Brother printer and the LED tank XL"), "case|for|the|Brother|and|the|LED|XL");
    assert_eq!(fixed(&of, "HP Laser Printer iPhone Pro Tank"), "HP|iPhone|Pro");
    assert_eq!(fixed(&of, "TROPICANA ORANGE JUICE 1/2 GAL"), "TROPICANA|1/2|GAL");
    assert_eq!(fixed(&of, "cold dr  pepper soda"), "cold|dr|pepper");
    assert_eq!(fixed(&of, "海天酱油500毫升三瓶装特价"), "海天|500|毫升三瓶装特价");
    assert_eq!(fixed(&of, "洗发水 2瓶装"), "2|瓶装");
    assert_eq!(fixed(&of, "乌龙茶 茶"), "乌龙茶");
}

#[test]
fn a_brand_never_becomes_a_buddy_whatever_the_method() {
    let of = augmenter(&[]);
    for text in
        ["Brother tank wine soda 12-pack", "BROTHER TANK WINE SODA 12 CT", "cold soda drink by Brother 750ml wine"]
    {
        let stays = fixed(&of, text);
        for (method, _) in Method::NAMES.iter().filter(|(name, _)| *name != "neighbor") {
            let made = variants(&of, text, 30, method);
            assert!(!made.is_empty(), "{method} {text}");
            for variant in made {
                let units = of.rules.units(text);
                let mut rest = variant.as_str();
                for unit in units.iter().filter(|unit| unit.fixed) {
                    let place =
                        rest.find(&*unit.text).unwrap_or_else(|| panic!("{method}: {variant} lost {}", unit.text));
                    rest = &rest[place + unit.text.len()..];
                }
                assert!(!variant.to_lowercase().contains("buddy"), "{variant} {stays}");
            }
        }
    }
}

#[test]
fn words_take_the_case_and_the_longest_phrase_counts() {
    let of = augmenter(&[]);
    assert_eq!(variants(&of, "BEST SODA 12 CT", 5, "synonym").len(), 2);
    assert!(variants(&of, "BEST SODA 12 CT", 5, "synonym").contains(&"BEST SOFT DRINK 12 CT".into()));
    assert_eq!(variants(&of, "Best Ice Cream", 5, "synonym"), ["Best Gelato"]);
    assert_eq!(variants(&of, "海天酱油500ml", 5, "synonym"), ["海天豉油500ml"]);
    assert_eq!(variants(&of, "mild cream", 5, "insert"), ["mild cream lotion"]);
}

#[test]
fn swaps_and_deletions_leave_no_double_blanks_and_move_nothing_across_marks() {
    let of = augmenter(&[]);
    assert_eq!(variants(&of, "best beer, ale", 9, "swap"), [""; 0]);
    assert_eq!(variants(&of, "best cold beer 12 CT", 9, "swap"), ["best beer cold 12 CT"]);
    assert_eq!(variants(&of, "best cold beer 12 CT", 9, "delete"), ["best beer 12 CT"]);
    assert_eq!(variants(&of, "best dark beer and cold ale", 9, "delete"), ["best beer and cold ale"]);
    for (text, method) in
        [("best BEER/ALE", "delete"), ("best hot BEER/ALE", "swap"), ("best dog & hot food", "delete")]
    {
        assert_eq!(variants(&of, text, 9, method), [""; 0], "{text}");
    }
    assert_eq!(variants(&of, "洗发水酱油", 9, "swap"), ["酱油洗发水"]);
    assert_eq!(variants(&of, "特价 洗发水 酱油", 9, "delete"), ["特价 酱油"]);
    // The last word of a script is what the thing is.
    assert!(
        variants(&of, "海天酱油 best", 9, "delete").is_empty() && variants(&of, "海天酱油 best", 9, "swap").is_empty()
    );
}

#[test]
fn variants_differ_from_the_text_and_each_other_and_fewer_come_where_fewer_are_possible() {
    let of = augmenter(&[]);
    let text = "Cola cold soda and red wine with ice cream for the party 12 CT";
    let made = variants(&of, text, 25, "mixed");
    let distinct: AHashSet<&String> = made.iter().collect();
    assert_eq!(distinct.len(), 25);
    assert!(!made.iter().any(|variant| variant == text));
    assert_eq!(made, variants(&of, text, 25, "mixed"));
    assert_eq!(made[..7], variants(&of, text, 7, "mixed")[..]);
    for nothing in ["", "  ", "WH-1000XM4", "Brother", "750 ml", "乌龙", "…"] {
        assert!(variants(&of, nothing, 5, "mixed").is_empty(), "{nothing}");
    }
    assert!(variants(&of, text, 0, "mixed").is_empty());
}

#[test]
fn only_what_stays_near_is_kept_and_texts_are_embedded_together() {
    let of = augmenter(&[]);
    let texts: Vec<String> = (0..200).map(|i| format!("brand{i} cold soda wine tank")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let mut runs = 0;
    // What has a "tank" is far from what has none.
    let vectors = |texts: &[&str]| {
        let second = |text: &str| if text.contains("tank") { 0.0 } else { 1.0 };
        Ok(Array2::from_shape_fn((texts.len(), 2), |(text, c)| if c == 0 { 1.0 } else { second(texts[text]) }))
    };
    let mut embed = |texts: &[&str]| {
        runs += 1;
        vectors(texts)
    };
    let near = Request { least_similarity: Some(0.9), ..request(2, "mixed") };
    let outcome = of.augment(&texts, &near, &mut embed, &Unwatched).unwrap();
    assert!(runs <= MAX_ROUNDS && outcome.rejected > 0 && outcome.embedded > 600);
    for (text, made) in texts.iter().zip(&outcome.variants) {
        assert_eq!(made.len(), 2, "{text}");
        assert!(made.iter().all(|variant| variant.text.contains("tank") && variant.similarity == Some(1.0)));
    }
    let alone = of.augment(&texts, &Request { threads: 1, ..near }, &mut |texts| vectors(texts), &Unwatched);
    assert_eq!(alone.unwrap().variants, outcome.variants);
}

#[test]
fn neighbors_are_near_words_of_the_same_script_and_never_brands() {
    let mut of = augmenter(&[]);
    let mut corpus = Corpus::default();
    let texts =
        ["Acme cookies 12 CT", "Acme biscuits 9 oz", "Best biscuits by Acme", "Best cookies", "饼干 曲奇 100克"];
    texts.iter().for_each(|text| corpus.add(text, &of.rules));
    let words = corpus.words(10, &mut of.rules, &Unwatched).unwrap();
    assert!(of.rules.brands.contains("acme") && !words.contains(&"acme".to_owned()), "{words:?}");
    assert!(words.contains(&"饼干".to_owned()) && words.contains(&"biscuits".to_owned()));
    let vector =
        |word: &str| if ["cookies", "biscuits", "饼干", "曲奇"].contains(&word) { [0.0, 2.0] } else { [1.0, 0.0] };
    let vectors = Array2::from_shape_fn((words.len(), 2), |(word, c)| vector(&words[word])[c]);
    of.vocabulary = Some(Vocabulary::new(words, vectors, 0.8).unwrap());
    assert_eq!(variants(&of, "Oreo cookies 12 CT", 5, "neighbor"), ["Oreo biscuits 12 CT"]);
    assert_eq!(variants(&of, "雀巢 饼干100克", 5, "neighbor"), ["雀巢 曲奇100克"]);
    assert!(variants(&of, "new acme 12 CT", 5, "delete").is_empty());
}
