//! Indexes of made rows: what both legs find, what is learned, what is damaged.

use bytes::Bytes;

use super::*;
use inner_products::ItemSet;
use kernels::statistics::normalize;
use runtime::draw;
use runtime::error::{Error, Result};
use runtime::progress::{Progress, Unwatched};

const WORDS: [&str; 24] = [
    "mouse", "keyboard", "cable", "shoe", "tea", "coffee", "bottle", "jacket", "lamp", "chair", "table", "phone",
    "camera", "guitar", "drum", "paper", "pencil", "knife", "spoon", "towel", "soap", "brush", "candle", "clock",
];

fn word(seed: u64, place: usize) -> &'static str {
    WORDS[draw::below(seed, place as u64, WORDS.len())]
}

fn texts(row: usize) -> (String, String) {
    let title = format!("{} {}", word(1, row), word(2, row));
    let description = (0..8).map(|n| word(3 + n, row)).collect::<Vec<_>>().join(" ");
    (title, description)
}

fn made_vector(row: usize) -> Vec<f32> {
    (0..8).map(|column| draw::normal(column, row as u64)).collect()
}

fn fields() -> Vec<TextField> {
    vec![TextField::new("title", 1.0), TextField::new("description", 1.0)]
}

/// Ids in another order than rows.
fn id(row: usize) -> String {
    format!("{}", (row * 7919) % 100_003)
}

fn add(builder: &mut SegmentBuilder, row: usize, with_vectors: bool) {
    let (title, description) = texts(row);
    let (texts, place) = ([Some(&*title), Some(&*description)], builder.rows());
    let digest = RowDigest::new(&texts, &[row as f32], Some(&title), None);
    builder.add(id(row), &texts, &[row as f32], digest, &Unwatched).unwrap();
    if with_vectors {
        builder.set_vector(place, &made_vector(row)).unwrap();
    }
}

fn builder() -> SegmentBuilder {
    SegmentBuilder::new(fields(), Language::English, 1, None).unwrap()
}

fn mapped(files: Packed) -> Vec<(String, Bytes)> {
    files.into_iter().map(|(name, bytes)| (name, bytes.into())).collect()
}

fn own(segments: &[Kept], ranker: Option<&Ensemble>) -> Vec<(String, Bytes)> {
    let fusion = if ranker.is_some() { Fusion::Learned } else { Fusion::ReciprocalRanks };
    mapped(Contents { segments, numbers: &["number".into()], synonyms: &[], probes: 0, fusion, ranker }.pack().unwrap())
}

fn packed(rows: usize, with_vectors: bool) -> Vec<(String, Bytes)> {
    let mut builder = builder();
    (0..rows).for_each(|row| add(&mut builder, row, with_vectors));
    let new = builder.finish(2, &Unwatched).unwrap();
    [own(&[Kept { id: new.id, deleted: Vec::new() }], None), mapped(new.files)].concat()
}

fn model(rows: usize, with_vectors: bool) -> Model {
    Model::open("m", packed(rows, with_vectors)).unwrap()
}

const BOTH: [Fusion; 3] = [Fusion::ReciprocalRanks, Fusion::Weighted(0.4), Fusion::Weighted(1.0)];

#[test]
fn every_row_has_its_id_and_every_id_its_row() {
    let m = model(500, true);
    for row in 0..500 {
        assert_eq!(m.find(m.id(row).unwrap()), Some(row));
    }
    assert_eq!((m.find("nobody"), m.count(), m.dimensions()), (None, 500, 8));
    assert!(m.id(500).is_err());
}

#[test]
fn pages_are_parts_of_one_ranking_and_scores_fall() {
    let m = model(3000, true);
    let vector: Vec<f32> = (0..8).map(|n| draw::normal(77, n)).collect();
    for fusion in BOTH {
        let query = Query { text: "mouse cable", vector: Some(&vector), allowed: None };
        let whole = m.search(fusion, &query, 40, 0, &Unwatched).unwrap();
        let mut pages = m.search(fusion, &query, 15, 0, &Unwatched).unwrap();
        pages.extend(m.search(fusion, &query, 25, 15, &Unwatched).unwrap());
        assert_eq!(pages, whole, "{fusion:?}");
        assert!(whole.len() == 40 && whole.windows(2).all(|pair| pair[0].score >= pair[1].score));
    }
}

