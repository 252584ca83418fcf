use super::*;

fn rows() -> Vec<(u32, String, String)> {
    let words = ["red", "shoe", "手机", "iphone 15", "500ml", "hat"];
    let text =
        |row: u32, most: u32| (0..most).map(|at| words[((row + at * at) % 6) as usize]).collect::<Vec<_>>().join(" ");
    (0..300).map(|row| (row * 2, text(row, 1 + row % 5), text(row, row % 9))).collect()
}

fn intact() -> Vec<(String, Vec<u8>)> {
    let rows = rows();
    let rows: Vec<_> = rows.iter().map(|(row, a, b)| (*row, [Some(a.as_str()), Some(b.as_str())])).collect();
    files(&rows, Language::English)
}

/// Uses everything of an index that opens.
fn use_all(index: &Lexical) {
    let none = Synonyms::default();
    for query in ["red shoe ha", "\"red shoe\" -iphone", "手机 hatt", "500 ml"] {
        let _ = index.search(query, &none, 10, None, &Unwatched);
        let _ = index.matches(query, &none, None, &Unwatched);
        let _ = index.scores_of(query, &none, &[2, 4, 300], &Unwatched);
    }
    let _ = index.complete("s", 3, &Unwatched);
    let _ = index.highlight("red 手机", "red 手机", &Unwatched);
}

#[test]
fn changed_bytes_are_noticed_when_an_index_is_opened() {
    let intact = intact();
    Lexical::open(&[mapped(intact.clone())]).unwrap();
    let mut random = Random(11);
    for file in 0..intact.len() {
        for _ in 0..60 {
            let mut files = intact.clone();
            let at = random.below(files[file].1.len());
            files[file].1[at] ^= 1 << random.below(8);
            assert!(matches!(Lexical::open(&[mapped(files)]), Err(Error::Damaged(_))), "{} {at}", intact[file].0);
        }
    }
}

#[test]
fn files_that_are_missing_or_cut_short_are_errors() {
    let intact = intact();
    for file in 0..intact.len() {
        let mut files = intact.clone();
        files.remove(file);
        assert!(matches!(Lexical::open(&[mapped(files.clone())]), Err(Error::Damaged(_))));
        assert!(matches!(Lexical::open_intact(&[mapped(files)]), Err(Error::Damaged(_))));
        for part in 0..20 {
            let mut files = intact.clone();
            let length = files[file].1.len() * part / 20;
            files[file].1.truncate(length);
            assert!(matches!(Lexical::open(&[mapped(files.clone())]), Err(Error::Damaged(_))));
            // Without the checksums it may open, but does not panic.
            if let Ok(index) = Lexical::open_intact(&[mapped(files)]) {
                use_all(&index);
            }
        }
    }
    assert!(matches!(Lexical::open(&[]), Err(Error::Damaged(_))));
}

#[test]
fn segments_of_other_fields_are_not_opened_together() {
    let mut builder = LexicalBuilder::new(vec![TextField::new("title", 1.0)], Language::English).unwrap();
    builder.add(0, &[Some("red")], &Unwatched).unwrap();
    let other = mapped(builder.finish(&Unwatched).unwrap());
    let same = segment(&[(0, [Some("red"), None])]);
    assert!(matches!(Lexical::open(&[other, same.clone()]), Err(Error::Damaged(_))));
    let none = mapped(files(&[(0, [Some("red"), None])], Language::None));
    assert!(matches!(Lexical::open(&[same, none]), Err(Error::Damaged(_))));
}

#[test]
fn changed_bytes_that_nobody_noticed_do_not_panic() {
    let intact = intact();
    let mut random = Random(23);
    for file in 0..intact.len() {
        for _ in 0..60 {
            let mut files = intact.clone();
            let at = random.below(files[file].1.len());
            files[file].1[at] = random.next() as u8;
            if let Ok(index) = Lexical::open_intact(&[mapped(files)]) {
                use_all(&index);
            }
        }
    }
}
