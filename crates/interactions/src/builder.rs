//! Builds [`Interactions`] from rows in any order.

use std::cmp::Ordering;

use super::{Id, Interner};
use kernels::CHECK_EVERY;
use kernels::Csr;
use onnx::IdTable;
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::progress::{Progress, Unwatched};

/// Interactions with each (user, item) pair at most once. They do not depend on the order of the rows.
#[derive(Clone, Debug)]
pub struct Interactions {
    pub user_ids: IdTable,
    pub item_ids: IdTable,
    /// [users, items]: summed weights, all above 0; items ascend within a user.
    pub by_user: Csr,
    /// [users, items]: summed weights of the pairs with a negative sum, which a user rejected.
    pub rejected: Csr,
    /// The last time of each entry of `by_user`, in microseconds; `None` if no row had a time, `i64::MIN` for pairs without one.
    pub last_times: Option<Vec<i64>>,
}

impl Interactions {
    pub fn users(&self) -> usize {
        self.user_ids.len()
    }

    pub fn items(&self) -> usize {
        self.item_ids.len()
    }

    /// `by_user` and `rejected` together, for serving.
    pub fn history(&self) -> Csr {
        if self.rejected.entries() == 0 {
            return self.by_user.clone();
        }
        let entries = self.by_user.entries() + self.rejected.entries();
        let mut all = Csr { indptr: vec![0], columns: self.items(), ..Csr::default() };
        all.indices.reserve_exact(entries);
        all.values.reserve_exact(entries);
        for user in 0..self.users() {
            let (chosen, rejected) = (self.by_user.row(user), self.rejected.row(user));
            let (mut a, mut b) = (0, 0);
            while a < chosen.0.len() || b < rejected.0.len() {
                // No item is in both.
                let first = b == rejected.0.len() || (a < chosen.0.len() && chosen.0[a] < rejected.0[b]);
                let (row, at) = if first { (chosen, &mut a) } else { (rejected, &mut b) };
                all.indices.push(row.0[*at]);
                all.values.push(row.1[*at]);
                *at += 1;
            }
            all.indptr.push(all.indices.len() as u64);
        }
        all
    }
}

/// Collects rows for [`Interactions`].
#[derive(Default)]
pub struct InteractionsBuilder {
    users: Interner,
    items: Interner,
    rows: Vec<Row>,
    /// Empty before the first row with a time.
    times: Vec<i64>,
    /// Number of rows, including those of weight 0, which only add their ids.
    pushed: usize,
}

#[derive(Clone, Copy)]
struct Row {
    user: u32,
    item: u32,
    weight: f32,
}

impl InteractionsBuilder {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an item, which may have no interactions.
    pub fn know_item(&mut self, item: Id) -> Result<()> {
        self.items.intern(item).map(drop)
    }

    /// Adds a user, who may have no interactions.
    pub fn know_user(&mut self, user: Id) -> Result<()> {
        self.users.intern(user).map(drop)
    }

    /// Adds a row. A row of weight 0 is not an interaction and only adds the user and the item. A weight below 0 is negative feedback. `time` is in
    /// microseconds.
    pub fn push(&mut self, user: Id, item: Id, weight: f32, time: Option<i64>) -> Result<()> {
        if !weight.is_finite() {
            return Err(Error::InvalidWeight { user: user.to_text(), item: item.to_text(), weight: weight.into() });
        }
        let row = Row { user: self.users.intern(user)?, item: self.items.intern(item)?, weight };
        self.pushed += 1;
        if weight == 0.0 {
            return Ok(());
        }
        if time.is_some() && self.times.is_empty() {
            self.times.resize(self.rows.len(), i64::MIN);
        }
        memory::push(&mut self.rows, row)?;
        if time.is_some() || !self.times.is_empty() {
            memory::push(&mut self.times, time.unwrap_or(i64::MIN))?;
        }
        Ok(())
    }

    /// The latest time of any row.
    pub fn newest(&self) -> Option<i64> {
        self.times.iter().copied().max().filter(|&time| time != i64::MIN)
    }

    /// Replaces the weight of each row by a function of its weight and time (`i64::MIN` for none). Rows of weight 0 are then not interactions.
    pub fn reweigh(&mut self, weight: impl Fn(f32, i64) -> f32) {
        for (r, row) in self.rows.iter_mut().enumerate() {
            row.weight = weight(row.weight, self.times.get(r).copied().unwrap_or(i64::MIN));
        }
    }

    /// Rows pushed so far.
    pub fn rows(&self) -> usize {
        self.pushed
    }