#[test]
fn what_is_said_of_a_row_does_not_depend_on_who_found_it() {
    let m = model(2500, true);
    let vector: Vec<f32> = (0..8).map(|n| draw::normal(5, n)).collect();
    let query = Query { text: "guitar drum", vector: Some(&vector), allowed: None };
    let found = m.candidates(&query, 100, &Unwatched).unwrap();
    let rows: Vec<u32> = found.iter().map(|c| c.row).collect();
    let mut unit = vector.clone();
    normalize(&mut unit);
    for (found, described) in found.iter().zip(m.describe(&query, &rows, &Unwatched).unwrap()) {
        assert!(
            (found.lexical - described.lexical).abs() <= 1e-4 * found.lexical.abs().max(1.0),
            "{found:?} {described:?}"
        );
        assert_eq!(found.cosine, described.cosine);
        let mut own = made_vector(found.row as usize);
        normalize(&mut own);
        let cosine: f32 = own.iter().zip(&unit).map(|(a, b)| a * b).sum();
        assert!((cosine - found.cosine.unwrap()).abs() < 1e-5);
    }
}

#[test]
fn a_filter_leaves_as_many_rows_as_there_are() {
    let m = model(4000, true);
    let vector = [1.0f32; 8];
    let mut few = ItemSet::new(4000);
    [7u32, 1234, 3999].iter().for_each(|&row| few.insert(row));
    for text in ["mouse", "zebra"] {
        let query = Query { text, vector: Some(&vector), allowed: Some(&few) };
        let mut rows: Vec<u32> =
            m.search(Fusion::ReciprocalRanks, &query, 10, 0, &Unwatched).unwrap().iter().map(|f| f.row).collect();
        rows.sort_unstable();
        assert_eq!(rows, [7, 1234, 3999]);
    }
    let without = model(4000, false);
    let query = Query { text: "zebra", vector: None, allowed: Some(&few) };
    assert!(without.search(Fusion::ReciprocalRanks, &query, 10, 0, &Unwatched).unwrap().is_empty());
}

#[test]
fn what_a_query_excludes_is_not_found_by_meaning_either() {
    let m = model(3000, true);
    let rows = |text: &str| -> Vec<u32> {
        let query = Query { text, vector: Some(&[1.0; 8]), allowed: None };
        m.search(Fusion::ReciprocalRanks, &query, 200, 0, &Unwatched).unwrap().iter().map(|found| found.row).collect()
    };
    let has = |row: &u32, word: &str| {
        let (title, description) = texts(*row as usize);
        title.contains(word) || description.contains(word)
    };
    assert!(rows("mouse").iter().any(|row| has(row, "lamp")));
    let without = rows("mouse -lamp");
    assert!(!without.is_empty() && without.iter().all(|row| has(row, "mouse") && !has(row, "lamp")));
    assert!(rows("\"guitar drum\"").iter().all(|row| has(row, "guitar drum")));
}

#[test]
fn a_vector_of_another_length_is_an_error() {
    let m = model(10, true);
    let query = Query { text: "mouse", vector: Some(&[1.0; 3]), allowed: None };
    assert!(matches!(m.candidates(&query, 5, &Unwatched), Err(Error::Dimensions { .. })));
}

/// Queries of one word. Titles decide; a description says nothing.
fn judged(m: &Model, rows: usize) -> Vec<Judged> {
    let of_word = |text: &&str| {
        let grade = |row: usize| {
            let (title, description) = texts(row);
            let title = title.split(' ').filter(|word| word == text).count();
            (title + description.split(' ').filter(|word| word == text).count() > 0)
                .then_some((row as u32, title as f32))
        };
        let grades = (0..rows).filter_map(grade).filter(|(row, _)| row % 3 > 0).collect();
        Judged { text: text.to_string(), vector: None, judgements: Judgements::new(grades), occurrences: 1 }
    };
    assert_eq!(m.count(), rows);
    WORDS.iter().map(of_word).collect()
}

