//! Loads and runs of each model, counted over all backends: `reco.stat_models`.
//!
//! To count, a backend takes the table's lock in shared mode and adds to atomics. This takes about 100 ns, and backends do not wait for each
//! other. If the table is full, the least recently used row is replaced.

use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use pgrx::pg_sys;

use super::region::{Row, Table};
use runtime::error::{Error, Result};
use runtime::fixed_text::FixedText;
use runtime::histogram;
use runtime::progress::Run;

/// Rows of the table: 2.4 MB.
pub const ROWS: usize = 1000;

pub static TABLE: Table<Entry> = Table::new(c"pg_reco models");

/// The key of a row: a model of a database on a provider.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
struct Key {
    /// 0 in a free row.
    database: u32,
    provider: FixedText<8>,
    /// As long as a model name can be.
    model: FixedText<200>,
}

impl Key {
    fn new(model: &str, provider: &str) -> Self {
        Self { database: database(), provider: FixedText::new(provider), model: FixedText::new(model) }
    }
}

fn database() -> u32 {
    // SAFETY: a plain read; the database of a process does not change.
    unsafe { pg_sys::MyDatabaseId }.to_u32()
}

#[repr(C)]
pub struct Entry {
    key: Key,
    loads: AtomicU64,
    load_nanoseconds: AtomicU64,
    bytes: AtomicU64,
    runs: AtomicU64,
    rows: AtomicU64,
    tokens: AtomicU64,
    run_nanoseconds: AtomicU64,
    /// Time of the last reset, in microseconds since 2000.
    since: AtomicI64,
    /// Start time of the last statement that used the row.
    used: AtomicI64,
    histogram: [AtomicU64; histogram::BUCKETS],
}

// SAFETY: numbers and bytes, of which all zeros is a value.
unsafe impl Row for Entry {}

impl Entry {
    fn loaded(&self, took: Duration, bytes: u64) {
        self.loads.fetch_add(1, Relaxed);
        self.load_nanoseconds.fetch_add(nanoseconds(took), Relaxed);
        self.bytes.store(bytes, Relaxed);
    }

    fn ran(&self, run: &Run) {
        let runs = run.runs.max(1);
        self.runs.fetch_add(runs as u64, Relaxed);
        self.rows.fetch_add(run.rows as u64, Relaxed);
        self.tokens.fetch_add(run.tokens.unwrap_or(0) as u64, Relaxed);
        self.run_nanoseconds.fetch_add(nanoseconds(run.took), Relaxed);
        self.histogram[histogram::bucket(run.took / runs as u32)].fetch_add(runs as u64, Relaxed);
    }

