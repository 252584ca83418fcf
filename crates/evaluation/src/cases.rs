//! Test cases: held-out rows as the user and item numbers of one model, or of several models that are compared on the same
//! cases.

use std::collections::HashMap;

use recommendation::{Model, Who};
use runtime::draw::mix;
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::progress::Progress;
use runtime::sorting::sort_watched;

/// Users assembled between two checks for a cancel request.
const USERS_PER_CHECK: usize = 1 << 14;

/// Lists of items, stored back to back.
#[derive(Clone, Debug, Default)]
pub struct Lists {
    /// [rows + 1]
    starts: Vec<usize>,
    items: Vec<u32>,
}

impl Lists {
    fn new() -> Self {
        Self { starts: vec![0], items: Vec::new() }
    }

    fn push(&mut self, row: impl IntoIterator<Item = u32>) -> Result<()> {
        for item in row {
            memory::push(&mut self.items, item)?;
        }
        memory::push(&mut self.starts, self.items.len())
    }

    pub fn row(&self, row: usize) -> &[u32] {
        &self.items[self.range(row)]
    }

    /// Where a row lies in [`items`](Self::items).
    pub fn range(&self, row: usize) -> std::ops::Range<usize> {
        self.starts[row]..self.starts[row + 1]
    }

    pub fn items(&self) -> &[u32] {
        &self.items
    }
}

/// The user whose list is requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A user of the training data, with the stored history.
    Stored(u32),
    /// A history given with the test, folded in, by its number.
    Given(u32),
    /// A user without a history.
    Nobody,
}

/// The test cases of one model.
#[derive(Clone, Debug)]
pub struct Cases {
    pub subjects: Vec<Subject>,
    /// The relevant items of each subject: ascending, distinct, never empty.
    pub relevant: Lists,
    /// The given candidates of each subject, ascending, without relevant ones.
    pub negatives: Option<Lists>,
    /// A hash of each subject's id, as a seed for draws.
    pub hashes: Vec<u64>,
    /// The items of each given history, ascending, with `weights`.
    histories: Lists,
    weights: Vec<f32>,
}

impl Cases {
    /// Cases of stored users, each with relevant items in any order, as in cross-validation.
    pub fn stored(model: &Model, users: impl IntoIterator<Item = (u32, Vec<u32>)>) -> Result<Self> {
        let mut cases = Self::empty(false);
        for (user, mut items) in users {
            items.sort_unstable();
            items.dedup();
            if !items.is_empty() {
                cases.subjects.push(Subject::Stored(user));
                cases.hashes.push(hash(model.user_ids().get(user).unwrap_or_default()));
                cases.relevant.push(items)?;
            }
        }
        Ok(cases)
    }

    fn empty(negatives: bool) -> Self {
        Self {
            subjects: Vec::new(),
            relevant: Lists::new(),
            negatives: negatives.then(Lists::new),
            hashes: Vec::new(),
            histories: Lists::new(),
            weights: Vec::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.subjects.len()
    }

    pub fn is_empty(&self) -> bool {
        self.subjects.is_empty()
    }

    pub fn who(&self, case: usize) -> Who<'_> {
        match self.subjects[case] {
            Subject::Stored(user) => Who::User(user),
            Subject::Given(row) => {
                let range = self.histories.range(row as usize);
                Who::History { items: &self.histories.items[range.clone()], weights: &self.weights[range] }
            }
            Subject::Nobody => Who::History { items: &[], weights: &[] },
        }
    }

    /// The history behind a subject's list: items, ascending, and weights.
    pub fn history<'a>(&'a self, model: &'a Model, case: usize) -> Result<(&'a [u32], &'a [f32])> {
        match self.who(case) {
            Who::User(user) => model.history(user),
            Who::History { items, weights } => Ok((items, weights)),
        }
    }
}

/// Numbers of rows read and of rows left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub rows: usize,
    pub unknown_users: usize,
    pub unknown_items: usize,
    pub seen: usize,
    /// Rows of the negatives query.
    pub unknown_negatives: usize,
    pub seen_negatives: usize,
    /// Users without given candidates.
    pub users_without_negatives: usize,
}

/// Rules of the test, the same for all models.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terms {
    /// Whether lists leave out items of the history.
    pub exclude_seen: bool,
    /// Whether users without a history are included.
    pub newcomers: bool,
}

/// A user's number in the first model; users unknown to it are numbered after its users.
type UserKey = u32;

/// Collects histories, then test rows, then negatives, for `N` models.
pub struct CasesBuilder<'m, const N: usize> {
    models: [&'m Model; N],
    terms: Terms,
    progress: &'m dyn Progress,
    /// Users unknown to the first model.
    strangers: HashMap<Box<str>, u32>,
    /// (user, item, weight) for each model, sorted when the first test row arrives.
    histories: [Vec<(UserKey, u32, f64)>; N],
    /// Users with a given history, even if none of its items is known.
    given: Vec<UserKey>,
    sealed: bool,
    /// Sorted when the first negative arrives; then `asked` is set.
    pairs: Vec<(UserKey, [u32; N])>,
    asked: bool,
    negatives: Option<Vec<(UserKey, [u32; N])>>,
    counts: Counts,
}