#[test]
fn a_ranking_is_learned_where_that_gains_and_stored() {
    let rows = 400;
    let m = model(rows, false);
    let judged = judged(&m, rows);
    let fitted = fit(&m, &judged, 1, 2, &Unwatched).unwrap();
    assert_eq!(fitted.fusion, Fusion::Learned, "{}", fitted.measured);
    let number = |key: &str| fitted.measured[key].as_f64().unwrap();
    assert!(number("learned") > number("weighted") + 0.02, "{}", fitted.measured);
    let again = fit(&m, &judged, 1, 1, &Unwatched).unwrap();
    assert!(fitted.ranker == again.ranker && fitted.measured == again.measured, "the same on any number of threads");
    let mut files = packed(rows, false);
    let kept = [Kept { id: m.segments()[0].id, deleted: Vec::new() }];
    let own = own(&kept, fitted.ranker.as_ref());
    files.retain(|(name, _)| name.contains('/'));
    files.extend(own);
    let learned = Model::open("m", files.clone()).unwrap();
    let first = |m: &Model, fusion| {
        let query = Query { text: "guitar", vector: None, allowed: None };
        m.search(fusion, &query, 1, 0, &Unwatched).unwrap()[0].row as usize
    };
    assert!(texts(first(&learned, Fusion::Learned)).0.contains("guitar"));
    // Without its trees, it still answers.
    first(&m, Fusion::Learned);
    for at in (0..files.last().unwrap().1.len()).step_by(7) {
        let mut damaged = files.last().unwrap().1.to_vec();
        damaged[at] ^= 0x41;
        files.last_mut().unwrap().1 = damaged.into();
        if let Ok(m) = Model::open("m", files.clone()) {
            first(&m, Fusion::Learned);
        }
    }
}

#[test]
fn few_or_empty_judgements_change_nothing_for_the_worse() {
    let m = model(300, false);
    let some = &judged(&m, 300)[..3];
    let fitted = fit(&m, some, 1, 2, &Unwatched).unwrap();
    assert!(fitted.ranker.is_none() && fitted.measured["learned"].is_null());
    let nothing = [Judged { text: "zebra".into(), vector: None, judgements: Judgements::default(), occurrences: 1 }];
    assert_eq!(fit(&m, &nothing, 1, 2, &Unwatched).unwrap().fusion, Fusion::ReciprocalRanks);
    assert_eq!(fit(&m, &[], 1, 2, &Unwatched).unwrap().fusion, Fusion::ReciprocalRanks);
}

#[test]
fn files_that_contradict_each_other_are_damaged() {
    let files = packed(50, true);
    for missing in 0..files.len() {
        let mut files = files.clone();
        files.remove(missing);
        assert!(matches!(Model::open("m", files), Err(Error::DamagedModel { .. })), "{missing}");
    }
    let mut mixed = packed(60, true);
    mixed[1] = files[1].clone();
    assert!(matches!(Model::open("m", mixed), Err(Error::DamagedModel { .. })));
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.iter().all(|name| is_file(name)) && !is_file("../postgresql.conf") && names[0] == "model.onnx");
}

#[test]
fn ids_twice_and_vectors_that_are_no_numbers_are_refused() {
    let add = |builder: &mut SegmentBuilder, id: &str| {
        let digest = RowDigest::new(&[None, None], &[0.0], None, None);
        builder.add(id.into(), &[None, None], &[0.0], digest, &Unwatched).unwrap();
    };
    let mut twice = builder();
    add(&mut twice, "a");
    add(&mut twice, "a");
    assert!(twice.finish(1, &Unwatched).map(|_| ()).unwrap_err().to_string().contains("duplicate id \"a\""));
    let mut odd = builder();
    add(&mut odd, "a");
    add(&mut odd, "b");
    assert!(odd.set_vector(0, &[f32::NAN, 1.0]).unwrap_err().to_string().contains("id \"a\""));
    odd.set_vector(0, &[1.0, 1.0]).unwrap();
    assert!(odd.set_vector(1, &[1.0]).unwrap_err().to_string().contains("id \"b\" has 1 dimensions"));
}

/// An index after a refresh with rows `now`; those in `changed` have another text.
fn refreshed(files: &[(String, Bytes)], now: &[usize], changed: &[usize]) -> (Vec<(String, Bytes)>, usize) {
    let before = Model::open("m", files.to_vec()).unwrap();
    let mut update = Update::new(&before, true, true);
    let mut builder = SegmentBuilder::new(fields(), Language::English, 1, Some(8)).unwrap();
    for &row in now {
        let (title, description) = texts(row);
        let text = if changed.contains(&row) { format!("{description} zebra") } else { description };
        let texts = [Some(&*title), Some(&*text)];
        let digest = RowDigest::new(&texts, &[row as f32], Some(&title), None);
        if let Met::Write { vector_of } = update.meet(&id(row), digest).unwrap() {
            let place = builder.rows();
            builder.add(id(row), &texts, &[row as f32], digest, &Unwatched).unwrap();
            match vector_of {
                Some(before) => builder.copy_vector(place, update.vector(before).unwrap().unwrap()).unwrap(),
                None => builder.set_vector(place, &made_vector(row)).unwrap(),
            }
        }
    }
    let (written, mut kept) = (builder.rows(), update.kept());
    let mut all: Vec<(String, Bytes)> = Vec::new();
    for folder in kept.iter().map(|kept| folder_name(kept.id)) {
        all.extend(files.iter().filter(|(name, _)| name.starts_with(&folder)).cloned());
    }
    if written > 0 {
        let new = builder.finish(1, &Unwatched).unwrap();
        kept.push(Kept { id: new.id, deleted: Vec::new() });
        all.extend(mapped(new.files));
    }
    ([own(&kept, None), all].concat(), written)
}

