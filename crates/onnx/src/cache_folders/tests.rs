use super::*;
use runtime::progress::Unwatched;

const HERE: &str = "prepared-0000000000000001";
const ELSEWHERE: &str = "prepared-0000000000000002";
/// No process has this number: it is above the greatest that Linux gives.
const NOBODY: &str = "4194305";

struct Scratch(CacheFolders);

impl Scratch {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("pg_reco-cache-{name}-{}", std::process::id()));
        drop(fs::remove_dir_all(&root));
        fs::create_dir_all(&root).unwrap();
        Self(CacheFolders::new(root))
    }

    fn make(&self, folder: &str) {
        fs::create_dir_all(self.0.root.join(folder)).unwrap();
        fs::write(self.0.root.join(folder).join("file"), [7; 100]).unwrap();
    }

    fn sweep(&self) -> Vec<(String, u64)> {
        self.0.sweep(HERE, usize::MAX, &Unwatched).unwrap().into_iter().map(|s| (s.folder, s.bytes)).collect()
    }

    fn has(&self, folder: &str) -> bool {
        self.0.root.join(folder).exists()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0.root));
    }
}

fn hash(digit: char) -> String {
    digit.to_string().repeat(32)
}

#[test]
fn a_folder_stays_as_long_as_one_database_names_it() {
    let scratch = Scratch::new("shared");
    let (shared, own) = (hash('a'), hash('b'));
    scratch.make(&shared);
    scratch.make(&own);
    scratch.0.mark(1, "base/1/10", &shared).unwrap();
    scratch.0.mark(2, "base/2/10", &shared).unwrap();
    scratch.0.mark(2, "base/2/10", &own).unwrap();
    assert_eq!(scratch.sweep(), []);
    scratch.0.release(2, &shared).unwrap();
    scratch.0.release(2, &own).unwrap();
    assert!(scratch.has(&shared) && !scratch.has(&own));
    scratch.0.release(1, &shared).unwrap();
    assert!(!scratch.has(&shared));
}

#[test]
fn a_sweep_takes_what_nobody_names_and_what_the_dead_began() {
    let scratch = Scratch::new("sweep");
    let (named, unnamed) = (hash('a'), hash('b'));
    let left = format!("{named}.{NOBODY}");
    let making = format!("{named}.{}", std::process::id());
    for folder in [&named, &unnamed, &left, &making] {
        scratch.make(folder);
    }
    for inner in [HERE, ELSEWHERE, "tokenizer-1", &format!("{HERE}.{NOBODY}")] {
        scratch.make(&format!("{named}/{inner}"));
    }
    fs::write(scratch.0.root.join("not ours"), "").unwrap();
    scratch.0.mark(1, "base/1/10", &named).unwrap();
    let mut swept = scratch.sweep();
    swept.sort();
    let dead = format!("{named}/{HERE}.{NOBODY}");
    let mut expected: Vec<_> =
        [unnamed, left, format!("{named}/{ELSEWHERE}"), dead].into_iter().map(|folder| (folder, 100)).collect();
    expected.sort();
    assert_eq!(swept, expected);
    assert!(scratch.has(&making) && scratch.has("not ours") && scratch.has(&format!("{named}/tokenizer-1/file")));
    assert_eq!(scratch.sweep(), []);
}

#[test]
fn a_folder_in_which_a_process_is_at_work_stays() {
    let scratch = Scratch::new("work");
    let (worked_on, unnamed) = (hash('a'), hash('b'));
    scratch.make(&format!("{worked_on}/{HERE}.{}", std::process::id()));
    scratch.make(&format!("{unnamed}/{HERE}.{NOBODY}"));
    assert_eq!(scratch.sweep(), [(unnamed, 100)]);
}

#[test]
fn a_sweep_keeps_to_its_limit() {
    let scratch = Scratch::new("limit");
    ('a'..='f').for_each(|digit| scratch.make(&hash(digit)));
    assert_eq!(scratch.0.sweep(HERE, 4, &Unwatched).unwrap().len(), 4);
    assert_eq!(scratch.sweep().len(), 2);
}

#[test]
fn marks_follow_the_catalog_and_go_with_their_database() {
    let scratch = Scratch::new("align");
    let (old, new, not_made) = (hash('a'), hash('b'), hash('c'));
    scratch.make(&old);
    scratch.make(&new);
    scratch.0.mark(1, "base/1/10", &old).unwrap();
    let half_written = scratch.0.marks(1).join(format!("{CATALOG}.{NOBODY}"));
    fs::write(&half_written, "ba").unwrap();
    scratch.0.align(1, "base/1/10", &BTreeSet::from([new.clone(), not_made])).unwrap();
    assert!(!half_written.exists());
    assert_eq!(scratch.sweep(), [(old, 100)]);
    scratch.0.mark(2, "base/2/10", &new).unwrap();
    // Told of each database where its catalog is.
    scratch.0.forget(|database, catalog| catalog == format!("base/{database}/10")).unwrap();
    let needed = scratch.0.contents(|_, _| true);
    assert_eq!(needed.iter().map(|c| (c.name.clone(), c.databases.len())).collect::<Vec<_>>(), [(new.clone(), 2)]);
    scratch.0.forget(|database, _| database == 2).unwrap();
    assert_eq!(scratch.0.contents(|_, _| true)[0].databases, BTreeSet::from([2]));
    scratch.0.forget(|_, _| false).unwrap();
    assert_eq!(scratch.sweep(), [(new, 100)]);
}

#[test]
fn a_damaged_mark_is_a_mark_and_a_damaged_record_is_written_anew() {
    let scratch = Scratch::new("damage");
    let named = hash('a');
    scratch.make(&named);
    scratch.0.mark(1, "base/1/10", &named).unwrap();
    let marks = scratch.0.marks(1);
    fs::remove_file(marks.join(&named)).unwrap();
    fs::create_dir(marks.join(&named)).unwrap();
    fs::remove_file(marks.join(CATALOG)).unwrap();
    fs::create_dir(marks.join(CATALOG)).unwrap();
    scratch.0.mark(1, "base/1/10", &named).unwrap();
    assert_eq!(scratch.sweep(), []);
    scratch.0.forget(|_, catalog| catalog == "base/1/10").unwrap();
    scratch.0.release(1, &named).unwrap();
    assert!(!scratch.has(&named));
}