    /// Resets the counters. The bytes are kept, since models stay loaded.
    fn reset(&self, now: i64) {
        let counters =
            [&self.loads, &self.load_nanoseconds, &self.runs, &self.rows, &self.tokens, &self.run_nanoseconds];
        counters.into_iter().chain(&self.histogram).for_each(|counter| counter.store(0, Relaxed));
        self.since.store(now, Relaxed);
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Counts a load of `model`, whose files have `bytes` bytes.
pub fn loaded(model: &str, provider: &str, took: Duration, bytes: u64) {
    count(model, provider, |entry| entry.loaded(took, bytes));
}

/// Counts a run.
pub fn ran(run: &Run) {
    count(run.model, run.provider, |entry| entry.ran(run));
}

fn count(model: &str, provider: &str, add: impl Fn(&Entry)) {
    if !TABLE.is_there() {
        return;
    }
    let key = Key::new(model, provider);
    // SAFETY: a plain read of this backend's state.
    let now = unsafe { pg_sys::GetCurrentStatementStartTimestamp() };
    let add = |entry: &Entry| {
        add(entry);
        entry.used.store(now, Relaxed);
    };
    let counted = TABLE.share(|entries| find(entries, &key).map(|place| add(&entries[place])).is_some());
    if counted == Some(false) {
        // SAFETY: a plain read of the clock.
        let since = unsafe { pg_sys::GetCurrentTimestamp() };
        TABLE.exclusive(|entries| {
            // Another backend may have been first.
            let place = find(entries, &key).or_else(|| make(entries, key, since));
            if let Some(place) = place {
                add(&entries[place]);
            }
        });
    }
}

/// The index of the row of `key`. The index that this backend found last is tried first.
fn find(entries: &[Entry], key: &Key) -> Option<usize> {
    const REMEMBERED: usize = 16;
    thread_local! {
        static PLACES: [Cell<usize>; REMEMBERED] = const { [const { Cell::new(0) }; REMEMBERED] };
    }
    let hash = [key.provider.as_str(), key.model.as_str()]
        .into_iter()
        .flat_map(str::bytes)
        .fold(0usize, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
    PLACES.with(|places| {
        let place = &places[hash % REMEMBERED];
        if entries.get(place.get()).is_none_or(|entry| entry.key != *key) {
            place.set(entries.iter().position(|entry| entry.key == *key)?);
        }
        Some(place.get())
    })
}

/// A new row for `key`: a free one, or else the least recently used.
fn make(entries: &mut [Entry], key: Key, now: i64) -> Option<usize> {
    let free = entries.iter().position(|entry| entry.key.database == 0);
    let place = free.or_else(|| (0..entries.len()).min_by_key(|&place| entries[place].used.load(Relaxed)))?;
    let entry = &mut entries[place];
    entry.key = key;
    entry.bytes.store(0, Relaxed);
    entry.reset(now);
    Some(place)
}

/// Frees the rows of a dropped model.
pub fn forget(model: &str) {
    let (database, model) = (database(), FixedText::new(model));
    TABLE.exclusive(|entries| {
        for entry in entries.iter_mut().filter(|e| e.key.database == database && e.key.model == model) {
            entry.key.database = 0;
        }
    });
}

/// Resets the counters of one model of this database, or of all. Returns the number of rows.
pub fn reset(model: Option<&str>) -> Result<usize> {
    let (database, model) = (database(), model.map(FixedText::new));
    // SAFETY: a plain read of the clock.
    let now = unsafe { pg_sys::GetCurrentTimestamp() };
    TABLE
        .exclusive(|entries| {
            let wanted = |e: &&Entry| e.key.database == database && model.is_none_or(|m| e.key.model == m);
            entries.iter().filter(wanted).inspect(|entry| entry.reset(now)).count()
        })
        .ok_or(Error::NotPreloaded("reco.reset_stat_models"))
}

/// A row of `reco.stat_models`.
pub struct Counts {
    pub model: String,
    pub provider: String,
    pub loads: u64,
    pub load_time: Duration,
    pub bytes: u64,
    pub runs: u64,
    pub rows: u64,
    pub tokens: u64,
    pub run_time: Duration,
    /// The 99th percentile of the run times.
    pub p99: Option<Duration>,
    /// Microseconds since 2000.
    pub since: i64,
}

/// The rows of this database.
pub fn read() -> Result<Vec<Counts>> {
    let database = database();
    TABLE
        .share(|entries| entries.iter().filter(|e| e.key.database == database).map(counts).collect())
        .ok_or(Error::NotPreloaded("reco.stat_models"))
}

fn counts(entry: &Entry) -> Counts {
    let histogram = entry.histogram.each_ref().map(|count| count.load(Relaxed));
    Counts {
        model: entry.key.model.as_str().to_owned(),
        provider: entry.key.provider.as_str().to_owned(),
        loads: entry.loads.load(Relaxed),
        load_time: Duration::from_nanos(entry.load_nanoseconds.load(Relaxed)),
        bytes: entry.bytes.load(Relaxed),
        runs: entry.runs.load(Relaxed),
        rows: entry.rows.load(Relaxed),
        tokens: entry.tokens.load(Relaxed),
        run_time: Duration::from_nanos(entry.run_nanoseconds.load(Relaxed)),
        p99: histogram::quantile(&histogram, 0.99),
        since: entry.since.load(Relaxed),
    }
}