    /// Sorts, sums duplicates, and numbers ids by rank.
    pub fn finish(self) -> Result<Interactions> {
        self.finish_watched(&Unwatched)
    }

    /// [`finish`](Self::finish) with a check of `progress` every few milliseconds: millions of rows take seconds.
    pub fn finish_watched(self, progress: &dyn Progress) -> Result<Interactions> {
        if self.rows.is_empty() {
            let condition = if self.pushed > 0 { "with a weight above 0" } else { "" };
            return Err(Error::EmptySource(condition.into()));
        }
        let (user_ids, user_rank) = self.users.finish(progress)?;
        let (item_ids, item_rank) = self.items.finish(progress)?;

        // Counting sort by user, then a small sort within each.
        let mut starts = vec![0usize; user_ids.len() + 1];
        for row in &self.rows {
            starts[user_rank[row.user as usize] as usize + 1] += 1;
        }
        for u in 0..user_ids.len() {
            starts[u + 1] += starts[u];
        }
        let mut next = starts.clone();
        let mut sorted = vec![(0u32, 0f32, i64::MIN); if self.times.is_empty() { 0 } else { self.rows.len() }];
        let mut untimed = vec![(0u32, 0f32); if self.times.is_empty() { self.rows.len() } else { 0 }];
        for (r, row) in self.rows.iter().enumerate() {
            if (r as u64).is_multiple_of(CHECK_EVERY) {
                progress.check()?;
            }
            let to = &mut next[user_rank[row.user as usize] as usize];
            let item = item_rank[row.item as usize];
            match self.times.get(r) {
                Some(&time) => sorted[*to] = (item, row.weight, time),
                None => untimed[*to] = (item, row.weight),
            }
            *to += 1;
        }
        let times = !self.times.is_empty();
        drop((self.rows, self.times, next));

        let columns = item_ids.len();
        let mut merged = Merged { timed: times, ..Merged::default() };
        merged.chosen.indptr.push(0);
        merged.rejected.indptr.push(0);
        let mut next_check = 0;
        for user in starts.windows(2) {
            if user[0] as u64 >= next_check {
                progress.check()?;
                next_check = user[0] as u64 + CHECK_EVERY / 8;
            }
            if times {
                merged.user(&mut sorted[user[0]..user[1]], |row| *row);
            } else {
                merged.user(&mut untimed[user[0]..user[1]], |&(item, weight)| (item, weight, i64::MIN));
            }
        }
        let (mut by_user, mut rejected) = (merged.chosen, merged.rejected);
        (by_user.columns, rejected.columns) = (columns, columns);
        for matrix in [&by_user, &rejected] {
            let Some(entry) = matrix.values.iter().position(|w| !w.is_finite()) else { continue };
            let user = matrix.indptr.partition_point(|&start| start as usize <= entry) - 1;
            let name = |table: &IdTable, i: u32| table.get(i).unwrap_or_default().to_owned();
            return Err(Error::InvalidWeight {
                user: name(&user_ids, user as u32),
                item: name(&item_ids, matrix.indices[entry]),
                weight: f64::INFINITY,
            });
        }
        if by_user.entries() == 0 {
            return Err(Error::EmptySource("with a weight above 0".into()));
        }
        Ok(Interactions { user_ids, item_ids, by_user, rejected, last_times: times.then_some(merged.times) })
    }
}

#[derive(Default)]
struct Merged {
    chosen: Csr,
    rejected: Csr,
    /// The times of the entries of `chosen`.
    times: Vec<i64>,
    timed: bool,
}