impl<'m, const N: usize> CasesBuilder<'m, N> {
    /// `negatives` tells whether candidates will be given.
    pub fn new(models: [&'m Model; N], terms: Terms, negatives: bool, progress: &'m dyn Progress) -> Self {
        Self {
            models,
            terms,
            progress,
            strangers: HashMap::new(),
            histories: [const { Vec::new() }; N],
            given: Vec::new(),
            sealed: false,
            pairs: Vec::new(),
            asked: false,
            negatives: negatives.then(Vec::new),
            counts: Counts::default(),
        }
    }

    /// Adds a row of a history to be folded in. Each model ignores items unknown to it.
    pub fn push_history(&mut self, user: &str, item: &str, weight: f64) -> Result<()> {
        if !weight.is_finite() {
            return Err(Error::InvalidWeight { user: user.into(), item: item.into(), weight });
        }
        let key = self.key_of_any(user)?;
        memory::push(&mut self.given, key)?;
        for (model, history) in self.models.iter().zip(&mut self.histories) {
            if let Some(item) = model.item_ids().find(item) {
                memory::push(history, (key, item, weight))?;
            }
        }
        Ok(())
    }

    /// Adds a held-out row, after all histories.
    pub fn push(&mut self, user: &str, item: &str) -> Result<()> {
        self.seal()?;
        self.counts.rows += 1;
        let known = self.models.map(|model| model.user_ids().find(user));
        let key = known[0].or_else(|| self.stranger(user));
        let given = key.is_some_and(|key| self.given.binary_search(&key).is_ok());
        let stored = known.iter().all(Option::is_some);
        let newcomer = self.terms.newcomers && known.iter().all(Option::is_none);
        if !given && !stored && !newcomer {
            self.counts.unknown_users += 1;
            return Ok(());
        }
        let Some(items) = self.items(item) else {
            self.counts.unknown_items += 1;
            return Ok(());
        };
        let key = self.key_of_any(user)?;
        if self.terms.exclude_seen && self.is_seen(key, known, items)? {
            self.counts.seen += 1;
            return Ok(());
        }
        memory::push(&mut self.pairs, (key, items))
    }

    /// Adds a candidate that is not relevant, after all test rows. Ignored for users without a case.
    pub fn push_negative(&mut self, user: &str, item: &str) -> Result<()> {
        let known = self.models.map(|model| model.user_ids().find(user));
        if !self.asked {
            sort_watched(&mut self.pairs, &|| self.progress.check(), Ord::cmp)?;
            self.asked = true;
        }
        let Some(key) = known[0].or_else(|| self.stranger(user)) else { return Ok(()) };
        if self.pairs.binary_search_by_key(&key, |row| row.0).is_err() {
            return Ok(());
        }
        let Some(items) = self.items(item) else {
            self.counts.unknown_negatives += 1;
            return Ok(());
        };
        if self.terms.exclude_seen && self.is_seen(key, known, items)? {
            self.counts.seen_negatives += 1;
            return Ok(());
        }
        memory::push(self.negatives.get_or_insert_default(), (key, items))
    }

    /// The cases of each model, in the same order, and the counts of rows left out.
    pub fn finish(mut self) -> Result<([Cases; N], Counts)> {
        self.seal()?;
        let Self { models, progress, histories, given, mut pairs, mut negatives, mut counts, strangers, .. } = self;
        if counts.rows == 0 {
            return Err(Error::EmptySource(String::new()));
        }
        for rows in [Some(&mut pairs), negatives.as_mut()].into_iter().flatten() {
            sort_watched(rows, &|| progress.check(), Ord::cmp)?;
            rows.dedup();
        }
        let users = models[0].user_ids().len() as u32;
        let mut names: Vec<&str> = vec![""; strangers.len()];
        strangers.iter().for_each(|(name, &number)| names[(number - users) as usize] = name);

        let mut cases: [Cases; N] = std::array::from_fn(|_| Cases::empty(negatives.is_some()));
        for (u, of_user) in pairs.chunk_by(|a, b| a.0 == b.0).enumerate() {
            if u % USERS_PER_CHECK == 0 {
                progress.check()?;
            }
            let key = of_user[0].0;
            let others = negatives.as_mut().map(|rows| {
                let all = rows_of(rows, key);
                all.iter().filter(|row| of_user.binary_search(row).is_err()).map(|row| row.1).collect::<Vec<_>>()
            });
            if others.as_ref().is_some_and(Vec::is_empty) {
                counts.users_without_negatives += 1;
                continue;
            }
            let name = match key.checked_sub(users) {
                None => models[0].user_ids().get(key).unwrap_or_default(),
                Some(stranger) => names[stranger as usize],
            };
            let is_given = given.binary_search(&key).is_ok();
            for (n, (cases, model)) in cases.iter_mut().zip(models).enumerate() {
                let subject = match (is_given, model.user_ids().find(name)) {
                    (true, _) => Subject::Given(cases.add_history(rows_of(&histories[n], key))?),
                    (false, Some(user)) => Subject::Stored(user),
                    (false, None) => Subject::Nobody,
                };
                cases.subjects.push(subject);
                cases.hashes.push(hash(name));
                // Ids are sorted alike in all models, so what ascends in one ascends in all.
                cases.relevant.push(of_user.iter().map(|(_, items)| items[n]))?;
                if let (Some(rows), Some(others)) = (&mut cases.negatives, &others) {
                    rows.push(others.iter().map(|items| items[n]))?;
                }
            }
        }
        if cases[0].is_empty() && counts.users_without_negatives > 0 {
            let hint = "Give, for the users of the test, items that they did not take, in columns user_id and item_id.";
            return Err(Error::invalid("the negatives query has no candidate for any user of the test", hint));
        }
        if cases[0].is_empty() {
            let hint = "Its users and items must be among those that the model was trained on, and, unless exclude_seen is \
                        false, the pairs must be new to it.";
            return Err(Error::invalid("the test query has no pair to find", hint));
        }
        Ok((cases, counts))
    }

    fn seal(&mut self) -> Result<()> {
        if self.sealed {
            return Ok(());
        }
        let check = || self.progress.check();
        sort_watched(&mut self.given, &check, Ord::cmp)?;
        self.given.dedup();
        for history in &mut self.histories {
            sort_watched(history, &check, |a, b| (a.0, a.1).cmp(&(b.0, b.1)).then(a.2.total_cmp(&b.2)))?;
        }
        self.sealed = true;
        Ok(())
    }

    fn stranger(&self, user: &str) -> Option<UserKey> {
        self.strangers.get(user).copied()
    }

    fn key_of_any(&mut self, user: &str) -> Result<UserKey> {
        if let Some(key) = self.models[0].user_ids().find(user).or_else(|| self.stranger(user)) {
            return Ok(key);
        }
        let next = self.models[0].user_ids().len() + self.strangers.len();
        let next = u32::try_from(next).map_err(|_| Error::Resources("too many users in the test".into()))?;
        self.strangers.insert(user.into(), next);
        Ok(next)
    }

    /// The item's number in each model; `None` if any model lacks it.
    fn items(&self, item: &str) -> Option<[u32; N]> {
        let mut items = [0; N];
        for (slot, model) in items.iter_mut().zip(self.models) {
            *slot = model.item_ids().find(item)?;
        }
        Some(items)
    }

    fn is_seen(&self, key: UserKey, known: [Option<u32>; N], items: [u32; N]) -> Result<bool> {
        if self.given.binary_search(&key).is_ok() {
            let in_history = |(rows, item): (&Vec<(u32, u32, f64)>, u32)| {
                rows.binary_search_by(|row| (row.0, row.1).cmp(&(key, item))).is_ok()
            };
            return Ok(self.histories.iter().zip(items).any(in_history));
        }
        for ((model, user), item) in self.models.iter().zip(known).zip(items) {
            if let Some(user) = user
                && model.history(user)?.0.binary_search(&item).is_ok()
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Cases {
    /// Adds a user's rows, sorted by item and weight. Weights of one item are summed as in training.
    fn add_history(&mut self, rows: &[(UserKey, u32, f64)]) -> Result<u32> {
        let number = self.histories.starts.len() - 1;
        let mut items = Vec::new();
        for same in rows.chunk_by(|a, b| a.1 == b.1) {
            let weight = same.iter().map(|row| f64::from(row.2 as f32)).sum::<f64>() as f32;
            if weight != 0.0 {
                items.push(same[0].1);
                memory::push(&mut self.weights, weight)?;
            }
        }
        self.histories.push(items)?;
        Ok(number as u32)
    }
}

/// The rows of one user among rows sorted by user.
fn rows_of<T: HasKey>(rows: &[T], key: UserKey) -> &[T] {
    let start = rows.partition_point(|row| row.key() < key);
    let end = start + rows[start..].partition_point(|row| row.key() == key);
    &rows[start..end]
}

trait HasKey {
    fn key(&self) -> UserKey;
}

impl HasKey for (UserKey, u32, f64) {
    fn key(&self) -> UserKey {
        self.0
    }
}

impl<const N: usize> HasKey for (UserKey, [u32; N]) {
    fn key(&self) -> UserKey {
        self.0
    }
}

/// A 64-bit hash of an id.
fn hash(id: &str) -> u64 {
    id.as_bytes().chunks(8).fold(mix(id.len() as u64), |hash, bytes| {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        mix(hash ^ u64::from_le_bytes(word))
    })
}