#[test]
fn a_refresh_writes_what_has_changed_and_searches_as_a_new_index_does() {
    let files = packed(3000, true);
    // Two rows are deleted, two are new, one has another text.
    let now: Vec<usize> = (2..3002).collect();
    let (files, written) = refreshed(&files, &now, &[77]);
    assert_eq!(written, 3);
    let m = Model::open("m", files.clone()).unwrap();
    assert_eq!((m.count(), m.segments().len()), (3000, 2));
    assert!(m.find(&id(0)).is_none() && m.find(&id(1)).is_none());
    for row in now {
        let at = m.find(&id(row)).unwrap();
        assert_eq!((m.id(at).unwrap(), m.numbers_of(at).unwrap()), (&*id(row), &[row as f32][..]));
        let mut unit = made_vector(row);
        normalize(&mut unit);
        assert_eq!(m.vector(at).unwrap().unwrap(), unit);
    }
    let ids = |text: &str, vector: Option<&[f32]>| -> Vec<String> {
        let query = Query { text, vector, allowed: None };
        let found = m.search(Fusion::Weighted(0.5), &query, 3000, 0, &Unwatched).unwrap();
        found.iter().map(|found| m.id(found.row).unwrap().to_owned()).collect()
    };
    assert_eq!(ids("zebra", None), [id(77)]);
    let all = ids("mouse", Some(&made_vector(0)));
    assert!(!all.contains(&id(0)) && !all.contains(&id(1)) && all.contains(&id(3001)), "{}", all.len());
    assert!(ids("\"zebra\"", Some(&made_vector(0))) == [id(77)]);
    // Nothing has changed: nothing is written, and nothing deleted again.
    let (again, written) = refreshed(&files, &(2..3002).collect::<Vec<_>>(), &[77]);
    assert_eq!(written, 0);
    assert_eq!(Model::open("m", again).unwrap().count(), 3000);
    // All other rows leave: their segment does too.
    let (few, _) = refreshed(&files, &[77, 3000, 3001], &[77]);
    let m = Model::open("m", few).unwrap();
    assert_eq!((m.count(), m.segments().len()), (3, 1));
}

#[test]
fn an_id_twice_in_a_refresh_is_an_error_and_many_refreshes_leave_few_segments() {
    let mut files = packed(300, true);
    let before = Model::open("m", files.clone()).unwrap();
    let mut update = Update::new(&before, true, true);
    let digest = before.digest(before.find(&id(5)).unwrap()).unwrap().1;
    assert_eq!(update.meet(&id(5), digest).unwrap(), Met::Same);
    assert!(update.meet(&id(5), digest).unwrap_err().to_string().contains("duplicate id"));
    for more in 1..30 {
        let now: Vec<usize> = (more..300 + more).collect();
        files = refreshed(&files, &now, &[]).0;
        let m = Model::open("m", files.clone()).unwrap();
        assert!(m.count() == 300 && m.segments().len() < 10, "{:?}", m.sizes());
        assert!(now.iter().all(|&row| m.find(&id(row)).is_some()));
    }
}

struct Ended;

impl Progress for Ended {
    fn check(&self) -> Result<()> {
        Err(Error::Canceled)
    }
}

#[test]
fn searching_and_fitting_stop_when_they_are_told_to() {
    let m = model(2500, true);
    let query = Query { text: "mouse", vector: Some(&[1.0; 8]), allowed: None };
    assert!(matches!(m.search(Fusion::ReciprocalRanks, &query, 5, 0, &Ended), Err(Error::Canceled)));
    let judged = [Judged { text: "mouse".into(), vector: None, judgements: Judgements::default(), occurrences: 1 }];
    assert!(matches!(fit(&m, &judged, 1, 2, &Ended), Err(Error::Canceled)));
}