impl Merged {
    /// Appends the rows of one user, summed by item. Weights are summed in ascending order, so that the sum does not depend on the order of the
    /// rows.
    fn user<R>(&mut self, rows: &mut [R], read: impl Fn(&R) -> (u32, f32, i64)) {
        rows.sort_unstable_by(|a, b| {
            let (a, b) = (read(a), read(b));
            a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
        });
        for same in rows.chunk_by(|a, b| read(a).0 == read(b).0) {
            let sum: f64 = same.iter().map(|row| f64::from(read(row).1)).sum();
            let (Some(first), sum) = (same.first(), sum as f32) else { continue };
            let matrix = match sum.total_cmp(&0.0) {
                Ordering::Greater => &mut self.chosen,
                Ordering::Less => &mut self.rejected,
                Ordering::Equal => continue,
            };
            matrix.indices.push(read(first).0);
            matrix.values.push(sum);
            if self.timed && sum > 0.0 {
                self.times.push(same.iter().map(|row| read(row).2).max().unwrap_or(i64::MIN));
            }
        }
        self.chosen.indptr.push(self.chosen.indices.len() as u64);
        self.rejected.indptr.push(self.rejected.indices.len() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(rows: &[(&str, &str, f32, Option<i64>)]) -> Result<Interactions> {
        let mut builder = InteractionsBuilder::new();
        for &(user, item, weight, time) in rows {
            builder.push(Id::Text(user), Id::Text(item), weight, time)?;
        }
        builder.finish()
    }

    #[test]
    fn duplicates_are_summed_and_ids_sorted_whatever_the_order_of_rows() {
        let mut rows = vec![
            ("b", "y", 1.0, Some(5)),
            ("a", "z", 0.1, None),
            ("b", "x", 2.0, Some(1)),
            ("a", "z", 1e8, Some(9)),
            ("a", "z", 0.7, Some(2)),
        ];
        let expected = build(&rows).unwrap();
        assert_eq!(expected.user_ids.iter().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(expected.item_ids.iter().collect::<Vec<_>>(), ["x", "y", "z"]);
        assert_eq!(expected.by_user.row(1), (&[0, 1][..], &[2.0, 1.0][..]));
        assert_eq!(expected.last_times.as_deref(), Some(&[9, 1, 5][..]));
        for _ in 0..rows.len() {
            rows.rotate_left(1);
            let other = build(&rows).unwrap();
            assert_eq!(other.by_user, expected.by_user);
            assert_eq!(other.last_times, expected.last_times);
        }
    }

    #[test]
    fn a_weight_of_zero_is_no_interaction_but_the_ids_are_known() {
        let i = build(&[("a", "x", 1.0, None), ("b", "y", 0.0, None), ("c", "x", -0.0, None)]).unwrap();
        assert_eq!((i.users(), i.items(), i.by_user.entries()), (3, 2, 1));
        assert!(i.last_times.is_none());
    }

    #[test]
    fn weights_that_are_no_weights_name_the_user_and_the_item() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = build(&[("u", "i", bad, None)]).unwrap_err();
            assert!(matches!(error, Error::InvalidWeight { user, item, .. } if user == "u" && item == "i"));
        }
        let error = build(&[("u", "i", f32::MAX, None), ("u", "i", f32::MAX, None)]).unwrap_err();
        assert!(matches!(error, Error::InvalidWeight { .. }));
    }

    #[test]
    fn what_was_turned_down_is_kept_apart() {
        let rows = [("a", "x", 1.0, Some(5)), ("a", "y", -2.0, Some(6)), ("b", "x", 3.0, None), ("b", "x", -3.0, None)];
        let i = build(&rows).unwrap();
        assert_eq!((i.by_user.row(0), i.rejected.row(0)), ((&[0][..], &[1.0][..]), (&[1][..], &[-2.0][..])));
        assert_eq!((i.by_user.entries(), i.rejected.entries(), i.last_times.as_deref()), (1, 1, Some(&[5][..])));
        assert_eq!(i.history().row(0), (&[0, 1][..], &[1.0, -2.0][..]));
        assert!(build(&[("a", "y", -2.0, None)]).is_err());
    }

    #[test]
    fn an_item_can_be_known_by_its_features_alone() {
        let mut builder = InteractionsBuilder::new();
        builder.push(Id::Int(1), Id::Int(2), 1.0, None).unwrap();
        builder.know_item(Id::Int(3)).unwrap();
        builder.know_user(Id::Int(4)).unwrap();
        let i = builder.finish().unwrap();
        assert_eq!((i.users(), i.items(), i.by_user.entries()), (2, 2, 1));
    }

    #[test]
    fn nothing_left_is_an_error_that_says_why() {
        assert_eq!(build(&[]).unwrap_err().to_string(), "the source has no rows");
        let zero = build(&[("u", "i", 0.0, None)]).unwrap_err();
        assert_eq!(zero.to_string(), "the source has no rows with a weight above 0");
    }

    #[test]
    fn ids_are_written_as_postgresql_writes_them() {
        assert_eq!(Id::Int(-7).to_text(), "-7");
        let uuid = Id::Uuid(0xa0eebc99_9c0b_4ef8_bb6d_6bb9bd380a11);
        assert_eq!(uuid.to_text(), "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11");
        let mut builder = InteractionsBuilder::new();
        builder.push(Id::Int(1), uuid, 1.0, None).unwrap();
        builder.push(Id::Text("1"), uuid, 1.0, None).unwrap();
        let i = builder.finish().unwrap();
        assert_eq!((i.users(), i.by_user.entries(), i.by_user.values[0]), (1, 1, 2.0));
    }
}
